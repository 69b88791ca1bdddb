from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windlass.secrets.references import (
    PROVIDERS,
    Context,
    Failure,
    InvalidReference,
    Provider,
    Reference,
    Resolved,
    parse,
    resolve,
)
from windlass.shell import Sensitive


def value_of(tmp_path: Path, text: str, **process: str) -> Resolved:
    reference = parse(text)
    assert reference is not None
    return resolve([reference], Context(tmp_path, process))[reference]


@pytest.mark.parametrize(
    "text",
    ["", "plain", "$HOME", "${NAME}", "${}", "${1:x}", "x${env:A}", " ${env:A}", "$${env:A}", "${ env:A}"],
)
def test_plain_text_is_no_reference(text: str) -> None:
    assert parse(text) is None


@given(st.text())
def test_text_is_a_reference_an_error_or_plain(text: str) -> None:
    assert parse(f"x{text}") is None


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=lambda provider: provider.name)
def test_the_documented_form_of_each_provider_is_valid(provider: Provider) -> None:
    reference = parse(provider.form)
    assert reference is not None
    assert reference.provider == provider.name
    assert str(reference) == provider.form


@pytest.mark.parametrize(
    ("text", "nearest"),
    [("${evn:A}", "env"), ("${ENV:A}", "env"), ("${HOME:-/root}", ""), ("${fil:a}", "file")],
)
def test_an_unknown_provider_is_an_error(text: str, nearest: str) -> None:
    with pytest.raises(InvalidReference, match="no known source") as caught:
        parse(text)
    assert caught.value.nearest == nearest
    assert "${env:NAME}" in caught.value.allowed


@pytest.mark.parametrize(
    "text",
    [
        "${env:A",
        "${env:A} ",
        "${env:A}x",
        "${env:}",
        "${env:A}${env:B}",
        "${env:A}\n",
        "${file:a}b}",
        "${env:{A}}",
    ],
)
def test_a_reference_is_the_whole_value(text: str) -> None:
    with pytest.raises(InvalidReference, match="whole value"):
        parse(text)


@pytest.mark.parametrize("text", ["${env:1A}", "${env:A-B}", "${env: A}", "${file: a}"])
def test_a_target_its_provider_does_not_know_is_an_error(text: str) -> None:
    with pytest.raises(InvalidReference):
        parse(text)


def test_a_variable_of_the_process(tmp_path: Path) -> None:
    assert value_of(tmp_path, "${env:A}", A=" ä$x\n") == Sensitive(" ä$x\n")


@pytest.mark.parametrize(
    ("process", "reason"),
    [({}, "not set"), ({"A": ""}, "empty"), ({"A": " \n"}, "empty"), ({"A": "\udcff"}, "not valid UTF-8")],
)
def test_a_variable_that_gives_nothing(tmp_path: Path, process: dict[str, str], reason: str) -> None:
    result = value_of(tmp_path, "${env:A}", **process)
    assert isinstance(result, Failure)
    assert reason in result.reason


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


def test_an_endless_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    result = value_of(tmp_path, "${file:/dev/zero}")
    assert isinstance(result, Sensitive)
    assert len(result.reveal()) < 1 << 20


def test_each_target_is_asked_for_once_and_each_provider_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []

    def fetch(targets: tuple[str, ...], context: Context) -> dict[str, Resolved]:
        calls.append(targets)
        return {"a": Sensitive("1")}

    provider = Provider("vault", "${vault:a}", "", lambda target: "", fetch)
    monkeypatch.setitem(PROVIDERS, "vault", provider)
    first, second = Reference("vault", "a"), Reference("vault", "b")
    results = resolve([first, second, first], Context(tmp_path, {}))
    assert calls == [("a", "b")]
    assert results[first] == Sensitive("1")
    assert results[second] == Failure("the provider gave no answer")
