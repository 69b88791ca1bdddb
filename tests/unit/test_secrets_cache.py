from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.environment.inspection import examine
from windlass.environment.loading import load
from windlass.secrets.cache import Scope, SecretCache, clear, folder_of, of_environment, opened
from windlass.secrets.providers import registry
from windlass.secrets.providers.base import Client, Context, Failure, Provider, Resolved
from windlass.secrets.references import Address, Reference
from windlass.secrets.resolving import Resolver
from windlass.secrets.settings import CacheSettings, SecretsSettings
from windlass.shell import Sensitive

KEYS = {
    "THE_KEY": "0123456789abcdef0123456789abcdef",  # pragma: allowlist secret
    "OTHER_KEY": "fedcba9876543210fedcba9876543210",  # pragma: allowlist secret
    "SHORT_KEY": "hidden",
}
KEY, OTHER = "${env:THE_KEY}", "${env:OTHER_KEY}"
SECRET = Sensitive("Zq7-hidden-5xK")


@dataclass
class FakeClock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def settings_of(root: Path, ttl: float = 60.0, key: str = KEY) -> CacheSettings:
    return CacheSettings(ttl=ttl, directory=str(root / "cache"), key=key)


def cache_of(
    root: Path,
    clock: FakeClock | None = None,
    *,
    ttl: float = 60.0,
    key: str = KEY,
    scope: Scope | None = None,
) -> SecretCache:
    scope = scope or Scope(root, "prod", {})
    found = opened(settings_of(root, ttl, key), scope, Resolver(root, KEYS).lookup, clock or FakeClock())
    assert isinstance(found, SecretCache), found
    return found


def files(root: Path) -> list[Path]:
    return sorted((root / "cache").iterdir())


def test_what_was_kept_is_had_again_from_another_process_of_the_same_environment(tmp_path: Path) -> None:
    values = {"a": SECRET, "b": Sensitive("two\nlines é🔑"), "c": Sensitive("x" * 65536)}
    cache_of(tmp_path).put(values)
    again = cache_of(tmp_path)
    assert {key: again.get(key) for key in values} == values
    assert again.get("d") is None


