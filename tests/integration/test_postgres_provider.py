"""The provider `postgres` against a real PostgreSQL."""

from __future__ import annotations

import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.keyvault import CLIENT, CLIENT_SECRET, TENANT, KeyVault
from tests.postgres import PostgresServer
from tests.testbed.docker import docker
from windlass.environment.loading import load
from windlass.environment.problems import InvalidEnvironment
from windlass.errors import ConfigurationError
from windlass.secrets.providers import postgres
from windlass.secrets.providers.base import Client, Failure, ProviderError, Resolved, Version
from windlass.secrets.providers.postgres import PROVIDER
from windlass.secrets.resolving import Resolver
from windlass.secrets.settings import SecretsSettings
from windlass.shell import Sensitive

pytestmark = pytest.mark.integration

PASSWORD = "p@ss/w#rd-hidden"  # pragma: allowlist secret
QUOTED = "p%40ss%2Fw%23rd-hidden"  # pragma: allowlist secret
CURRENT = Version("", stages=("current",))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        docker("network", "disconnect", "none", server.app)
        docker("network", "connect", "bridge", server.app)
        server.sql(f"ALTER USER app PASSWORD '{PASSWORD}'; CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
        yield server


@pytest.fixture
def table(server: PostgresServer) -> str:
    """The table of FairArena and Prisma, empty."""
    server.sql(
        'DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE "EnvironmentVariable" '
        "(key text PRIMARY KEY, value text)"
    )
    return '"EnvironmentVariable"'


def address(server: PostgresServer) -> str:
    query = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
    return docker("inspect", "--format", query, server.app)


def url(server: PostgresServer, user: str = "app", password: str = QUOTED, more: str = "") -> str:
    return f"postgresql://{user}:{password}@{address(server)}:5432/{server.database}{more}"


def resolver_of(url: str, **more: str) -> Resolver:
    settings = SecretsSettings.model_validate({"postgres": {"url": "${env:URL}", **more}})
    return Resolver(Path("/"), {"URL": url}, settings)


@contextmanager
def connected(url: str, **more: str) -> Iterator[Client]:
    with resolver_of(url, **more) as resolver:
        yield resolver.client("postgres")


def value_of(url: str, name: str = "KEY", **more: str) -> Resolved:
    with resolver_of(url, **more) as resolver:
        return resolver.lookup(f"${{postgres:{name}}}")


def reason_of(url: str, name: str = "KEY", **more: str) -> str:
    found = value_of(url, name, **more)
    assert isinstance(found, Failure), "a secret was had"
    assert "hidden" not in str(found)
    return str(found)


def put(server: PostgresServer, **values: str | None) -> None:
    with psycopg.connect(url(server)) as connection:
        for name, value in values.items():
            connection.execute('INSERT INTO "EnvironmentVariable" VALUES (%s, %s)', [name, value])


def logged(server: PostgresServer) -> Callable[[], list[str]]:
    """Let the server log statements, and return what reads them."""
    server.sql("ALTER SYSTEM SET log_statement = 'all'")
    server.sql("SELECT pg_reload_conf()")
    while server.sql("SHOW log_statement") != "all":
        pass
    before = len(logs_up_to_now(server))
    return lambda: logs_up_to_now(server)[before:]


def logs_up_to_now(server: PostgresServer) -> list[str]:
    """Return the log when all that was said so far is in it: the Engine takes its time."""
    mark = f"mark {secrets.token_hex(8)}"
    server.sql(f"SELECT '{mark}'")
    deadline = time.monotonic() + 60
    while True:
        lines = docker_logs(server)
        if any(mark in line for line in lines):
            return lines
        assert time.monotonic() < deadline, "the log has no end"
        time.sleep(0.05)


def docker_logs(server: PostgresServer) -> list[str]:
    done = subprocess.run(["docker", "logs", server.app], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("target", "fault"),
    [("KEY", ""), ("a name#1?x", ""), (" KEY", "spaces"), ("KEY ", "spaces"), ("", "missing")],
)
def test_a_target_is_a_name(target: str, fault: str) -> None:
    assert fault in PROVIDER.fault(target)
    assert bool(fault) == bool(PROVIDER.fault(target))


VALUES = {
    "KEY": "p'a\"s\\s\n$w ü🔑",
    "LONG": "v" * 65536,
    "a name#1?x": "1",
    "x'; DROP TABLE": "2",
    "%s": "3",
}


def test_all_names_come_in_one_query_that_may_only_read(server: PostgresServer, table: str) -> None:
    put(server, **VALUES)
    said = logged(server)
    with connected(url(server)) as client:
        found = client.fetch(list(VALUES))
    assert {name: each.reveal() for name, each in found.items() if isinstance(each, Sensitive)} == VALUES
    lines = [line for line in said() if "LOG:  " in line]
    assert len([line for line in lines if "ANY(" in line]) == 1
    assert any("READ ONLY" in line for line in lines)
    assert any("statement_timeout" in line for line in lines)


def test_what_a_row_lacks_is_told(server: PostgresServer, table: str) -> None:
    put(server, API_KEY="hidden", EMPTY="", NOTHING=None)
    assert "has no row API_KEI; did you mean API_KEY?" in reason_of(url(server), "API_KEI")
    assert "the value of the row NOTHING is NULL" in reason_of(url(server), "NOTHING")
    assert "empty" in reason_of(url(server), "EMPTY")
    found = value_of(url(server), "OTHER")
    assert isinstance(found, Failure)
    assert found.missing
    server.sql(f'ALTER TABLE {table} DROP CONSTRAINT "EnvironmentVariable_pkey"')
    put(server, API_KEY="hidden2")
    assert "there are 2 rows API_KEY" in reason_of(url(server), "API_KEY")


def test_the_table_and_its_columns_are_named_in_the_settings(server: PostgresServer, table: str) -> None:
    server.sql(
        "CREATE SCHEMA \"My Schema\"; CREATE TYPE kind AS ENUM ('KEY'); "
        'CREATE TABLE "My Schema"."a""b" ("the name" kind, "the ""value""" json);'
        'INSERT INTO "My Schema"."a""b" VALUES (\'KEY\', \'{"a":1}\')'
    )
    names = {"name_column": "the name", "value_column": 'the "value"'}
    assert value_of(url(server), table='My Schema.a"b', **names) == Sensitive('{"a":1}')
    assert value_of(url(server, more="?schema=My%20Schema"), table='a"b', **names) == Sensitive('{"a":1}')
    assert "has no table x; DROP TABLE" in reason_of(url(server), table="x; DROP TABLE")


@pytest.mark.parametrize(
    "more",
    [
        "?schema=public&connection_limit=5&pgbouncer=true&sslmode=disable",
        "?sslmode=prefer&application_name=a%20b",
        "?options=-c%20search_path%3Dpublic",
    ],
)
def test_the_address_is_the_one_the_application_has(server: PostgresServer, table: str, more: str) -> None:
    put(server, KEY="value")
    assert value_of(url(server, more=more)) == Sensitive("value")
    assert value_of(url(server, more=more).replace("postgresql:", "postgresql+asyncpg:")) == Sensitive(
        "value"
    )
    assert value_of(url(server, more=more).replace("postgresql:", "postgres:")) == Sensitive("value")
    plain = f"host={address(server)} dbname=shop user=app password='{PASSWORD}'"
    assert value_of(plain) == Sensitive("value")


def test_the_ssl_mode_of_the_address_counts(server: PostgresServer, table: str) -> None:
    reason = reason_of(url(server, more="?sslmode=require"))
    assert "cannot be reached" in reason
    assert "SSL" in reason


def test_what_keeps_all_from_being_read_is_told_without_the_password(
    server: PostgresServer, table: str
) -> None:
    put(server, KEY="hidden")
    place = f"the database shop on {address(server)}:5432"
    assert reason_of(url(server, password="wrong-hidden")).startswith(
        f"{place} refuses the user or its password"
    )
    assert "refuses the user" in reason_of(url(server, user="nobody"))
    other = url(server).replace("/shop", "/nowhere")
    assert "on " in reason_of(other) and "there is no such database" in reason_of(other)
    assert f"{place} has no table Missing" in reason_of(url(server), table="Missing")
    assert "has no table no.such" in reason_of(url(server), table="no.such")
    assert "lacks the column key or val" in reason_of(url(server), value_column="val")
    assert "let the user use its schema" in reason_of(url(server, user="reader"))
    server.sql("GRANT USAGE ON SCHEMA public TO reader")
    assert "may not do this with the table" in reason_of(url(server, user="reader"))


@pytest.mark.parametrize(
    "text",
    [
        "hidden",
        "postgresql://a:hidden@[::1/x",
        "mysql://a:hidden@h/x",
        "host=a hidden",
        "postgresql://h:hidden/x",
    ],
)
def test_what_is_no_address_is_told_without_it(text: str) -> None:
    assert reason_of(text)


def test_a_database_that_is_down_or_silent_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setattr(postgres, "CONNECT_SECONDS", 2)
        silent = reason_of(f"postgresql://app:{QUOTED}@127.0.0.1:{port}/shop")
    assert f"the database shop on 127.0.0.1:{port} cannot be reached" in silent
    down = reason_of(f"postgresql://app:{QUOTED}@127.0.0.1:{port}/shop")
    assert "refused" in down
    assert "cannot be reached" in reason_of(f"postgresql://app:{QUOTED}@no-such-host.invalid/shop")


def test_a_database_that_answers_with_nonsense_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(8)
                connection.sendall(b"Nhidden\x00\xff\x00" * 99)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        reason = reason_of(f"postgresql://app:{QUOTED}@127.0.0.1:{port}/shop?sslmode=disable")
        thread.join()
    assert "cannot be reached" in reason


@contextmanager
def locked(server: PostgresServer, table: str) -> Iterator[None]:
    with psycopg.connect(url(server)) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def test_a_query_that_takes_too_long_ends(
    server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 1)
    with locked(server, table):
        assert "needed more than 1 s" in reason_of(url(server))


def test_a_link_on_which_nothing_comes_any_more_ends(
    server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LINK_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 600)
    with locked(server, table):
        assert "cannot be reached" in reason_of(url(server))
        with connected(url(server)) as client:
            (written,) = client.write({"KEY": Sensitive("hidden")}).values()
            assert "cannot be reached" in str(written)
    assert server.sql('SELECT count(*) FROM "EnvironmentVariable"') == "0"


def test_a_write_whose_end_is_not_known_says_so(
    server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LINK_SECONDS", 5.0)
    monkeypatch.setattr(postgres, "STATEMENT_SECONDS", 600)
    server.sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';"
        f"CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    with connected(url(server)) as client:
        (written,) = client.write({"KEY": Sensitive("hidden")}).values()
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT'")
    assert "it is not known whether the values were written" in str(written)
    assert "hidden" not in str(written)


def test_values_are_written_and_read_back(server: PostgresServer, table: str) -> None:
    put(server, KEY="old", OTHER="stays")
    with connected(url(server)) as client:
        values = {name: Sensitive(value) for name, value in VALUES.items()}
        assert client.write(values) == dict.fromkeys(values, CURRENT)
        assert client.fetch(list(values)) == values
        assert client.fetch(["OTHER"]) == {"OTHER": Sensitive("stays")}


def test_the_same_value_is_not_written_again(server: PostgresServer, table: str) -> None:
    put(server, KEY="same")
    before = server.sql('SELECT xmin FROM "EnvironmentVariable"')
    with connected(url(server)) as client:
        assert client.write({"KEY": Sensitive("same")}) == {"KEY": CURRENT}
    assert server.sql('SELECT xmin FROM "EnvironmentVariable"') == before


def test_one_value_that_cannot_be_written_hinders_no_other(server: PostgresServer, table: str) -> None:
    server.sql(f"ALTER TABLE {table} ALTER value TYPE varchar(10)")
    with connected(url(server)) as client:
        written = client.write(
            {
                "LONG": Sensitive("hidden-hidden"),
                "NUL": Sensitive("hid\0den"),
                "LONE": Sensitive("hid\ud800den"),
                "GOOD": Sensitive("good"),
            }
        )
        assert written["GOOD"] == CURRENT
        assert client.fetch(["GOOD"]) == {"GOOD": Sensitive("good")}
    reasons = {name: str(each) for name, each in written.items() if isinstance(each, Failure)}
    assert "too short for the value" in reasons["LONG"]
    assert "NUL" in reasons["NUL"]
    assert "Unicode" in reasons["LONE"]
    assert "hid" not in str(reasons)


def test_a_row_the_table_does_not_take_says_which_column_it_lacks(server: PostgresServer, table: str) -> None:
    server.sql(f'ALTER TABLE {table} ADD "updatedAt" timestamp NOT NULL')
    with connected(url(server)) as client:
        (written,) = client.write({"KEY": Sensitive("hidden")}).values()
    assert "needs a value for the column updatedAt" in str(written)
    assert "hidden" not in str(written)


def test_who_may_only_read_is_told_when_writing(server: PostgresServer, table: str) -> None:
    put(server, KEY="old")
    server.sql(f"GRANT USAGE ON SCHEMA public TO reader; GRANT SELECT ON {table} TO reader")
    with connected(url(server, user="reader")) as client:
        assert client.fetch(["KEY"]) == {"KEY": Sensitive("old")}
        (written,) = client.write({"KEY": Sensitive("hidden")}).values()
    assert "may not do this" in str(written)
    with connected(url(server, more="?options=-c%20default_transaction_read_only%3Don")) as client:
        (written,) = client.write({"KEY": Sensitive("new")}).values()
        assert written == CURRENT


def test_two_rows_of_a_name_are_not_written(server: PostgresServer, table: str) -> None:
    server.sql(f'ALTER TABLE {table} DROP CONSTRAINT "EnvironmentVariable_pkey"')
    put(server, KEY="1")
    put(server, KEY="2", OTHER="3")
    with connected(url(server)) as client:
        (written,) = client.write({"KEY": Sensitive("hidden")}).values()
        assert "there are 2 rows KEY" in str(written)
        with pytest.raises(ProviderError, match="There are 2 rows KEY"):
            client.members("")
    assert server.sql('SELECT value FROM "EnvironmentVariable" ORDER BY value').split() == ["1", "2", "3"]


def test_writers_at_once_make_one_row_also_without_a_unique_key(server: PostgresServer, table: str) -> None:
    server.sql(f'ALTER TABLE {table} DROP CONSTRAINT "EnvironmentVariable_pkey"')
    started = threading.Barrier(6)
    results: list[Mapping[str, object]] = []

    def write(number: int) -> None:
        with connected(url(server)) as client:
            started.wait(60)
            results.append(client.write({"KEY": Sensitive(str(number))}))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"KEY": CURRENT}] * 6
    assert server.sql('SELECT count(*) FROM "EnvironmentVariable"') == "1"


