"""A local command with an environment's variables: in its own process and nowhere else."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from invoke import Context
from invoke.exceptions import Exit

from ._secrets_shared import ENV_HELP, require_outputs
from ._task import is_dry, task

if TYPE_CHECKING:
    from collections.abc import Sequence


@task(
    help={
        "env": ENV_HELP,
        "pristine": "Give the command the environment's variables alone, none of yours, not even PATH.",
    }
)
def run(context: Context, env: str = "", pristine: bool = False) -> None:
    """Run what stands after ` -- ` here with the environment's variables; what it pipes is redacted.

    `inv secrets.run --env staging -- ./manage.py migrate`. The variables are in that process only: nothing
    is written to disk. On a terminal the command has it to itself, as if it were started alone; what goes
    into a pipe or a file is searched for secrets first. Its exit code, or the signal it ends by, is ours.
    """
    from windlass.errors import ConfigurationError
    from windlass.secrets.running import Running, as_we_end
    from windlass.shell import reveal

    from . import _terminal

    # A number that is closed is given to whatever is opened next, and the command would write into it.
    require_outputs("stdout", "stderr")
    words = words_after_dashes(sys.argv)
    if not words:
        raise ConfigurationError(
            "There is no command to run.", "Put it after two dashes: `inv secrets.run -- env`."
        )
    environment = _terminal.open_environment(env or None)
    values = {name: reveal(each.value) for name, each in environment.variables.items()}
    if is_dry(context):
        terminal = _terminal.Terminal()
        terminal.say(f"would run {words[0]} with {len(values)} variables of {environment.name}:")
        terminal.say("\n".join(f"  {name}" for name in values))
        return
    sys.stdout.flush()
    sys.stderr.flush()
    code = Running(words, values, pristine=pristine, redactor=_terminal.redactor_of(environment)).run()
    if code < 0:
        as_we_end(-code)
    raise Exit(code=code)


def words_after_dashes(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the words after `--`, each as it was typed: Invoke itself joins them with spaces."""
    words = list(argv)
    return tuple(words[words.index("--") + 1 :]) if "--" in words else ()