@given(value=st.text(st.characters()).filter(str.strip))
def test_every_value_comes_back_exactly(tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    cache = cache_of(tmp_path_factory.getbasetemp() / "every")
    cache.put({"a": Sensitive(value)})
    assert cache.get("a") == Sensitive(value)


def test_an_empty_value_is_not_kept(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.put({"a": Sensitive(""), "b": Sensitive(" \n")})
    assert files(tmp_path) == []


def test_an_entry_lives_as_long_as_it_may(tmp_path: Path) -> None:
    clock = FakeClock()
    cache = cache_of(tmp_path, clock)
    cache.put({"a": SECRET})
    clock.now += 59.9
    assert cache.get("a") == SECRET
    assert cache_of(tmp_path, clock, ttl=30.0).get("a") is None
    cache.put({"a": SECRET})
    clock.now += 60.0
    assert cache.get("a") is None
    assert files(tmp_path) == []


def test_what_came_from_the_cache_is_told_with_its_age(tmp_path: Path) -> None:
    clock = FakeClock()
    cache = cache_of(tmp_path, clock)
    cache.put({"a": SECRET})
    clock.now += 40
    cache.put({"b": SECRET})
    assert cache.note == ""
    cache.get("b")
    assert cache.note == "1 secret is from the cache on this machine, up to 0 s old"
    cache.get("a")
    assert cache.note == "2 secrets are from the cache on this machine, up to 40 s old"


def test_a_clock_that_went_back_gives_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    cache = cache_of(tmp_path, clock)
    cache.put({"a": SECRET})
    clock.now -= 0.5
    assert cache.get("a") is None
    assert files(tmp_path) == []


def test_opening_removes_what_is_too_old_or_of_the_future_or_half_written(tmp_path: Path) -> None:
    clock = FakeClock()
    cache_of(tmp_path, clock).put({"old": SECRET, "new": SECRET, "future": SECRET})
    ages = (-3600.0, 120.0, 5.0)
    for path, age in zip(files(tmp_path), ages, strict=True):
        os.utime(path, (clock.now - age, clock.now - age))
    (tmp_path / "cache" / ".new-x").write_text("half")
    os.utime(tmp_path / "cache" / ".new-x", (clock.now - 120, clock.now - 120))
    (tmp_path / "cache" / "mine.txt").write_text("not of the cache")
    left = files(tmp_path)[3:4]
    cache_of(tmp_path, clock)
    assert [each.name for each in files(tmp_path)] == [left[0].name, "mine.txt"]


def test_nothing_on_disk_tells_what_is_kept_or_how_long_it_is(tmp_path: Path) -> None:
    cache_of(tmp_path).put({"vault:shop/prod#password": SECRET, "b": Sensitive("x")})
    first, second = files(tmp_path)
    for path in (first, second):
        data = path.read_bytes()
        for text in (SECRET.reveal(), "hidden", "vault", "shop", "prod", KEY):
            assert text.encode() not in data
            assert text not in path.name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.stat().st_size == second.stat().st_size
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_the_same_value_is_never_the_same_on_disk(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.put({"a": SECRET})
    before = files(tmp_path)[0].read_bytes()
    cache.put({"a": SECRET})
    assert files(tmp_path)[0].read_bytes() != before


def test_a_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    cache_of(tmp_path)
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_entries_cannot_be_swapped(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.put({"a": Sensitive("of a")})
    (of_a,) = files(tmp_path)
    cache.put({"b": Sensitive("of b")})
    (of_b,) = set(files(tmp_path)) - {of_a}
    of_b.write_bytes(of_a.read_bytes())
    assert cache.get("b") is None
    assert cache.get("a") == Sensitive("of a")


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "nonce", "garbage", "huge"])
def test_a_damaged_entry_is_none_and_goes(tmp_path: Path, damage: str) -> None:
    cache = cache_of(tmp_path)
    cache.put({"a": SECRET})
    (path,) = files(tmp_path)
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-1],
            "empty": b"",
            "flipped": data[:-1] + bytes([data[-1] ^ 1]),
            "nonce": data[:5],
            "garbage": b"\xff" * 600,
            "huge": b"\0" * (1 << 21),
        }[damage]
    )
    assert cache.get("a") is None
    assert files(tmp_path) == []
    cache.put({"a": SECRET})
    assert cache.get("a") == SECRET


def test_what_stands_in_the_place_of_an_entry_and_is_none_is_not_read(tmp_path: Path) -> None:
    cache = cache_of(tmp_path)
    cache.put({"a": SECRET})
    (path,) = files(tmp_path)
    kept = tmp_path / "elsewhere"
    path.rename(kept)
    path.symlink_to(kept)
    assert cache.get("a") is None
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert cache.get("a") is None
    path.unlink(missing_ok=True)
    path.mkdir()
    assert cache.get("a") is None
    cache.put({"a": SECRET})
    assert cache.get("a") is None


def test_a_wrong_key_gives_nothing_and_harms_nothing(tmp_path: Path) -> None:
    cache_of(tmp_path).put({"a": SECRET})
    assert cache_of(tmp_path, key=OTHER).get("a") is None
    assert cache_of(tmp_path).get("a") == SECRET


@pytest.mark.parametrize(
    "scope",
    [
        Scope(Path("/elsewhere"), "prod", {}),
        Scope(Path("/"), "staging", {}),
        Scope(Path("/"), "prod", {"VAULT_ADDR": "https://other"}),
        Scope(Path("/"), "prod", {"AWS_PROFILE": "other"}),
        Scope(Path("/"), "prod", {"AZURE_TENANT_ID": "other"}),
    ],
)
def test_another_repository_environment_or_login_has_other_values(tmp_path: Path, scope: Scope) -> None:
    mine = Scope(Path("/"), "prod", {"HOME": "/root"})
    cache_of(tmp_path, scope=mine).put({"a": SECRET})
    assert cache_of(tmp_path, scope=scope).get("a") is None
    assert cache_of(tmp_path, scope=Scope(Path("/"), "prod", {"HOME": "/home/me"})).get("a") == SECRET


