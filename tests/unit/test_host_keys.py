"""Files of trusted keys: what is read from them, and how one host's line is added or replaced."""

import base64
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from windlass.errors import ConfigurationError
from windlass.hosts.address import Address
from windlass.hosts.keys import Link, Offer, matches, way
from windlass.hosts.known_hosts import KnownHosts, lookup_name, record

HERE = Address("host1", 22, "me")


def made(folder: Path, kind: str = "ed25519", name: str = "key") -> paramiko.PKey:
    file = folder / f"{name}-{kind}"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", file], check=True)
    return paramiko.PKey.from_path(file)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, paramiko.PKey]:
    folder = tmp_path_factory.mktemp("keys")
    return {
        "one": made(folder, name="one"),
        "two": made(folder, name="two"),
        "ecdsa": made(folder, "ecdsa"),
    }


def line(names: str, key: paramiko.PKey, comment: str = "") -> str:
    return f"{names} {key.get_name()} {key.get_base64()}{comment}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "envs" / "known_hosts"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def openssh_finds(file: Path, name: str) -> list[str]:
    said = subprocess.run(["ssh-keygen", "-F", name, "-f", file], capture_output=True, text=True, check=False)
    return [each.split()[2] for each in said.stdout.splitlines() if not each.startswith("#")]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (HERE, "host1"),
        (Address("host1", 2222, "me"), "[host1]:2222"),
        (Address("2001:db8::1", 22, "me"), "2001:db8::1"),
        (Address("2001:db8::1", 23, "me"), "[2001:db8::1]:23"),
    ],
)
def test_openssh_finds_what_is_recorded(
    file: Path, keys: dict[str, paramiko.PKey], address: Address, name: str
) -> None:
    assert lookup_name(address) == name
    record(file, name, keys["one"])
    assert KnownHosts.read([file]).of(address) == (keys["one"],)
    assert openssh_finds(file, name) == [keys["one"].get_base64()]


def test_a_new_file_can_be_read_by_all(file: Path, keys: dict[str, paramiko.PKey]) -> None:
    before = os.umask(0o077)
    try:
        record(file, "host1", keys["one"])
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.read_text() == line("host1", keys["one"])
    assert list(file.parent.iterdir()) == [file]


def test_other_lines_and_the_mode_stay(file: Path, keys: dict[str, paramiko.PKey]) -> None:
    write(file, f"# ours\n\nnonsense\n{line('host2', keys['two'])}".rstrip("\n"))
    file.chmod(0o600)
    record(file, "host1", keys["one"])
    assert file.read_text() == (
        f"# ours\n\nnonsense\n{line('host2', keys['two'])}{line('host1', keys['one'])}"
    )
    assert file.stat().st_mode & 0o777 == 0o600


def test_replacing_takes_only_that_hosts_lines_away(file: Path, keys: dict[str, paramiko.PKey]) -> None:
    hashed = paramiko.HostKeys.hash_host("host1")
    write(
        file,
        f"# ours\n{line('host1', keys['ecdsa'])}{line('host2,host1', keys['two'], ' both')}"
        f"{line(hashed, keys['two'])}{line('[host1]:2222', keys['two'])}"
        f"@revoked {line('host1', keys['two'])}",
    )
    record(file, "host1", keys["one"], replace=True)
    assert file.read_text() == (
        f"# ours\n{line('host2', keys['two'], ' both')}{line('[host1]:2222', keys['two'])}"
        f"@revoked {line('host1', keys['two'])}{line('host1', keys['one'])}"
    )


def test_a_link_stays_a_link(file: Path, keys: dict[str, paramiko.PKey], tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("")
    file.parent.mkdir()
    file.symlink_to(tmp_path / "shared")
    record(file, "host1", keys["one"])
    assert file.is_symlink()
    assert (tmp_path / "shared").read_text() == line("host1", keys["one"])


def test_many_at_once_lose_nothing(file: Path, keys: dict[str, paramiko.PKey]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: record(file, f"host{number}", keys["one"]), range(24)))
    assert {each.split()[0] for each in file.read_text().splitlines()} == {f"host{n}" for n in range(24)}


def test_earlier_files_come_first_and_missing_ones_are_empty(
    file: Path, keys: dict[str, paramiko.PKey], tmp_path: Path
) -> None:
    write(file, line("host1", keys["one"]))
    (tmp_path / "user").write_text(line("host1", keys["two"]))
    known = KnownHosts.read([file, tmp_path / "none", tmp_path / "user"])
    assert known.of(HERE) == (keys["one"], keys["two"])
    # What paramiko itself compares with.
    found = known.lookup("host1")
    assert found is not None
    assert found[keys["one"].get_name()] == keys["one"]


def test_damaged_lines_are_passed_over(file: Path, keys: dict[str, paramiko.PKey]) -> None:
    write(
        file,
        f"host1\nhost1 ssh-ed25519\nhost1 ssh-ed25519 !!!\nhost1 ssh-unknown AAAA\n|1|x|y ssh-ed25519 AAAA\n"
        f"host1 ssh-ed25519 AAAA\n\t\n{line('host1', keys['one'])}",
    )
    assert KnownHosts.read([file]).of(HERE) == (keys["one"],)


@pytest.mark.parametrize("name", ["|1|nonsense|nonsense", "|1|", "|1|AAAA|"])
def test_a_damaged_hashed_name_is_nobodys(file: Path, keys: dict[str, paramiko.PKey], name: str) -> None:
    write(file, line(name, keys["two"]) + line("host1", keys["one"]))
    assert KnownHosts.read([file]).of(HERE) == (keys["one"],)
    assert KnownHosts.read([file]).lookup("elsewhere") is None
    record(file, "host1", keys["two"], replace=True)
    assert file.read_text() == line(name, keys["two"]) + line("host1", keys["two"])


def test_a_revoked_key_is_not_trusted(file: Path, keys: dict[str, paramiko.PKey]) -> None:
    write(file, f"{line('host1', keys['one'])}{line('host1', keys['two'])}@revoked {line('*', keys['one'])}")
    assert KnownHosts.read([file]).of(HERE) == (keys["two"],)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        KnownHosts.read([tmp_path])


def test_fingerprints_are_compared_with_or_without_their_prefix(keys: dict[str, paramiko.PKey]) -> None:
    digest = hashlib.sha256(keys["one"].asbytes()).digest()
    text = base64.b64encode(digest).decode().rstrip("=")
    for form in (text, f"SHA256:{text}", f" SHA256:{text}\n", f"SHA256:{text}="):
        assert matches(keys["one"], form)
        assert not matches(keys["two"], form)
    for wrong in ("", "SHA256:", text[:-1], text.swapcase(), "\u00e9"):
        assert not matches(keys["one"], wrong)


def test_the_way_to_a_host_begins_with_the_first_jump_host() -> None:
    first = Address("first", 22, "me")
    second = Address("second", 22, "me", jump=first)
    host = Address("host1", 22, "me", jump=second)
    assert way("web", host) == (
        Link("web", "web's jump host's jump host", first),
        Link("web", "web's jump host", second),
        Link("web", "web", host),
    )


def test_the_state_of_an_offer(keys: dict[str, paramiko.PKey]) -> None:
    link = Link("web", "web", HERE)
    assert Offer(link, keys["one"], ()).state == "unknown"
    assert Offer(link, keys["one"], (keys["two"], keys["one"])).state == "trusted"
    assert Offer(link, keys["one"], (keys["two"],)).state == "changed"
