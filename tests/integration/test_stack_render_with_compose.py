"""What is rendered means to Docker Compose what the user's own files mean, whatever the secrets are."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stacks import RESOURCES, environment
from windlass.environment.environment import Environment
from windlass.secrets.writers import compose_env_file
from windlass.stack.reading import read
from windlass.stack.rendering import RenderedStack, render

pytestmark = pytest.mark.integration

KEY = b"a key of the test"
PROJECTS = sorted(path.name for path in RESOURCES.iterdir())
PUBLIC = {"APP_PORT": "8080", "APP_VERSION": "1.4.2", "PUBLIC_URL": "https://example.com/a?b=c&d=$e"}
SECRET = {
    "DB_PASSWORD": "pa$$w0rd with 'both' \"quotes\" and \\ # ${X}",
    "SECRET_KEY": "-----BEGIN X-----\nabc\r\n=\n-----END X-----\n",
    "API_TOKEN": "žluť 🐴\u2028\x85\ufeff$",
}
NOT_SENT = ("build", "profiles", "env_file", "develop", "extends", "pull_policy")
TEXTS = st.text(
    st.one_of(
        st.sampled_from(list("$\"'\\#={}\n\r\t :;`&|<>%@!~*?[]")),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    min_size=1,
    max_size=60,
)


def compose(
    files: list[Path], variables: Mapping[str, str], directory: Path, env_file: str
) -> dict[str, Any]:
    words = ["docker", "compose", "--env-file", env_file, "--project-directory", str(directory), "-p", "app"]
    for file in files:
        words += ["-f", str(file)]
    done = subprocess.run(
        [*words, "config", "--format", "json"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    result: dict[str, Any] = json.loads(done.stdout.decode().replace("$$", "$"))
    return result


def project(name: str, secret: Mapping[str, str]) -> Environment:
    files = ["compose.yaml", "compose.prod.yaml"] if name == "several-files" else ["compose.yaml"]
    return environment(RESOURCES / name, public=PUBLIC, secret=secret, stack={"files": files})


def written(rendered: RenderedStack, folder: Path) -> dict[str, Any]:
    """Put the release where it says, and let Compose read it as a host does."""
    for file in rendered.files:
        path = folder / "files" / file.target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)
    (folder / "stack.json").write_bytes(rendered.compose)
    (folder / "secrets.env").write_bytes(compose_env_file(rendered.secrets))
    return compose([folder / "stack.json"], {}, folder, str(folder / "secrets.env"))


def rendered_for(where: Environment, folder: Path) -> RenderedStack:
    stack = read(where)
    images = {name: f"app-{name}:1" for name, each in stack.services.items() if each.build is not None}
    return render(
        stack,
        where,
        images=images,
        release="20260102T030405Z-abc",
        files_root=str(folder / "files"),
        shared_root=str(folder / "shared"),
        key=KEY,
    )


def content(attachment: Mapping[str, Any], variables: Mapping[str, str]) -> bytes:
    if "file" in attachment:
        return Path(attachment["file"]).read_bytes()
    if "environment" in attachment:
        return variables[attachment["environment"]].encode()
    return str(attachment["content"]).encode()


def tree(path: str) -> object:
    root = Path(path)
    if root.is_file():
        return root.read_bytes(), os.access(root, os.X_OK)
    return {
        each.relative_to(root).as_posix(): (each.read_bytes(), bool(each.stat().st_mode & 0o111))
        for each in root.rglob("*")
        if each.is_file()
    }


def mount(raw: Mapping[str, Any], own: Path) -> dict[str, Any]:
    if raw["type"] != "bind":
        return dict(raw)
    source = Path(raw["source"])
    kept = source == own / "uploads" or source == own / "data" or "/shared/" in raw["source"]
    what = (
        source.name
        if kept
        else tree(raw["source"])
        if source.exists() and source != Path("/etc/localtime")
        else str(source)
    )
    return {**raw, "source": what}


def meaning(service: Mapping[str, Any], own: Path) -> dict[str, Any]:
    found = {key: value for key, value in service.items() if key not in NOT_SENT and key[:2] != "x-"}
    found["environment"] = {k: v for k, v in (service.get("environment") or {}).items() if v is not None}
    found["labels"] = {
        k: v for k, v in (service.get("labels") or {}).items() if not k.startswith("windlass.")
    }
    found["volumes"] = [mount(each, own) for each in service.get("volumes") or ()]
    if service.get("build") is not None or str(service.get("image", "")).startswith("app-"):
        found.pop("image", None)
    for kind in ("secrets", "configs"):
        found[kind] = [
            {key: value for key, value in each.items() if key not in {"mode", "uid", "gid"}}
            for each in service.get(kind) or ()
        ]
    return {key: value for key, value in found.items() if value not in (None, [], {})}


def assert_same_meaning(name: str, secret: Mapping[str, str], folder: Path) -> RenderedStack:
    where = project(name, secret)
    rendered = rendered_for(where, folder)
    theirs = compose(
        [where.root / file for file in where.settings.stack.files], PUBLIC | secret, where.root, "/dev/null"
    )
    ours = written(rendered, folder)
    assert sorted(ours["services"]) == sorted(theirs["services"])
    for service, raw in theirs["services"].items():
        assert meaning(ours["services"][service], where.root) == meaning(raw, where.root), service
    for kind in ("networks", "volumes"):
        assert ours.get(kind) == theirs.get(kind)
    for kind in ("secrets", "configs"):
        for key, raw in (theirs.get(kind) or {}).items():
            assert ours[kind][key]["name"] == raw["name"]
            assert content(ours[kind][key], {}) == content(raw, PUBLIC | secret)
    return rendered


# This list takes the place of the profile's.
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.parametrize("name", PROJECTS)
def test_a_rendered_project_means_what_the_users_files_mean(name: str, tmp_path: Path) -> None:
    rendered = assert_same_meaning(name, SECRET, tmp_path)
    for value in SECRET.values():
        assert value not in rendered.compose.decode()
        assert json.dumps(value)[1:-1] not in rendered.compose.decode()
        assert value not in repr(rendered)


@pytest.mark.parametrize("name", PROJECTS)
@settings(max_examples=6, deadline=None, suppress_health_check=SUPPRESSED)
@given(values=st.tuples(TEXTS, TEXTS, TEXTS))
def test_any_secret_arrives_byte_for_byte(name: str, values: tuple[str, str, str], tmp_path: Path) -> None:
    assert_same_meaning(name, dict(zip(SECRET, values, strict=True)), tmp_path)


@pytest.mark.parametrize("name", PROJECTS)
def test_rendering_is_deterministic_and_the_release_changes_no_service(name: str, tmp_path: Path) -> None:
    first, second = (rendered_for(project(name, SECRET), tmp_path) for _ in range(2))
    assert first == second
    other = rendered_for(project(name, {key: value + "x" for key, value in SECRET.items()}), tmp_path)
    services = json.loads(first.compose)["services"]
    uses = {s for s, raw in services.items() if "${WINDLASS_" in json.dumps(raw)}
    assert {s for s in services if first.hashes[s] != other.hashes[s]} >= uses


def test_secrets_of_an_env_file_are_lifted_out(tmp_path: Path) -> None:
    rendered = rendered_for(project("env-file", SECRET), tmp_path)
    assert rendered.secrets["WINDLASS_LITERAL_app_SMTP_PASSWORD"] == 'p$ss "w" \\ #1'
    assert rendered.secrets["WINDLASS_LITERAL_app_STRIPE_API_KEY"] == "sk-test\ntwo lines"
    assert b"sk-test" not in rendered.compose
    shown = json.loads(rendered.compose)["services"]["app"]["environment"]
    assert shown["NESTED_SECRET"] == "${WINDLASS_SECRET_SECRET_KEY}"
    assert shown["PLAIN"] == "overridden"


def test_what_is_in_the_model_is_safe_to_show() -> None:
    for name in PROJECTS:
        shown = repr(read(project(name, SECRET)))
        assert not [value for value in SECRET.values() if value in shown or repr(value)[1:-1] in shown]
        assert not re.search(r"windlass-(secret|missing)-", shown)
