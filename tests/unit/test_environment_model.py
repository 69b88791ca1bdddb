from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from windlass.environment.describe import is_section, short
from windlass.environment.model import (
    DirectoryStore,
    HostSettings,
    HttpCheck,
    ImagesSettings,
    Settings,
    TcpCheck,
)
from windlass.environment.reference import tables
from windlass.fields import Section, parse_duration

MINIMAL: dict[str, Any] = {"app": "shop", "hosts": {"web": {}}}
SECTIONS = list({section: None for _, section in tables()})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86400), ("250ms", 0.25), (" 1.5m ", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert HostSettings(connect_timeout=text).connect_timeout == pytest.approx(seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "s", "10 m", "-1s", "1h30m", "1w", "1e3", "\u0661s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValidationError):
        HostSettings(connect_timeout=text)  # type: ignore[arg-type]


def test_the_least_environment_has_all_defaults() -> None:
    settings = Settings.model_validate(MINIMAL)
    assert settings.hosts["web"].transport == "ssh"
    assert settings.backup.stores["local"] == DirectoryStore(path=".windlass/backups")
    assert not settings.protected


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_table_and_key_is_described(section: type[Section]) -> None:
    assert section.__doc__
    for name, field in section.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_table_refuses_unknown_keys_and_changes(section: type[Section]) -> None:
    assert section.model_config["extra"] == "forbid"
    assert section.model_config["frozen"] is True
    assert section.model_config["strict"] is True


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_default_is_valid(section: type[Section]) -> None:
    for name, field in section.model_fields.items():
        if not field.is_required() and field.default is not None and not is_section(type(field.default)):
            section.__pydantic_validator__.validate_assignment(section.model_construct(), name, field.default)


def test_every_section_of_the_module_is_part_of_an_environment() -> None:
    def below(section: type[Section]) -> set[type[Section]]:
        return {section}.union(*(below(each) for each in section.__subclasses__()))

    leaves = {each for each in below(Section) if not each.__subclasses__()}
    assert leaves == set(SECTIONS)


@pytest.mark.parametrize(
    "registry",
    ["ghcr.io/acme", "localhost:5000", "registry.example.com:443/a/b-c", "docker.io/a_b", "10.0.0.1:5000"],
)
def test_registries(registry: str) -> None:
    assert ImagesSettings(registry=registry).registry == registry


@pytest.mark.parametrize(
    "registry",
    ["", "https://ghcr.io", "ghcr.io/", "ghcr.io/Acme", "a b", "-x", "u:p@ghcr.io", "ghcr.io/a:tag"],
)
def test_what_is_no_registry(registry: str) -> None:
    with pytest.raises(ValidationError):
        ImagesSettings(registry=registry)


@pytest.mark.parametrize("key", ["address", "user", "jump"])
def test_no_word_for_ssh_can_be_an_option(key: str) -> None:
    for text in ("-oProxyCommand=x", "a b", "a\nb", "a\0b"):
        with pytest.raises(ValidationError):
            HostSettings.model_validate({key: text})
    assert getattr(HostSettings.model_validate({key: "me@bastion:22"}), key) == "me@bastion:22"


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\0"])
def test_a_header_is_one_line(text: str) -> None:
    base = {"kind": "http", "url": "http://x"}
    for headers in ({"X": text}, {text: "x"}, {"": "x"}):
        with pytest.raises(ValidationError):
            HttpCheck.model_validate({**base, "headers": headers})
    assert HttpCheck.model_validate({**base, "headers": {"X-A": "é b"}}).headers == {"X-A": "é b"}


def test_numbers_are_not_truth_values_nor_texts() -> None:
    for port in (True, "80", 80.0):
        with pytest.raises(ValidationError):
            TcpCheck.model_validate({"kind": "tcp", "port": port})


def test_every_type_has_words() -> None:
    for section in SECTIONS:
        for field in section.model_fields.values():
            assert not re.search(r"[<>\[]", short(field.annotation)), field
    assert get_args(Settings.model_fields["hosts"].annotation)[1] is HostSettings
