"""Every error a user can meet: one sentence, what to do next, and an exit code scripts can use.

`docs/reference/exit-codes.md` is written from the table `EXIT_CODES` in this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

EXIT_CODES: Final[dict[int, str]] = {
    0: "Done: what was asked for is true now.",
    1: "Failed, and everything is as it was before; or a check found something unhealthy.",
    2: "Failed, and hosts differ from each other: the table at the end says which runs what.",
    10: "The environment, its variables or the Compose project is invalid; nothing was started.",
    11: "A host cannot be reached, refuses the login, or its key is not the trusted one.",
    12: "The link to a host was lost while something ran there; `deploy.status` says what is true.",
    13: "Another deploy or backup holds the lock.",
    14: "Not confirmed: a protected environment needs its name typed, or `--yes`.",
    15: "A check before the change failed (engine, disk, memory, tools); nothing was changed.",
    16: "A backup is missing, damaged or could not be made.",
    70: "A defect in Windlass itself; `WINDLASS_DEBUG=1` shows the traceback.",
    130: "Interrupted from the keyboard. A deploy that was already switching goes back first: 1 or 2.",
}


class WindlassError(Exception):
    """An error with a sentence for the user.

    Args:
        message: what happened, in one sentence, without secrets.
        hint: what to do next; empty when the sentence says it.
    """

    exit_code: int = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class OperationFailed(WindlassError):
    """It was tried, it failed, and the state is as before."""

    exit_code = 1


class MixedState(WindlassError):
    """Hosts differ from each other after a failure."""

    exit_code = 2


class ConfigurationError(WindlassError):
    """The environment, its variables or the Compose project is invalid."""

    exit_code = 10


class HostUnreachable(WindlassError):
    """No connection: down, wrong address, login refused."""

    exit_code = 11


class HostKeyError(HostUnreachable):
    """The host's key is unknown or not the trusted one."""


class LinkDropped(WindlassError):
    """The connection died while a command ran; the command may still be running."""

    exit_code = 12


class Locked(WindlassError):
    """Somebody else holds the lock."""

    exit_code = 13


class NotConfirmed(WindlassError):
    """A protected environment was not confirmed."""

    exit_code = 14


class PreflightFailed(WindlassError):
    """A check before any change failed."""

    exit_code = 15


class BackupError(WindlassError):
    """A backup is missing, damaged or could not be made."""

    exit_code = 16


class CommandFailed(OperationFailed):
    """A command on a host ended with an exit code other than zero.

    Args:
        what: what was being done, for a person.
        code: the exit code; negative for a signal.
        output: the last of what it said, already redacted.
    """

    def __init__(self, what: str, code: int, output: str = "", hint: str = "") -> None:
        tail = output.strip()
        message = f"{what} failed with exit code {code}" + (f": {tail}" if tail else "")
        super().__init__(message, hint)
        self.code = code
        self.output = output


def joined(errors: Sequence[WindlassError]) -> WindlassError:
    """Return one error that says what all of them say, with the exit code of the first."""
    error = WindlassError("\n".join(dict.fromkeys(str(each) for each in errors)))
    error.exit_code = errors[0].exit_code
    return error
