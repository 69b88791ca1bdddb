"""Who runs this, with which Windlass: for journals, locks and manifests."""

from __future__ import annotations

import getpass
import os
import socket
from importlib.metadata import PackageNotFoundError, version


def who() -> str:
    """Return `user@machine`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in many containers
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def own_version() -> str:
    """Return the version of Windlass; `unknown` in a checkout that is not installed."""
    try:
        return version("windlass")
    except PackageNotFoundError:
        return "unknown"
