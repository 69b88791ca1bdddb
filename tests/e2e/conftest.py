"""Servers and projects for the end-to-end tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.project import Project
from tests.testbed import Testbed
from tests.testbed.image import base_images

NAMES = ("BASE_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE")

MakeProject = Callable[[], Project]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here as end-to-end."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Return the images to build from and run, as Nox names them or made here."""
    if all(os.environ.get(name) for name in NAMES):
        return {name: os.environ[name] for name in NAMES}
    found = base_images()
    return {name: found[name] for name in NAMES}


@pytest.fixture(scope="session")
def bed(images: dict[str, str]) -> Iterator[Testbed]:
    """Give two servers that have the database images, as servers in use have.

    $WINDLASS_TEST_BED names one that is up already, for whoever works on a test and runs it often.
    """
    if name := os.environ.get("WINDLASS_TEST_BED"):
        yield Testbed.load(name)
        return
    with Testbed.up(2, f"e2e-{secrets.token_hex(4)}") as servers:
        servers.load_image(images["POSTGRES_IMAGE"], images["REDIS_IMAGE"])
        yield servers


@pytest.fixture(scope="module")
def make_project(
    bed: Testbed, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeProject]:
    """Give a function that makes a project of its own; all of it goes at the module's end."""
    made: list[Project] = []

    def make() -> Project:
        token = secrets.token_hex(3)
        made.append(Project(tmp_path_factory.mktemp("project") / "shop", bed, f"shop-{token}", images))
        return made[-1]

    yield make
    for project in made:
        project.close()


@pytest.fixture(scope="module")
def project(make_project: MakeProject) -> Project:
    """Give the module's own project, not deployed yet."""
    return make_project()


@pytest.fixture(scope="module")
def deployed(project: Project) -> Project:
    """Give the module's project, deployed once to the first server."""
    project.inv("deploy.bed").expect()
    return project
