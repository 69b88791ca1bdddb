"""What the tasks of `secrets` share."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from windlass.environment.keeping import Keeping
    from windlass.secrets.redaction import Redactor
    from windlass.shell import Sensitive

ENV_HELP = "The environment; without it $WINDLASS_ENV, the default one, or the only one."
JSON_HELP = "Write JSON instead of a table."
YES_HELP = "Do not ask, even where the environment is protected."


@contextmanager
def opened(env: str) -> Iterator[Keeping]:
    """Give what reads and writes an environment's secrets; what it reads is in no error."""
    from windlass.environment.keeping import Keeping
    from windlass.environment.loading import choose, find_root

    root = find_root(Path.cwd())
    with Keeping.of(root, choose(root, env or None)) as keeping:
        yield keeping


def learner(keeping: Keeping) -> Redactor:
    """Return the redactor of a run, to be taught every value that is read."""
    from . import _terminal

    return _terminal.redactor_of(keeping.environment)


def require_outputs(*names: str) -> None:
    """Refuse to begin where an output is closed, as by `>&-`.

    Args:
        names: `stdout`, `stderr`.

    Raises:
        OperationFailed: one of them is.
    """
    from windlass.errors import OperationFailed

    for name in names:
        if getattr(sys, name) is None:
            if name == "stdout":
                sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for what `--json` says of the failure
            raise OperationFailed(
                f"{name} is closed; nothing was done.", "Send it to a file or to /dev/null."
            )


def write_out(text: str) -> None:
    """Write a text to stdout, byte for byte.

    Raises:
        OperationFailed: it could not be written, or not all of it.
    """
    from windlass.errors import OperationFailed

    from . import _terminal

    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _terminal.discard(sys.stdout)
        raise OperationFailed(f"It could not be written to stdout: {error.strerror or error}.") from None


def value_from_file(path: str) -> Sensitive:
    """Return a file's content byte for byte.

    Raises:
        ConfigurationError: it cannot be read, or is no UTF-8 text.
    """
    from windlass.errors import ConfigurationError

    try:
        data = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", "") or "that is no path"
        raise ConfigurationError(f"The file {path} cannot be read: {reason}.") from None
    return _text(data, f"The file {path}")


def value_from_stdin() -> Sensitive:
    """Return what is piped in, less the one newline that `echo` and here-documents end it with."""
    value = _text(sys.stdin.buffer.read(), "What was piped in")
    return type(value)(value.reveal().removesuffix("\n").removesuffix("\r"))


def value_from_prompt(name: str) -> Sensitive:
    """Ask for a value twice, without showing it.

    Raises:
        ConfigurationError: the two differ.
    """
    from getpass import getpass

    from windlass.errors import ConfigurationError
    from windlass.shell import Sensitive

    first = getpass(f"New value of {name}: ", stream=sys.stderr)
    if getpass(f"The same again, for {name}: ", stream=sys.stderr) != first:
        raise ConfigurationError("The two values typed differ; nothing was changed.")
    return Sensitive(first)


def _text(data: bytes, what: str) -> Sensitive:
    from windlass.errors import ConfigurationError
    from windlass.shell import Sensitive

    try:
        return Sensitive(data.decode())
    except UnicodeDecodeError:
        raise ConfigurationError(f"{what} is not UTF-8 text.") from None
