import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.backup.stores.directory import DirectoryStore
from windlass.errors import BackupError, Locked

KEY = "shop/test/main/x/dump"


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore("local", tmp_path / "store")


def put(store: DirectoryStore, key: str, content: bytes) -> None:
    with store.writer(key) as writer:
        writer.write(content)


def files(store: DirectoryStore) -> list[str]:
    return sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*") if p.is_file())


def test_an_object_is_read_back_and_only_the_owner_may(store: DirectoryStore) -> None:
    put(store, KEY, b"abc")
    with store.read(KEY) as stream:
        assert stream.read() == b"abc"
    assert stat.S_IMODE((store.root / KEY).stat().st_mode) == 0o600
    folder = (store.root / KEY).parent
    while folder != store.root.parent:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        folder = folder.parent


def test_modes_hold_whatever_the_umask(store: DirectoryStore) -> None:
    old = os.umask(0)
    try:
        put(store, KEY, b"abc")
    finally:
        os.umask(old)
    assert stat.S_IMODE((store.root / KEY).stat().st_mode) == 0o600
    assert stat.S_IMODE((store.root / KEY).parent.stat().st_mode) == 0o700


def test_nothing_is_there_before_the_end_and_nothing_after_a_failure(store: DirectoryStore) -> None:
    with pytest.raises(RuntimeError), store.writer(KEY) as writer:
        writer.write(b"abc")
        (unfinished,) = store.list("shop")
        assert unfinished.partial
        assert unfinished.key == KEY
        raise RuntimeError
    assert files(store) == []
    assert store.list("shop") == []
    assert not (store.root / KEY).parent.exists()


def test_an_interrupt_leaves_nothing(store: DirectoryStore) -> None:
    with pytest.raises(KeyboardInterrupt), store.writer(KEY):
        raise KeyboardInterrupt
    assert files(store) == []


def test_a_failed_second_write_leaves_the_first_object(store: DirectoryStore) -> None:
    put(store, KEY, b"first")
    with pytest.raises(RuntimeError), store.writer(KEY):
        raise RuntimeError
    with store.read(KEY) as stream:
        assert stream.read() == b"first"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_sentence(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(BackupError, match=r"the store local \(.*\) is full"):
        put(store, KEY, b"abc")
    assert files(store) == []


def test_a_disk_that_fills_at_the_last_moment_leaves_nothing(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.root.mkdir()
    (store.root / "shop/test/main/x").mkdir(parents=True)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupError, match="is full"):
        put(store, KEY, b"abc")
    assert files(store) == []


def test_short_writes_are_continued(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    put(store, KEY, bytes(range(256)))
    monkeypatch.undo()
    assert (store.root / KEY).read_bytes() == bytes(range(256))


@pytest.mark.parametrize("key", ["/etc/passwd", "../x", "a/../../x", "", "a\0b"])
def test_keys_stay_inside(store: DirectoryStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        put(store, key, b"")


@given(st.lists(st.text("ab./-_ ü", min_size=1, max_size=8), min_size=1, max_size=4))
def test_no_key_leads_outside(parts: list[str]) -> None:
    store = DirectoryStore("local", Path("/nowhere/store"))
    try:
        path = store._path("/".join(parts))
    except ValueError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(store.root)


def test_a_missing_object_is_one_sentence(store: DirectoryStore) -> None:
    with pytest.raises(BackupError, match="has no"), store.read(KEY):
        pass


def test_deleting_takes_the_unfinished_too_and_empty_folders(store: DirectoryStore) -> None:
    put(store, KEY, b"abc")
    (store.root / f"{KEY}.partial").write_bytes(b"ab")
    store.delete(KEY)
    store.delete(KEY)
    assert not (store.root / KEY).parent.exists()
    assert store.list("shop") == []


def test_a_store_that_does_not_exist_is_empty(store: DirectoryStore) -> None:
    assert store.list("shop") == []
    assert (store.free_bytes() or 0) > 0


@pytest.mark.parametrize("place", [".", "shop/test"])
def test_a_file_in_the_place_of_a_folder_is_an_error_and_no_empty_store(
    store: DirectoryStore, place: str
) -> None:
    path = store.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not a folder")
    with pytest.raises(BackupError, match=r"the store local \(.*\) cannot be used: Not a directory"):
        store.list("shop/test/main")


@pytest.mark.parametrize("refused", ["shop", KEY.rpartition("/")[0]])
def test_a_folder_that_may_not_be_read_is_an_error_and_no_empty_store(
    store: DirectoryStore, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, KEY, b"abc")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path) == store.root / refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(BackupError, match="cannot be used: Permission denied"):
        store.list("shop")


def test_a_second_lock_is_refused_and_names_the_holder(store: DirectoryStore) -> None:
    with store.lock("shop/test/main", "ann@laptop, process 7"):
        with pytest.raises(Locked, match="ann@laptop, process 7"), store.lock("shop/test/main", "bob"):
            pass
        with store.lock("shop/test/other", "bob"):
            pass
    with store.lock("shop/test/main", "bob"):
        pass
    assert store.list("shop") == []


def test_a_lock_ends_with_its_process(store: DirectoryStore) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from windlass.backup.stores.directory import DirectoryStore\n"
        "with DirectoryStore('local', Path(sys.argv[1])).lock('shop', 'child'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(Locked, match="child"), store.lock("shop", "me"):
            pass
        child.kill()
        child.wait()
        with store.lock("shop", "me"):
            pass


def test_a_link_in_the_way_is_not_followed(store: DirectoryStore, tmp_path: Path) -> None:
    target = store.root / KEY
    target.parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("safe")
    (target.parent / "dump.partial").symlink_to(victim)
    with pytest.raises(BackupError):
        put(store, KEY, b"abc")
    assert victim.read_text() == "safe"
