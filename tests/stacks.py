"""Environments and stacks for tests, without files in `envs/`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from windlass.environment.environment import Environment, Variable
from windlass.environment.model import Settings
from windlass.shell import Sensitive

RESOURCES = Path(__file__).parent / "resources" / "compose"


def environment(
    root: Path,
    *,
    public: Mapping[str, str] | None = None,
    secret: Mapping[str, str] | None = None,
    name: str = "prod",
    **tables: Any,
) -> Environment:
    """Return an environment called `name` for the app `app` on one host; `tables` are of its TOML file."""
    settings = Settings.model_validate({"app": "app", "hosts": {"server": {}}, **tables})
    variables = {
        **{key: Variable(key, value, "envs/prod.env:1") for key, value in (public or {}).items()},
        **{key: Variable(key, Sensitive(value), "envs/prod.env:1") for key, value in (secret or {}).items()},
    }
    return Environment(name, root, settings, variables)
