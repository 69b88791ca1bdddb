"""How Compose is called and what its answers are turned into, without running it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stacks import environment
from windlass.errors import ConfigurationError, PreflightFailed
from windlass.shell import MASK
from windlass.stack import compose
from windlass.stack.compose import Said
from windlass.stack.model import Bind, Port
from windlass.stack.reading import lift_literals, missing_hint, read, stand_ins
from windlass.stack.services import attachments_of, dockerfile_has_healthcheck, seconds, services_of
from windlass.stack.texts import SecretRef, SecretText, Sentinels, convert, exact, secret_texts, template

SENTINELS = Sentinels("0123456789abcdef")
TOKEN = SENTINELS.secret("TOKEN")


def ref(name: str) -> SecretText:
    return SecretText((SecretRef(name),))


def test_a_sentinel_becomes_a_reference_wherever_it_stands() -> None:
    text = SENTINELS.parse(f"a{TOKEN}b{TOKEN}")
    assert text == SecretText(
        ("a", SecretRef("WINDLASS_SECRET_TOKEN"), "b", SecretRef("WINDLASS_SECRET_TOKEN"))
    )
    assert str(text) == f"a{MASK}b{MASK}"
    assert exact(text, {"WINDLASS_SECRET_TOKEN": "s"}) == "asbs"
    assert template(text) == "a${WINDLASS_SECRET_TOKEN}b${WINDLASS_SECRET_TOKEN}"


def test_text_that_only_looks_like_a_sentinel_stays() -> None:
    for text in ("windlass-secret-TOKEN-ffffffffffffffff", "windlass-secret-", ""):
        assert SENTINELS.parse(text) == text


@given(st.text())
def test_a_template_is_read_back_by_undoubling(text: str) -> None:
    assert template(text).replace("$$", "$") == text


def test_a_secret_in_a_key_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigurationError, match="part of a name") as raised:
        convert({"environment": {TOKEN: "x"}}, SENTINELS.parse)
    assert TOKEN not in str(raised.value)


def test_secret_texts_are_found_at_any_depth() -> None:
    tree = {"a": [{"b": ref("A")}, "x"], "c": (ref("B"),), "d": 1}
    assert [text.names for text in secret_texts(tree)] == [("A",), ("B",)]


def test_an_empty_secret_stays_empty_for_compose() -> None:
    where = environment(Path("/r"), public={"A": "1"}, secret={"B": "x", "C": ""})
    assert stand_ins(where, SENTINELS) == {"A": "1", "B": SENTINELS.secret("B"), "C": ""}


def test_compose_sees_the_environments_variables_and_dockers_own() -> None:
    own = {"PATH": "/bin", "HOME": "/h", "DOCKER_CONFIG": "/d", "AWS_SECRET": "x", "COMPOSE_FILE": "y"}
    assert compose.process_environment(own, {"A": "1", "HOME": "/mine"}) == {
        "PATH": "/bin",
        "HOME": "/mine",
        "DOCKER_CONFIG": "/d",
        "A": "1",
    }


def test_the_call_names_files_profiles_project_and_no_env_file() -> None:
    words = compose.arguments(Path("/r/d"), [Path("/r/d/a.yaml"), Path("/r/b.yaml")], ["x"], "app")
    assert words[:6] == ("docker", "compose", "--env-file", "/dev/null", "--project-directory", "/r/d")
    assert words[6:] == ("-f", "/r/d/a.yaml", "-f", "/r/b.yaml", "--profile", "x", "-p", "app")


def test_unset_variables_are_read_from_the_warnings() -> None:
    said = 'time="x" level=warning msg="The \\"B\\" variable is not set. Defaulting to a blank string."\n'
    assert compose.unset_names(said + said + said.replace("B", "A_1")) == ["A_1", "B"]
    assert compose.unset_names("") == []


def test_required_variables_are_read_from_the_table() -> None:
    table = "NAME REQUIRED DEFAULT VALUE\nA true\nB false def\nC true\n"
    assert compose.required_names(table, {"C": "set"}) == ["A"]
    assert compose.required_names("[]", {}) == []
    assert compose.required_fault("x: required variable A is missing a value: set it: now\n") == (
        "A",
        "set it: now",
    )
    assert compose.required_fault("other") is None


@pytest.mark.parametrize(
    "said",
    [
        f"Invalid hostPort: {TOKEN}",
        'time="x" level=warning msg="whatever"\nInvalid hostPort: ' + TOKEN + "\n",
    ],
)
def test_a_complaint_is_one_line_that_names_the_variable(said: str) -> None:
    assert compose.complaint(said, SENTINELS.readable) == "Invalid hostPort: ${TOKEN}"


def test_a_complaint_about_an_env_file_shows_no_value() -> None:
    for said in (
        'failed to read a.env: line 3: unexpected character "+" in variable name "S3cr3t+/x"',
        'line 1: unterminated quoted value "S3cr3t',
    ):
        assert "S3cr3t" not in compose.complaint(said, str)


@pytest.mark.parametrize(
    ("text", "version"),
    [("2.26.1-4\n", (2, 26, 1)), ("v2.40", (2, 40, 0)), ("5.1.0", (5, 1, 0)), ("", ()), ("dev", ())],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert compose.parse_version(text) == version


def test_a_missing_or_old_compose_is_refused_with_what_to_do() -> None:
    compose.check_version(Said(0, "2.24.4\n", ""))
    with pytest.raises(PreflightFailed, match="not installed"):
        compose.check_version(Said(1, "", "docker: 'compose' is not a docker command"))
    with pytest.raises(PreflightFailed, match=r"2\.23\.0 .* too old: 2\.24\.4 or newer"):
        compose.check_version(Said(0, "2.23.0", ""))


def test_a_missing_docker_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreflightFailed, match="`docker` command is not installed"):
        compose.run(("docker", "compose", "version"), {}, tmp_path)


def test_a_missing_compose_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"deploy/compose\.yaml does not exist"):
        read(environment(tmp_path, stack={"files": ["deploy/compose.yaml"]}))


def test_the_hint_says_where_a_variable_stands_already() -> None:
    assert "does not read it: move the line to envs/prod.env" in missing_hint(["A"], {"A", "B"}, "prod")
    assert missing_hint(["A"], set(), "prod").startswith("Set it in envs/prod.env")


@pytest.mark.parametrize(
    ("text", "expected"), [("1m30s", 90.0), ("1h", 3600.0), ("500ms", 0.5), ("", 7.0), (None, 7.0)]
)
def test_go_durations(text: object, expected: float) -> None:
    assert seconds(text, 7.0) == pytest.approx(expected)


def service(**raw: Any) -> Any:
    return services_of({"services": {"a": raw}}, Path("/repo"))["a"]


def test_a_plain_service_has_compose_defaults() -> None:
    found = service(image="x:1")
    assert (found.image, found.build, found.replicas, found.restart) == ("x:1", None, 1, "")
    assert (found.stop_grace_period, found.one_shot, found.has_healthcheck) == (10.0, False, False)


def test_ports_and_which_are_public() -> None:
    found = service(
        image="x",
        ports=[
            {"target": 80, "published": "8080", "protocol": "tcp"},
            {"target": 53, "host_ip": "127.0.0.1", "protocol": "udp"},
        ],
    )
    assert found.ports == (Port("", "8080", 80, "tcp"), Port("127.0.0.1", "", 53, "udp"))
    assert [port.public for port in found.ports] == [True, False]
    assert all(Port(ip, "1", 1).public for ip in ("", "0.0.0.0", "::", "[::]"))  # noqa: S104
    assert not any(Port(ip, "1", 1).public for ip in ("127.0.0.1", "::1", "10.0.0.1"))


def test_what_runs_once() -> None:
    waits = {"b": {"condition": "service_completed_successfully"}}
    model = {
        "services": {
            "a": {"image": "x", "depends_on": waits},
            "b": {"image": "x", "restart": "no"},
            "c": {"image": "x", "labels": {"windlass.one-shot": "true"}},
        }
    }
    found = services_of(model, Path("/repo"))
    assert [found[name].one_shot for name in "abc"] == [False, True, True]
    model["services"]["b"]["restart"] = "always"
    assert not services_of(model, Path("/repo"))["b"].one_shot


def test_replicas_come_from_deploy_or_scale() -> None:
    assert service(image="x", deploy={"replicas": 3}).replicas == 3
    assert service(image="x", scale=2).replicas == 2


def test_bind_mounts_say_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / ".gitkeep").touch()
    (tmp_path / "dir" / "a").touch()
    (tmp_path / "file").touch()

    def one(source: str, **raw: Any) -> Bind:
        mount = {"type": "bind", "source": source, "target": "/t", **raw}
        found = services_of({"services": {"a": {"image": "x", "volumes": [mount]}}}, tmp_path)["a"]
        return found.binds[0]

    directory = one(f"{tmp_path}/dir")
    assert (directory.kind, directory.inside, directory.holds, directory.persistent) == (
        "directory",
        True,
        1,
        True,
    )
    assert not one(f"{tmp_path}/dir", read_only=True).persistent
    assert one(f"{tmp_path}/file").kind == "file"
    assert not one(f"{tmp_path}/file").persistent
    assert one(f"{tmp_path}/none", bind={"create_host_path": True}).create
    assert not one("/etc/hosts").inside


@pytest.mark.parametrize(
    ("dockerfile", "target", "found"),
    [
        ("FROM a\nHEALTHCHECK CMD true\n", "", True),
        ("FROM a AS b\nHEALTHCHECK CMD true\nFROM c\n", "", False),
        ("FROM a AS b\nHEALTHCHECK CMD true\nFROM c AS d\n", "B", True),
        ("FROM a AS b\nHEALTHCHECK CMD true\nFROM --platform=x b\n", "", True),
        ("FROM a\n# HEALTHCHECK CMD true\n", "", False),
        ("", "", False),
    ],
)
def test_health_checks_of_a_dockerfile(dockerfile: str, target: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    assert dockerfile_has_healthcheck({"context": str(tmp_path), "target": target}) is found
    assert dockerfile_has_healthcheck({"dockerfile_inline": dockerfile, "target": target}) is found
    assert not dockerfile_has_healthcheck({"context": "https://example.com/x.git"})


def test_attachments_say_where_their_content_is(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    model = {
        "secrets": {
            "a": {"file": f"{tmp_path}/here"},
            "b": {"file": f"{tmp_path}/gone"},
            "c": {"environment": "SET"},
            "d": {"environment": "UNSET"},
            "e": {"external": True, "name": "e"},
        },
        "configs": {"f": {"content": ""}},
    }
    found = {each.name: (each.origin, each.present) for each in attachments_of(model, {"SET"})}
    assert found == {
        "a": ("file", True),
        "b": ("file", False),
        "c": ("environment", True),
        "d": ("environment", False),
        "e": ("other", False),
        "f": ("content", True),
    }


def test_secrets_of_the_project_itself_are_lifted_out() -> None:
    model: dict[str, Any] = {
        "services": {
            "a-b": {
                "environment": {"API_TOKEN": "one", "PLAIN": "x", "URL": "postgres://u:pw@db/x", "N": None}
            },
            "a_b": {"environment": {"API_TOKEN": "two"}},
            "c": {"build": {"args": {"NPM_TOKEN": "three"}}, "environment": {"PUBLIC_TOKEN": "shown"}},
        }
    }
    where = environment(Path("/r"), variables={"public": ["PUBLIC_TOKEN"]})
    found = lift_literals(model, where)
    assert {name: value.reveal() for name, value in found.items()} == {
        "WINDLASS_LITERAL_a_b_API_TOKEN": "one",
        "WINDLASS_LITERAL_a_b_API_TOKEN_2": "two",
        "WINDLASS_LITERAL_a_b_URL": "postgres://u:pw@db/x",
        "WINDLASS_LITERAL_c_NPM_TOKEN": "three",
    }
    assert model["services"]["a_b"]["environment"]["API_TOKEN"] == ref("WINDLASS_LITERAL_a_b_API_TOKEN_2")
    assert model["services"]["a-b"]["environment"]["PLAIN"] == "x"
    assert model["services"]["c"]["environment"]["PUBLIC_TOKEN"] == "shown"
    assert "three" not in json.dumps(model, default=str)