def test_the_members_are_the_rows_with_names_of_variables(server: PostgresServer, table: str) -> None:
    put(server, B="1", A="2", **{"not-one": "3"})
    with connected(url(server)) as client:
        assert client.members("") == {"A": "A", "B": "B"}
        assert client.member("", "A") == "A"
        with pytest.raises(ProviderError, match="names one row"):
            client.members("A")
        with pytest.raises(ConfigurationError, match="no name of a variable"):
            client.member("", "not-one")
        with pytest.raises(ConfigurationError, match="cannot tell versions of the table EnvironmentVariable"):
            client.versions("A")
    with (
        connected(url(server), table="Missing") as client,
        pytest.raises(ProviderError, match="has no table"),
    ):
        client.members("")


def test_no_secret_is_in_what_is_shown(server: PostgresServer, table: str) -> None:
    with connected(url(server)) as client:
        assert "hidden" not in f"{client!r} {vars(client)} {client.provider_name}"


TOML = """\
app = "arena"
[hosts.web]
address = "203.0.113.10"
[secrets.azure]
vault = "{vault}"
login = "client-secret"
tenant_id = "{tenant}"
client_id = "{client}"
ca_file = "{ca_file}"
verify_challenge = false
"""
VARIABLES = """\
DATABASE_URL=${azure:database-url} ?? ${env:DATABASE_URL}
JWT_SECRET=${azure:jwt-secret} ?? ${postgres:JWT_SECRET}
MAIL_KEY=${azure:mail-key} ?? ${postgres:MAIL_KEY}
"""


