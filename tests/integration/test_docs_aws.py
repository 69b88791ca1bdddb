"""Every command of docs/providers/aws.md, typed in a scratch project, with the real SDK."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import AwsServer, aws_server
from tests.e2e.test_docs_commands import TASKS, Shell
from tests.pages import ROOT, blocks, steps, unprinted
from windlass.secrets.providers.aws.failures import _SENTENCES, ATTEMPTS, READ_SECONDS, Kind

pytestmark = pytest.mark.integration

PAGE = "docs/providers/aws.md"
FILES = {
    "tasks.py": TASKS,
    ".gitignore": ".windlass/\n",
    "compose.yaml": "services: {api: {image: 'shop-api:1', environment: [APP_SECRET]}}\n",
    "envs/prod.toml": """\
app = "shop"
protected = true
directory = "{folder}/srv"

[hosts.here]
transport = "local"
""",
}


@pytest.fixture
def aws() -> Iterator[AwsServer]:
    with aws_server() as server:
        yield server


@pytest.fixture
def shell(aws: AwsServer, tmp_path: Path) -> Iterator[Shell]:
    """A shell in a project, logged in to AWS by variables."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("{folder}", str(tmp_path)))
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not re.match(r"WINDLASS|CI$|AWS_|GIT_|\w+_proxy$", name, re.IGNORECASE)
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = Shell(tmp_path, {**kept, **aws.environ, "PATH": path, "HOME": str(tmp_path)})
    yield made
    made.close()


def allowed() -> set[str]:
    """Return the actions that the policies of the page allow."""
    found: set[str] = set()
    for text in re.findall(r"```json\n(.*?)```", (ROOT / PAGE).read_text(), re.DOTALL):
        for statement in json.loads(text)["Statement"]:
            actions = statement["Action"]
            found |= {actions} if isinstance(actions, str) else set(actions)
    return {each.removeprefix("secretsmanager:") for each in found}


def test_every_command_of_the_page_runs_with_the_rights_it_names(shell: Shell, aws: AwsServer) -> None:
    found = list(blocks(PAGE, (ROOT / PAGE).read_text()))
    assert found
    for block in found:
        for step in steps(block.language, block.text):
            code, output = shell.run(step.command)
            said = f"{block.name}: {step.command}\n{output}"
            assert code == step.code, f"exit code {code}, not {step.code}: {said}"
            assert "Traceback" not in output, said
            missing = unprinted(output, step.output)
            assert not missing, f"not printed: {missing[0]!r}: {said}"
    assert aws.value("shop/prod/mail-token", "AWSPREVIOUS") == "another-token-of-the-mailer"
    assert json.loads(aws.value("shop/mail")) == {"SMTP_PASSWORD": "from-a-file", "SMTP_USER": "shop"}
    assert aws.value("shop/mail/SMTP_USER") == "shop"
    assert set(aws.calls) <= allowed()


def test_the_policies_allow_nothing_that_is_not_used() -> None:
    assert allowed() == {
        "BatchGetSecretValue", "CreateSecret", "GetSecretValue", "ListSecrets", "ListSecretVersionIds",
        "PutSecretValue", "UpdateSecretVersionStage",
    }  # fmt: skip


def test_what_the_page_quotes_is_what_is_said() -> None:
    numbers = {"{attempts}": str(ATTEMPTS), "{seconds:g}": f"{READ_SECONDS:g}"}
    table = (ROOT / PAGE).read_text().partition("| what it says |")[2].partition("\n\n")[0]
    rare = {Kind.EXISTS, Kind.CONFIG, Kind.SERVER, Kind.TLS, Kind.OTHER}
    for kind in set(Kind) - rare:
        sentence = re.sub(r"\{[^}]+\}", lambda found: numbers.get(found[0], "…"), _SENTENCES[kind][0])
        assert f"| {sentence.replace('……', '…')} |" in table, kind
