"""Every encoder here is a real one: what it writes must be found."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import shlex
import subprocess
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_from_bytes, urlencode, urlsplit
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.secrets.forms import forms_of, lines_of, values_in

HARD = """Pa$s'w"o\\rd <&> é+/=\t`x`%~!*()#;,?@:[]{}|^"""
KIND = "PRIVATE KEY"
KEY = (
    f"-----BEGIN {KIND}-----\n"
    + "\n".join(("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 2)[:60] + f"{n:04}" for n in range(20))
    + "\n-----END PRIVATE KEY-----\n"
)
values = st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=8, max_size=40
)


def written_by_csv(value: str) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL).writerow([value])
    return out.getvalue()


def in_json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)


def json_with(value: str, chars: str, style: str) -> str:
    """JSON in which some characters are escaped that need not be."""
    return json.dumps(value, ensure_ascii=False).translate(
        {ord(c): "\\u" + format(ord(c), style) for c in chars}
    )


def bash(script: str, value: str) -> str:
    done = subprocess.run(
        ["bash", "-c", script], env={"V": value, "LC_ALL": "C.UTF-8"}, capture_output=True, check=True
    )
    return (done.stdout + done.stderr).decode()


ENCODERS: dict[str, Callable[[str], str]] = {
    "json in json": lambda value: json.dumps(json.dumps({"a": value})),
    "json in json, not ascii": lambda value: in_json(in_json({"a": value})),
    "repr of json": lambda value: repr(json.dumps({"a": value})),
    "php json": lambda value: json.dumps(value).replace("/", "\\/"),
    "gson": lambda value: json_with(value, "<>&='", "04x"),
    ".net json": lambda value: json_with(value, "é<>&+'`", "04X").replace('\\"', "\\u0022"),
    "python": repr,
    "python bytes": lambda value: repr(value.encode()),
    "python ascii": ascii,
    "html": html.escape,
    "html text": lambda value: html.escape(value, quote=False),
    "xml attribute": lambda value: quoteattr(value, {'"': "&quot;"}),
    "xml text": escape,
    "form": lambda value: urlencode({"a": value}),
    "encodeURIComponent": lambda value: quote(value, safe="!~*'()"),
    "go url password": lambda value: quote(value, safe="$&+,;="),
    "twice in a url": lambda value: quote(quote(value, safe="")),
    "shell": shlex.quote,
    "sql": lambda value: "'" + value.replace("'", "''") + "'",
    "csv": written_by_csv,
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of json": lambda value: base64.b64encode(in_json({"auths": value}).encode()).decode(),
    "basic auth": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "terminal": lambda value: value.replace("\n", "\r\n"),
}  # fmt: skip


def found(secret: str, text: str) -> bool:
    data = text.encode()
    return any(form in data for form in forms_of(secret))


@pytest.mark.parametrize("name", ENCODERS)
def test_what_an_encoder_writes_is_found(name: str) -> None:
    assert found(HARD, ENCODERS[name](HARD))


@pytest.mark.parametrize("name", [each for each in ENCODERS if each not in {".net json", "gson"}])
@given(value=values)
@settings(max_examples=60, deadline=None)
def test_what_an_encoder_writes_is_found_whatever_the_value(name: str, value: str) -> None:
    assert found(value, ENCODERS[name](value))


@pytest.mark.parametrize(
    "script", ['printf %q "$V"', 'set -x; : "$V"', "declare -p V", "export -p | grep -a V=", 'echo "${V@Q}"']
)
@given(value=st.text(alphabet="aé $'\"\\`!&;|<>(){}[]*?~#=%^,\t@", min_size=6, max_size=16))
@settings(max_examples=40, deadline=None)
def test_what_bash_writes_is_found(script: str, value: str) -> None:
    assert found(value, bash(script, value))


def test_every_line_of_wrapped_base64_is_found() -> None:
    for argv in (["base64"], ["base64", "-w", "64"]):
        lines = subprocess.run(argv, input=KEY.encode(), capture_output=True, check=True).stdout.splitlines()
        forms = forms_of(KEY)
        assert len(lines) > 10
        assert all(any(form in line for form in forms) for line in lines if len(line) >= 8)


def test_every_long_line_of_a_key_is_found_by_itself_indented_or_quoted() -> None:
    forms = forms_of(KEY)
    for line in textwrap.indent(KEY, "      ").splitlines():
        assert any(form in json.dumps(f"web-1  | {line}").encode() for form in forms)


def test_the_secret_fields_of_a_json_object_are_secrets() -> None:
    secret = json.dumps(
        {"username": "app-user", "password": "corréct horse", "nested": [{"private_key": KEY}], "port": 5432}
    )  # pragma: allowlist secret
    found_in = values_in(secret)
    assert {"corréct horse", KEY, KEY.strip()} <= found_in
    assert "app-user" not in found_in
    assert set(map(str.encode, lines_of(KEY))) <= set(forms_of(secret))


def test_a_deep_or_broken_json_is_a_text() -> None:
    for secret in ("{" * 5000, "[" * 100_000, '{"password": '):
        assert secret.encode() in forms_of(secret)


def test_the_password_in_a_url_is_found_in_every_form() -> None:
    url = "postgres://app:p%40ss%2Fw0rd@db/app"
    assert urlsplit(url).password == "p%40ss%2Fw0rd"
    assert {b"p@ss/w0rd", b"p%40ss%2Fw0rd", quote_from_bytes(b"p@ss/w0rd").encode()} <= set(forms_of(url))


def test_kinds_say_how_a_secret_was_written() -> None:
    forms = forms_of("p@ssw0rd-1")
    assert forms[b"p@ssw0rd-1"] == "plain"
    assert forms[b"p%40ssw0rd-1"] == "escaped"
    assert forms[b"p@ssw0rd-1".hex().encode()] == "hex"
    assert forms[base64.b64encode(b"p@ssw0rd-1")] == "base64"
    assert forms_of(KEY)[KEY.splitlines()[1].encode()] == "line"


def test_an_ordinary_value_has_few_forms() -> None:
    """They are what a search costs."""
    assert len(forms_of("abcDEF0123456789abcDEF0123456789")) <= 12
