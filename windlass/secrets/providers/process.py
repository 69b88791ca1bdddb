"""Secrets in the variables of the process Windlass was started in, such as a CI job's."""

from __future__ import annotations

import re
from typing import Final

from windlass.secrets.providers.base import Client, Context, Failure, OneByOne, Provider, Resolved
from windlass.shell import Sensitive

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def name_fault(target: str) -> str:
    """Return what is wrong with the name of a variable; empty when nothing is."""
    return "" if NAME.fullmatch(target) else "the target is no name of a variable"


def _get(target: str, context: Context) -> Resolved:
    value = context.process.get(target)
    if value is None:
        return Failure(f"the variable {target} is not set where Windlass was started", missing=True)
    try:
        value.encode()
    except UnicodeEncodeError:
        return Failure(f"the variable {target} is not valid UTF-8")
    return Sensitive(value)


def _connect(context: Context) -> Client:
    return OneByOne("the variables of the process", lambda target: _get(target, context))


PROVIDER: Final = Provider(
    "env",
    "${env:NAME}",
    "The variable `NAME` of the process Windlass was started in, such as a CI job's secret.",
    name_fault,
    _connect,
)
