"""Seconds a deploy takes beyond the bare `docker compose up -d` that replaces the same containers.

The image is built before, for both: a build is no part of `up`. All else counts for the deploy: the
start of the command, plan, checks, lock, shipping the changed layers, migration, the wait until every
service is healthy, smoke check, record and prune. The bare command waits for nothing.
"""

from __future__ import annotations

import statistics
import subprocess
import time

from benchmarks._deploys import deployed_project
from benchmarks.report import Result, meets
from tests.e2e.project import Project

ROUNDS = 5
GOAL = "<=8"


def deploy(project: Project) -> float:
    """Deploy a new release whose image is built; return its seconds."""
    tag = project.commit()
    project.inv("build.images", "--env", "bed", "--tag", tag).expect()
    began = time.monotonic()
    project.inv("deploy.bed", "--no-build", "--tag", tag).expect()
    return time.monotonic() - began


def by_hand(project: Project) -> float:
    """Put the release before it up again with nothing but Compose over ssh; return its seconds."""
    place = project.folder("previous")
    words = ["docker", "compose", "-p", project.app, "-f", f"{place}/stack.json"]
    words += ["--env-file", f"{place}/secrets.env", "up", "--detach", "--quiet-pull"]
    began = time.monotonic()
    argv = ["ssh", "-F", str(project.bed.ssh_config), project.bed.servers[0].name, *words]
    subprocess.run(argv, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


def run() -> Result:
    """Do both in turn, so that what slows the machine slows both."""
    with deployed_project() as project:
        deploy(project)
        by_hand(project)
        pairs = [(deploy(project), by_hand(project)) for _ in range(ROUNDS)]
    bare = statistics.median(pair[1] for pair in pairs)
    more = statistics.median(pair[0] - pair[1] for pair in pairs)
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    return Result("deploy-overhead", more, "s", bare, ratio, GOAL, meets(GOAL, more))
