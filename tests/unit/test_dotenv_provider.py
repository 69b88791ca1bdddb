from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import Failure, ProviderError, Resolved, Version
from windlass.secrets.providers.dotenv_file import PROVIDER, DotenvClient
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive

CURRENT = Version("", stages=("current",))


def value_of(root: Path, text: str) -> Resolved:
    with Resolver(root, {}) as resolver:
        return resolver.lookup(text)


def reason_of(root: Path, text: str) -> str:
    found = value_of(root, text)
    assert isinstance(found, Failure)
    return str(found)


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("a/.env#KEY", ""),
        ("a%23b/.env#KEY", ""),
        (".env", "#KEY"),
        (".env#", "missing"),
        (".env#not-a-name", "no name of a variable"),
        (".env#KEY?version=1", "no option"),
        (" .env#KEY", "spaces"),
        ("%00#KEY", "NUL"),
    ],
)
def test_a_target_is_a_path_and_a_key(target: str, fault: str) -> None:
    assert fault in PROVIDER.fault(target)
    assert bool(fault) == bool(PROVIDER.fault(target))


def test_a_key_is_read_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a#b").mkdir()
    (tmp_path / "a#b" / ".env").write_bytes("\ufeffexport A = '${HOME}'\nB=\"1\r\n2\"\n".encode())
    assert value_of(tmp_path, "${dotenv:a%23b/.env#A}") == Sensitive("${HOME}")
    assert value_of(Path("/"), "${dotenv:~/a%23b/.env#B}") == Sensitive("1\r\n2")


def test_what_gives_nothing_says_why_and_shows_no_value(tmp_path: Path) -> None:
    files = {
        "broken": b"A=1\nhidden line\nB=2\n",
        "open": b'A=1\nB="hidden\n',
        "twice": b"A=hidden\n\nA=hidden2\nB=1\n",
        "latin": b"A=1\nB=hidden\xff\n",
        "nul": b"A=1\nB=hid\0den\n",
        "good": b"DATABASE_URL=hidden\nEMPTY=\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    reasons = {
        target: reason_of(tmp_path, f"${{dotenv:{target}}}")
        for target in (
            *("broken#A", "open#A", "twice#A", "latin#A", "nul#A", "good#DATABASE_URI", "good#EMPTY"),
            *("missing#A", ".#A", "~nobody-x/a#A"),
        )
    }
    assert "line 2 of broken cannot be read" in reasons["broken#A"]
    assert "line 2 of open" in reasons["open#A"]
    assert "twice sets A 2 times, in lines 1 and 3" in reasons["twice#A"]
    assert "line 2 of latin is not UTF-8" in reasons["latin#A"]
    assert "line 2 of nul holds a NUL" in reasons["nul#A"]
    assert reasons["good#DATABASE_URI"].endswith("no key DATABASE_URI; did you mean DATABASE_URL?")
    assert "empty" in reasons["good#EMPTY"]
    assert "there is no file missing" in reasons["missing#A"]
    assert "directory" in reasons[".#A"]
    assert "home" in reasons["~nobody-x/a#A"]
    assert "hid" not in str(reasons)
    assert value_of(tmp_path, "${dotenv:twice#B}") == Sensitive("1")


def test_what_is_no_regular_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    assert "device" in reason_of(tmp_path, "${dotenv:/dev/zero#A}")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((16 << 20) + 1)
    assert "16 MiB" in reason_of(tmp_path, "${dotenv:large#A}")


@pytest.mark.parametrize("value", ["plain", "two\nlines\n", "\r\n", "ä🔑", "'\"$`\\", "${HOME}", "#", " a "])
def test_what_is_written_is_read_back_and_the_rest_stays(tmp_path: Path, value: str) -> None:
    (tmp_path / ".env").write_text("\ufeff# mine\nA=1 # one\nB=2\n")
    client = DotenvClient(tmp_path)
    values = {target: Sensitive(value) for target in (".env#A", ".env#C", "new/.env#A")}
    assert client.write(values) == dict.fromkeys(values, CURRENT)
    assert client.fetch(list(values)) == values
    text = (tmp_path / ".env").read_bytes().decode()
    assert text.startswith("\ufeff# mine\nA=")
    assert " # one\nB=2\nC=" in text


