"""Values that name a secret instead of holding it: `${provider:target}`, as the whole value.

Grammar: `${`, a provider's name, `:`, a target without line breaks and braces, `}`, and nothing else.
Each provider decides what its target means. Text that does not begin like that is no reference and is
taken byte for byte. What is not allowed today (a second `${…}`, braces in a target) is an error, so
that later forms do not change the meaning of files that exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from windlass.shell import Sensitive

_BEGINNING: Final = re.compile(r"\$\{(?P<provider>[A-Za-z][A-Za-z0-9_-]*):")
_WHOLE: Final = re.compile(r"\$\{(?P<provider>[A-Za-z][A-Za-z0-9_-]*):(?P<target>[^{}\r\n\0]+)\}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# More than the system allows in a variable: enough to say so without reading an endless file.
_READ_LIMIT: Final = 1 << 18


class InvalidReference(ValueError):
    """A value that begins like a reference and is none.

    Args:
        message: what is wrong, without the value.
        allowed: what would be right.
        nearest: the nearest valid name; empty when there is none.
    """

    def __init__(self, message: str, allowed: str = "", nearest: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.allowed = allowed
        self.nearest = nearest


@dataclass(frozen=True)
class Reference:
    """A secret's address: where it is kept and under which name."""

    provider: str
    target: str

    def __str__(self) -> str:
        return f"${{{self.provider}:{self.target}}}"


@dataclass(frozen=True)
class Failure:
    """Why a reference gave no value, in words that hold no secret."""

    reason: str


@dataclass(frozen=True)
class Context:
    """What providers may look at.

    Args:
        root: the repository; relative paths start there.
        process: the variables of the operator's own process.
    """

    root: Path
    process: Mapping[str, str]


Resolved = Sensitive | Failure


@dataclass(frozen=True)
class Provider:
    """A place secrets are kept in.

    Args:
        name: the word before the colon.
        form: an example of a reference, for errors and the documentation.
        description: what it gives.
        fault: says what is wrong with a target; empty when nothing is.
        fetch: gets many targets at once, each to its value or its failure; it never raises for one.
    """

    name: str
    form: str
    description: str
    fault: Callable[[str], str]
    fetch: Callable[[tuple[str, ...], Context], Mapping[str, Resolved]]


def parse(value: str) -> Reference | None:
    """Read a value.

    Returns:
        The reference it is, or None when it is plain text.

    Raises:
        InvalidReference: it begins as a reference does and is none.
    """
    beginning = _BEGINNING.match(value)
    if beginning is None:
        return None
    provider = PROVIDERS.get(beginning["provider"])
    if provider is None:
        raise _unknown_provider(beginning["provider"])
    whole = _WHOLE.fullmatch(value)
    if whole is None:
        raise InvalidReference(
            "a reference must be the whole value, end with `}` and hold no other brace", provider.form
        )
    if fault := provider.fault(whole["target"]):
        raise InvalidReference(fault, provider.form)
    return Reference(provider.name, whole["target"])


def resolve(references: Iterable[Reference], context: Context) -> dict[Reference, Resolved]:
    """Get what the references stand for; each is asked for once, each provider for all of its own.

    Returns:
        For each reference its value, never empty, or the reason there is none.
    """
    wanted: dict[str, dict[str, Reference]] = {}
    for reference in references:
        wanted.setdefault(reference.provider, {})[reference.target] = reference
    results: dict[Reference, Resolved] = {}
    for name, by_target in wanted.items():
        found = PROVIDERS[name].fetch(tuple(by_target), context)
        for target, reference in by_target.items():
            results[reference] = _filled(found.get(target, Failure("the provider gave no answer")))
    return results


def _filled(result: Resolved) -> Resolved:
    """Turn an empty value into a failure: an empty secret is a mistake, and an expensive one."""
    if isinstance(result, Sensitive) and not result.reveal().strip():
        return Failure("the value is empty")
    return result


def _unknown_provider(name: str) -> InvalidReference:
    close = get_close_matches(name.lower(), PROVIDERS, 1)
    return InvalidReference(
        f"`${{{name}:` names no known source of secrets; text that begins like this can be kept in a file "
        "and referenced as `${file:path}`",
        ", ".join(provider.form for provider in PROVIDERS.values()),
        close[0] if close else "",
    )


def _one_by_one(
    get: Callable[[str, Context], Resolved],
) -> Callable[[tuple[str, ...], Context], Mapping[str, Resolved]]:
    """Make a `fetch` of a function for one target, for providers where asking is cheap."""

    def fetch(targets: tuple[str, ...], context: Context) -> Mapping[str, Resolved]:
        return {target: get(target, context) for target in targets}

    return fetch


def _variable_fault(target: str) -> str:
    return "" if _VARIABLE.fullmatch(target) else "the target is no name of a variable"


def _from_process(target: str, context: Context) -> Resolved:
    value = context.process.get(target)
    if value is None:
        return Failure(f"the variable {target} is not set where Windlass was started")
    try:
        value.encode()
    except UnicodeEncodeError:
        return Failure(f"the variable {target} is not valid UTF-8")
    return Sensitive(value)


def _path_fault(target: str) -> str:
    return "the path has spaces around it" if target != target.strip() else ""


def _from_file(target: str, context: Context) -> Resolved:
    try:
        with (context.root / Path(target).expanduser()).open("rb") as file:
            data = file.read(_READ_LIMIT)
    except OSError as error:
        return Failure(f"the file {target} cannot be read: {error.strerror or error}")
    except RuntimeError:
        return Failure(f"the home directory in {target} is not known")
    try:
        # Editors and `echo` end a file with a newline that is no part of the secret.
        return Sensitive(data.decode().removesuffix("\n"))
    except UnicodeDecodeError:
        return Failure(f"the file {target} is not UTF-8 text")


PROVIDERS: Final[dict[str, Provider]] = {
    provider.name: provider
    for provider in (
        Provider(
            "env",
            "${env:NAME}",
            "The variable `NAME` of the process Windlass was started in, such as a CI job's secret.",
            _variable_fault,
            _one_by_one(_from_process),
        ),
        Provider(
            "file",
            "${file:path}",
            "The content of a UTF-8 file, byte for byte, less one final newline. "
            "The path is relative to the repository, absolute, or begins with `~`.",
            _path_fault,
            _one_by_one(_from_file),
        ),
    )
}
