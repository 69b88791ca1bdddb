"""Reads and changes the text of dotenv files, in python-dotenv's grammar without its interpolation.

python-dotenv skips a line it cannot read, and may lose the lines around it. Here such a line is found.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Final

from dotenv.parser import Binding, parse_stream

from windlass.secrets.writers import dotenv_quote

# All up to the value of an entry: blank lines, `export`, the key, the sign.
_BEFORE: Final = re.compile(r"\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*=[^\S\r\n]*")
_QUOTED: Final = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
# All after an unquoted value: a comment that stands off, and the end of the line.
_AFTER: Final = re.compile(r"(?:\s+#[^\r\n]*|[^\S\r\n]*)(?:\r\n|\n|\r|\Z)")


def bindings(text: str) -> Iterator[tuple[int, Binding]]:
    """Yield what python-dotenv reads, each with the line it begins in; a byte order mark is passed over."""
    done, line = 0, 1
    text = text.removeprefix("\ufeff")
    for binding in parse_stream(io.StringIO(text, newline="")):
        # Blank lines before an entry are part of it, so the parser's own line is too early.
        string = binding.original.string
        begin = done + len(string) - len(string.lstrip())
        line += text.count("\n", done, begin)
        yield line, binding
        line += text.count("\n", begin, done + len(string))
        done += len(string)


def broken_line(text: str) -> int | None:
    """Return the first line that is no entry; None when all can be read.

    A word without `=` is none either: it may be a part of a value that lost its quotes.
    """
    for line, binding in bindings(text):
        if binding.error or (binding.key is not None and binding.value is None):
            return line
    return None


def with_value(text: str, name: str, value: str) -> str:
    """Return the text with a value set, in its place or in a new last line; all else stays as it is.

    Args:
        text: a text without broken lines, in which the name is set at most once.
        name: the variable's name.
        value: any text without NUL.

    Raises:
        ValueError: a reader would not get exactly this value and the others as they were; without values.
    """
    parts = [(binding.key, binding.original.string) for _, binding in bindings(text)]
    if any(key == name for key, _ in parts):
        changed = "".join(_changed(part, value) if key == name else part for key, part in parts)
    else:
        newline = "" if not text or text.endswith(("\n", "\r")) else "\n"
        changed = f"{text}{newline}{name}={dotenv_quote(value)}\n"
    if values(changed) != {**values(text), name: value} or broken_line(changed) is not None:
        raise ValueError("its entry cannot be changed without changing others")
    return changed


def values(text: str) -> dict[str, str]:
    """Return the values by name; broken lines are left out."""
    found = ((binding.key, binding.value) for _, binding in bindings(text))
    return {key: value for key, value in found if key is not None and value is not None}


def _changed(entry: str, value: str) -> str:
    """Return an entry with another value; what stands before it and the comment after it stay."""
    before = _BEFORE.match(entry)
    end = before.end() if before else 0
    quoted = _QUOTED.match(entry, end)
    if quoted:
        after = entry[quoted.end() :]
    elif entry[end : end + 1] == "#" and entry[end - 1 : end] != "=":
        after = f" {entry[end:]}"
    else:
        rest = _AFTER.search(entry, end)
        after = entry[rest.start() :] if rest else ""
    return f"{entry[:end]}{dotenv_quote(value)}{after}"
