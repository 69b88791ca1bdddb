"""The schema of variables: its grammar, its types, what it refuses, and that no value is ever shown."""

from __future__ import annotations

import base64
import json
import secrets
import string
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from windlass.environment import decorators
from windlass.environment.decorators import DECORATORS, DecoratorFault, is_meant
from windlass.environment.inspection import Examined, examine
from windlass.environment.keeping import Keeping
from windlass.environment.loading import load
from windlass.environment.problems import InvalidEnvironment, Problem
from windlass.environment.reference import markdown
from windlass.environment.strength import is_placeholder, is_regular, weakness
from windlass.environment.value_types import TYPES, ValueType, read_type
from windlass.environment.variables import declared
from windlass.secrets.generating import generate
from windlass.shell import MASK

PLANTED = "Wq7-planted-Zk3-value-Xv9"
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


class Project:
    """A project with the environments dev, staging and prod; prod is protected."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.envs = root / "envs"
        self.envs.mkdir()
        self.write("base.toml", 'app = "shop"\n[hosts.here]\ntransport = "local"\n')
        self.write("dev.toml", "")
        self.write("staging.toml", "")
        self.write("prod.toml", "protected = true\n")

    def write(self, name: str, text: str) -> None:
        (self.envs / name).write_bytes(text.encode())

    def examine(self, name: str, **process: str) -> Examined:
        return examine(self.root, name, process=process)

    def problems(self, name: str, **process: str) -> list[str]:
        return [str(each) for each in self.examine(name, **process).problems]

    def warnings(self, name: str) -> list[str]:
        return [str(each) for each in self.examine(name).variables.warnings]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def type_of(text: str) -> ValueType:
    (found,) = decorators.parse(f"# @type={text}")
    assert found.call is not None
    return read_type(found.call)


# --- The grammar


def test_all_that_can_be_said_is_read(project: Project) -> None:
    project.write(
        "schema.env",
        "# Variables of the shop.\n"
        "\n"
        "# Connection of the application,\n"
        "#   to its own database.\n"
        "# @required(prod, staging) @sensitive @type=url(schemes=postgres | 'postgresql') # for the API\n"
        "# @example=postgres://user:pass@host/db\n"
        "DATABASE_URL=\n"
        "# @optional @public @type=string(min=2,max=9,matches='[a-z]{2,}, (x)?') @min_entropy=0\n"
        '# @deprecated="use NAME"\n'
        "OLD='ab, '\n",
    )
    found = declared(project.root, "prod")
    assert found.problems == ()
    url, old = found.schema.declarations.values()
    assert (url.name, url.file, url.line) == ("DATABASE_URL", "envs/schema.env", 7)
    assert url.description == "Connection of the application,\nto its own database."
    assert [url.is_required(each) for each in ("dev", "staging", "prod")] == [False, True, True]
    assert url.sensitive is True
    assert str(url.type) == "url(schemes=postgres|postgresql)"
    assert url.example == "postgres://user:pass@host/db"
    assert (old.always, old.sensitive, old.min_bits, old.deprecated) == (False, False, 0, "use NAME")
    assert list(found.entries) == ["OLD"]


@pytest.mark.parametrize(
    ("line", "column", "part"),
    [
        ("@requird", 3, "did you mean `@required`?"),
        ("@required @Sensitive", 13, "did you mean `@sensitive`?"),
        ("@required(", 13, "empty or holds a sign"),
        ("@required()", 13, "takes names"),
        ("@required(prod", 17, "not closed"),
        ("@required(prd)", 3, "no environment `prd`; allowed: dev, prod, staging; did you mean `prod`?"),
        ("@required=prod", 12, "not written like this"),
        ("@required prod", 13, "holds nothing else"),
        ("@required,@public", 12, "ends with a space"),
        ("@required @required", 13, "stands twice"),
        ("@required @optional", 13, "contradicts `@required`"),
        ("@public @sensitive", 11, "contradicts `@public`"),
        ("@type", 8, "needs a value"),
        ("@type=", 9, "a type is a word"),
        ("@type=itn", 9, "did you mean `int`?"),
        ("@type=int(mn=1)", 13, "did you mean `min=`?"),
        ("@type=int(min=a)", 13, "allowed: a whole number"),
        ("@type=int(min=1,min=2)", 19, "stands twice"),
        ("@type=int(min=2,max=1)", 9, "`min` is more than `max`"),
        ("@type=int(5)", 13, "no such option"),
        ("@type=port(min=1)", 14, "allowed: no options"),
        ("@type=enum", 9, "needs its values"),
        ("@type=string(matches='(')", 16, "a regular expression in quotes"),
        ("@type=string(min=0)", 16, "a number from 1 up"),
        ("@type=base64(bytes=1e9)", 16, "a number from 1 up"),
        ("@example=", 12, "is a text"),
        ('@example="open', 12, "quotes are not closed"),
        ("@min_entropy=high", 16, "is a whole number"),
        ("@min_entropy=-1", 16, "is a whole number"),
        ("@deprecated=", 15, "is a text"),
        ("@example=\x1b[31mred", 12, "control character"),
        ("@type=int @example=twelve", None, "its example is no whole number; allowed: int"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(
    project: Project, line: str, column: int | None, part: str
) -> None:
    project.write("schema.env", f"\n# {line}\nA=1\n")
    (problem,) = project.examine("dev").problems
    assert part in str(problem)
    assert problem.place == (f"envs/schema.env:2:{column}" if column else "envs/schema.env:3")
    assert problem.key == "A"


def test_all_problems_are_said_at_once(project: Project) -> None:
    project.write("schema.env", "# @typ=int\nA=\n# @type=int\nB=x\n# @required\nC=\n")
    project.write("prod.env", "D=${env:MISSING}\n")
    with pytest.raises(InvalidEnvironment) as caught:
        load(project.root, "prod", process={})
    places = [(each.place, each.key) for each in caught.value.problems]
    assert places == [
        ("envs/prod.env:1", "D"),
        ("envs/schema.env:1:3", "A"),
        ("envs/schema.env:4", "B"),
        ("envs/schema.env:6", "C"),
    ]


def test_the_same_decorators_are_read_in_the_base(project: Project) -> None:
    project.write("base.env", "# @type=int\nA=x\nB=1\n")
    assert project.problems("dev") == ["envs/base.env:2: A: is no whole number; allowed: int"]
    # Without an envs/schema.env nothing has to be declared.
    assert project.warnings("dev") == []


def test_a_variable_is_described_in_one_place(project: Project) -> None:
    project.write("schema.env", "# @required\nA=\n")
    project.write("base.env", "# @type=int\nA=1\n")
    (problem,) = project.problems("dev")
    assert problem == (
        "envs/base.env:2: A: has decorators here and is declared in envs/schema.env:2; allowed: one of them"
    )


def test_decorators_of_no_variable_are_a_problem(project: Project) -> None:
    project.write("schema.env", "# @required\n\nA=\n# words\n# @sensitive")
    places = [each.place for each in project.examine("dev").problems]
    assert places == ["envs/schema.env:1", "envs/schema.env:5"]


def test_a_decorator_in_a_file_where_it_counts_for_nothing_is_a_problem(project: Project) -> None:
    project.write("prod.env", "# @required\nA=1\n# @alice knows more\nB=1\n")
    (problem,) = project.problems("prod")
    assert problem.startswith("envs/prod.env:1: a decorator that counts for nothing in this file")


def test_comments_within_values_and_after_them_are_no_decorators(project: Project) -> None:
    project.write("schema.env", 'A="x\n# @required\ny"\nB=1 # @type=port\n## @nothing\nC=\n')
    found = declared(project.root, "prod")
    assert found.problems == ()
    assert [each.always or each.type for each in found.schema.declarations.values()] == [None] * 3


def test_an_environment_cannot_have_the_name_of_the_schema(project: Project) -> None:
    project.write("schema.toml", "")
    assert "describes the variables of all environments" in project.problems("schema")[0]


def test_the_schema_stays_a_file_that_python_dotenv_reads(project: Project) -> None:
    text = "# @required @type=string(matches=\"a'b\")\nA='1'\n# @example='x # y'\nB=\n"
    project.write("schema.env", text)
    assert project.problems("dev") == [
        "envs/schema.env:2: A: does not match the pattern of its type; allowed: string(matches=a'b)"
    ]
    assert dotenv_values(project.envs / "schema.env", interpolate=False) == {"A": "1", "B": ""}


@given(TEXTS)
def test_no_comment_breaks_the_reader(text: str) -> None:
    comment = f"# @{text}"
    if is_meant(comment):
        try:
            decorators.parse(comment)
        except DecoratorFault as fault:
            assert 0 <= fault.column <= len(comment)


WORDS = st.text(string.ascii_letters + string.digits + "-._:/", min_size=1, max_size=12)
ANY = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=20)


def quoted(text: str) -> str:
    quote = "'" if '"' in text else '"'
    return f"{quote}{text}{quote}"


@given(
    st.lists(WORDS, min_size=1, max_size=4),
    ANY.filter(lambda text: text and not ("'" in text and '"' in text)),
    st.lists(ANY.filter(lambda text: text and not ("'" in text and '"' in text)), min_size=1, max_size=4),
    st.sampled_from(["", " ", "  "]),
)
def test_what_is_written_is_read_back(names: list[str], text: str, values: list[str], space: str) -> None:
    joined = f"{space},{space}".join(names)
    listed = f"{space}|{space}".join(quoted(each) for each in values)
    line = f"# @required({space}{joined}{space}) @example={quoted(text)} @type=enum({listed}) # a comment @x"
    required, example, kind = decorators.parse(line)
    assert required.names == tuple(names)
    assert example.text == text
    assert kind.call is not None
    assert read_type(kind.call).options[""] == tuple(values)
    assert all(read_type(kind.call).fault(each) == "" for each in values)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(TEXTS)
def test_no_schema_file_breaks_the_loading(project: Project, text: str) -> None:
    project.write("schema.env", f"# @{text}\nA=1\n")
    for each in project.examine("prod").problems:
        assert each.file == "envs/schema.env"
        assert each.line


# --- Values


RIGHT = {
    "string": ["x", "any text\nof two lines"],
    "string(min=2, max=3)": ["ab", "äöü"],
    "string(matches='sk_[a-z]+')": ["sk_a"],
    "int": ["0", "-5", "+7", "007", "9" * 40],
    "int(min=-1, max=3)": ["-1", "3"],
    "port": ["1", "65535"],
    "bool": ["true", "FALSE", "yes", "0"],
    "url": ["https://a", "http://[::1]:80/x", "redis://:p%40ss@h:6379/0", "kafka://a:1,b:2/t", "unix:///x"],
    "url(schemes=postgres|postgresql)": ["postgresql://u:p@h/d", "postgres://h"],
    "email": ["a@b.c", "a+b@localhost", "o'x@ex-ample.com"],
    "enum(a|b)": ["a", "b"],
    "duration": ["30", "1.5s", "250ms", "2h", "1d"],
    "password": ["a" * 12],
    "password(min=3, max=4)": ["abc"],
    "base64": ["AA==", "AA", "-_8=", "+/8", base64.b64encode(b"x" * 99).decode()],
    "base64(bytes=2)": ["AAA=", "AAA"],
    "hex(bytes=2)": ["00fF"],
    "uuid": ["123e4567-e89b-42d3-a456-426614174000", "123E4567-E89B-42D3-A456-426614174000"],
    "json": ["{}", "[1, null]", '"x"', "1"],
    "pem": [
        "-----BEGIN X-----\nQUJD\n-----END X-----",
        "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: AES,00\r\n\r\nQUJD\r\n"
        "-----END RSA PRIVATE KEY-----\r\n-----BEGIN X-----\nQUJD\n-----END X-----\n",
    ],
}
WRONG = {
    "string(min=2, max=3)": ["a", "abcd"],
    "string(matches='sk_[a-z]+')": ["sk_", "xsk_a", "sk_a\n"],
    "int": ["", "1.5", "1_000", "٣", "0x1", " 1", "9" * 41, "--1"],
    "int(min=-1, max=3)": ["-2", "4"],
    "port": ["0", "65536", "-1", "80 ", "\uff18\uff10", "080000"],
    "bool": ["", "ja", "truee", "2"],
    "url": [
        "",
        "a",
        "https://",
        "://a",
        "https:/a",
        "http://a b",
        "http://a\n",
        "1x://a",
        "http://a:99999",
        "http://[::1",
        "http://a:x",
        "mailto:a@b.c",
    ],
    "url(schemes=postgres|postgresql)": ["mysql://h/d", "postgres"],
    "email": ["a", "a@", "@b", "a@b@c", "a b@c", "a..b@c", "a@-b", ".a@b", "a@b\n"],
    "enum(a|b)": ["A", "a|b", "", "c"],
    "duration": ["", "x", "1w", "-1", "1 h", "∞"],
    "password": ["a" * 11],
    "password(min=3, max=4)": ["ab", "abcde"],
    "base64": ["", "A", "AA=", "A A=", "AAAA====", "é"],
    "base64(bytes=2)": ["AA==", "AAAA"],
    "hex(bytes=2)": ["", "0", "00", "00f", "0x00", "00 ff", "000000"],
    "uuid": ["", "123e4567e89b42d3a456426614174000", "{123e4567-e89b-42d3-a456-426614174000}", "x"],
    "json": ["", "{", "{'a': 1}", "NaN", "[" * 100_000],
    "pem": [
        "",
        "x",
        "-----BEGIN X-----\nQUJD\n-----END Y-----",
        "-----BEGIN X-----\n\n-----END X-----",
        "-----BEGIN X-----\\nQUJD\\n-----END X-----",
        "-----BEGIN X-----\nQUJD\n-----END X-----\njunk",
        "-----BEGIN X-----\nQUJDx\n-----END X-----",
    ],
}


@pytest.mark.parametrize(("written", "value"), [(each, value) for each in RIGHT for value in RIGHT[each]])
def test_a_value_of_the_type_is_taken(written: str, value: str) -> None:
    assert type_of(written).fault(value) == ""


@pytest.mark.parametrize(("written", "value"), [(each, value) for each in WRONG for value in WRONG[each]])
def test_another_value_is_refused(written: str, value: str) -> None:
    assert type_of(written).fault(value)


def test_every_type_is_tried_both_ways() -> None:
    names = {each.name for each in TYPES}
    assert {type_of(each).form.name for each in RIGHT} == names
    assert {type_of(each).form.name for each in WRONG} == names


@given(st.sampled_from(sorted(RIGHT)), TEXTS)
def test_no_value_breaks_a_type_or_is_in_what_is_said(written: str, value: str) -> None:
    assume(len(value) > 3)
    for text in (value, f"{PLANTED}{value}"):
        fault = type_of(written).fault(text)
        assert PLANTED not in fault
        assert value.strip() not in fault or value.strip() in "is none of no shorter longer than characters"


def test_a_huge_value_is_judged_like_another(project: Project) -> None:
    huge = "A" * 100_000
    project.write(
        "schema.env",
        "# @type=pem\nA=\n# @type=json\nB=\n# @type=base64\nC=\n# @type=email\nD=\n# @type=url\nE=\n",
    )
    project.write("dev.env", "".join(f"{name}={huge}\n" for name in "ABCDE"))
    problems = project.problems("dev")
    assert [each[:18] for each in problems] == [
        f"envs/dev.env:{line}: {name}:" for line, name in ((1, "A"), (2, "B"), (4, "D"), (5, "E"))
    ]
    assert max(map(len, problems)) < 200


# --- Required, defaults, secrecy


def test_a_required_variable_needs_a_value_where_it_is_required(project: Project) -> None:
    project.write("schema.env", "# @required(prod) @type=int\nA=\n# @required\nB=\n# @required\nC=5\nD=\n")
    project.write("dev.env", "B=\n")
    project.write("staging.env", "B=1\n")
    assert project.problems("staging") == []
    assert project.problems("dev") == ["envs/dev.env:1: B: is required in dev and is empty"]
    assert project.problems("prod") == [
        "envs/schema.env:2: A: is required in prod and no file of envs/ sets it; allowed: int",
        "envs/schema.env:4: B: is required in prod and no file of envs/ sets it",
    ]


def test_an_empty_value_takes_a_default_away(project: Project) -> None:
    project.write("schema.env", "# @required\nA=5\n")
    project.write("dev.env", "A=''\n")
    assert project.problems("dev") == ["envs/dev.env:1: A: is required in dev and is empty"]


def test_a_required_variable_that_cannot_be_had_is_one_problem(project: Project) -> None:
    project.write("schema.env", "# @required @type=int\nA=${env:NOWHERE}\n")
    (problem,) = project.problems("dev")
    assert problem.startswith("envs/schema.env:2: A: ${env:NOWHERE}:")


def test_a_default_is_the_weakest_value_and_is_checked_where_it_counts(project: Project) -> None:
    project.write("schema.env", "# @type=port\nA=x\n# @type=port\nB=80\nC=\n")
    project.write("dev.env", "A=1\n")
    found = project.examine("dev")
    assert found.problems == ()
    assert [(each.name, each.value, each.origin) for each in found.variables.values.values()] == [
        ("A", "1", "envs/dev.env:1"),
        ("B", "80", "envs/schema.env:4"),
    ]
    assert project.problems("prod") == ["envs/schema.env:2: A: is no port, 1 to 65535; allowed: port"]


def test_the_value_behind_a_reference_is_checked(project: Project) -> None:
    project.write("schema.env", "# @type=port\nA=\n")
    project.write("dev.env", "\nA=${env:THE_PORT}\n")
    assert project.problems("dev", THE_PORT="80") == []
    assert project.problems("dev", THE_PORT=PLANTED) == [
        "envs/dev.env:2: A: is no port, 1 to 65535; allowed: port"
    ]


def test_what_is_secret_follows_the_schema(project: Project) -> None:
    token = "ghp_" + "a1B2" * 9
    project.write(
        "schema.env",
        "# @sensitive\nMOTD=\n# @public\nAPI_KEY=\n# @public\nTOKEN=\n# @public\nURL=\n# @typo\nODD=\n"
        "# @public\nFORCED=\n",
    )
    project.write(
        "dev.env", f"MOTD=true\nAPI_KEY=abc\nTOKEN={token}\nURL=a://b:{PLANTED}@c\nODD=plain\nFORCED=forced\n"
    )
    project.write("dev.toml", '[variables]\nsecret = ["FORCED"]\n')
    values = project.examine("dev").variables.values
    assert {name for name, each in values.items() if each.secret} == {"MOTD", "TOKEN", "URL", "ODD", "FORCED"}


def test_what_the_schema_calls_secret_is_among_the_secrets_that_tasks_handle(project: Project) -> None:
    project.write("schema.env", "# @sensitive\nMOTD=\n# @public\nAPI_KEY=\n")
    project.write("dev.env", "MOTD=hello\nAPI_KEY=abc\nPLAIN=x\n")
    with Keeping.of(project.root, "dev") as keeping:
        assert set(keeping.secret_entries) == {"MOTD"}


def test_warnings_stop_nothing(project: Project) -> None:
    project.write("schema.env", '# @deprecated="use CACHE_URL"\nCACHE=\nCACHE_URL=\n# @sensitive\nPIN=\n')
    project.write("prod.env", "CACHE=a\nCACHE_ULR=b\nPIN=x7y\n")
    assert load(project.root, "prod", process={}).variables["CACHE"].value == "a"
    assert project.warnings("prod") == [
        "envs/prod.env:2: CACHE_ULR: is not declared in envs/schema.env; did you mean `CACHE_URL`?",
        "envs/prod.env:1: CACHE: is deprecated: use CACHE_URL",
        "envs/prod.env:3: PIN: is shorter than 4 characters, so it cannot be masked in what programs print",
    ]


# --- Strength


@pytest.mark.parametrize(
    "value",
    [
        *(
            "change-this",
            "changeme",
            "CHANGE_ME",
            "change-this-in-production",
            "<password>",
            "<generated at start>",
        ),
        *("your-api-key-here", "YOUR_SECRET_KEY", "xxx", "XXXX-XXXX", "TODO", "TODO: set", "replace-me"),
    ],
)
def test_a_placeholder_is_one_whatever_the_variable(value: str) -> None:
    assert is_placeholder(value, secret=False)
    assert is_placeholder(value, secret=True)
    assert is_placeholder(f"postgres://app:{value.replace(' ', '-').replace(':', '')}@db/app", secret=True)


@pytest.mark.parametrize(
    "value",
    [
        *("password", "Password123!", "p@ssw0rd", "secret", "my-secret", "MySecretKey1", "example", "admin"),
        *(
            "prod-database-password",
            "super_secret_jwt_key",
            "123456",
            "0000",
            "***",
            "${SECRET}",
            "{{ key }}",
        ),
        *("your-256-bit-secret", "postgres", "test", "hunter2", "aaaaaaaaaaaa", "12345678"),
    ],
)
def test_a_word_that_everybody_tries_is_no_secret(value: str) -> None:
    assert is_placeholder(value, secret=True) or weakness(value)


@pytest.mark.parametrize(
    "value",
    [
        "production",
        "info",
        "example.com",
        "todo",
        "edit-in-place",
        "Hello",
        "App <no-reply@example.com>",
        "{{level}}",
        "password",
        "true",
        "...",
        "<b>Hi</b> there",
        "https://your-shop.example.com/x",
    ],
)
def test_an_ordinary_setting_is_no_placeholder(value: str) -> None:
    assert not is_placeholder(value, secret=False)


@pytest.mark.parametrize(
    "value", ["postgres://localhost/app", "redis://cache:6379/0", "keys/session", "/run/secret"]
)
def test_an_address_without_a_password_is_no_weak_secret(value: str) -> None:
    assert not is_placeholder(value, secret=True)


def test_what_is_generated_is_never_called_weak() -> None:
    for _ in range(300):
        for kind in ("password:12", "password:32", "base64:16", "base64:32", "hex:16", "hex:512", "uuid"):
            value = generate(kind).reveal()
            assert not is_placeholder(value, secret=True)
            assert not weakness(value)
        assert not weakness(secrets.token_hex(16), min_bits=128)
        assert not weakness(generate("base64:32").reveal(), decoded=secrets.token_bytes(32), min_bits=256)


@pytest.mark.parametrize(
    "value",
    [
        "TBD4kWq8ZpLm",
        "XXX+9fKq2LmZw8Rt7PbN1g==",
        "83017264095173846a20951738462095",
        "4028173a-5092-4817-9036-2847a6150938",
        "a8301726409517",
    ],
)
def test_what_chance_makes_of_random_characters_is_not_called_weak(value: str) -> None:
    assert not is_placeholder(value, secret=True)
    assert not weakness(value)


@pytest.mark.parametrize("value", ["password20240131", "TODO-9", "secret1234567890"])
def test_digits_behind_a_word_make_it_no_better(value: str) -> None:
    assert is_placeholder(value, secret=True)


@given(st.text(min_size=1, max_size=6), st.integers(4, 30))
def test_a_repetition_is_regular(piece: str, times: int) -> None:
    assert is_regular(piece * times)
    assert is_regular(piece.encode("utf-8", "surrogatepass") * times)


def test_a_placeholder_is_refused_where_the_environment_is_protected_only(project: Project) -> None:
    project.write(
        "base.env", "API_TOKEN=changeme\nMODE=password\nDATABASE_URL=postgres://app:secret@db/app\n"
    )
    said = [
        "envs/base.env:1: API_TOKEN: is a placeholder and no value: "
        "`inv env.generate` makes keys and passwords",
        "envs/base.env:3: DATABASE_URL: is a placeholder and no value: "
        "`inv env.generate` makes keys and passwords",
    ]
    assert project.problems("prod") == said
    assert project.warnings("prod") == []
    assert project.problems("dev") == []
    assert project.warnings("dev") == said


@pytest.mark.parametrize(
    ("declaration", "value", "part"),
    [
        ("@sensitive @type=string", "x7Y", "shorter than 8"),
        ("@sensitive @type=string", "abcabcabcabc", "repeats or counts"),
        ("@sensitive @type=string", "abcdefghijkl", "repeats or counts"),
        ("@sensitive @type=base64(bytes=32)", base64.b64encode(bytes(32)).decode(), "repeats or counts"),
        ("@sensitive @type=hex", "00" * 16, "placeholder"),
        ("@sensitive @type=hex", "a7" * 16, "repeats or counts"),
        ("@sensitive @min_entropy=128", "x7Yq2Wv9", "less than the 128 bits"),
        (
            "@sensitive @type=base64 @min_entropy=256",
            base64.b64encode(b"0q9w8e7r6t5y4u3i").decode(),
            "256 bits",
        ),
        ("@sensitive @type=password", "secret-password-1", "placeholder"),
    ],
)
def test_a_weak_key_is_refused_where_protected(
    project: Project, declaration: str, value: str, part: str
) -> None:
    project.write("schema.env", f"# {declaration}\nA=\n")
    project.write("base.env", f"A={value}\n")
    (problem,) = project.problems("prod")
    assert part in problem
    assert value not in problem
    assert project.problems("dev") == []
    assert part in " ".join(project.warnings("dev"))


def test_the_check_of_strength_can_be_switched_off(project: Project) -> None:
    project.write(
        "schema.env", "# @sensitive @type=string @min_entropy=0\nPIN=\n# @type=enum(secret|x)\nA_TOKEN=\n"
    )
    project.write("prod.env", "PIN=1111\nA_TOKEN=secret\n")
    assert project.problems("prod") == []


# --- No value is ever said


@pytest.mark.parametrize("kind", [each for each in WRONG if each not in {"string", "password"}])
def test_a_wrong_secret_is_never_shown(project: Project, kind: str) -> None:
    project.write("schema.env", f"# @sensitive @type={kind} @min_entropy=999\nA=\n# @type={kind}\nPLAIN=\n")
    project.write("prod.env", f"A={PLANTED}\nPLAIN={PLANTED}\n")
    found = project.examine("prod")
    said = " ".join(map(str, (*found.problems, *found.variables.warnings)))
    assert "envs/prod.env:1: A" in said
    assert "Wq7" not in said
    assert "planted" not in said
    with pytest.raises(InvalidEnvironment) as caught:
        load(project.root, "prod", process={})
    assert (
        "planted"
        not in f"{caught.value}{caught.value!r}{json.dumps([each.as_dict() for each in found.problems])}"
    )


def test_a_secret_in_a_broken_file_is_never_shown(project: Project) -> None:
    project.write("schema.env", f"# @type=port(\nA={PLANTED}\n{PLANTED}\n# @sensitive\nB='{PLANTED}\n")
    found = project.examine("prod")
    assert len(found.problems) >= 3
    assert "planted" not in " ".join(map(str, found.problems))


def test_repr_of_what_was_read_masks_secrets(project: Project) -> None:
    project.write("schema.env", "# @sensitive\nMOTD=\n")
    project.write("dev.env", f"MOTD={PLANTED}\n")
    shown = repr(project.examine("dev").variables.values)
    assert MASK in shown
    assert PLANTED not in shown


# --- The documentation


def test_every_decorator_and_type_is_on_the_page_and_its_examples_are_read() -> None:
    page = markdown()
    for form in DECORATORS:
        assert f"- `{form.form}`: {form.description}" in page
        for example in form.form.split("` or `"):
            (found,) = decorators.parse(f"# {example}")
            assert found.form is form
    for kind in TYPES:
        assert f"- `{kind.form}`: {kind.description}" in page
        assert type_of(kind.form).form is kind


def test_a_problem_of_the_schema_is_a_problem_like_others(project: Project) -> None:
    project.write("schema.env", "# @typo\nA=\n")
    (problem,) = project.examine("dev").problems
    assert isinstance(problem, Problem)
    assert problem.nearest == "@type"
