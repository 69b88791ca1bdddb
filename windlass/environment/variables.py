"""The variables of an environment, from its dotenv files.

`envs/base.env`, then `envs/<name>.env`, then `envs/<name>.local.env`; later ones win. They are dotenv
files in python-dotenv's grammar without interpolation: `$` means nothing. A value that is a reference
(`${env:NAME}`, `${file:path}`) stands for a secret kept elsewhere. The variables of the operator's own
process override nothing: what a release runs with is what the files say.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from dotenv.parser import Binding, parse_stream

from windlass.environment.environment import Variable
from windlass.environment.model import VariablesSettings
from windlass.environment.problems import Problem
from windlass.secrets.redaction import passwords_in
from windlass.secrets.references import Context, Failure, InvalidReference, Reference, parse, resolve
from windlass.secrets.writers import entry_fault
from windlass.shell import Sensitive

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Also as the end of a word: PGPASSWORD, GITHUBTOKEN.
_SECRET_ENDINGS: Final = (
    *("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "APIKEY"),
    *("PASSWORDS", "SECRETS", "TOKENS", "CREDENTIAL", "CREDENTIALS"),
)
_SECRET_WORDS: Final = frozenset(
    {"PASS", "CREDS", "DSN", "PRIVATE", "KEY", "KEYS", "PEPPER", "SALT", "CREDENTIAL", "CREDENTIALS"}
)
# Secret where nothing but a stage or a number follows: GITHUB_PAT, STRIPE_SK_LIVE, but AUTH_URL is none.
_SECRET_LAST_WORDS: Final = frozenset({"PAT", "JWT", "AUTH", "SK", "BEARER"})
_STAGE_WORDS: Final = frozenset(
    {
        *("LIVE", "TEST", "PROD", "PRODUCTION", "STAGING", "DEV", "DEVELOPMENT"),
        *("OLD", "NEW", "PREVIOUS", "CURRENT", "NEXT", "DEFAULT", "BASIC", "VALUE"),
    }
)
# `PWD` alone is the working directory of a shell.
_SECRET_NAMES: Final = ("*_PWD", "*SECRET_ID", "*CONNECTION_STRING*")
# A last word that says the value is about a secret and is none.
_ABOUT_WORDS: Final = frozenset(
    {
        *(
            "ALG",
            "ALGORITHM",
            "AGE",
            "BITS",
            "BYTES",
            "COUNT",
            "DAYS",
            "ENABLED",
            "EXPIRES",
            "EXPIRY",
            "FILE",
        ),
        *(
            "FORMAT",
            "HEADER",
            "HOURS",
            "ID",
            "IDS",
            "ISSUER",
            "LENGTH",
            "LIFETIME",
            "MINUTES",
            "NAME",
            "PATH",
        ),
        *("PREFIX", "REQUIRED", "ROUNDS", "SECONDS", "SIZE", "TIMEOUT", "TTL", "TYPE", "VERSION"),
    }
)
_PUBLIC_KEYS: Final = frozenset({"PUBLIC", "PUBLISHABLE", "PARTITION", "SORT", "FOREIGN", "PRIMARY"})
# Values that tell nothing; taken for secrets they would blot out every `true` of the output.
_TELLS_NOTHING: Final = frozenset({"", "true", "false", "yes", "no", "on", "off", "none", "null", "0", "1"})
_PEM: Final = re.compile(r"-----BEGIN (?!CERTIFICATE-|PUBLIC KEY-|RSA PUBLIC KEY-)[A-Z0-9 ]+-----")
# Tokens that say by their first letters who gave them out: GitHub, GitLab, Stripe, Slack.
_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|[sr]k_live_\w{10,}|xox[abeprs]-[\w-]{10,})",
    re.ASCII,
)
# Some of these are meant for browsers, so the environment may name them public: JWTs, AWS ids, Google keys.
_MAYBE_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]{4,}|A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[\w-]{30,})",
    re.ASCII,
)


@dataclass(frozen=True)
class Variables:
    """What the dotenv files of an environment say.

    Args:
        values: the variables by name, in the order they are first set.
        problems: what is wrong in the files; with any, `values` is incomplete.
        names: every name that is set, also those whose value is wrong.
        complete: whether every line could be read, so that `names` holds all of them.
    """

    values: Mapping[str, Variable]
    problems: tuple[Problem, ...]
    names: frozenset[str]
    complete: bool


@dataclass(frozen=True)
class _Entry:
    """A line `KEY=value` of a file, with what is wrong with it."""

    name: str
    value: str
    file: str
    line: int
    reference: Reference | None = None
    problem: Problem | None = None

    @property
    def origin(self) -> str:
        return f"{self.file}:{self.line}"


def file_names(name: str) -> tuple[str, ...]:
    """Return the dotenv files of an environment, relative to the repository, weakest first."""
    return ("envs/base.env", f"envs/{name}.env", f"envs/{name}.local.env")


def load(root: Path, name: str, rules: VariablesSettings, process: Mapping[str, str]) -> Variables:
    """Read, merge and resolve the variables of an environment; a file that is not there is empty.

    Args:
        root: the repository.
        name: the environment's name.
        rules: which names are secret and which are not.
        process: the variables `${env:NAME}` refers to.
    """
    entries: list[_Entry] = []
    problems: list[Problem] = []
    for file in file_names(name):
        text, fault = _read(root, file)
        if fault is not None:
            problems.append(fault)
        found, faults = _entries(file, text)
        entries += found
        problems += faults
    complete = not problems
    problems += [entry.problem for entry in entries if entry.problem is not None]
    problems += _duplicates(entries)
    # Only the last value of a name counts: what it replaces need not be reachable.
    winners = {entry.name: entry for entry in entries}
    values, faults = _resolved(winners, rules, Context(root, process))
    return Variables(values, (*problems, *faults), frozenset(winners), complete)


def is_secret(name: str, value: str, rules: VariablesSettings) -> bool:
    """Whether a variable's value must never be shown.

    It is when `rules.secret` names it, when the value itself says so (a URL with a password, a private
    key, a token), or when the name or the value's shape says so and `rules.public` does not name it.
    """
    if _matches(name, rules.secret) or value_is_secret(value):
        return True
    if _matches(name, rules.public) or value.lower() in _TELLS_NOTHING:
        return False
    return name_is_secret(name) or _MAYBE_TOKEN.search(value) is not None


def name_is_secret(name: str) -> bool:
    """Whether a name says that its value is secret: `DB_PASSWORD`, `API_KEY`, `githubToken`."""
    upper = name.upper()
    words = [word.upper() for word in _WORD.findall(name)]
    if any(fnmatchcase(upper, pattern) for pattern in _SECRET_NAMES):
        return True
    if not words or words[-1] in _ABOUT_WORDS:
        return False
    if any(_word_is_secret(before, word) for before, word in zip(["", *words], words, strict=False)):
        return True
    telling = [word for word in words if not word.isdigit() and word not in _STAGE_WORDS]
    return bool(telling) and telling[-1] in _SECRET_LAST_WORDS


def value_is_secret(value: str) -> bool:
    """Whether a value says itself that it is secret: a password in a URL, a PEM block, a token."""
    return bool(passwords_in(value)) or any(each.search(value) for each in (_PEM, _TOKEN))


def _word_is_secret(before: str, word: str) -> bool:
    if word in {"KEY", "KEYS"} and before in _PUBLIC_KEYS:
        return False
    return word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _read(root: Path, file: str) -> tuple[str, Problem | None]:
    """Return a file's text with its line ends as they are, or what keeps it from being read."""
    try:
        data = (root / file).read_bytes()
    except FileNotFoundError:
        return "", None
    except OSError as error:
        return "", Problem(file, "", f"cannot be read: {error.strerror}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return "", Problem(file, "", "is not UTF-8 text", line=data.count(b"\n", 0, error.start) + 1)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return "", Problem(file, "", "holds a NUL byte, which no variable can hold", line=line)
    return text, None


def _entries(file: str, text: str) -> tuple[list[_Entry], list[Problem]]:
    """Return the entries of a file and the lines that are none."""
    entries: list[_Entry] = []
    problems: list[Problem] = []
    for line, binding in _bindings(text):
        if binding.error:
            problems.append(
                Problem(file, "", "the line cannot be read", line=line, allowed="KEY=value, quotes closed")
            )
        elif binding.key is not None and binding.value is None:
            # The word is not shown: it may be a line of a secret that lost its quotes.
            problems.append(Problem(file, "", "a word without `=`", line=line, allowed="KEY=value"))
        elif binding.key is not None:
            entries.append(_entry(file, line, binding.key, binding.value or ""))
    return entries, problems


def _bindings(text: str) -> Iterator[tuple[int, Binding]]:
    """Yield what python-dotenv reads, each with the line it begins in."""
    done, line = 0, 1
    for binding in parse_stream(io.StringIO(text, newline="")):
        # Blank lines before an entry are part of it, so the parser's own line is too early.
        string = binding.original.string
        begin = done + len(string) - len(string.lstrip())
        line += text.count("\n", done, begin)
        yield line, binding
        line += text.count("\n", begin, done + len(string))
        done += len(string)


def _shown(key: str) -> str:
    """Return a key that is a valid name; another one may be a part of a secret."""
    return key if entry_fault(key, "") == "" else ""


def _entry(file: str, line: int, name: str, value: str) -> _Entry:
    def with_problem(what: str, allowed: str = "", nearest: str = "") -> _Entry:
        problem = Problem(file, _shown(name), what, line=line, allowed=allowed, nearest=nearest)
        return _Entry(name, value, file, line, problem=problem)

    if fault := entry_fault(name, value):
        return with_problem(fault)
    try:
        return _Entry(name, value, file, line, reference=parse(value))
    except InvalidReference as error:
        return with_problem(error.message, error.allowed, error.nearest)


def _duplicates(entries: Iterable[_Entry]) -> list[Problem]:
    """Return the names that one file sets twice: the first value would be dropped in silence."""
    first: dict[tuple[str, str], _Entry] = {}
    problems = []
    for entry in entries:
        before = first.setdefault((entry.file, entry.name), entry)
        if before is not entry:
            what = f"set twice in this file, first in line {before.line}"
            problems.append(Problem(entry.file, _shown(entry.name), what, line=entry.line))
    return problems


def _resolved(
    entries: Mapping[str, _Entry], rules: VariablesSettings, context: Context
) -> tuple[dict[str, Variable], list[Problem]]:
    found = resolve((entry.reference for entry in entries.values() if entry.reference), context)
    values: dict[str, Variable] = {}
    problems: list[Problem] = []
    for name, entry in entries.items():
        if entry.problem is not None:
            continue
        result = _plain(entry, rules) if entry.reference is None else found[entry.reference]
        fault = _fault(name, result)
        if fault:
            what = f"{entry.reference}: {fault}"
            problems.append(Problem(entry.file, name, what, line=entry.line))
        elif not isinstance(result, Failure):
            values[name] = Variable(name, result, entry.origin)
    return values, problems


def _plain(entry: _Entry, rules: VariablesSettings) -> str | Sensitive:
    return Sensitive(entry.value) if is_secret(entry.name, entry.value, rules) else entry.value


def _fault(name: str, result: str | Sensitive | Failure) -> str:
    if isinstance(result, Failure):
        return result.reason
    # A plain value was checked when its line was read.
    return entry_fault(name, result.reveal()) if isinstance(result, Sensitive) else ""
