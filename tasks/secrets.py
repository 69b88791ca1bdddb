"""The secrets of an environment: where each is kept; reading, writing, comparing, copying and rotating them.

No value is ever shown but by `secrets.get`, which has to be asked twice.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Collection, Context

from ._secrets_copying import copy, diff, history, sync
from ._secrets_rotating import rotate
from ._secrets_running import run
from ._secrets_scan import scan
from ._secrets_shared import (
    ENV_HELP,
    JSON_HELP,
    YES_HELP,
    learner,
    opened,
    require_outputs,
    value_from_file,
    value_from_prompt,
    value_from_stdin,
    write_out,
)
from ._task import is_dry, task

if TYPE_CHECKING:
    from collections.abc import Callable

    from windlass.environment.environment import Variable
    from windlass.environment.problems import Problem
    from windlass.environment.variables import Variables
    from windlass.secrets.references import Address
    from windlass.secrets.rotating import Store
    from windlass.shell import Sensitive

    from ._terminal import Terminal

# Wide classes: an exact length helps whoever guesses.
_CLASSES = ((0, "empty"), (7, "under 8"), (15, "8 to 15"), (31, "16 to 31"), (63, "32 to 63"))


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def list_(context: Context, env: str = "", json: bool = False) -> None:
    """List the secret variables: where each is set and kept, and about how long it is; never a value."""
    from windlass.shell import MASK

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    name, found, redact = _look(env)
    rows = [
        {**_kept(each), "value": MASK, "length": length_class(str_of(each.value)), "reason": ""}
        for each in found.values.values()
        if each.secret
    ]
    rows += [
        {
            **_lacking(each),
            "value": "",
            "length": "none",
            "reason": each.what,
        }
        for each in found.problems
    ]
    rows = [{key: redact(text) for key, text in row.items()} for row in rows]
    terminal.result(rows)
    columns = ("name", "origin", "kept", "source", "length", "reason")
    terminal.table(
        f"secrets of {name}", columns, [[row[column] or "-" for column in columns] for row in rows]
    )


@task(help={"env": ENV_HELP, "json": JSON_HELP})
def check(context: Context, env: str = "", json: bool = False) -> None:
    """Get every secret from where it is kept, now, and say which cannot be had and how to mend it."""
    from windlass.errors import ConfigurationError

    from . import _terminal

    del context
    terminal = _terminal.Terminal(as_json=json)
    name, found, redact = _look(env)
    good = [each for each in found.values.values() if each.secret]
    rows: list[dict[str, str | bool]] = [{**_kept(each), "ok": True, "reason": ""} for each in good]
    rows += [{**_lacking(each), "ok": False, "reason": each.what} for each in found.problems]
    rows = [
        {key: redact(each) if isinstance(each, str) else each for key, each in row.items()} for row in rows
    ]
    terminal.result(rows)
    table = [
        (
            row["name"],
            row["origin"],
            row["source"] or "-",
            "ok" if row["ok"] else "failed",
            row["reason"] or "-",
        )
        for row in rows
    ]
    terminal.table(f"secrets of {name}", ("name", "origin", "from", "state", "why"), table)
    for note in found.notes:
        terminal.say(f"note: {redact(note)}")
    if found.problems:
        count = len(found.problems)
        raise ConfigurationError(f"{count} of the secrets of {name} cannot be had.")


@task(
    help={
        "name": "The variable.",
        "env": ENV_HELP,
        "reveal": "Show it without asking; needed where stdout is no terminal, and in CI.",
        "stage": "Another stage of the secret, such as AWSPREVIOUS or previous.",
        "version": "A version of the secret, as secrets.history names it.",
        "json": "Write name and value as JSON.",
    }
)
def get(
    context: Context,
    name: str = "",
    env: str = "",
    reveal: bool = False,
    stage: str = "",
    version: str = "",
    json: bool = False,
) -> None:
    """Show one secret, byte for byte; it must be asked for twice: by this task, and by --reveal or a `y`."""
    from windlass.errors import OperationFailed
    from windlass.secrets.providers.base import Failure
    from windlass.secrets.references import Reference

    del context
    require_outputs("stdout")
    with opened(env) as keeping:
        keeping.entry(name)
        if not reveal:
            _ask_again(name)
        if stage or version:
            place = Reference((keeping.version_of(name, stage, version),))
            value = keeping.resolver.resolve([place])[place].value
        else:
            value = keeping.value(name)
    if isinstance(value, Failure):
        raise OperationFailed(f"{name} cannot be had: {value.reason}.", value.fix)
    text = value.reveal()
    write_out(dumps({"name": name, "value": text}, ensure_ascii=False, indent=2) + "\n" if json else text)
    if json:
        return
    if sys.stdout.isatty():
        # For the eye only: what is piped is the value and nothing else.
        sys.stderr.write("\n")


@task(
    help={
        "name": "The variable; its value in envs/ must be a reference.",
        "env": ENV_HELP,
        "from-file": "Take the value from this file, byte for byte.",
        "generate": "Make a value: password:32, base64:32, hex:32, uuid; alone, as [secrets.rotation] says.",
        "to": "Which of the reference's choices to write to, such as `aws`; without it, the first.",
        "yes": YES_HELP,
        "json": "Write the result as JSON.",
    },
    optional=("generate",),
)
def set_(
    context: Context,
    name: str = "",
    env: str = "",
    from_file: str = "",
    generate: str = "",
    to: str = "",
    yes: bool = False,
    json: bool = False,
) -> None:
    """Write a secret to where its reference says: from a hidden prompt, a pipe, a file, or newly made."""
    from windlass.environment.keeping import require_value
    from windlass.secrets.published import refuse_published
    from windlass.secrets.rotating import Store

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    with opened(env) as keeping:
        redactor = learner(keeping)
        address = keeping.address(name, to)
        store = Store(keeping.resolver, lambda value: redactor.learn([value.reveal()]))
        store.require_writable(address)
        refuse_published(keeping.environment.root, address, name)
        rotation = keeping.environment.settings.secrets.rotation.get(name)
        kind = generate if isinstance(generate, str) else (rotation.generate if rotation else "password")
        if is_dry(context):
            if from_file or kind:
                # What is typed or piped in is not asked for; all else is judged as it would be.
                require_value(name, _new_value(name, from_file, kind))
            terminal.result({"name": name, "would_write": str(address)})
            terminal.say(f"would write {name} to {address}")
            return
        value = _new_value(name, from_file, kind)
        redactor.learn([value.reveal()])
        require_value(name, value)
        _terminal.confirm(keeping.environment, f"secrets.set of {name}", yes=yes)
        with keeping.writing():
            written = store.write(address, value)
        _require_kept(store, address, value)
        _say_written(terminal, keeping.environment.name, name, str(address), written.id, written.note)


def _new_value(name: str, path: str, kind: str) -> Sensitive:
    from windlass.errors import ConfigurationError, NotConfirmed
    from windlass.secrets.generating import generate

    from . import _terminal

    if path and kind:
        raise ConfigurationError("--from-file and --generate are two values.", "Give one of them.")
    if path:
        return value_from_file(path)
    if kind:
        return generate(kind)
    if sys.stdin is not None and not sys.stdin.isatty():
        return value_from_stdin()
    if sys.stdin is None or not _terminal.can_ask():
        raise NotConfirmed(f"Nobody is there to type {name}.", "Pipe it in, or use --from-file.")
    return value_from_prompt(name)


def _require_kept(store: Store, address: Address, value: Sensitive) -> None:
    """Read back what was written."""
    from windlass.errors import OperationFailed

    if store.read(address) != value:
        raise OperationFailed(f"{address} was written, but another value is read back.")


def _say_written(terminal: Terminal, env: str, name: str, place: str, version: str, note: str) -> None:
    terminal.result({"name": name, "written": place, "version": version, "note": note})
    which = f", version {version}" if version else ""
    terminal.say(f"{name} is written to {place}{which}" + (f" ({note})" if note else ""))
    terminal.say(f"What runs has it after the next `inv deploy.{env}`.")


def _ask_again(name: str) -> None:
    """Ask on the terminal whether a secret shall be shown there.

    Raises:
        NotConfirmed: it shall not, or nobody can be asked.
    """
    from windlass.errors import NotConfirmed

    from . import _terminal

    if not sys.stdout.isatty() or not _terminal.can_ask():
        raise NotConfirmed(
            f"{name} is not written to what is no terminal: a pipe, a file or the log of a CI job.",
            "Add --reveal if that is meant.",
        )
    if not _terminal.ask(f"Show {name} on this terminal? "):
        raise NotConfirmed(f"{name} is not shown.")


def _kept(each: Variable) -> dict[str, str]:
    """Return where a secret is set, where it is kept, and which place gave it."""
    return {
        "name": each.name,
        "origin": each.origin,
        "kept": "in this file" if each.reference is None else str(each.reference),
        "source": "" if each.source is None else str(each.source),
    }


def _lacking(each: Problem) -> dict[str, str]:
    """Return the same of a variable that cannot be had."""
    return {"name": each.key, "origin": each.place, "kept": "", "source": ""}


def _look(env: str) -> tuple[str, Variables, Callable[[str], str]]:
    """Return the name and the variables of an environment, also where some cannot be had, and its redactor.

    Raises:
        InvalidEnvironment: its settings have problems; they say how its secrets are reached.
    """
    from windlass.environment.inspection import variables_of, without_variables
    from windlass.environment.loading import choose, find_root

    from . import _terminal

    root = find_root(Path.cwd())
    name = choose(root, env or None)
    environment = without_variables(root, name)
    found = variables_of(root, name)
    return name, found, _terminal.redactor_of(replace(environment, variables=found.values)).redact


def str_of(value: object) -> str:
    """Return the text of a value, secret or not, to measure it."""
    from windlass.shell import Sensitive

    return value.reveal() if isinstance(value, Sensitive) else str(value)


def length_class(value: str) -> str:
    """Return about how long a value is."""
    for most, words in _CLASSES:
        if len(value) <= most:
            return words
    return "64 or more"


namespace = Collection("secrets", list_, check, get, set_, diff, copy, sync, history, run, rotate, scan)
