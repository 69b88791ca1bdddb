"""The task decorator of this project: errors become one sentence and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from invoke import Context
from invoke.exceptions import Exit
from invoke.parser import Argument
from invoke.tasks import Task

DEBUG_VARIABLE = "WINDLASS_DEBUG"
DEFECT_EXIT_CODE = 70
INTERRUPT_EXIT_CODE = 130


class GuardedTask(Task):  # type: ignore[type-arg]
    """A task that turns every error into `invoke.Exit`: a sentence on stderr and an exit code."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task's body."""
        from windlass.errors import WindlassError

        written = _results_written()
        try:
            return super().__call__(*args, **kwargs)
        except Exit:
            raise
        except WindlassError as error:
            _show_traceback()
            stop = _stop(f"error: {error}", error.exit_code)
        except KeyboardInterrupt:
            stop = _stop("interrupted", INTERRUPT_EXIT_CODE)
        except BrokenPipeError:
            raise Exit(code=1) from None
        except Exception as error:  # noqa: BLE001 - the boundary: a user never sees a traceback
            _show_traceback()
            stop = _stop(_defect(error), DEFECT_EXIT_CODE)
        if kwargs.get("json") and _results_written() == written:
            _write_failure(stop)
        raise stop

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the task's options; Invoke's own takes their help away the first time it is asked."""
        kept = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = kept


class EnvironmentTask(GuardedTask):
    """A task bound to one environment.

    Invoke drops "equal" calls, and equality there is name and code, which tasks of one factory
    share; so these compare by action and environment (invoke#536).
    """

    def __init__(self, body: Callable[..., Any], *, action: str, environment: str, **options: Any) -> None:
        super().__init__(body, name=environment, auto_shortflags=False, **options)
        self.key = (action, environment)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EnvironmentTask) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


def task(
    *,
    help: dict[str, str] | None = None,  # noqa: A002 - Invoke's own word
    name: str | None = None,
    default: bool = False,
    iterable: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], GuardedTask]:
    """Make a function a guarded task.

    `help` explains its options, `iterable` names the repeatable ones, `optional` those whose value may be
    left out, which makes it `True`.

    `name` is for a name the function cannot have; the `_` of `list_` goes by itself. There are no
    short options: Invoke would make `-h` of `--host`, and `-y` on the wrong task is too easily typed.
    """

    def decorate(body: Callable[..., Any]) -> GuardedTask:
        own = name or body.__name__.rstrip("_")
        return GuardedTask(
            body,
            name=own,
            help=help or {},
            auto_shortflags=False,
            default=default,
            iterable=list(iterable),
            optional=optional,
        )

    return decorate


def is_dry(context: Context) -> bool:
    """Whether Invoke's own `--dry` was given."""
    return bool(context.config.run.dry)


def _stop(sentence: str, code: int) -> Exit:
    return Exit(_redacted(sentence), code)


def _results_written() -> int:
    """Return how many results were written as JSON so far, in this process."""
    terminal = sys.modules.get(f"{__package__}._terminal")
    return terminal.results_written() if terminal is not None else 0


def _write_failure(stop: Exit) -> None:
    """Write what went wrong as JSON, where no result was written: stdout is then never empty."""
    from ._terminal import Terminal

    text = str(stop.message).removeprefix("error: ")
    Terminal(as_json=True).result({"ok": False, "error": text, "exit_code": stop.code})


def _show_traceback() -> None:
    if os.environ.get(DEBUG_VARIABLE):
        sys.stderr.write(_redacted(traceback.format_exc()))


def _redacted(text: str) -> str:
    """Return the text without the secrets of the environments that were opened, if any were."""
    terminal = sys.modules.get(f"{__package__}._terminal")
    return terminal.redact_opened(text) if terminal is not None else text


def _defect(error: Exception) -> str:
    return (
        f"error: a defect in Windlass: {type(error).__name__} in {_place(error)}\n"
        f"  Run it again with {DEBUG_VARIABLE}=1 for the traceback and report it."
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return f"{last.name} ({os.path.basename(last.filename)}:{last.lineno})" if last else "unknown place"  # noqa: PTH119
