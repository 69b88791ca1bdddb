import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backups import make_environment
from windlass.databases import containers, postgres, sql
from windlass.databases.postgres import Server
from windlass.databases.session import client_failure, session_command
from windlass.databases.snapshot import Locale, create_database, locale_of
from windlass.environment.model import Settings
from windlass.errors import ConfigurationError, PreflightFailed

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=80)
SERVER = Server("c0ffee", "app")


def parse_conninfo(text: str) -> dict[str, str]:
    """Read a connection string the way libpq's conninfo_parse() does, for quoted values."""
    found = {}
    rest = text.lstrip()
    while rest:
        key, _, rest = rest.partition("=")
        assert rest.startswith("'")
        value, index = "", 1
        while rest[index] != "'":
            index += rest[index] == "\\"
            value += rest[index]
            index += 1
        found[key.strip()] = value
        rest = rest[index + 1 :].lstrip()
    return found


@given(NAMES)
def test_a_connection_string_names_exactly_the_database(name: str) -> None:
    assert parse_conninfo(postgres.connection_string(name)) == {"dbname": name}


@given(NAMES)
def test_identifiers_and_literals_are_read_back(name: str) -> None:
    assert sql.identifier(name)[1:-1].replace('""', '"') == name
    assert sql.literal(name)[1:-1].replace("''", "'") == name
    assert sql.identifier(name).count('"') % 2 == 0
    assert sql.literal(name).count("'") % 2 == 0


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        sql.identifier(name)


@given(NAMES, st.sampled_from(["_windlass_0a1b2c3d", "_before_20260102_030405"]))
def test_a_derived_name_fits_and_keeps_its_suffix(name: str, suffix: str) -> None:
    derived = sql.derived_name(name, suffix)
    assert len(derived.encode()) <= sql.MAX_NAME_BYTES
    assert derived.endswith(suffix)
    assert name.startswith(derived.removesuffix(suffix))


@pytest.mark.parametrize(
    ("schema", "table", "name"),
    [
        ("public", "orders", "public.orders"),
        ("public", "Orders", 'public."Orders"'),
        ("a.b", 'c"d', '"a.b"."c""d"'),
        ("public", "user", "public.user"),
    ],
)
def test_table_names(schema: str, table: str, name: str) -> None:
    assert sql.table_name(schema, table) == name


@given(NAMES, NAMES, NAMES, NAMES)
def test_different_tables_have_different_names(a: str, b: str, c: str, d: str) -> None:
    assert (sql.table_name(a, b) == sql.table_name(c, d)) == ((a, b) == (c, d))


def test_a_label_with_quotes_is_one_literal() -> None:
    assert sql.end_labelled("it's $label").count("'it''s $label'") == 1


def test_every_client_command_is_one_program_without_a_terminal_or_a_shell() -> None:
    commands = [
        postgres.dump_command(SERVER, "shop", "1-2-3", compression="zstd", replica=False, label="x"),
        postgres.restore_command(SERVER, "shop", "x"),
        postgres.read_command(SERVER),
        session_command(SERVER, "shop", "x"),
    ]
    for command in commands:
        assert command.words[:3] == ("docker", "exec", "--interactive")
        assert not {"-t", "--tty", "-it", "sh", "bash", "-c"} & set(command.words)
    assert "--tty" in postgres.shell_command(SERVER, "shop").words


def test_the_dump_works_from_the_snapshot_and_does_not_wait_for_ever() -> None:
    words = postgres.dump_command(SERVER, "shop", "1-2-3", compression="zstd", replica=False, label="x").words
    assert {"--snapshot=1-2-3", "--compress=zstd:1", "--lock-wait-timeout=20000", "--no-password"} <= set(
        words
    )
    assert "--no-unlogged-table-data" not in words
    plain = postgres.dump_command(SERVER, "shop", "s", compression="none", replica=True, label="x").words
    assert {"--compress=0", "--no-unlogged-table-data"} <= set(plain)


