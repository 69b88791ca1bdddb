"""The rendered file, its secrets, files, directories and hashes, from models as Compose prints them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stacks import environment
from windlass.errors import ConfigurationError
from windlass.shell import Sensitive
from windlass.stack import files as shipped
from windlass.stack.files import ship_content, ship_directory
from windlass.stack.model import Stack
from windlass.stack.rendering import RenderedStack, render, to_bytes
from windlass.stack.services import services_of
from windlass.stack.texts import SecretRef, SecretText

PASSWORD = SecretText((SecretRef("WINDLASS_SECRET_DB_PASSWORD"),))
URL = SecretText(("postgres://a$b:", SecretRef("WINDLASS_SECRET_DB_PASSWORD"), "@db"))


def stack(root: Path, services: Mapping[str, Any], **parts: Any) -> Stack:
    model = {"name": "whatever", "services": services, **parts.pop("model", {})}
    return Stack("app", root, root, model, services_of(model, root), **parts)


def rendered(what: Stack, **changes: Any) -> RenderedStack:
    where = environment(
        what.root,
        public=changes.pop("public", {}),
        secret=changes.pop("secret", {"DB_PASSWORD": "s3cr3t"}),
    )
    options: dict[str, Any] = {
        "images": {},
        "release": "r1",
        "files_root": "/srv/app/files",
        "shared_root": "/srv/app/shared",
        "key": b"key",
    }
    return render(what, where, **(options | changes))


def compose(result: RenderedStack) -> Any:
    return json.loads(result.compose)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_bytes_are_json_and_printable_for_yaml(tree: Any) -> None:
    data = to_bytes({"a": tree})
    assert json.loads(data.decode().replace("$$", "$")) == json.loads(
        json.dumps({"a": tree}).replace("$$", "$")
    )
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", data.decode())


def test_built_images_are_pinned_and_never_pulled(tmp_path: Path) -> None:
    what = stack(
        tmp_path,
        {
            "api": {
                "build": {"context": "."},
                "image": "api:dev",
                "profiles": ["x"],
                "x-note": 1,
                "command": None,
            },
            "db": {"image": "postgres:17", "pull_policy": "always"},
        },
        model={"x-common": {"a": 1}},
    )
    result = compose(rendered(what, images={"api": "app-api:abc"}))
    assert set(result) == {"name", "services", "x-windlass"}
    assert result["name"] == "app"
    labels = result["services"]["api"].pop("labels")
    assert result["services"]["api"] == {"image": "app-api:abc", "pull_policy": "never"}
    assert labels["windlass.app"] == "app"
    assert re.fullmatch(r"[0-9a-f]{32}", labels["windlass.config"])
    assert result["services"]["db"]["pull_policy"] == "always"
    with pytest.raises(ConfigurationError, match="api has a build"):
        rendered(what)


def test_an_image_that_is_not_built_can_be_pinned(tmp_path: Path) -> None:
    result = compose(
        rendered(stack(tmp_path, {"db": {"image": "postgres:17"}}), images={"db": "postgres@sha256:1"})
    )
    assert result["services"]["db"]["image"] == "postgres@sha256:1"
    assert "pull_policy" not in result["services"]["db"]


def test_secrets_become_variables_and_dollars_are_doubled(tmp_path: Path) -> None:
    what = stack(
        tmp_path,
        {"a": {"image": "a:1", "environment": {"URL": URL, "L": "a$b"}, "command": ["x", PASSWORD]}},
        literals={"WINDLASS_LITERAL_a_X": Sensitive("unused")},
    )
    result = rendered(what)
    service = compose(result)["services"]["a"]
    assert service["environment"] == {"URL": "postgres://a$$b:${WINDLASS_SECRET_DB_PASSWORD}@db", "L": "a$$b"}
    assert service["command"] == ["x", "${WINDLASS_SECRET_DB_PASSWORD}"]
    assert result.secrets == {"WINDLASS_SECRET_DB_PASSWORD": "s3cr3t"}
    assert "s3cr3t" not in repr(result)
    assert b"s3cr3t" not in result.compose


def test_variables_nothing_sets_are_left_out_and_reported(tmp_path: Path) -> None:
    result = rendered(stack(tmp_path, {"a": {"image": "a:1", "environment": {"X": None, "Y": ""}}}))
    assert compose(result)["services"]["a"]["environment"] == {"Y": ""}
    assert result.notes == ("a: X not passed on, as no file of envs/ sets it.",)


def attached(root: Path) -> Stack:
    (root / "s.txt").write_bytes(b"\x00secret")
    return stack(
        root,
        {
            "a": {
                "image": "a:1",
                "secrets": [{"source": "f", "mode": 256}, {"source": "v"}],
                "configs": [{"source": "c"}],
            }
        },
        model={
            "secrets": {"f": {"name": "app_f", "file": f"{root}/s.txt"}, "v": {"environment": "DB_PASSWORD"}},
            "configs": {"c": {"content": URL}, "unused": {"environment": "PUBLIC"}},
        },
    )


def test_secret_and_config_files_are_shipped(tmp_path: Path) -> None:
    result = rendered(attached(tmp_path), public={"PUBLIC": "p"})
    data = {file.target.rpartition("/")[2]: (file.data, file.mode) for file in result.files}
    assert data == {
        "s.txt": (b"\x00secret", 0o444),
        "v": (b"s3cr3t", 0o444),
        "c": (b"postgres://a$b:s3cr3t@db", 0o444),
        "unused": (b"p", 0o444),
    }
    shown = compose(result)
    assert re.fullmatch(r"/srv/app/files/[0-9a-f]{16}/s\.txt", shown["secrets"]["f"]["file"])
    assert shown["secrets"]["f"]["name"] == "app_f"
    assert shown["services"]["a"]["secrets"] == [{"source": "f"}, {"source": "v"}]
    assert result.notes[0].startswith("a: mode of secret f left out")
    assert "s3cr3t" not in repr(result.files)


def test_a_files_folder_tells_nothing_of_its_content_without_the_key(tmp_path: Path) -> None:
    paths = {
        key: {file.target for file in rendered(attached(tmp_path), public={"PUBLIC": "p"}, key=key).files}
        for key in (b"one", b"two")
    }
    assert not paths[b"one"] & paths[b"two"]


def test_what_cannot_be_shipped_is_one_sentence(tmp_path: Path) -> None:
    gone = stack(tmp_path, {}, model={"secrets": {"a": {"file": f"{tmp_path}/gone"}}})
    unset = stack(tmp_path, {}, model={"configs": {"a": {"environment": "NOT"}}})
    other = stack(tmp_path, {}, model={"configs": {"a": {"external": True}}})
    for what, says in (
        (gone, "gone.*cannot be read"),
        (unset, "NOT, which no file sets"),
        (other, "no file, content"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            rendered(what)


def mounts(root: Path, *sources: tuple[str, bool]) -> Stack:
    volumes = [
        {"type": "bind", "source": source, "target": f"/t{at}", "read_only": read_only}
        for at, (source, read_only) in enumerate(sources)
    ]
    return stack(root, {"a": {"image": "a:1", "volumes": volumes}})


def test_read_only_folders_are_shipped_and_writable_ones_kept(tmp_path: Path) -> None:
    (tmp_path / "conf" / "sub").mkdir(parents=True)
    (tmp_path / "conf" / ".git").mkdir()
    (tmp_path / "conf" / ".git" / "x").touch()
    (tmp_path / "conf" / "a").write_text("1")
    (tmp_path / "conf" / "sub" / "run.sh").write_text("2")
    (tmp_path / "conf" / "sub" / "run.sh").chmod(0o700)
    (tmp_path / "conf" / "loop").symlink_to(tmp_path / "conf")
    (tmp_path / "conf" / "link").symlink_to("a")
    (tmp_path / "data").mkdir()
    (tmp_path / "empty").mkdir()
    what = mounts(
        tmp_path,
        (f"{tmp_path}/conf", True),
        (f"{tmp_path}/data", False),
        (f"{tmp_path}/new/one", False),
        (f"{tmp_path}/empty", True),
        ("/var/run/docker.sock", False),
        ("/opt/elsewhere", False),
    )
    result = rendered(what)
    names = {file.target.partition("/")[2]: (file.data, file.mode) for file in result.files}
    assert names == {"conf/a": (b"1", 0o444), "conf/link": (b"1", 0o444), "conf/sub/run.sh": (b"2", 0o555)}
    sources = [each["source"] for each in compose(result)["services"]["a"]["volumes"]]
    assert re.fullmatch(r"/srv/app/files/[0-9a-f]{16}/conf", sources[0])
    assert sources[1:3] == ["/srv/app/shared/data", "/srv/app/shared/new/one"]
    assert sources[4:] == ["/var/run/docker.sock", "/opt/elsewhere"]
    assert set(result.directories) == {sources[1], sources[2], sources[3]}
    assert [note.split(" ")[1] for note in result.notes] == ["/t1", "/t2", "/opt/elsewhere"]


def test_the_whole_repository_as_a_writable_folder_has_a_name(tmp_path: Path) -> None:
    assert rendered(mounts(tmp_path, (str(tmp_path), False))).directories == ("/srv/app/shared/repository",)


def test_an_absent_read_only_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="gone, which does not exist"):
        rendered(mounts(tmp_path, (f"{tmp_path}/gone", True)))


def test_too_much_to_ship_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "MAX_TOTAL_BYTES", 10)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("123456")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_text("abcdef")
    rendered(mounts(tmp_path, (f"{tmp_path}/a", True)))
    with pytest.raises(ConfigurationError, match="for this stack"):
        rendered(mounts(tmp_path, (f"{tmp_path}/a", True), (f"{tmp_path}/b", True)))
    (tmp_path / "a" / "y").write_text("78901")
    with pytest.raises(ConfigurationError, match="more than the"):
        rendered(mounts(tmp_path, (f"{tmp_path}/a", True)))


def test_the_hash_follows_configuration_secrets_and_files_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("1")
    volumes = [{"type": "bind", "source": f"{tmp_path}/f", "target": "/f", "read_only": True}]
    services: dict[str, Any] = {
        "a": {"image": "a:1", "environment": {"P": PASSWORD}, "volumes": volumes},
        "b": {"image": "b:1"},
    }
    first = rendered(stack(tmp_path, services)).hashes
    assert rendered(stack(tmp_path, services), release="r2").hashes == first
    assert rendered(stack(tmp_path, services), key=b"other").hashes["b"] != first["b"]

    def changed(**changes: Any) -> set[str]:
        now = rendered(stack(tmp_path, changes.pop("services", services)), **changes).hashes
        return {name for name in now if now[name] != first[name]}

    assert changed(secret={"DB_PASSWORD": "other"}) == {"a"}
    assert changed(images={"b": "b:2"}) == {"b"}
    assert changed(services={**services, "b": {"image": "b:1", "init": True}}) == {"b"}
    (tmp_path / "f").write_text("2")
    assert changed() == {"a"}


def test_the_hash_follows_the_content_of_a_secret_file(tmp_path: Path) -> None:
    before = rendered(attached(tmp_path), public={"PUBLIC": "p"}).hashes["a"]
    assert rendered(attached(tmp_path), public={"PUBLIC": "q"}).hashes["a"] == before  # it does not mount it
    what = attached(tmp_path)
    (tmp_path / "s.txt").write_bytes(b"new")
    assert rendered(what, public={"PUBLIC": "p"}).hashes["a"] != before


def test_an_unchanged_file_keeps_its_path_and_a_changed_mode_does_not(tmp_path: Path) -> None:
    digest = shipped.keyed(b"k")
    assert ship_content("a", b"x", digest) == ship_content("a", b"x", digest)
    assert ship_content("a", b"x", digest).target != ship_content("a", b"x", digest, mode=0o555).target
    (tmp_path / "a").write_text("1")
    first, _ = ship_directory(tmp_path, digest)
    (tmp_path / "a").rename(tmp_path / "b")
    assert ship_directory(tmp_path, digest)[0] != first
