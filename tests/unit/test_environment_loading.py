from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from windlass.environment.environment import Environment
from windlass.environment.inspection import examine
from windlass.environment.loading import RESERVED, VARIABLE, choose, find_root, load, names
from windlass.environment.problems import InvalidEnvironment, Problem
from windlass.errors import ConfigurationError
from windlass.shell import Sensitive

BASE = """
app = "shop"
[health.checks.api]
kind = "http"
url = "http://127.0.0.1:8080/health"
"""
PROD = """
[hosts.web]
"""


@pytest.fixture(autouse=True)
def no_environment_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def write(root: Path, **files: str) -> Path:
    (root / "envs").mkdir(exist_ok=True)
    for name, text in files.items():
        (root / "envs" / name.replace("__", ".")).write_text(text)
    return root


def loaded(root: Path, **files: str) -> Environment:
    return load(write(root, **{"base__toml": BASE, "prod__toml": PROD, **files}), "prod", process={})


def problems(root: Path, name: str = "prod", **files: str) -> list[Problem]:
    with pytest.raises(InvalidEnvironment) as caught:
        load(write(root, **{"base__toml": BASE, "prod__toml": PROD, **files}), name, process={})
    return list(caught.value.problems)


def only(root: Path, **files: str) -> Problem:
    (found,) = problems(root, **files)
    return found


def test_the_root_is_the_nearest_folder_with_envs(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, base__toml="")
    (tmp_path / "a" / "envs").mkdir()
    assert find_root(inner) == tmp_path
    write(tmp_path / "a", prod__toml="")
    assert find_root(inner) == tmp_path / "a"
    assert find_root(tmp_path) == tmp_path


def test_without_envs_the_way_out_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="windlass init") as caught:
        find_root(tmp_path)
    assert caught.value.exit_code == 10


def test_names_are_those_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, base__toml="", prod__toml="not toml", local__toml="", prod__env="", _x="")
    (tmp_path / "envs" / ".hidden.toml").write_text("")
    (tmp_path / "envs" / ".toml").write_text("")
    assert names(tmp_path) == ("local", "prod")
    assert names(tmp_path / "none") == ()


def test_finding_names_loads_no_library() -> None:
    code = "import sys, windlass.environment.loading; print({'pydantic', 'dotenv'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_named_environment_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, prod__toml="", local__toml="default = true", stage__toml="")
    assert choose(tmp_path, "prod") == "prod"
    assert choose(tmp_path, None) == "local"
    monkeypatch.setenv(VARIABLE, "stage")
    assert choose(tmp_path, None) == "stage"
    assert choose(tmp_path, "prod") == "prod"


def test_the_only_environment_is_chosen(tmp_path: Path) -> None:
    assert choose(write(tmp_path, base__toml="", prod__toml=""), None) == "prod"


@pytest.mark.parametrize("first", ["", "default = true", "[[["])
def test_several_environments_are_no_choice(tmp_path: Path, first: str) -> None:
    write(tmp_path, prod__toml=first, local__toml=first, stage__toml="")
    with pytest.raises(ConfigurationError, match="local, prod, stage"):
        choose(tmp_path, None)


def test_no_environment_is_no_choice(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"envs/prod\.toml"):
        choose(write(tmp_path, base__toml=""), None)


def test_an_unknown_environment_names_the_nearest_and_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, prod__toml="", local__toml="")
    for action in (choose, load):
        with pytest.raises(ConfigurationError, match=r"no environment 'prdo'.*mean 'prod'(?s:.*)local, prod"):
            action(tmp_path, "prdo")
    monkeypatch.setenv(VARIABLE, "nothing-like-it")
    with pytest.raises(ConfigurationError, match=r"\$WINDLASS_ENV") as caught:
        choose(tmp_path, None)
    assert "mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "", "base", "prod.toml"])
def test_only_names_of_files_are_environments(tmp_path: Path, name: str) -> None:
    write(tmp_path, base__toml="", prod__toml="")
    with pytest.raises(ConfigurationError, match="no environment"):
        load(tmp_path, name)


def test_files_are_merged(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        base__toml=BASE
        + "[stack]\nfiles = ['a', 'b']\nprofiles = ['x']\n[hosts.one]\nport = 1\nuser = 'u'\n",
        prod__toml="[stack]\nfiles = ['c']\n[hosts.one]\nport = 2\n[hosts.two]\n",
    )
    assert found.settings.stack.files == ["c"]
    assert found.settings.stack.profiles == ["x"]
    assert set(found.settings.hosts) == {"one", "two"}
    assert (found.settings.hosts["one"].port, found.settings.hosts["one"].user) == (2, "u")


def test_base_may_be_absent(tmp_path: Path) -> None:
    found = load(write(tmp_path, prod__toml="app = 'shop'\n[hosts.web]"), "prod", process={})
    assert found.name == "prod"
    assert found.root == tmp_path
    assert found.variables == {}