def project(root: Path, keyvault: KeyVault) -> Path:
    """An application that takes its secrets from the vault first, then from its table."""
    (root / "envs").mkdir()
    text = TOML.format(vault=keyvault.address, tenant=TENANT, client=CLIENT, ca_file=keyvault.ca_file)
    (root / "envs" / "prod.toml").write_text(text)
    (root / "envs" / "prod.env").write_text(VARIABLES)
    return root


def test_the_vault_comes_first_and_the_table_behind_it(
    server: PostgresServer, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, JWT_SECRET="jwt of the table", MAIL_KEY="mail of the table")
    process = {"AZURE_CLIENT_SECRET": CLIENT_SECRET}
    with KeyVault() as keyvault:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", keyvault.address)
        keyvault.put("database-url", url(server))
        keyvault.put("jwt-secret", "jwt of the vault")
        found = load(project(tmp_path, keyvault), "prod", process=process)
    values = {name: each.value for name, each in found.variables.items()}
    assert values == {
        "DATABASE_URL": Sensitive(url(server)),
        "JWT_SECRET": Sensitive("jwt of the vault"),
        "MAIL_KEY": Sensitive("mail of the table"),
    }
    (note,) = found.notes
    assert "MAIL_KEY (envs/prod.env:3) is taken from postgres:MAIL_KEY, since azure:mail-key: " in note


