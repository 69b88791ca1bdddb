"""The forms programs print a secret in: as it is, base64, hex, URL, and the escapes of many languages."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final, Literal
from urllib.parse import quote, quote_plus

from windlass.secrets.shapes import name_is_secret, passwords_in, value_is_secret
from windlass.secrets.writers import compose_quote

Kind = Literal["plain", "escaped", "base64", "hex", "line"]

MIN_LENGTH: Final = 4
MIN_LINE_LENGTH: Final = 8
# A shifted base64 of a short value is a short word that other text may contain by chance.
_MIN_CORE: Final = 6
# PEM and openssl break base64 after 64 characters, MIME and coreutils after 76.
_WRAPS: Final = (64, 76)
# What encoders of JSON escape though they need not: Go; Gson and Rails; .NET. Lower case or upper.
_JSON_EXTRAS: Final = ("<>&", "<>&='", "<>&+'`")
_GO_ESCAPES: Final = {
    **{ord(char): f"\\{letter}" for char, letter in zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True)},
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}
_BASH_ESCAPES: Final = {**_GO_ESCAPES, ord('"'): '"', ord("'"): "\\'", 0x1B: "\\E"}
_XML_ESCAPES: Final = {9: "&#9;", 10: "&#10;", 13: "&#13;"}
# What each encoder leaves as it is: all and nothing, Python, `encodeURIComponent`, `encodeURI`, and Go's
# for the path and for the password of a URL.
_URL_SAFE: Final = ("", "/", "!~*'()", ";,/?:@&=+$-_.!~*'()#", "$&+=:@", "$&+,;=")


def forms_of(secret: str) -> dict[bytes, Kind]:
    """Return all the byte strings that stand for a secret, each at least four bytes long.

    They are those of the value, of the passwords inside it, of the secret fields of a JSON object, and
    of the lines of a multi-line value that have eight characters and more.
    """
    forms: dict[bytes, Kind] = {}
    for value in values_in(secret):
        for form, kind in forms_of_value(value).items():
            forms.setdefault(form, kind)
    return forms


def forms_of_value(value: str) -> dict[bytes, Kind]:
    """Return the byte strings that stand for a value itself and for its lines; see `forms_of`."""
    forms: dict[bytes, Kind] = {}
    if len(value) >= MIN_LENGTH:
        _add(forms, "plain", {value})
        _add(forms, "escaped", _escaped(value))
        _add_bytes(forms, "base64", _base64_forms(value))
        _add(forms, "hex", _hex_forms(value))
    for line in lines_of(value):
        _add(forms, "line", _escaped(line))
    return forms


def values_in(secret: str) -> set[str]:
    """Return a secret and what in it is secret by itself: passwords, secret fields of a JSON object."""
    values = {secret, secret.strip()}
    for value in [*values, *_secret_fields(secret)]:
        values |= {value, value.strip(), *passwords_in(value)}
    return values


def lines_of(value: str) -> set[str]:
    """Return the lines of a multi-line value that are long enough to be looked for alone."""
    lines = value.splitlines()
    stripped = {line.strip() for line in lines} if len(lines) > 1 else set()
    return {line for line in stripped if len(line) >= MIN_LINE_LENGTH}


def encode(text: str) -> bytes:
    """Return the text in UTF-8, lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def _add(forms: dict[bytes, Kind], kind: Kind, texts: set[str]) -> None:
    _add_bytes(forms, kind, {encode(text) for text in texts})


def _add_bytes(forms: dict[bytes, Kind], kind: Kind, found: set[bytes]) -> None:
    for form in found:
        if len(form) >= MIN_LENGTH:
            forms.setdefault(form, kind)


def _secret_fields(secret: str) -> set[str]:
    """Return the fields of a JSON object whose name or value says that they are secret."""
    if not secret.lstrip().startswith(("{", "[")):
        return set()
    with suppress(ValueError, RecursionError):
        return {value for name, value in _leaves("", json.loads(secret)) if _tells(name, value)}
    return set()


def _tells(name: str, value: str) -> bool:
    return name_is_secret(name) or value_is_secret(value)


