"""The types a variable can have: what each allows, which options it takes, how its values are made.

No sentence here holds a value: it may be a secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final
from urllib.parse import urlsplit

from windlass.environment.decorators import Call, DecoratorFault
from windlass.fields import parse_duration
from windlass.secrets.generating import DEFAULT_SIZE, LEAST, MOST

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """An option of a type.

    Args:
        description: what it means.
        read: turns what is written into what the type works with; raises `ValueError`.
        allowed: what may be written.
    """

    description: str
    read: Callable[[tuple[str, ...]], Any]
    allowed: str


@dataclass(frozen=True)
class TypeForm:
    """A type there is.

    Args:
        name: its word.
        form: an example of it.
        description: what a value of it is.
        fault: says why a value is none, without the value; empty when it is one.
        options: its options by name; the one named "" has no name and must be given.
        strong: a secret of this type is a key or a password, so its strength is checked.
        decode: gives the bytes a value stands for.
        makes: the kind of key material `env.generate` makes for it; empty: none.
    """

    name: str
    form: str
    description: str
    fault: Callable[[str, Options], str]
    options: Mapping[str, Option] = field(default_factory=dict)
    strong: bool = False
    decode: Callable[[str], bytes | None] | None = None
    makes: Callable[[Options], str] = lambda _: ""


@dataclass(frozen=True)
class ValueType:
    """The type of one variable: which it is, and its options as read."""

    form: TypeForm
    options: Options
    text: str

    def __str__(self) -> str:
        return self.text

    def fault(self, value: str) -> str:
        """Return why a value is none of the type, without the value; empty when it is one."""
        return self.form.fault(value, self.options)

    def decoded(self, value: str) -> bytes | None:
        """Return the bytes a key stands for; None where the type has none."""
        return self.form.decode(value) if self.form.decode else None

    @property
    def kind(self) -> str:
        """The kind of key material that is a value of it; empty when none is."""
        return self.form.makes(self.options)


def read_type(call: Call) -> ValueType:
    """Return the type that a decorator names.

    Raises:
        DecoratorFault: there is none of that name, or its options are wrong.
    """
    form = _BY_NAME.get(call.name)
    if form is None:
        close = get_close_matches(call.name.lower(), _BY_NAME, 1)
        raise DecoratorFault(
            "there is no such type", call.column, ", ".join(_BY_NAME), close[0] if close else ""
        )
    options: dict[str, Any] = {}
    for argument in call.arguments:
        option = form.options.get(argument.name)
        if option is None:
            raise _no_option(form, argument.name, argument.column)
        if argument.name in options and argument.name:
            raise DecoratorFault("the option stands twice", argument.column)
        try:
            read = option.read(argument.texts)
        except (ValueError, re.error):
            raise DecoratorFault("the option has a wrong value", argument.column, option.allowed) from None
        options[argument.name] = (*options.get("", ()), *read) if not argument.name else read
    if "" in form.options and "" not in options:
        raise DecoratorFault(f"`{call.name}` needs its values", call.column, f"`{form.form}`")
    least, most = options.get("min"), options.get("max")
    if least is not None and most is not None and least > most:
        raise DecoratorFault("`min` is more than `max`", call.column)
    return ValueType(form, options, _written(call))


def _no_option(form: TypeForm, name: str, column: int) -> DecoratorFault:
    named = [each for each in form.options if each]
    close = get_close_matches(name, named, 1)
    allowed = ", ".join(f"{each}=" for each in named) or ("values" if form.options else "no options")
    return DecoratorFault(
        f"`{form.name}` has no such option", column, allowed, f"{close[0]}=" if close else ""
    )


def _written(call: Call) -> str:
    """Return the type in one way of writing it, whatever spaces and quotes the file has."""
    parts = [(f"{each.name}=" if each.name else "") + "|".join(each.texts) for each in call.arguments]
    return f"{call.name}({', '.join(parts)})" if parts else call.name


def _one(texts: tuple[str, ...]) -> str:
    if len(texts) != 1:
        raise ValueError("one text")
    return texts[0]


def _whole(texts: tuple[str, ...]) -> int:
    """Read a whole number as `int` writes it, without its signs for readers (`1_000`, `٣`)."""
    text = _one(texts)
    if not _INT.fullmatch(text):
        raise ValueError("a whole number")
    return int(text)


def _positive(texts: tuple[str, ...]) -> int:
    number = _whole(texts)
    if not 1 <= number <= _LONGEST:
        raise ValueError("a number from 1 up")
    return number


_INT: Final = re.compile(r"[+-]?[0-9]{1,40}")
# The longest value a process can be given.
_LONGEST: Final = 131071
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_HOST: Final = re.compile(r"(?:[^\s/?#@\[\]:\\]+|\[[0-9A-Fa-f:.%]+\])(?::(?P<port>[0-9]*))?")
# One address as mail programs take it; what RFC 5322 allows beyond it, nobody's variable holds.
_EMAIL: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?"
)
_BOOL: Final = ("true", "false", "yes", "no", "on", "off", "1", "0")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_PEM: Final = re.compile(
    r"-----BEGIN (?P<label>[A-Z0-9 ]+)-----\r?\n(?:[A-Za-z-]+: [^\r\n]*\r?\n|[ \t]*\r?\n)*"
    r"(?P<data>(?:[A-Za-z0-9+/=]+[ \t]*\r?\n)+)-----END (?P=label)-----\s*"
)


def _string(value: str, options: Options) -> str:
    if fault := _length(value, options):
        return fault
    pattern = options.get("matches")
    if pattern is not None and pattern.fullmatch(value) is None:
        return "does not match the pattern of its type"
    return ""


def _length(value: str, options: Options) -> str:
    if len(value) < options.get("min", 0):
        return f"is shorter than {options['min']} characters"
    if len(value) > options.get("max", _LONGEST):
        return f"is longer than {options['max']} characters"
    return ""


def _password(value: str, options: Options) -> str:
    return _length(value, {"min": LEAST["password"], **options})


def _int(value: str, options: Options) -> str:
    if not _INT.fullmatch(value):
        return "is no whole number"
    if int(value) < options.get("min", int(value)):
        return f"is less than {options['min']}"
    if int(value) > options.get("max", int(value)):
        return f"is more than {options['max']}"
    return ""


def _port(value: str, options: Options) -> str:
    del options
    right = value.isascii() and value.isdecimal() and len(value) <= 5 and 1 <= int(value) <= 65535
    return "" if right else "is no port, 1 to 65535"


def _bool(value: str, options: Options) -> str:
    del options
    return "" if value.lower() in _BOOL else f"is none of {', '.join(_BOOL)}"


def _url(value: str, options: Options) -> str:
    try:
        parts = urlsplit(value)
    except ValueError:
        return "is no URL"
    # `urlsplit` drops tabs and line breaks, and takes much that no program would.
    if any(character <= " " or character == "\x7f" for character in value):
        return "is no URL: it holds a space or a control character"
    if not _SCHEME.fullmatch(parts.scheme) or "://" not in value:
        return "is no URL: it does not begin with a scheme such as https://"
    schemes = options.get("schemes")
    if schemes and parts.scheme not in schemes:
        return f"does not begin with {' or '.join(f'{each}://' for each in schemes)}"
    return _place_fault(parts.netloc.rpartition("@")[2], parts.path)


def _place_fault(place: str, path: str) -> str:
    """Return why what stands between `//` and the path names no host."""
    if not place:
        return "" if path not in {"", "/"} else "is no URL: it names no host"
    # Several hosts are a list with commas (PostgreSQL, MongoDB, Kafka).
    for each in place.split(","):
        match = _HOST.fullmatch(each)
        if match is None or (match["port"] and _port(match["port"], {})):
            return "is no URL: its host or its port is none"
    return ""


def _email(value: str, options: Options) -> str:
    del options
    right = _EMAIL.fullmatch(value) and ".." not in value and not value.startswith(".")
    return "" if right else "is no mail address"


def _enum(value: str, options: Options) -> str:
    return "" if value in options[""] else f"is none of {', '.join(options[''])}"


def _duration(value: str, options: Options) -> str:
    del options
    try:
        parse_duration(value)
    except ValueError:
        return 'is no duration, such as 30, "90s", "10m", "2h" or "1d"'
    return ""


def base64_bytes(value: str) -> bytes | None:
    """Return the bytes of a text in base64, of either alphabet, padded or not; None when it is none."""
    if not _BASE64.fullmatch(value):
        return None
    plain = value.rstrip("=").replace("-", "+").replace("_", "/")
    if "=" in value and len(value) % 4:
        return None
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error:
        return None


def _base64(value: str, options: Options) -> str:
    return _bytes(base64_bytes(value), options, "is no base64")


def hex_bytes(value: str) -> bytes | None:
    """Return the bytes of a text in hex; None when it is none."""
    return bytes.fromhex(value) if _HEX.fullmatch(value) else None


def _hex(value: str, options: Options) -> str:
    return _bytes(hex_bytes(value), options, "is no hex: two digits of 0-9 a-f for each byte")


def _bytes(data: bytes | None, options: Options, fault: str) -> str:
    if data is None:
        return fault
    wanted = options.get("bytes")
    return "" if wanted in {None, len(data)} else f"stands for {len(data)} bytes and not for {wanted}"


def _uuid(value: str, options: Options) -> str:
    del options
    try:
        right = str(uuid.UUID(value)) == value.lower()
    except ValueError:
        right = False
    return "" if right else "is no UUID"


def _json(value: str, options: Options) -> str:
    del options
    try:
        json.loads(value, parse_constant=_no_constant)
    except RecursionError:
        return "is JSON nested too deeply"
    except ValueError:
        return "is no JSON"
    return ""


def _no_constant(text: str) -> object:
    """Refuse `NaN` and `Infinity`, which Python reads and JSON does not have."""
    raise ValueError(text)


def _pem(value: str, options: Options) -> str:
    del options
    text, blocks = value.strip() + "\n", 0
    while text:
        match = _PEM.match(text)
        if match is None or base64_bytes("".join(match["data"].split())) is None:
            literal = "\\n" in value and "\n" not in value.strip()
            hint = ": its line breaks are the letters `\\n`; put it in double quotes" if literal else ""
            return f"is no PEM: blocks from BEGIN to END, with line breaks{hint}"
        text, blocks = text[match.end() :], blocks + 1
    return "" if blocks else "is no PEM"


def _key_kind(name: str) -> Callable[[Options], str]:
    def kind(options: Options) -> str:
        size = options.get("bytes", DEFAULT_SIZE)
        return f"{name}:{size}" if LEAST[name] <= size <= MOST else ""

    return kind


def _password_kind(options: Options) -> str:
    size = max(DEFAULT_SIZE, options.get("min", 0))
    size = min(size, options.get("max", size))
    return f"password:{size}" if LEAST["password"] <= size <= MOST else ""


_MIN_LENGTH: Final = Option("the least number of characters", _positive, "a number from 1 up")
_MAX_LENGTH: Final = Option("the most characters", _positive, "a number from 1 up")
_BYTES: Final = Option("how many bytes it stands for", _positive, "a number from 1 up")

TYPES: Final = (
    TypeForm(
        "string",
        'string(min=8, max=64, matches="sk_[a-z]+")',
        "Any text; `matches` is a regular expression of Python for the whole of it.",
        _string,
        {
            "min": _MIN_LENGTH,
            "max": _MAX_LENGTH,
            "matches": Option(
                "a regular expression for the whole value",
                lambda texts: re.compile("|".join(texts), re.DOTALL),
                "a regular expression in quotes",
            ),
        },
        strong=True,
    ),
    TypeForm(
        "int",
        "int(min=1, max=10)",
        "A whole number.",
        _int,
        {
            "min": Option("the least number", _whole, "a whole number"),
            "max": Option("the greatest number", _whole, "a whole number"),
        },
    ),
    TypeForm("port", "port", "A port, 1 to 65535.", _port),
    TypeForm("bool", "bool", f"One of {', '.join(_BOOL)}; capitals do not matter.", _bool),
    TypeForm(
        "url",
        "url(schemes=postgres|postgresql)",
        "A URL with a scheme and a host; `schemes` are those that are allowed.",
        _url,
        {"schemes": Option("the schemes that are allowed", lambda texts: texts, "https|http")},
    ),
    TypeForm("email", "email", "One mail address.", _email),
    TypeForm(
        "enum",
        "enum(debug|info|warning)",
        "One of the values named, to the letter.",
        _enum,
        {"": Option("the values", lambda texts: texts, "values with `|` between")},
    ),
    TypeForm("duration", "duration", 'Seconds, or a text such as "30s", "10m", "2h" or "1d".', _duration),
    TypeForm(
        "password",
        "password(min=16)",
        f"Any text of at least {LEAST['password']} characters. `env.generate` makes one of "
        f"{DEFAULT_SIZE} letters and digits.",
        _password,
        {"min": _MIN_LENGTH, "max": _MAX_LENGTH},
        strong=True,
        makes=_password_kind,
    ),
    TypeForm(
        "base64",
        "base64(bytes=32)",
        "Bytes in base64, of either alphabet, padded or not. `env.generate` makes them.",
        _base64,
        {"bytes": _BYTES},
        strong=True,
        decode=base64_bytes,
        makes=_key_kind("base64"),
    ),
    TypeForm(
        "hex",
        "hex(bytes=32)",
        "Bytes in hex. `env.generate` makes them.",
        _hex,
        {"bytes": _BYTES},
        strong=True,
        decode=hex_bytes,
        makes=_key_kind("hex"),
    ),
    TypeForm(
        "uuid",
        "uuid",
        "A UUID with its four `-`. `env.generate` makes a random one.",
        _uuid,
        makes=lambda _: "uuid",
    ),
    TypeForm("json", "json", "A JSON document.", _json),
    TypeForm("pem", "pem", "One or more PEM blocks, such as a certificate or a private key.", _pem),
)
_BY_NAME: Final = {each.name: each for each in TYPES}
