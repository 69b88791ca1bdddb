"""Secrets that only the Compose project holds, in what the tasks that read it show."""

import json
import os
from pathlib import Path

import pytest
from invoke import Context
from invoke.exceptions import Exit

from tasks import _terminal, deploy, health
from tests.stacks import environment
from windlass.events import Event, Notice
from windlass.health.checks import run_checks
from windlass.hosts.local import LocalHost

ENV_FILE_SECRET = "from-the-env-file-of-web"
FILE_SECRET = "in-a-secret-file"
SAID = f"2026 web says {ENV_FILE_SECRET} and {FILE_SECRET}"
DOCKER = f"""#!/bin/sh
case "$*" in
*"version --short"*) echo 2.26.1 ;;
*" config"*) cat "$(dirname "$0")/model.json" ;;
*" logs "*) echo '{SAID}' ;;
ps*) echo a1 ;;
exec*) echo '{SAID}' >&2; exit 1 ;;
esac
"""
TOML = """\
app = "shop"
[hosts.here]
transport = "local"
[health.checks.probe]
kind = "command"
service = "web"
command = ["probe"]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose `env_file:` and secret file hold secrets; its `docker` answers for them."""
    model = {
        "services": {"web": {"image": "a:1", "environment": {"APP_PASSWORD": ENV_FILE_SECRET}}},
        "secrets": {"file": {"file": str(tmp_path / "file")}},
    }
    for name, text in {
        "envs/prod.toml": TOML,
        "compose.yaml": "services: {web: {image: 'a:1'}}\n",
        "file": FILE_SECRET + "\n",
        "bin/model.json": json.dumps(model),
        "bin/docker": DOCKER,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.delenv("WINDLASS_ENV", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(health, "_released", lambda _: lambda host: None)
    return tmp_path


@pytest.mark.usefixtures("project")
def test_logs_mask_them(capsys: pytest.CaptureFixture[str]) -> None:
    deploy.logs(Context())
    assert capsys.readouterr().out == "2026 web says [REDACTED] and [REDACTED]\n"


@pytest.mark.usefixtures("project")
def test_checks_mask_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as stop:
        health.check(Context(), json=True)
    said = capsys.readouterr()
    (probe,) = [each for each in json.loads(said.out)["checks"] if each["name"] == "probe"]
    assert probe["detail"].endswith("web says [REDACTED] and [REDACTED]")
    for secret in (ENV_FILE_SECRET, FILE_SECRET):
        assert secret not in f"{said.out}{said.err}{stop.value.message}"


def test_a_wait_masks_them(project: Path) -> None:
    with pytest.raises(Exit) as stop:
        health.wait(Context(), seconds="0")
    assert ENV_FILE_SECRET not in str(stop.value.message)
    assert FILE_SECRET not in str(stop.value.message)


def test_a_project_that_cannot_be_read_is_a_warning(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "compose.yaml").unlink()
    deploy.logs(Context())
    said = capsys.readouterr()
    assert said.out == SAID + "\n"
    assert (
        "warning: Secrets that stand in the Compose project alone are not masked: The Compose file"
        in said.err
    )


def test_what_it_warns_of_is_redacted(tmp_path: Path) -> None:
    events: list[Event] = []
    where = environment(tmp_path, secret={"KEY": "compose.yaml"})
    _terminal.project_redactor(where, events.append)
    (notice,) = events
    assert isinstance(notice, Notice)
    assert "compose.yaml" not in notice.text


@pytest.mark.usefixtures("project")
def test_checks_given_a_redactor_still_mask_what_a_header_takes() -> None:
    header = {"kind": "http", "url": "http://127.0.0.1:9", "secret_headers": {"X-Key": "PLAIN"}}
    probe = {"kind": "command", "service": "web", "command": ["probe"]}
    where = environment(
        Path(), public={"PLAIN": "in-a-secret-file"}, health={"checks": {"http": header, "probe": probe}}
    )
    *_, found = run_checks(
        [LocalHost("here")], where, redact=lambda text: text.replace(ENV_FILE_SECRET, "***")
    )
    assert found.detail.endswith("web says *** and [REDACTED]")