def test_a_written_file_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    (tmp_path / ".env").chmod(0o666)
    DotenvClient(tmp_path).write({".env#A": Sensitive("2"), "new/.env#A": Sensitive("2")})
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert sorted(each.name for each in tmp_path.iterdir()) == [".env", "new"]


def test_the_same_value_is_not_written_again(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    before = (tmp_path / ".env").stat()
    assert DotenvClient(tmp_path).write({".env#A": Sensitive("1")}) == {".env#A": CURRENT}
    assert (tmp_path / ".env").stat().st_ino == before.st_ino
    assert (tmp_path / ".env").read_text() == "A=1\n"


def test_one_value_that_cannot_be_written_hinders_no_other(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nA=2\n")
    written = DotenvClient(tmp_path).write(
        {
            ".env#A": Sensitive("hidden"),
            ".env#B": Sensitive("hid\0den"),
            ".env#C": Sensitive("hid\ud800den"),
            ".env#D": Sensitive("x" * (1 << 17)),
            ".env#E": Sensitive("good"),
        }
    )
    reasons = {target: str(each) for target, each in written.items() if isinstance(each, Failure)}
    assert set(reasons) == {".env#A", ".env#B", ".env#C", ".env#D"}
    assert "2 times" in reasons[".env#A"]
    assert "NUL" in reasons[".env#B"]
    assert "Unicode" in reasons[".env#C"]
    assert "131071" in reasons[".env#D"]
    assert "hid" not in str(reasons)
    assert (tmp_path / ".env").read_text() == 'A=1\nA=2\nE="good"\n'


def test_a_broken_file_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nhidden line\n")
    (written,) = DotenvClient(tmp_path).write({".env#A": Sensitive("2")}).values()
    assert isinstance(written, Failure)
    assert "line 2" in written.reason
    assert (tmp_path / ".env").read_text() == "A=1\nhidden line\n"
    (written,) = DotenvClient(tmp_path).write({".env/x#A": Sensitive("hidden")}).values()
    assert "cannot be written" in str(written)


WRITER = """
import sys
from pathlib import Path
from windlass.secrets.providers.dotenv_file import DotenvClient
from windlass.shell import Sensitive
root, name = Path(sys.argv[1]), sys.argv[2]
for number in range(20):
    DotenvClient(root).write({f".env#{name}{number}": Sensitive(name)})
"""


def test_writers_at_the_same_time_undo_nothing_of_each_other(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("A", "B")]
    assert [child.wait() for child in children] == [0, 0]
    assert len(DotenvClient(tmp_path).members(".env")) == 40


def test_the_members_of_a_file_are_its_keys(tmp_path: Path) -> None:
    (tmp_path / "a b#.env").write_text("B=1\nA=2\nnot-one=3\n")
    client = DotenvClient(tmp_path)
    members = client.members("a b%23.env")
    assert members == {"B": "a b%23.env#B", "A": "a b%23.env#A"}
    assert client.fetch([members["A"]]) == {members["A"]: Sensitive("2")}
    assert client.member("a b%23.env", "A") == members["A"]


def test_what_has_no_members_says_so(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=hidden\nA=hidden\n")
    client = DotenvClient(tmp_path)
    for scope, words in ((".env", "2 times"), ("missing", "no file missing"), (".env#A", "names a key")):
        with pytest.raises(ProviderError, match=words) as told:
            client.members(scope)
        assert "hidden" not in str(told.value)
    with pytest.raises(ConfigurationError, match="no name of a variable"):
        client.member(".env", "not-one")
    with pytest.raises(ConfigurationError, match="cannot tell versions of dotenv files"):
        client.versions(".env#A")


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    client = DotenvClient(tmp_path)
    assert isinstance(client.fetch(["pipe#A"])["pipe#A"], Failure)
    assert isinstance(client.write({"pipe#A": Sensitive("x")})["pipe#A"], Failure)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_scope_with_a_nul_is_refused_in_words(tmp_path: Path) -> None:
    for ask in (lambda client: client.members("x%00"), lambda client: client.member("x%00", "A")):
        with pytest.raises(ProviderError, match="holds a NUL"):
            ask(DotenvClient(tmp_path))
