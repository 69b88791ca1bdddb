"""Commands one deploy in steady state starts over SSH, against the one of `docker compose up -d` by hand."""

from __future__ import annotations

from benchmarks._deploys import deployed_project
from benchmarks.report import Result, meets

GOAL = "<=12"
BY_HAND = 1


def run() -> Result:
    """Deploy a second release and count in the log of the server's own sshd."""
    with deployed_project() as project:
        server = project.bed.servers[0]
        project.commit()
        mark = server.mark()
        project.inv("deploy.bed").expect()
        count = server.count_ssh_commands(mark)
    return Result("deploy-ssh-commands", count, "", BY_HAND, count / BY_HAND, GOAL, meets(GOAL, count))