def test_variables_and_their_secrets(tmp_path: Path) -> None:
    found = loaded(tmp_path, base__env="A=1\nDB_PASSWORD=hunter22\n", prod__env="A=2\n")
    assert found.variables["A"].value == "2"
    assert found.variables["DB_PASSWORD"].value == Sensitive("hunter22")
    assert found.secrets == {"DB_PASSWORD": "hunter22"}


def test_the_rules_of_the_environment_decide_what_is_secret(tmp_path: Path) -> None:
    rules = "[variables]\nsecret = ['MOTD']\npublic = ['*_KEY']\n"
    found = loaded(tmp_path, base__toml=BASE + rules, prod__env="MOTD=hello\nSORTING_KEY=name\n")
    assert set(found.secrets) == {"MOTD"}


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        base__toml='app = "Shop"\nfoo = 1\n[stack]\nfils = []\n',
        prod__toml="[hosts.web]\nport = 0\ntransport = 'shh'\n[databases.main]\nname = 'x'\n",
        base__env="A=1\nA=2\nB\n",
        prod__env="X=${evn:A}\nY=${env:NOPE}\n",
    )
    assert [(each.place, each.key) for each in found] == [
        ("envs/base.env:2", "A"),
        ("envs/base.env:3", ""),
        ("envs/base.toml:1", "app"),
        ("envs/base.toml:2", "foo"),
        ("envs/base.toml:4", "stack.fils"),
        ("envs/prod.env:1", "X"),
        ("envs/prod.env:2", "Y"),
        ("envs/prod.toml:2", "hosts.web.port"),
        ("envs/prod.toml:3", "hosts.web.transport"),
        ("envs/prod.toml:4", "databases.main.service"),
    ]
    nearest = {each.key: each.nearest for each in found if each.nearest}
    assert nearest == {"stack.fils": "files", "X": "env", "hosts.web.transport": "ssh"}


def test_the_error_is_one_with_a_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"`prod` has 1 problem:\n  envs/base\.toml:2: foo: "):
        load(write(tmp_path, base__toml="app = 'a'\nfoo = 1\n", prod__toml=PROD), "prod")


def test_syntax_errors_have_line_and_column_and_hide_nothing_else(tmp_path: Path) -> None:
    found = problems(
        tmp_path, base__toml='app = "shop\n', prod__toml="[hosts.web]\nprot = 1\n", prod__env="A\n"
    )
    assert [each.place for each in found] == ["envs/base.toml:1:12", "envs/prod.env:1", "envs/prod.toml:2"]
    # `app` may stand in the file that cannot be read: it does not count as missing.
    assert "app" not in {each.key for each in found}


def test_both_files_may_have_syntax_errors(tmp_path: Path) -> None:
    found = problems(tmp_path, base__toml="a = [", prod__toml="\n\n= 1")
    assert [each.place for each in found] == ["envs/base.toml:1", "envs/prod.toml:3:1"]


def test_a_key_missing_from_both_is_asked_of_the_environments_file(tmp_path: Path) -> None:
    found = problems(tmp_path, base__toml="", prod__toml="")
    assert {(each.file, each.key, each.what) for each in found} == {
        ("envs/prod.toml", "app", "is missing"),
        ("envs/prod.toml", "hosts", "is missing"),
    }


def test_a_check_of_another_kind_replaces(tmp_path: Path) -> None:
    found = loaded(tmp_path, prod__toml=PROD + "[health.checks.api]\nkind = 'tcp'\nport = 1\n")
    assert found.settings.health.checks["api"].kind == "tcp"


def test_the_store_must_be_one_of_the_stores(tmp_path: Path) -> None:
    stores = "[backup]\nstore = 'archve'\n[backup.stores.archive]\npath = 'x'\n"
    found = only(tmp_path, prod__toml=PROD + stores)
    assert (found.key, found.line, found.nearest) == ("backup.store", 4, "archive")
    missing = only(tmp_path, prod__toml=PROD + "[backup.stores.archive]\npath = 'x'\n")
    assert (missing.key, missing.allowed) == ("backup.store", '"archive"')


def test_a_secret_header_must_be_a_variable(tmp_path: Path) -> None:
    header = "[health.checks.api]\nsecret_headers = { X-Key = 'HEALTH_KYE' }\n"
    found = only(tmp_path, prod__toml=PROD + header, prod__env="HEALTH_KEY=12345678\n")
    assert (found.place, found.key) == ("envs/prod.toml:4", "health.checks.api.secret_headers.X-Key")
    assert found.nearest == "HEALTH_KEY"


def test_a_variable_with_a_wrong_value_exists_all_the_same(tmp_path: Path) -> None:
    header = "[health.checks.api]\nsecret_headers = { X-Key = 'HEALTH_KEY' }\n"
    found = only(tmp_path, prod__toml=PROD + header, prod__env="HEALTH_KEY=${env:NOPE}\n")
    assert found.file == "envs/prod.env"
    unreadable = only(tmp_path, prod__toml=PROD + header, prod__env="HEALTH_KEY='open\n")
    assert unreadable.place == "envs/prod.env:1"


