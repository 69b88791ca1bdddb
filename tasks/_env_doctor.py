"""The task `env.doctor`."""

from __future__ import annotations

from invoke import Context

from ._task import is_dry, task

_MARKS = {"ok": "ok", "warning": "warning", "failed": "FAILED"}


@task(
    help={
        "env": "The environment; without it $WINDLASS_ENV, the default one, or the only one.",
        "json": "Write JSON instead of a table.",
    }
)
def doctor(context: Context, env: str = "", json: bool = False) -> None:
    """Check tools, hosts, clocks, disks and the logins to providers of secrets, and say how to mend each."""
    from windlass.doctor import findings, logins, machine, servers
    from windlass.environment.keeping import Keeping
    from windlass.errors import OperationFailed

    from . import _terminal

    terminal = _terminal.Terminal(as_json=json)
    environment = _terminal.open_hosts(env or None)
    hosts = environment.settings.hosts
    if is_dry(context):
        terminal.result({"would_check": list(hosts)})
        terminal.say(f"would look at this machine and at {', '.join(hosts)}, and log in to each provider")
        return
    found = list(machine.examine(with_servers=any(each.transport == "ssh" for each in hosts.values())))
    with _terminal.connected(environment) as connected:
        found += servers.examine(environment, connected)
    with Keeping(environment) as keeping:
        found += logins.examine(keeping)
    terminal.result([each.as_dict() for each in found])
    rows = [(each.where, each.what, _MARKS[each.state], each.found or "-") for each in found]
    terminal.table(f"health of {environment.name}", ("where", "what", "state", "found"), rows)
    for each in found:
        if each.fix:
            terminal.say(f"{each.where}: {each.what}: {each.fix}")
    if findings.has_failed(found):
        count = sum(each.state == "failed" for each in found)
        raise OperationFailed(f"{count} of {len(found)} checks failed.")
