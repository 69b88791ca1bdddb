"""Secrets in dotenv files, by their keys; in python-dotenv's grammar without its interpolation."""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from windlass.errors import ConfigurationError
from windlass.secrets.dotenv_text import bindings, broken_line, values, with_value
from windlass.secrets.providers.base import (
    Client,
    Context,
    Failure,
    Provider,
    ProviderError,
    Resolved,
    Version,
    Written,
)
from windlass.secrets.providers.file import canonical_file, read_regular, write_private
from windlass.secrets.providers.process import NAME
from windlass.secrets.targets import Target, parse_target, target_fault
from windlass.secrets.writers import entry_fault
from windlass.shell import Sensitive

# A file of variables is small; anything endless is none.
_READ_LIMIT: Final = 1 << 24
_BOM: Final = "\ufeff"
_CURRENT: Final = Version("", stages=("current",))


def _fault(text: str) -> str:
    if fault := target_fault(text):
        return fault
    target = parse_target(text)
    if not target.field:
        return "the key is missing: after the path comes `#KEY`"
    if NAME.fullmatch(target.field) is None:
        return "the key is no name of a variable"
    return _nul_fault(target)


def _nul_fault(target: Target) -> str:
    return "the path holds a NUL" if "\0" in target.path else ""


class DotenvClient(Client):
    """Reads and writes entries of dotenv files of the operator's machine.

    Args:
        root: where relative paths start.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def provider_name(self) -> str:
        """The provider in words."""
        return "dotenv files"

    def fetch(self, targets: Sequence[str]) -> dict[str, Resolved]:
        """Read each file once."""
        files: dict[str, str | Failure] = {}
        found: dict[str, Resolved] = {}
        for text in targets:
            target = parse_target(text)
            if target.path not in files:
                files[target.path] = self._read(target.path)
            content = files[target.path]
            found[text] = content if isinstance(content, Failure) else _value(content, target)
        return found

    def _read(self, path: str) -> str | Failure:
        """Return a file's text with its line ends as they are, or why it cannot be had."""
        try:
            data = read_regular(self._path(path), _READ_LIMIT)
        except FileNotFoundError:
            return Failure(f"there is no file {path}", missing=True)
        except OSError as error:
            return Failure(f"the file {path} cannot be read: {error.strerror or error}")
        except RuntimeError:
            return Failure(f"the home directory in {path} is not known")
        if data is None:
            return Failure(f"the file {path} has more than {_READ_LIMIT >> 20} MiB and is no dotenv file")
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            return Failure(f"line {line} of {path} is not UTF-8 text")
        return _checked(path, text)

    def _path(self, path: str) -> Path:
        return self._root / Path(path).expanduser()

    def write(self, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        """Set entries, all those of a file at once; comments and other lines stay as they are."""
        by_file: dict[str, dict[str, Sensitive]] = {}
        for text, value in values.items():
            by_file.setdefault(parse_target(text).path, {})[text] = value
        written: dict[str, Written] = {}
        for path, entries in by_file.items():
            written.update(self._write(path, entries))
        return written

    def _write(self, path: str, entries: Mapping[str, Sensitive]) -> dict[str, Written]:
        try:
            with _alone(self._path(path).parent):
                content = self._read(path)
                if isinstance(content, Failure) and not content.missing:
                    return dict.fromkeys(entries, content)
                before = content if isinstance(content, str) else ""
                text, written = _with_entries(before, path, entries)
                if text != before:
                    write_private(self._path(path), text.encode())
        except OSError as error:
            return dict.fromkeys(
                entries, Failure(f"the file {path} cannot be written: {error.strerror or error}")
            )
        except RuntimeError:
            return dict.fromkeys(entries, Failure(f"the home directory in {path} is not known"))
        return written

    def canonical(self, target: str) -> str:
        """Return the file itself and the key, whatever path or link leads to it."""
        parsed = parse_target(target)
        return f"{canonical_file(self._path(parsed.path))}#{parsed.field}"

    def members(self, scope: str) -> dict[str, str]:
        """Return the entries of a file."""
        path = _scope(scope)
        content = self._read(path)
        if isinstance(content, Failure):
            raise ProviderError(_sentence(content.reason), content.fix)
        _refuse_twice(path, content)
        return {name: str(Target(path, name)) for name in values(content) if NAME.fullmatch(name)}

    def member(self, scope: str, name: str) -> str:
        """Return the entry of a variable in a file."""
        if NAME.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a variable.")
        return str(Target(_scope(scope), name))


def _scope(scope: str) -> str:
    target = parse_target(scope)
    if (fault := target_fault(scope) or _nul_fault(target)) or target.field:
        raise ProviderError(
            f"{scope} names no dotenv file: {fault or 'it names a key'}.", "Write `dotenv:path/to/file`."
        )
    return target.path


def _checked(path: str, text: str) -> str | Failure:
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return Failure(f"line {line} of {path} holds a NUL byte, which no variable can hold")
    if (broken := broken_line(text)) is not None:
        # The line is not shown: it may be a part of a secret that lost its quotes.
        return Failure(
            f"line {broken} of {path} cannot be read, so nothing of the file is taken",
            "an entry is KEY=value, its quotes closed",
        )
    return text


def _value(content: str, target: Target) -> Resolved:
    lines = _lines_of(content, target.field)
    if len(lines) > 1:
        return _set_twice(target.field, target.path, lines)
    found = values(content)
    if target.field in found:
        return Sensitive(found[target.field])
    close = get_close_matches(target.field, found, 1)
    hint = f"did you mean {close[0]}?" if close else ""
    return Failure(f"{target.path} has no key {target.field}", hint, missing=True)


def _lines_of(content: str, name: str) -> list[int]:
    return [line for line, binding in bindings(content) if binding.key == name]


def _set_twice(name: str, path: str, lines: Sequence[int]) -> Failure:
    places = " and ".join(map(str, lines))
    return Failure(f"{path} sets {name} {len(lines)} times, in lines {places}", "keep one of them")


def _refuse_twice(path: str, content: str) -> None:
    names = Counter(binding.key for _, binding in bindings(content) if binding.key is not None)
    for name, count in names.items():
        if count > 1:
            failure = _set_twice(name, path, _lines_of(content, name))
            raise ProviderError(_sentence(failure.reason), _sentence(failure.fix))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _with_entries(before: str, path: str, entries: Mapping[str, Sensitive]) -> tuple[str, dict[str, Written]]:
    """Return the text with all entries set that can be, and what came of each."""
    text = before.removeprefix(_BOM)
    mark = before[: len(before) - len(text)]
    written: dict[str, Written] = {}
    for address, secret in entries.items():
        name, value = parse_target(address).field, secret.reveal()
        lines = _lines_of(text, name)
        if len(lines) > 1:
            written[address] = _set_twice(name, path, lines)
        elif fault := entry_fault(name, value):
            written[address] = Failure(fault)
        elif values(text).get(name) == value:
            written[address] = _CURRENT
        else:
            try:
                text = with_value(text, name, value)
                written[address] = _CURRENT
            except ValueError as error:
                written[address] = Failure(f"{path}: {error}")
    return mark + text, written


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other writers away from the files of a folder: each would undo what the other wrote."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(context: Context) -> Client:
    return DotenvClient(context.root)


PROVIDER: Final = Provider(
    "dotenv",
    "${dotenv:path/to/.env#KEY}",
    "The entry `KEY` of another dotenv file; nothing in it is expanded. "
    "The path is relative to the repository, absolute, or begins with `~`.",
    _fault,
    _connect,
)
