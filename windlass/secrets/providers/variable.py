"""Another variable of the same environment; the resolver itself answers, since it knows them all."""

from __future__ import annotations

from typing import Final

from windlass.secrets.providers.base import Client, Context, OneByOne, Provider
from windlass.secrets.providers.process import name_fault

NAME: Final = "variable"


def _connect(context: Context) -> Client:
    return OneByOne("other variables", lambda target: context.lookup(f"${{{NAME}:{target}}}"))


PROVIDER: Final = Provider(
    NAME,
    "${variable:NAME}",
    "The value of the variable `NAME` of the same environment, wherever that comes from.",
    name_fault,
    _connect,
)