def test_the_table_serves_while_the_vault_is_down(
    server: PostgresServer, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(server, JWT_SECRET="jwt of the table", MAIL_KEY="mail of the table")
    with KeyVault() as keyvault:
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", keyvault.address)
        root = project(tmp_path, keyvault)
        (tmp_path / "ca.pem").write_bytes(keyvault.ca_file.read_bytes())
    toml = root / "envs" / "prod.toml"
    toml.write_text(toml.read_text().replace(str(keyvault.ca_file), "ca.pem"))
    process = {"AZURE_CLIENT_SECRET": CLIENT_SECRET}
    found = load(root, "prod", process={**process, "DATABASE_URL": url(server)})
    values = {name: each.value for name, each in found.variables.items()}
    assert values["JWT_SECRET"] == Sensitive("jwt of the table")
    assert values["MAIL_KEY"] == Sensitive("mail of the table")
    assert len(found.notes) == 3
    assert "hidden" not in str(found.notes)
    with pytest.raises(InvalidEnvironment) as told:
        load(root, "prod", process=process)
    assert [problem.key for problem in told.value.problems] == ["DATABASE_URL", "JWT_SECRET", "MAIL_KEY"]
    jwt = str(told.value.problems[1])
    assert "the variable DATABASE_URL is not set where Windlass was started" in jwt
