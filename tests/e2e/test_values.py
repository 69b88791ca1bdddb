"""Whatever a value holds, the container gets it byte for byte, secret or not."""

from __future__ import annotations

import pytest

from tests.e2e.project import APP_SECRET, Project

VALUES = {
    "single": "it's",
    "double": 'say "hi"',
    "both": """'"'"''""",
    "dollar": "$HOME $$ $1 cost: 5$",
    "braces": "${x} ${x:-y} ${x:?z} $${x}",
    "command": "$(id) `id`",
    "backslash": r"\ \\ \n \t \" \' C:\new",
    "newlines": "one\ntwo\n\nfour\n",
    "return": "one\r\ntwo\rthree",
    "tab": "\tx\t",
    "unicode": "Zürich 東京 🚢 \u00a0\u200b\u2028é",
    "spaces": "  both ends  ",
    "hash": "# no comment #x # y",
    "percent": "%s %% %41 %PATH%",
    "equals": "a=b==c=",
    "template": "{{.Value}} {x} [y] <z> &amp; a|b;c&d",
    "braille": "!important !ref @x *y &z ? - : yes 012 1e3 null ~",
    "quoted": '"in double"',
    "quoted-single": "'in single'",
    "control": "\x01\x07\x1b[31m\x7f",
    "long": "x'\"$\\\n" * 2000,
    "reference-like": "a reference stands alone, so this is none: ${env:HOME}",
}


def variable(name: str, secret: bool) -> str:
    return ("TEST_SECRET_" if secret else "TEST_PUBLIC_") + name.upper().replace("-", "_")


@pytest.fixture(scope="module")
def with_values(project: Project) -> Project:
    """Give the project, deployed with every value once as a secret and once as a public variable."""
    names = {variable(name, secret): value for name, value in VALUES.items() for secret in (True, False)}
    lines = "".join(f"      {name}: ${{{name}}}\n" for name in names)
    (project.root / "compose.values.yaml").write_text(f"services:\n  api:\n    environment:\n{lines}")
    rules = '[variables]\nsecret = ["TEST_SECRET_*"]\npublic = ["TEST_PUBLIC_*"]\n'
    project.configure(files=("compose.yaml", "compose.values.yaml"), more=rules)
    project.set(**names)
    project.inv("deploy.bed").expect()
    return project


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("secret", [True, False], ids=["secret", "public"])
def test_a_value_arrives(with_values: Project, name: str, secret: bool) -> None:
    path = f"/env/{variable(name, secret)}"
    server = with_values.bed.servers[0]
    answer = with_values.get(server, path, "--fail", "--header", f"X-App-Secret: {APP_SECRET}")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == VALUES[name].encode()


def test_a_rollback_brings_the_old_values_back(with_values: Project) -> None:
    server = with_values.bed.servers[0]
    name, value = variable("both", True), VALUES["both"]
    with_values.set(**{name: "another"})
    with_values.inv("deploy.bed", "--no-build").expect()
    header = f"X-App-Secret: {APP_SECRET}"
    assert with_values.get(server, f"/env/{name}", "--header", header).stdout == b"another"
    with_values.inv("deploy.rollback").expect()
    assert with_values.get(server, f"/env/{name}", "--header", header).stdout == value.encode()
