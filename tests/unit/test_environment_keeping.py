from __future__ import annotations

from pathlib import Path

import pytest

from windlass.environment.environment import Environment
from windlass.environment.keeping import Keeping, address_of, at_version, require_value
from windlass.environment.problems import InvalidEnvironment
from windlass.errors import ConfigurationError
from windlass.secrets.providers.base import Failure
from windlass.secrets.references import Address
from windlass.shell import Sensitive

SECRET = "hunter2-and-more"  # pragma: allowlist secret


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "prod.toml").write_text('app = "shop"\n[hosts.here]\ntransport = "local"\n')
    (tmp_path / "envs" / "prod.env").write_text(
        "API_KEY=${file:key} ?? ${env:API_KEY}\nOTHER=${variable:API_KEY}\n"
        f"TOKEN={SECRET}\nPLAIN=seen\n"
        "TWICE=${file:a} ?? ${file:b}\nBROKEN=${file:x}y\n"
    )
    (tmp_path / "key").write_text(SECRET)
    return tmp_path


def test_secrets_are_references_and_what_is_secret_itself(root: Path) -> None:
    with Keeping.of(root, "prod") as keeping:
        assert set(keeping.secret_entries) == {"API_KEY", "OTHER", "TOKEN", "TWICE"}
        values = keeping.values(keeping.secret_entries)
        assert values["API_KEY"] == values["OTHER"] == values["TOKEN"] == Sensitive(SECRET)
        assert isinstance(values["TWICE"], Failure)
        assert keeping.value("PLAIN") == Sensitive("seen")


def test_a_value_goes_to_the_first_choice_or_the_one_named(root: Path) -> None:
    with Keeping.of(root, "prod") as keeping:
        first, second = Address("file", "key"), Address("env", "API_KEY")
        assert keeping.address("API_KEY") == first
        assert keeping.address("API_KEY", "file") == keeping.address("API_KEY", "file:key") == first
        assert keeping.address("API_KEY", "env") == keeping.address("API_KEY", "${env:API_KEY}") == second


@pytest.mark.parametrize(
    ("name", "to", "sentence"),
    [
        ("", "", "Which variable is meant?"),
        ("API_KEI", "", "Did you mean API_KEY?"),
        ("TOKEN", "", "The value of TOKEN stands in envs/prod.env:3 itself"),
        ("OTHER", "", "OTHER is the value of API_KEY"),
        ("BROKEN", "", "envs/prod.env:6: a reference must be the whole value"),
        ("API_KEY", "aws", "aws names none of the choices of API_KEY"),
        ("TWICE", "file", "file names several of the choices of TWICE"),
    ],
)
def test_what_has_no_place_is_told(root: Path, name: str, to: str, sentence: str) -> None:
    with Keeping.of(root, "prod") as keeping, pytest.raises(ConfigurationError) as error:
        keeping.address(name, to)
    assert sentence in str(error.value)
    assert SECRET not in str(error.value)


def test_files_that_are_not_valid_are_told(root: Path) -> None:
    (root / "envs" / "prod.toml").write_text("app = 3\n")
    with pytest.raises(InvalidEnvironment):
        Keeping.of(root, "prod")


@pytest.mark.parametrize(
    ("address", "stage", "version", "found"),
    [
        ("aws:shop/prod#KEY", "AWSPREVIOUS", "", "aws:shop/prod#KEY?stage=AWSPREVIOUS"),
        ("aws:shop/prod?region=eu-west-1", "X", "", "aws:shop/prod?region=eu-west-1&stage=X"),
        ("aws:shop/prod", "", "a" * 32, f"aws:shop/prod?version={'a' * 32}"),
        ("azure:shop/key", "previous", "", "azure:shop/key?version=previous"),
        ("vault:shop/prod#KEY", "", "3", "vault:shop/prod#KEY?version=3"),
        ("aws:shop/prod", "", "", "aws:shop/prod"),
    ],
)
def test_other_versions_have_addresses(address: str, stage: str, version: str, found: str) -> None:
    provider, _, target = address.partition(":")
    assert str(at_version(Address(provider, target), stage, version)) == found


@pytest.mark.parametrize("wish", [("previous", ""), ("", "2"), ("previous", "2")])
@pytest.mark.parametrize(
    "address", ["file:key", "env:KEY", "dotenv:.env#KEY", "command:pass show key", "postgres:KEY"]
)
def test_what_has_no_versions_says_so(address: str, wish: tuple[str, str]) -> None:
    provider, _, target = address.partition(":")
    with pytest.raises(ConfigurationError, match=f"^{provider} keeps no versions"):
        at_version(Address(provider, target), *wish)


@pytest.mark.parametrize("address", ["aws:shop/prod", "azure:shop/key", "vault:shop/prod"])
def test_what_is_no_version_is_not_said_to_have_none(address: str) -> None:
    provider, _, target = address.partition(":")
    with pytest.raises(ConfigurationError) as error:
        at_version(Address(provider, target), "", "no version")
    assert "keeps no versions" not in str(error.value)


def test_a_value_in_a_file_of_envs_has_no_versions(root: Path) -> None:
    (root / "envs" / "prod.env").write_text(f"PLAIN_KEY={SECRET}\n")
    with Keeping.of(root, "prod") as keeping, pytest.raises(ConfigurationError) as error:
        keeping.version_of("PLAIN_KEY", "previous")
    assert "stands in envs/prod.env itself, which keeps no versions" in str(error.value)


def test_an_address_that_is_none_is_told_with_the_option() -> None:
    assert address_of("aws:shop/prod#", "--source", as_scope=True) == Address("aws", "shop/prod#")
    for text, sentence in (("", "--source is missing"), ("awss:x", "Did you mean aws?"), ("x", "--source x")):
        with pytest.raises(ConfigurationError, match=sentence):
            address_of(text, "--source")


@pytest.mark.parametrize("value", ["", " \n", f"{SECRET}\0", f"{SECRET}\udc80", SECRET * 20_000])
def test_what_no_variable_can_hold_is_refused_without_showing_it(value: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        require_value("KEY", Sensitive(value))
    assert SECRET not in str(error.value)
    require_value("KEY", Sensitive(SECRET))


def test_it_needs_no_variables_of_the_environment(root: Path) -> None:
    """A secret that cannot be had must not keep anybody from setting it."""
    (root / "key").unlink()
    with Keeping.of(root, "prod") as keeping:
        assert isinstance(keeping.environment, Environment)
        assert isinstance(keeping.value("API_KEY"), Failure)
        assert keeping.address("API_KEY") == Address("file", "key")
