"""The local `docker compose`: how it is called, with which variables, and what its complaints mean."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from windlass.errors import ConfigurationError, OperationFailed, PreflightFailed

OLDEST: Final = (2, 24, 4)
TIMEOUT: Final = 120.0
_KEPT = ("PATH", "HOME")
_WARNING = re.compile(r"^time=\S+ level=\S+ msg=")
_UNSET = re.compile(r'The \\?"([A-Za-z_][A-Za-z0-9_]*)\\?" variable is not set')
_REQUIRED = re.compile(r"required variable (\w+) is missing a value(?:: (.*))?")
# What Compose says of an env file it cannot parse quotes the value.
_ENV_FILE_FAULT = re.compile(
    r"^line \d+: |unexpected character|unterminated quoted|failed to read|[Ii]nvalid template|env file"
)


@dataclass(frozen=True)
class Said:
    """What a call of `docker compose` ended with; nothing in it is redacted."""

    code: int
    stdout: str
    stderr: str


def arguments(directory: Path, files: Sequence[Path], profiles: Sequence[str], app: str) -> tuple[str, ...]:
    """Return the words of `docker compose` up to the subcommand, for the user's own project."""
    words = ["docker", "compose", "--env-file", "/dev/null", "--project-directory", str(directory)]
    for file in files:
        words += ["-f", str(file)]
    for profile in profiles:
        words += ["--profile", profile]
    return (*words, "-p", app)


def process_environment(own: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables Compose sees: what Docker itself needs of our own, and the environment's.

    The operator's other variables are left out: a stack that needs them would deploy differently from
    another machine.
    """
    kept = {name: own[name] for name in own if name in _KEPT or name.startswith("DOCKER_")}
    return kept | dict(variables)


def unset_names(stderr: str) -> list[str]:
    """Return the variables Compose warned about as not set, sorted."""
    return sorted(set(_UNSET.findall(stderr)))


def required_names(table: str, variables: Mapping[str, str]) -> list[str]:
    """Return the required variables without a value, from the table of `config --variables`."""
    rows = (line.split() for line in table.splitlines()[1:])
    wanted = {row[0] for row in rows if len(row) > 1 and row[1] == "true"}
    return sorted(name for name in wanted if not variables.get(name))


def required_fault(stderr: str) -> tuple[str, str] | None:
    """Return the name and message of the `${NAME:?message}` that Compose stopped at, if it did."""
    match = _REQUIRED.search(stderr)
    return (match[1], (match[2] or "").strip()) if match else None


def complaint(stderr: str, readable: Callable[[str], str]) -> str:
    """Return Compose's complaint as one line without warnings, sentinels or values of env files."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not _WARNING.match(line)]
    text = readable("; ".join(lines))
    if _ENV_FILE_FAULT.search(text):
        text = re.sub(
            r"(unterminated quoted value|in variable name|near|[Ii]nvalid template:) .*", r"\1 …", text
        )
    return text.rstrip(".") or "it gave no reason"


def parse_version(text: str) -> tuple[int, ...]:
    """Return the numbers of `2.26.1-4` or `v2.40.3` as `(2, 26, 1)`; empty when there are none."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def check_version(said: Said) -> None:
    """Refuse a Compose that is missing or too old, from what `docker compose version --short` said.

    Raises:
        PreflightFailed: with what to install.
    """
    need = ".".join(map(str, OLDEST))
    version = parse_version(said.stdout) if said.code == 0 else ()
    if not version:
        raise PreflightFailed(
            "The Compose plugin of Docker is not installed on this machine.",
            f"Install docker-compose-plugin, {need} or newer; `docker compose version` must answer.",
        )
    if version < OLDEST:
        raise PreflightFailed(
            f"Docker Compose {said.stdout.strip()} on this machine is too old: {need} or newer is needed.",
            "Upgrade docker-compose-plugin.",
        )


def run(words: Sequence[str], environment: Mapping[str, str], directory: Path) -> Said:
    """Run a local Docker command and return what it said.

    Raises:
        PreflightFailed: Docker's client is not installed.
        OperationFailed: it did not end within two minutes.
    """
    program = shutil.which(words[0])
    if program is None:
        raise PreflightFailed(
            "The `docker` command is not installed on this machine.",
            "Install Docker's client with its Compose plugin: the stack is read with it.",
        )
    try:
        done = subprocess.run(
            [program, *words[1:]],
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # `from None`: the exception holds what was printed so far.
        raise OperationFailed(
            f"`docker compose {words[-1]}` did not end within {TIMEOUT:.0f} seconds.",
            "Is an included file fetched from the network?",
        ) from None
    return Said(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def config_and_version(words: Sequence[str], environment: Mapping[str, str], directory: Path) -> Said:
    """Run `config --format json`, and the check of Compose's version beside it.

    Raises:
        PreflightFailed: Compose is missing or too old.
    """
    with ThreadPoolExecutor(2) as pool:
        version = pool.submit(run, ("docker", "compose", "version", "--short"), environment, directory)
        config = pool.submit(run, (*words, "config", "--format", "json"), environment, directory)
        check_version(version.result())
        return config.result()


def invalid(
    files: Sequence[str], said: Said, readable: Callable[[str], str], secrets: Sequence[str]
) -> ConfigurationError:
    """Return the error for a project Compose refuses; `secrets` are those its complaint is about."""
    where = ", ".join(files)
    hint = ""
    if secrets:
        names = ", ".join(secrets)
        hint = (
            f"{names} is treated as secret, so Compose saw a stand-in; if it is none, "
            "list it in the environment file: [variables] public."
        )
    return ConfigurationError(
        f"The Compose project ({where}) is invalid: {complaint(said.stderr, readable)}.", hint
    )
