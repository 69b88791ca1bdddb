"""`secrets.scan` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VALUE = "q7Rk2-vX+9m/TzLw4pYd=Hs8"  # pragma: allowlist secret
OTHER = "Mm4-other-environment-77Qx"  # pragma: allowlist secret
TASKS = """
from invoke import Collection
from tasks._secrets_scan import scan
namespace = Collection(secrets=Collection(scan))
"""
QUIET = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two environments, whose values are where Git does not look."""
    for name, value in (("prod", VALUE), ("staging", OTHER)):
        write(tmp_path, f"envs/{name}.toml", 'app = "shop"\n[hosts.one]\naddress = "one.example.com"\n')
        write(tmp_path, f"envs/{name}.local.env", f"DB_PASSWORD={value}\nPIN_TOKEN=a1b2\n")
    write(tmp_path, "the_tasks.py", TASKS)
    write(tmp_path, ".gitignore", "*.local.env\n__pycache__/\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "WINDLASS_"))}
    return {**kept, **QUIET, "PYTHONPATH": str(ROOT)}


def git(root: Path, *words: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *who, *words], cwd=root, env=environ(), check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "-qm", "Change")


def write(root: Path, name: str, content: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)


def scan(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "invoke", "--collection", "the_tasks", "secrets.scan", *options]
    done = subprocess.run(
        argv, cwd=root, env=environ(), capture_output=True, text=True, check=False, timeout=120
    )
    assert VALUE not in done.stdout + done.stderr
    assert OTHER not in done.stdout + done.stderr
    return done


def test_a_clean_project_is_clean_and_says_what_was_searched(project: Path) -> None:
    done = scan(project)
    assert done.returncode == 0, done.stderr
    assert "Searched 4 files, 0 other versions and 1 message of the history" in done.stdout
    assert done.stdout.rstrip().endswith("0 findings.")
    # A short value is not looked for, and that is said.
    assert "PIN_TOKEN (prod, staging) is not searched for" in done.stderr


def test_a_value_is_found_in_the_tree_and_in_the_history_with_its_name(project: Path) -> None:
    write(project, "config.yaml", f"password: {VALUE}\n")
    commit(project)
    write(project, "config.yaml", f"other: {OTHER}\n")
    done = scan(project)
    assert done.returncode == 1
    assert "DB_PASSWORD (prod)" in done.stdout
    assert "DB_PASSWORD (staging)" in done.stdout
    assert "2 findings" in done.stderr
    assert scan(project, "--no-history").stdout.count("DB_PASSWORD") == 1
    one = json.loads(scan(project, "--env", "prod", "--json").stdout)
    assert [(each["what"], each["where"]) for each in one["findings"]] == [("DB_PASSWORD (prod)", "history")]


def test_a_hook_looks_at_what_is_staged_alone(project: Path) -> None:
    write(project, "config.yaml", f"password: {VALUE}\n")
    assert scan(project, "--staged").returncode == 0
    git(project, "add", "config.yaml")
    done = scan(project, "--staged")
    assert done.returncode == 1
    assert "Searched 1 staged file (" in done.stdout


def test_what_is_accepted_is_no_finding_and_what_is_gone_is_said(project: Path) -> None:
    write(project, "config.yaml", f"password: {VALUE}\n")
    found = json.loads(scan(project, "--json").stdout)["findings"]
    write(project, "envs/scan-allow.txt", f"{found[0]['fingerprint']}  of a test\n{'0' * 16}  gone\n")
    done = scan(project)
    assert done.returncode == 0, done.stdout
    assert "0 findings, 1 accepted." in done.stdout
    assert f"accepts {'0' * 16}, which is not found any more" in done.stderr


def test_a_list_without_reasons_is_an_error_of_configuration(project: Path) -> None:
    write(project, "envs/scan-allow.txt", "0" * 16 + "\n")
    done = scan(project)
    assert done.returncode == 10
    assert "envs/scan-allow.txt:1" in done.stderr


def test_a_secret_that_cannot_be_had_is_named_and_the_others_are_looked_for(project: Path) -> None:
    write(project, "envs/prod.env", "API_TOKEN=${env:NOT_SET_ANYWHERE}\n")
    write(project, "config.yaml", f"password: {VALUE}\n")
    done = scan(project)
    assert done.returncode == 1
    assert "DB_PASSWORD (prod)" in done.stdout
    assert "API_TOKEN of prod is not looked for" in done.stderr
    assert "1 finding; 1 secret could not be had and was not looked for." in done.stdout


def test_what_was_not_looked_for_is_no_clean_result(project: Path) -> None:
    write(project, "envs/prod.env", "API_TOKEN=${env:NOT_SET_ANYWHERE}\nA_KEY=${file:nowhere}\n")
    done = scan(project)
    assert done.returncode == 1
    assert done.stdout.rstrip().endswith("0 findings; 2 secrets could not be had and were not looked for.")
    assert "error: Nothing was found; 2 secrets could not be had" in done.stderr
    report = json.loads(scan(project, "--json").stdout)
    assert (report["ok"], report["findings"]) == (False, [])
    assert "cannot be had" in report["unsearched"]["API_TOKEN (prod)"]
    assert set(report["unsearched"]) == {"API_TOKEN (prod)", "A_KEY (prod)", "PIN_TOKEN (prod, staging)"}
    # Another environment's secrets can be had: a short value that is not looked for is no failure.
    assert scan(project, "--env", "staging").returncode == 0
    assert json.loads(scan(project, "--env", "staging", "--json").stdout)["ok"] is True


def test_an_environment_that_does_not_exist_is_an_error(project: Path) -> None:
    assert scan(project, "--env", "prd").returncode == 10


def test_ignored_files_are_searched_when_asked(project: Path) -> None:
    write(project, ".gitignore", "*.local.env\n*.log\n__pycache__/\n")
    write(project, "app.log", f"password {VALUE}\n")
    assert scan(project).returncode == 0
    assert "app.log" in scan(project, "--all-files").stdout
