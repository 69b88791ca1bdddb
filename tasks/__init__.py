"""The tasks: `from windlass.tasks import namespace as ns` in a `tasks.py` brings them all."""

import os
import sys

# Invoke puts this very folder on sys.path, where secrets.py would shadow the standard library's
# `secrets`, and turns byte-code off, which costs every call a compilation of all tasks.
_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - no import before the path is right
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]  # noqa: PTH100
sys.dont_write_bytecode = False

from importlib.util import find_spec  # noqa: E402

from invoke import Collection  # noqa: E402

from . import backup, build, db, deploy, env, health, host, secrets  # noqa: E402


def _namespace() -> Collection:
    """Return the collection of all namespaces; the maintainers' test bed where it is present."""
    collection = Collection()
    for module in (env, build, deploy, db, backup, secrets, host, health):
        collection.add_collection(module.namespace)
    if find_spec(f"{__name__}.testbed") is not None:
        from . import testbed

        collection.add_collection(testbed.namespace)
    return collection


namespace = _namespace()

__all__ = ["namespace"]
