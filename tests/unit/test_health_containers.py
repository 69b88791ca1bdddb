import json
import shutil
import subprocess

import pytest

from windlass.errors import OperationFailed
from windlass.health.containers import (
    HEALTH_OUTPUT_LIMIT,
    ContainerState,
    list_line,
    parse_states,
    plain,
    state_lines,
)

RAW = {
    "id": "f" * 64,
    "name": "/shop-web-1",
    "service": "web",
    "config": "abc",
    "status": "running",
    "health": "starting",
    "exit_code": 0,
    "restart_count": 2,
    "started_at": "2026-01-02T03:04:05.123456789Z",
    "restart_policy": "unless-stopped",
    "image": "shop-web:1",
    "health_output": "refused\n",
}


def line(**changes: object) -> str:
    return json.dumps(RAW | changes)


def test_a_line_becomes_a_state():
    (state,) = parse_states(line() + "\n")
    assert state == ContainerState(
        id="f" * 64,
        name="shop-web-1",
        service="web",
        config="abc",
        status="running",
        health="starting",
        exit_code=0,
        restart_count=2,
        started_at=pytest.approx(1767323045.123456),
        restart_policy="unless-stopped",
        image="shop-web:1",
        health_output="refused",
    )


def test_what_docker_leaves_out_becomes_empty():
    (state,) = parse_states(
        line(config=None, health="none", restart_policy="", started_at="0001-01-01T00:00:00Z")
    )
    assert (state.config, state.health, state.restart_policy, state.started_at) == ("", "", "no", None)


def test_states_come_ordered_by_service_and_number():
    names = ["/shop-web-10", "/shop-web-9", "/shop-web-1"]
    text = "\n".join([*(line(name=name) for name in names), line(service="api", name="/shop-api-1")])
    assert [state.name for state in parse_states(text)] == [
        "shop-api-1",
        "shop-web-1",
        "shop-web-9",
        "shop-web-10",
    ]


def test_only_the_end_of_health_output_is_kept_and_never_shown_by_repr():
    (state,) = parse_states(line(health_output="x" * 500 + "hunter2"))
    assert len(state.health_output) == HEALTH_OUTPUT_LIMIT
    assert state.health_output.endswith("hunter2")
    assert "hunter2" not in repr(state)


def test_a_line_separator_inside_a_text_does_not_cut_the_line():
    (state,) = parse_states(json.dumps(RAW | {"health_output": "a\u0085b\u2028c"}, ensure_ascii=False))
    assert state.health_output == "a\u0085b\u2028c"


@pytest.mark.parametrize(
    "text", ["{", "[]", "17", "null", '{"id": "x"}', line(started_at=None), line(name=3)]
)
def test_an_answer_that_is_no_state_is_one_sentence_without_the_text(text: str):
    with pytest.raises(OperationFailed) as caught:
        parse_states(text)
    assert str(caught.value) == "Docker's answer about the containers could not be read."
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_no_output_is_no_container():
    assert parse_states("") == parse_states("\n\n") == ()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("\x1b[31mred\x1b[0m\r", "red"),
        ("bell\x07 \x9b1m \x1b[2Jtab\there", "bell 1m tab\there"),
        ("größe → 3", "größe → 3"),
    ],
)
def test_plain_text_holds_no_control_sequences(text: str, shown: str):
    assert plain(text) == shown


# A stand-in for the docker client: the lines' own logic is what is tested here; a real engine answers
# in the integration tests.
FAKE = """
docker() {{
  case $1 in
    ps) {ps} ;;
    inspect) {inspect} ;;
  esac
}}
"""


def bash(ps: str, inspect: str, prelude: str = "set -euo pipefail") -> subprocess.CompletedProcess[str]:
    script = "\n".join([prelude, FAKE.format(ps=ps, inspect=inspect), *state_lines("shop"), "echo end"])
    return subprocess.run(
        [shutil.which("bash") or "bash"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_no_containers_print_nothing():
    assert bash("true", "echo wrong").stdout == "end\n"


def test_a_container_that_vanished_hides_no_other():
    done = bash("echo a b", "echo state-of-a; echo 'Error: No such object: b' >&2; return 1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "state-of-a\nend\n", "")


@pytest.mark.parametrize("prelude", ["set -euo pipefail", ""])
def test_a_docker_that_does_not_answer_ends_the_script(prelude: str):
    done = bash("echo 'Cannot connect' >&2; return 7", "true", prelude)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "Cannot connect\n")
    done = bash("echo a", "echo 'template parsing error' >&2; return 1", prelude)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "template parsing error\n")


def test_names_are_quoted():
    assert "'label=com.docker.compose.project=a b;c'" in list_line("a b;c")
    listed = list_line("shop", service="web", running_only=True)
    assert "--all" not in listed
    assert "label=com.docker.compose.service=web" in listed