WRITER = """
import sys
from pathlib import Path
from windlass.environment.inspection import examine
from windlass.environment.loading import load
from windlass.secrets.cache import Scope, SecretCache, opened
from windlass.secrets.settings import CacheSettings, SecretsSettings
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive
root, name = Path(sys.argv[1]), sys.argv[2]
settings = CacheSettings(ttl=600, directory=str(root / "cache"), key="${file:key/cache.key}")
cache = opened(settings, Scope(root, "prod", {}), Resolver(root, {}).lookup)
assert isinstance(cache, SecretCache), cache
for turn in range(200):
    cache.put({"shared": Sensitive(name * 5000), name: Sensitive(name)})
    assert cache.get("shared") in {Sensitive("A" * 5000), Sensitive("B" * 5000)}, "a wrong value"
    assert cache.get(name) == Sensitive(name)
"""


def test_two_processes_at_once_make_one_key_and_never_read_a_wrong_value(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("A", "B")]
    assert [child.wait() for child in children] == [0, 0]
    assert [each.name for each in (tmp_path / "key").iterdir()] == ["cache.key"]
    assert len(files(tmp_path)) == 3


def test_the_file_of_the_key_is_made_once_and_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        cache_of(tmp_path, key="${file:keys/cache.key}").put({"a": SECRET})
    finally:
        os.umask(before)
    path = tmp_path / "keys" / "cache.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = path.read_text()
    assert len(text) == 45
    assert cache_of(tmp_path, key="${file:keys/cache.key}").get("a") == SECRET
    assert path.read_text() == text


def why_not(root: Path, settings: CacheSettings, process: Mapping[str, str] | None = None) -> str:
    found = opened(
        settings, Scope(root, "prod", process or {}), Resolver(root, {**KEYS, **(process or {})}).lookup
    )
    assert isinstance(found, Failure)
    return str(found)


def test_it_is_off_unless_asked_for_and_in_ci(tmp_path: Path) -> None:
    assert "ttl is 0" in why_not(tmp_path, CacheSettings())
    assert "in CI" in why_not(tmp_path, settings_of(tmp_path), {"CI": "true"})
    assert list(tmp_path.iterdir()) == []


def test_why_there_is_none_is_told_without_the_key(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"hidden\xff")
    assert "fewer than 32" in why_not(tmp_path, settings_of(tmp_path, key="${env:SHORT_KEY}"))
    assert "the variable NO_KEY is not set" in why_not(tmp_path, settings_of(tmp_path, key="${env:NO_KEY}"))
    assert "not UTF-8" in why_not(tmp_path, settings_of(tmp_path, key="${file:binary}"))
    bad = ("${env:SHORT_KEY}", "${file:binary}")
    reasons = [why_not(tmp_path, settings_of(tmp_path, key=key)) for key in bad]
    assert "hidden" not in str(reasons)
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("a file")
    assert "cannot be used" in why_not(tmp_path, settings_of(tmp_path))
    assert "cannot be used" in why_not(tmp_path, CacheSettings(ttl=60.0, directory="~nobody-x/a", key=KEY))


def test_all_is_forgotten_whatever_its_key(tmp_path: Path) -> None:
    cache_of(tmp_path).put({"a": SECRET, "b": SECRET})
    cache_of(tmp_path, key=OTHER).put({"a": SECRET})
    (tmp_path / "cache" / "mine.txt").write_text("not of the cache")
    assert clear(settings_of(tmp_path), tmp_path) == 3
    assert [each.name for each in files(tmp_path)] == ["mine.txt"]
    assert cache_of(tmp_path).get("a") is None
    assert clear(CacheSettings(directory="nowhere"), tmp_path) == 0
    assert clear(CacheSettings(directory="~nobody-x/a"), tmp_path) == 0