@pytest.mark.parametrize(
    ("text", "version", "major"),
    [
        ("pg_dump (PostgreSQL) 17.5 (Debian 17.5-1.pgdg120+1)\n", "17.5", 17),
        ("pg_restore (PostgreSQL) 15.18", "15.18", 15),
        ("pg_dump (PostgreSQL) 18beta1\n", "18beta1", 18),
    ],
)
def test_versions(text: str, version: str, major: int) -> None:
    assert postgres.parse_version(text) == version
    assert postgres.major(version) == major


def test_no_version() -> None:
    assert postgres.parse_version("bash: pg_dump: not found") is None
    with pytest.raises(ValueError, match="no PostgreSQL version"):
        postgres.major("devel")


class TestTheContainer:
    def find(self, listing: str) -> str:
        return containers.only_running(listing, "shop", "db", "one")

    def test_the_running_one_is_it(self) -> None:
        assert self.find("aa running shop-db-1\nbb exited shop-db-2\n") == "aa"

    def test_one_that_stopped_is_named_with_its_state(self) -> None:
        with pytest.raises(PreflightFailed, match="not running: shop-db-1 is exited"):
            self.find("aa exited shop-db-1\n")

    def test_two_are_too_many(self) -> None:
        with pytest.raises(PreflightFailed, match="2 containers"):
            self.find("aa running shop-db-1\nbb running shop-db-2\n")

    def test_none_at_all(self) -> None:
        with pytest.raises(PreflightFailed, match="has no container"):
            self.find("")


class TestChoosingADatabase:
    def settings(self, *names: str) -> Settings:
        databases = {name: {"service": "db", "name": name} for name in names}
        hosts = {"one": {"transport": "local"}}
        return Settings.model_validate({"app": "shop", "hosts": hosts, "databases": databases})

    def test_the_only_one_needs_no_name(self) -> None:
        assert postgres.choose(self.settings("main"), None)[0] == "main"

    def test_several_need_one(self) -> None:
        with pytest.raises(ConfigurationError, match="several databases"):
            postgres.choose(self.settings("main", "other"), None)

    def test_the_nearest_name_is_proposed(self) -> None:
        with pytest.raises(ConfigurationError, match="Did you mean main"):
            postgres.choose(self.settings("main", "other"), "mian")

    def test_none_at_all(self) -> None:
        with pytest.raises(ConfigurationError, match="has no database"):
            postgres.choose(self.settings(), None)


class TestTheLocale:
    def test_columns_of_every_major_version(self) -> None:
        row = {"encoding_name": "UTF8", "datcollate": "C", "datctype": "C"}
        assert locale_of(row) == Locale("UTF8", "C", "C")
        assert locale_of(row | {"datlocprovider": "i", "daticulocale": "de"}).locale == "de"
        assert locale_of(row | {"datlocprovider": "b", "datlocale": "C.UTF-8"}).provider == "builtin"

    def test_a_database_is_made_with_its_own_collation(self) -> None:
        icu = Locale("UTF8", "de_DE.UTF-8", "de_DE.UTF-8", "icu", "de-DE")
        text = create_database('a"b', "app", icu, server_major=17)
        assert text.startswith('CREATE DATABASE "a""b" TEMPLATE template0 OWNER "app" ')
        assert "LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'" in text
        assert "LOCALE_PROVIDER" not in create_database("a", "app", Locale("UTF8", "C", "C"), server_major=13)
        assert "_LOCALE '" not in create_database(
            "a", "app", Locale("UTF8", "C", "C", "libc", "x"), server_major=17
        )


def test_a_server_that_wants_a_password_is_explained() -> None:
    error = client_failure("the dump", 1, "fe_sendauth: no password supplied")
    assert "pg_hba.conf" in error.hint
    assert "schema change" in client_failure("the dump", 1, "canceling statement due to lock timeout").hint


def test_the_shared_environment_is_valid(tmp_path: object) -> None:
    from pathlib import Path

    assert make_environment(Path(str(tmp_path))).settings.databases["main"].name == "shop"
