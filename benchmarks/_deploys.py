"""A project deployed to a server of its own, for the benchmarks of deploys."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.project import Project
from tests.testbed import Testbed
from tests.testbed.image import base_images


@contextmanager
def deployed_project() -> Iterator[Project]:
    """Give the sample's project, deployed once to a new server that has the database images already."""
    images = base_images()
    token = secrets.token_hex(4)
    with (
        tempfile.TemporaryDirectory(prefix="windlass-bench-") as folder,
        Testbed.up(1, f"bench-{token}") as bed,
    ):
        bed.load_image(images["POSTGRES_IMAGE"], images["REDIS_IMAGE"])
        project = Project(Path(folder) / "project" / "shop", bed, f"shop-{token}", images)
        try:
            project.inv("deploy.bed").expect()
            yield project
        finally:
            project.close()