def test_a_relative_folder_is_in_the_repository(tmp_path: Path) -> None:
    assert folder_of(CacheSettings(directory=".windlass/cache"), tmp_path) == tmp_path / ".windlass/cache"


class Counting(Client):
    """Answers and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def provider_name(self) -> str:
        return "counting"

    def fetch(self, targets: Sequence[str]) -> Mapping[str, Resolved]:
        self.asked += targets
        return {
            each: Failure("no such") if each == "bad" else Sensitive(f"value of {each}") for each in targets
        }


def test_a_resolver_asks_the_provider_only_for_what_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Counting()

    def connect(context: Context) -> Client:
        return client

    provider = Provider("vault", "${vault:a}", "", lambda target: "", connect, is_remote=True)
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda name: provider if name == "vault" else find(name))
    references = [Reference((Address("vault", each),)) for each in ("good", "bad")]
    for _ in range(2):
        with Resolver(tmp_path, {}, cache=cache_of(tmp_path)) as resolver:
            found = resolver.resolve(references)
        assert found[references[0]].value == Sensitive("value of good")
    assert client.asked == ["good", "bad", "bad"]


def test_an_environment_has_the_cache_its_settings_say(tmp_path: Path) -> None:
    wanted = SecretsSettings(cache=settings_of(tmp_path, key="${env:CACHE_KEY}"))
    assert of_environment(tmp_path, "prod", {}, SecretsSettings()) == (None, "")
    assert of_environment(tmp_path, "prod", {"CI": "1", "CACHE_KEY": KEYS["THE_KEY"]}, wanted) == (None, "")
    found, note = of_environment(tmp_path, "prod", {"CACHE_KEY": KEYS["THE_KEY"]}, wanted)
    assert isinstance(found, SecretCache)
    assert note == ""
    found, note = of_environment(tmp_path, "prod", {"CACHE_KEY": "hidden"}, wanted)
    assert found is None
    assert note.startswith("no secret is cached: the key of the cache has fewer than 32 characters")
    assert "hidden" not in note


def test_the_key_is_no_variable_of_the_environment(tmp_path: Path) -> None:
    wanted = SecretsSettings(cache=settings_of(tmp_path, key="${variable:KEY}"))
    assert "no file of envs/ sets the variable KEY" in of_environment(tmp_path, "prod", {}, wanted)[1]


def test_tasks_use_the_cache_and_checks_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Counting()
    provider = Provider("vault", "${vault:a}", "", lambda target: "", lambda context: client, is_remote=True)
    find = registry.find
    monkeypatch.setattr(registry, "find", lambda name: provider if name == "vault" else find(name))
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "prod.env").write_text("A=${vault:a}\n")
    settings = '[secrets.cache]\nttl = "1h"\ndirectory = "cache"\nkey = "${file:the.key}"\n'
    (tmp_path / "the.key").write_text(KEYS["THE_KEY"])
    toml = tmp_path / "envs" / "prod.toml"
    toml.write_text(f'app = "shop"\n[hosts.web]\naddress = "203.0.113.10"\n{settings}')
    first, second = (load(tmp_path, "prod", process={}) for _ in range(2))
    assert first.variables["A"].value == second.variables["A"].value == Sensitive("value of a")
    assert client.asked == ["a"]
    assert first.notes == ()
    assert second.notes[0].startswith("1 secret is from the cache")
    assert examine(tmp_path, "prod", process={}).variables.notes == ()
    assert client.asked == ["a", "a"]
    load(tmp_path, "prod", process={"CI": "true"})
    assert client.asked == ["a", "a", "a"]
    (tmp_path / "the.key").write_text("short")
    assert "no secret is cached: the key" in load(tmp_path, "prod", process={}).notes[0]
    assert len(client.asked) == 4
