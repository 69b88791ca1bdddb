"""The locks hold what pyproject declares, each with its hashes, and nothing of the machine that made them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("runtime", "dev", "compat")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}( \\)?")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def declared(lock: str) -> list[Requirement]:
    texts = list(pyproject()["project"]["dependencies"])
    if lock != "runtime":
        texts += pyproject()["dependency-groups"]["dev"]
        texts += [
            each for extra in pyproject()["project"]["optional-dependencies"].values() for each in extra
        ]
    return [Requirement(text) for text in texts]


def lines(lock: str) -> list[str]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return [line for line in text.splitlines() if not line.startswith("#")]


def locked(lock: str) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in lines(lock):
        if not line.startswith(" "):
            requirement = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def version(lock: str, name: str) -> str:
    (requirement,) = locked(lock)[name]
    (pin,) = requirement.specifier
    return pin.version


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_or_a_hash(lock: str) -> None:
    hashes = 0
    for line in reversed(lines(lock)):
        if line.startswith(" "):
            assert HASH.fullmatch(line.strip()), line
            hashes += 1
        else:
            (pin,) = Requirement(line.removesuffix("\\").strip()).specifier
            assert pin.operator == "==", line
            assert hashes, f"{line} has no hash"
            hashes = 0


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_declared_is_locked_at_a_version_it_allows(lock: str) -> None:
    found = locked(lock)
    for requirement in declared(lock):
        pins = found.get(canonicalize_name(requirement.name), [])
        assert pins, f"{requirement} is not in requirements/{lock}.txt: run nox -s lock"
        for pin in pins:
            (specifier,) = pin.specifier
            assert Version(specifier.version) in requirement.specifier, (
                f"{pin} is not {requirement}: nox -s lock"
            )


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_an_index_a_file_or_a_folder(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert "://" not in text
    assert " @ " not in text
    assert not re.search(r"(^|\s)(--index|--extra-index|--find-links|-i |-f )", text, re.MULTILINE)
    assert not re.search(r"(^|\s)[./]", text, re.MULTILINE)


def test_what_is_shipped_runs_with_the_versions_that_were_tested() -> None:
    tested = locked("dev")
    for name, pins in locked("runtime").items():
        assert {str(pin.specifier) for pin in pins} == {str(pin.specifier) for pin in tested[name]}, name


def test_both_pairs_of_invoke_and_fabric_are_locked() -> None:
    assert Version(version("dev", "invoke")) < Version("3") <= Version(version("compat", "invoke"))
    assert version("compat", "fabric") == "3.2.2"
    wanted = (ROOT / "requirements" / "compat.in").read_text()
    for name in ("invoke", "fabric"):
        assert f"{name}=={version('compat', name)}\n" in wanted


def test_locks_hold_on_the_oldest_python() -> None:
    oldest = {"python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux"}
    here = {
        name: [pin for pin in pins if _applies(pin.marker, oldest)] for name, pins in locked("dev").items()
    }
    for requirement in declared("dev"):
        assert len(here[canonicalize_name(requirement.name)]) == 1, requirement


def _applies(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(environment)