def _leaves(name: str, node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield name, node
    elif isinstance(node, dict):
        for key, each in node.items():
            yield from _leaves(key, each)
    elif isinstance(node, list):
        for each in node:
            yield from _leaves(name, each)


def _escaped(value: str) -> set[str]:
    """Return the value as the programs around us write it."""
    doubled = value.replace("$", "$$")
    # A terminal makes CR LF of every LF, also of one that has its CR already.
    lines = {value.replace("\r\n", "\n").replace("\n", "\r\n"), value.replace("\n", "\r\n")}
    forms = {value, doubled, compose_quote(value)[1:-1], *lines}
    for form in (value, doubled):
        forms |= _quoted_forms(form)
    return forms | _shell_forms(value) | _markup_forms(value) | _url_forms(value)


def _quoted_forms(value: str) -> set[str]:
    """Return the inside of the value's JSON, Go and Python literals, and of JSON within JSON."""
    plain, ascii_only = json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(value)[1:-1]
    forms = {
        plain,
        ascii_only,
        *(_json_escaped(form, extra) for form in (plain, ascii_only) for extra in _JSON_EXTRAS),
    }
    forms |= {form.replace("/", "\\/") for form in (plain, ascii_only)}
    forms |= {re.sub(r"\\u[0-9a-f]{4}", lambda match: "\\u" + match[0][2:].upper(), form) for form in forms}
    # `.NET` escapes the quote like the others, in upper case.
    forms |= {form.replace('\\"', "\\u0022") for form in forms}
    # Within another JSON text, and within the `repr` of one.
    forms |= {json.dumps(form, ensure_ascii=False)[1:-1] for form in forms}
    doubled = {form.replace("\\", "\\\\") for form in (plain, ascii_only)}
    forms |= doubled | {form.replace("'", "\\'") for form in doubled}
    return forms | {repr(value)[1:-1], ascii(value)[1:-1], repr(encode(value))[2:-1], *_go_forms(value)}


def _json_escaped(form: str, chars: str) -> str:
    return form.translate({ord(char): f"\\u{ord(char):04x}" for char in chars})


def _go_forms(value: str) -> set[str]:
    """Return what Go's `%q` writes, as loggers of Docker and Compose do."""
    return {
        "".join(_go_char(char, ascii_only) for char in value.translate(_GO_ESCAPES))
        for ascii_only in (False, True)
    }


def _go_char(char: str, ascii_only: bool) -> str:
    code = ord(char)
    if char.isprintable() and (code < 0x80 or not ascii_only):
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _shell_forms(value: str) -> set[str]:
    """Return the value as shells, SQL, YAML and CSV quote it, without the outer quotes."""
    quoted = shlex.quote(value)
    return {
        value if quoted == value else quoted[1:-1],
        value.replace("'", "'\\''"),
        value.replace("'", "''"),
        value.replace('"', '""'),
        re.sub(r'([\\"$`])', r"\\\1", value),
        # What `printf %q` of bash does; the last two characters matter to it in some places only.
        re.sub(r"([ !\"$&'()*,;<>?\[\\\]^`{|}]|^#|(?:^|(?<=[=:]))~)", r"\\\1", value),
        value.translate(_BASH_ESCAPES),
    }


def _markup_forms(value: str) -> set[str]:
    """Return the value as the texts and attributes of HTML and XML have it."""
    quoted = html.escape(value, quote=False)
    forms = {quoted}
    for double, single in (
        ("&quot;", "&#x27;"),
        ("&quot;", "&apos;"),
        ("&#34;", "&#39;"),
        ("&quot;", "'"),
        ('"', "&#39;"),
    ):
        forms.add(quoted.replace('"', double).replace("'", single))
    forms.add(html.escape(value).replace("&#x27;", "&#39;"))
    return forms | {form.translate(_XML_ESCAPES) for form in forms}


def _url_forms(value: str) -> set[str]:
    data = encode(value)
    forms = {quote(data, safe=safe) for safe in _URL_SAFE} | {quote_plus(data), quote_plus(data, safe="*")}
    forms.add(quote(quote(data, safe=""), safe=""))
    return forms | {re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in forms}


def _hex_forms(value: str) -> set[str]:
    digits = encode(value).hex()
    return {digits, digits.upper()}


def _base64_forms(value: str) -> set[bytes]:
    """Return the value, and the JSON of it, in base64: whole, in lines, in the middle of more."""
    forms: set[bytes] = set()
    for data in {encode(value), encode(json.dumps(value, ensure_ascii=False)[1:-1])}:
        whole = base64.b64encode(data)
        forms |= {whole, whole.rstrip(b"="), *_cores(data)}
        for width in _WRAPS:
            lines = {whole[at : at + width] for at in range(0, len(whole), width)}
            forms |= {line for line in lines if len(line) >= MIN_LINE_LENGTH}
    return forms | {form.translate(bytes.maketrans(b"+/", b"-_")) for form in forms}


def _cores(data: bytes) -> Iterator[bytes]:
    """Yield what of the base64 of something longer comes from these bytes alone, at each alignment."""
    for shift in range(3):
        # What the bytes around the value leave untouched.
        first = (0, 2, 3)[shift]
        core = base64.b64encode(bytes(shift) + data)[first : (shift + len(data)) * 8 // 6]
        if len(core) >= _MIN_CORE:
            yield core
