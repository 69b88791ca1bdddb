from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from windlass.secrets.providers.base import Failure, Resolved, Version
from windlass.secrets.providers.file import FileClient
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive


def value_of(tmp_path: Path, text: str, **process: str) -> Resolved:
    with Resolver(tmp_path, process) as resolver:
        return resolver.lookup(text)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"a", "a"),
        (b"a\n", "a"),
        (b"a\n\n", "a\n"),
        (b" a\r\n", " a\r"),
        ("é\r".encode(), "é\r"),
        (b"\xef\xbb\xbfa", "\ufeffa"),
    ],
)
def test_a_file_gives_its_bytes_less_one_newline(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "a b").write_bytes(content)
    assert value_of(tmp_path, "${file:keys/a b}") == Sensitive(value)
    assert value_of(Path("/"), f"${{file:{tmp_path}/keys/a b}}") == Sensitive(value)


def test_a_file_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "key").write_text("x")
    assert value_of(Path("/nowhere"), "${file:~/key}") == Sensitive("x")


def test_a_file_that_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"hidden\xff")
    reasons = {
        name: value_of(tmp_path, f"${{file:{name}}}")
        for name in ("empty", "binary", "missing", ".", "~nobody-x/a")
    }
    assert all(isinstance(result, Failure) for result in reasons.values())
    text = {name: result.reason for name, result in reasons.items() if isinstance(result, Failure)}
    assert "empty" in text["empty"]
    assert "not UTF-8" in text["binary"]
    assert "hidden" not in text["binary"]
    assert "No such file" in text["missing"]
    assert "directory" in text["."]
    assert "home" in text["~nobody-x/a"]


_LIMIT = 256 * 1024


def test_a_file_that_is_too_large_is_refused_and_never_cut(tmp_path: Path) -> None:
    (tmp_path / "most").write_bytes(b"x" * _LIMIT)
    (tmp_path / "more").write_bytes(b"x" * (_LIMIT + 1))
    assert value_of(tmp_path, "${file:most}") == Sensitive("x" * _LIMIT)
    refused = value_of(tmp_path, "${file:more}")
    assert isinstance(refused, Failure)
    assert not refused.missing
    assert "more has more than 256 KiB" in refused.reason


def test_what_could_not_be_read_back_is_not_written(tmp_path: Path) -> None:
    client = FileClient(tmp_path)
    written = client.write({"most": Sensitive("x" * (_LIMIT - 1)), "more": Sensitive("x" * _LIMIT)})
    assert isinstance(written["most"], Version)
    assert isinstance(written["more"], Failure)
    assert client.fetch(["most"]) == {"most": Sensitive("x" * (_LIMIT - 1))}
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize("through_link", [False, True])
def test_only_regular_files_are_read_and_written(tmp_path: Path, *, through_link: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    device = tmp_path / "zero"
    device.symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        target = name
        if through_link:
            target = f"link-{name}"
            (tmp_path / target).symlink_to(name)
        before = (tmp_path / name).stat()
        assert isinstance(value_of(tmp_path, f"${{file:{target}}}"), Failure)
        # Never try to replace a device of the machine: root could.
        if name != "zero":
            assert isinstance(FileClient(tmp_path).write({target: Sensitive("x")})[target], Failure)
            assert os.path.samestat(before, (tmp_path / name).stat())


@pytest.mark.parametrize("value", ["plain", "two\nlines\n", "\r\n", "ä🔑", "'\"$`\\"])
def test_what_is_written_is_read_back(tmp_path: Path, value: str) -> None:
    client = FileClient(tmp_path)
    assert client.write({"new/folder/key": Sensitive(value)}) == {
        "new/folder/key": Version("", stages=("current",))
    }
    assert client.fetch(["new/folder/key"]) == {"new/folder/key": Sensitive(value)}


def test_a_written_file_is_its_owners_alone_whatever_it_was(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    (tmp_path / "key").chmod(0o666)
    before = os.umask(0)
    try:
        FileClient(tmp_path).write({"key": Sensitive("new"), "a/b": Sensitive("new")})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "key"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "key").symlink_to("real")
    FileClient(tmp_path).write({"key": Sensitive("new")})
    assert (tmp_path / "key").is_symlink()
    assert (tmp_path / "real").read_text() == "new\n"


def test_what_cannot_be_written_is_said_without_the_value(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    written = FileClient(tmp_path).write({"file/key": Sensitive("hidden"), "key": Sensitive("hid\ud800den")})
    assert all(isinstance(each, Failure) for each in written.values())
    assert "hid" not in str(written)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_the_members_of_a_folder_are_its_files_with_names_of_variables(tmp_path: Path) -> None:
    for name in ("B", "A", "not-one", ".hidden"):
        (tmp_path / name).write_text(name)
    client = FileClient(tmp_path)
    assert client.members("./") == {"A": "./A", "B": "./B"}
    assert client.fetch(["./A"]) == {"./A": Sensitive("A")}
