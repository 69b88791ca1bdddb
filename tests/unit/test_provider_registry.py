from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from windlass.secrets.providers import registry
from windlass.secrets.providers.base import Failure, ProviderError
from windlass.secrets.references import InvalidReference, parse
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive

MODULE = """
from windlass.secrets.providers.base import OneByOne, Provider
from windlass.shell import Sensitive

def connect(context):
    greeting = context.settings.plugins.get("parrot", {}).get("greeting", "hello")
    return OneByOne("a parrot", lambda target: Sensitive(f"{greeting} {target}"))

PROVIDER = Provider("parrot", "${parrot:word}", "Says it again.", lambda target: "", connect)
NOT_ONE = "text"
"""

SDKS = ("boto3", "botocore", "azure", "hvac", "psycopg", "requests")

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package on the path that names a provider under the entry point group, as pip would."""

    def install(value: str) -> None:
        (tmp_path / "parrot_provider.py").write_text(MODULE)
        info = tmp_path / "parrot_provider-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: parrot-provider\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\nparrot = {value}\n")
        monkeypatch.syspath_prepend(tmp_path)

    registry._plugin.cache_clear()
    yield install
    registry._plugin.cache_clear()
    sys.modules.pop("parrot_provider", None)


def test_another_package_brings_a_provider(install: Install) -> None:
    install("parrot_provider:PROVIDER")
    assert "parrot" in registry.names()
    with Resolver(Path(), {}) as resolver:
        assert resolver.lookup("${parrot:you}") == Sensitive("hello you")
        assert resolver.lookup("${env:NOT_THERE} ?? ${parrot:me}") == Sensitive("hello me")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("parrot_provider:NOT_ONE", "is no provider of the name parrot"),
        ("parrot_provider:MISSING", "cannot be loaded from parrot_provider:MISSING: AttributeError"),
        ("no_such_module:PROVIDER", "cannot be loaded from no_such_module:PROVIDER: ModuleNotFoundError"),
    ],
)
def test_a_broken_package_is_named(install: Install, value: str, said: str) -> None:
    install(value)
    with pytest.raises(ProviderError, match=said):
        registry.find("parrot")
    with pytest.raises(InvalidReference, match=said):
        parse("${parrot:x}")
    with Resolver(Path(), {}) as resolver:
        assert isinstance(resolver.lookup("${parrot:x}"), Failure)


def test_what_nothing_brings_is_none(install: Install) -> None:
    assert registry.find("parrot") is None


def test_no_package_takes_the_name_of_a_built_in_provider(install: Install) -> None:
    install("parrot_provider:PROVIDER")
    assert registry.find("env") is registry.built_in("env")


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_a_built_in_provider_has_its_name_and_no_sdk_loads_with_it(name: str) -> None:
    assert registry.built_in(name).name == name
    look = (
        f"import sys; from windlass.secrets.providers import registry; registry.built_in({name!r}); "
        f"print([sdk for sdk in {SDKS} if sdk in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