ROTATION = "[secrets.rotation.MASTER_KEY]\n"


@pytest.mark.parametrize(
    ("text", "place", "key", "nearest"),
    [
        ("[secrets.rotation.MASTER_KYE]\n", 3, "MASTER_KYE", "MASTER_KEY"),
        (ROTATION + "previous = 'KEY_BEFROE'\n", 4, "MASTER_KEY.previous", "KEY_BEFORE"),
        (ROTATION + "previous = 'MASTER_KEY'\n", 4, "MASTER_KEY.previous", ""),
        (ROTATION + "generate = 'pasword:32'\n", 4, "MASTER_KEY.generate", ""),
        (ROTATION + "generate = 'uuid:32'\n", 4, "MASTER_KEY.generate", ""),
    ],
)
def test_a_rotation_is_of_variables_there_are(
    tmp_path: Path, text: str, place: int, key: str, nearest: str
) -> None:
    found = only(tmp_path, prod__toml=PROD + text, prod__env="MASTER_KEY=12345678\nKEY_BEFORE=\n")
    assert (found.place, found.key) == (f"envs/prod.toml:{place}", f"secrets.rotation.{key}")
    assert found.nearest == nearest


def test_a_rotation_may_be_of_a_variable_that_is_declared_alone(tmp_path: Path) -> None:
    text = ROTATION + "previous = 'KEY_BEFORE'\ngenerate = 'hex:32'\n"
    declared = {"schema__env": "MASTER_KEY=\nKEY_BEFORE=\n"}
    assert loaded(tmp_path, prod__toml=PROD + text, **declared).settings.secrets.rotation
    # Which names there are is not known where a line cannot be read.
    unreadable = only(tmp_path, prod__toml=PROD + text, schema__env="", prod__env="MASTER_KEY='open\n")
    assert unreadable.place == "envs/prod.env:1"


def test_base_may_say_how_the_secrets_of_another_environment_are_rotated(tmp_path: Path) -> None:
    other = {"beta__toml": PROD, "beta__env": "MASTER_KEY=12345678\n"}
    assert loaded(tmp_path, base__toml=BASE + ROTATION, **other).settings.secrets.rotation
    found = only(tmp_path, base__toml=BASE, prod__toml=PROD + ROTATION)
    assert (found.place, found.key) == ("envs/prod.toml:3", "secrets.rotation.MASTER_KEY")


def test_a_reference_inside_a_text_is_told_and_taken_as_it_is(tmp_path: Path) -> None:
    found = loaded(
        tmp_path, base__env="ADDR=pre-${env:OLD}\n", prod__env="ADDR=hunter22-${env:X}\nB=pre-${X:-y}\n"
    )
    assert found.variables["ADDR"].value == "hunter22-${env:X}"
    (note,) = found.notes
    assert note.startswith("envs/prod.env:1: ADDR: looks like a reference inside a text")
    assert "hunter22" not in note
    (warning,) = examine(tmp_path, "prod", process={}).variables.warnings
    assert str(warning) == note


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_names_of_tasks_are_taken(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{f"{name}__toml": "app = 'a'\n[hosts.web]\n"})
    (found,) = problems(tmp_path, name)
    assert (found.file, name in found.what) == (f"envs/{name}.toml", True)


@pytest.mark.parametrize("name", ["Prod", "pr_od", "1st", "a.b", "x" * 40])
def test_names_that_are_no_names_of_environments(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{f"{name}.toml": "[hosts.web]\n"})
    (found,) = problems(tmp_path, name)
    assert "letter first" in found.allowed


def test_one_environment_is_the_default(tmp_path: Path) -> None:
    found = only(tmp_path, prod__toml=f"default = true\n{PROD}", local__toml="default = true")
    assert (found.place, found.key) == ("envs/prod.toml:1", "default")
    assert "envs/local.toml" in found.what


def test_base_cannot_be_the_default(tmp_path: Path) -> None:
    found = only(tmp_path, base__toml=f"default = true\n{BASE}")
    assert (found.place, found.key) == ("envs/base.toml:1", "default")


def test_no_problem_shows_a_secret(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        base__toml=BASE
        + "[images]\nregistry = 'https://u:hunter22@registry'\n[images.build_args]\nNPM_TOKEN = 22\n",
        base__env="A_KEY=hunter22\0\n",
        prod__env="hunter22\nB='hunter22\nC=${hunter:22}\nhunter22-x=1\nD=${env:A}hunter22\nE=${env:hunter-22}\n",
    )
    assert len(found) >= 7
    text = "\n".join(map(str, found))
    assert "hunter22" not in text
    assert "hunter-22" not in text


def test_the_environments_of_this_repository_are_valid() -> None:
    root = Path(__file__).parents[2]
    process = {"SAMPLE_POSTGRES_PASSWORD": "Kx7vQ2mRzp4T", "SAMPLE_APP_SECRET": "nB8wYd3Jh6Lc"}
    for name in names(root):
        load(root, name, process=process)
    assert choose(root, None) == "local"
