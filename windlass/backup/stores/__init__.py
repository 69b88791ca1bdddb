"""Where backups are kept."""

from __future__ import annotations

import difflib
from pathlib import Path

from windlass.backup.stores.base import Store
from windlass.backup.stores.directory import DirectoryStore
from windlass.environment.environment import Environment
from windlass.environment.model import DirectoryStore as DirectorySettings
from windlass.errors import ConfigurationError


def open_store(environment: Environment, name: str | None = None) -> Store:
    """Return the store of an environment by its key in `[backup.stores]`; None: the one `[backup]` names.

    Raises:
        ConfigurationError: there is no store of that name.
    """
    backup = environment.settings.backup
    wanted = name or backup.store
    if wanted not in backup.stores:
        near = difflib.get_close_matches(wanted, backup.stores, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Stores: {', '.join(backup.stores)}."
        raise ConfigurationError(f"{environment.name} has no backup store {wanted}.", hint)
    settings = backup.stores[wanted]
    return _OPENERS[settings.kind](wanted, environment.root, settings)


def _directory(name: str, root: Path, settings: DirectorySettings) -> Store:
    return DirectoryStore(name, root / Path(settings.path).expanduser())


_OPENERS = {"directory": _directory}
