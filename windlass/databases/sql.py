"""SQL as text: names and values quoted the way PostgreSQL reads them back, and the fixed queries."""

from __future__ import annotations

import re
from string import Template
from typing import Final

_PLAIN_NAME: Final = re.compile(r"[a-z_][a-z0-9_$]*")

# NAMEDATALEN - 1; a longer name would be cut silently:
# https://www.postgresql.org/docs/17/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
MAX_NAME_BYTES: Final = 63

# Settings that hold a list are stored as they are written, so they are not quoted as one value
# (variable_is_guc_list_quote() in PostgreSQL's src/bin/pg_dump/dumputils.c).
_LIST_SETTINGS: Final = (
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
)


def identifier(name: str) -> str:
    """Return a name quoted as an identifier.

    Raises:
        ValueError: it is empty or holds a NUL, which PostgreSQL has no way to write.
    """
    if not name or "\0" in name:
        raise ValueError("a name in PostgreSQL is not empty and has no NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text quoted as a literal, for `standard_conforming_strings = on`.

    Raises:
        ValueError: it holds a NUL.
    """
    if "\0" in text:
        raise ValueError("a text in PostgreSQL has no NUL")
    return "'" + text.replace("'", "''") + "'"


def table_name(schema: str, table: str) -> str:
    """Return `schema.table`, each part quoted where it is not plain.

    Independent of any server's list of keywords, so that two versions give the same name.
    """
    return ".".join(part if _PLAIN_NAME.fullmatch(part) else identifier(part) for part in (schema, table))


def derived_name(name: str, suffix: str) -> str:
    """Return `name` + `suffix`, the name cut at a character's end so that both fit PostgreSQL's limit."""
    room = MAX_NAME_BYTES - len(suffix.encode())
    return name.encode()[:room].decode(errors="ignore") + suffix


# Foreign tables hold no data of this database, partitioned parents none of their own; what belongs to an
# extension is made by it. On a replica unlogged tables cannot be read, and pg_dump is told to leave them.
_TABLES: Final = """
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery())
   AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname"""

# `ONLY`: the rows of a child are the child's, so none is counted twice.
COUNT_ROWS: Final = (
    "SELECT pg_catalog.format('SELECT pg_catalog.jsonb_build_array(%L, %L, pg_catalog.count(*)) "
    "FROM ONLY %I.%I', n.nspname, c.relname, n.nspname, c.relname)" + _TABLES + " \\gexec"
)

EXTENSIONS: Final = (
    "SELECT pg_catalog.jsonb_build_array(extname, extversion) FROM pg_catalog.pg_extension ORDER BY extname;"
)

DATABASE: Final = """
SELECT pg_catalog.to_jsonb(d) || pg_catalog.jsonb_build_object(
         'encoding_name', pg_catalog.pg_encoding_to_char(d.encoding),
         'owner', pg_catalog.pg_get_userbyid(d.datdba),
         'bytes', pg_catalog.pg_database_size(d.oid),
         'version', pg_catalog.current_setting('server_version'),
         'version_num', pg_catalog.current_setting('server_version_num')::int)
  FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database();"""

# now() is the transaction's start. The LSN is read just after the snapshot: it bounds it from above.
EXPORT_SNAPSHOT: Final = """
SELECT pg_catalog.jsonb_build_object(
         'id', pg_catalog.pg_export_snapshot(),
         'time', pg_catalog.now() AT TIME ZONE 'UTC',
         'replica', pg_catalog.pg_is_in_recovery(),
         'lsn', CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
                     ELSE pg_catalog.pg_current_wal_lsn() END);"""


_EXISTS: Final = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = $database;"
# Of two numbers: the first is Windlass's own, the ASCII codes of "wind". It ends with its session.
_TRY_LOCK: Final = """
SELECT pg_catalog.to_jsonb(pg_catalog.pg_try_advisory_lock(2003398244, pg_catalog.hashtext($name)));"""
_STARTING_WITH: Final = """
SELECT pg_catalog.to_jsonb(datname::text) FROM pg_catalog.pg_database
 WHERE pg_catalog.starts_with(datname::text, $prefix) ORDER BY datname;"""
_END_CONNECTIONS: Final = """
SELECT pg_catalog.to_jsonb(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
 WHERE datname = $database AND pid <> pg_catalog.pg_backend_pid();"""
_END_LABELLED: Final = """
SELECT pg_catalog.to_jsonb(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
 WHERE application_name = $label AND pid <> pg_catalog.pg_backend_pid();"""

# `$target` is an identifier as a text, for format(). The comment's query needs no row when there is none.
_INHERIT: Final = """
SELECT pg_catalog.format('ALTER DATABASE %s OWNER TO %I', $target, pg_catalog.pg_get_userbyid(d.datdba))
  FROM pg_catalog.pg_database d WHERE d.datname = $source \\gexec
SELECT pg_catalog.format('ALTER DATABASE %s CONNECTION LIMIT %s', $target, d.datconnlimit)
  FROM pg_catalog.pg_database d WHERE d.datname = $source \\gexec
SELECT pg_catalog.format('REVOKE ALL ON DATABASE %s FROM PUBLIC', $target)
  FROM pg_catalog.pg_database d WHERE d.datname = $source AND d.datacl IS NOT NULL \\gexec
SELECT pg_catalog.format('GRANT %s ON DATABASE %s TO %s%s', a.privilege_type, $target,
         CASE WHEN a.grantee = 0 THEN 'PUBLIC'
              ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END,
         CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM pg_catalog.pg_database d, pg_catalog.aclexplode(d.datacl) a WHERE d.datname = $source \\gexec
SELECT pg_catalog.format('ALTER %s %s SET %I TO %s',
         CASE WHEN s.setrole = 0 THEN 'DATABASE'
              ELSE pg_catalog.format('ROLE %I IN DATABASE', pg_catalog.pg_get_userbyid(s.setrole)) END,
         $target, v.name,
         CASE WHEN v.name = ANY (pg_catalog.string_to_array($lists, ',')) THEN v.value
              ELSE pg_catalog.quote_literal(v.value) END)
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_db_role_setting s ON s.setdatabase = d.oid,
       pg_catalog.unnest(s.setconfig) AS c(entry),
       LATERAL (SELECT pg_catalog.split_part(c.entry, '=', 1) AS name,
                       pg_catalog.substr(c.entry, pg_catalog.strpos(c.entry, '=') + 1) AS value) v
 WHERE d.datname = $source \\gexec
SELECT pg_catalog.format('COMMENT ON DATABASE %s IS %L', $target, t.text)
  FROM pg_catalog.pg_database d, pg_catalog.shobj_description(d.oid, 'pg_database') t(text)
 WHERE d.datname = $source AND t.text IS NOT NULL \\gexec"""


def exists(database: str) -> str:
    """Return the query that gives one row when the database exists, else none."""
    return _fill(_EXISTS, database=database)


def try_lock(name: str) -> str:
    """Return the query that takes the advisory lock of a name until the session ends; true when it did."""
    return _fill(_TRY_LOCK, name=name)


def databases_like(prefix: str) -> str:
    """Return the query for the names of databases that start with a text."""
    return _fill(_STARTING_WITH, prefix=prefix)


def end_connections(database: str) -> str:
    """Return the statement that ends every other connection to a database."""
    return _fill(_END_CONNECTIONS, database=database)


def end_labelled(label: str) -> str:
    """Return the statement that ends the connections that carry this application name."""
    return _fill(_END_LABELLED, label=label)


def drop(database: str) -> str:
    """Return the statement that drops a database whoever is connected (`FORCE` is PostgreSQL 13's)."""
    return f"DROP DATABASE IF EXISTS {identifier(database)} WITH (FORCE);"


def rename(old: str, new: str) -> str:
    """Return the statement that renames a database."""
    return f"ALTER DATABASE {identifier(old)} RENAME TO {identifier(new)};"


def inherit_settings(old: str, new: str) -> str:
    """Return the script that gives database `new` what hangs on `old`'s object and not on its name.

    That is its owner, connection limit, grants, settings and comment: no dump without `--create` has them,
    and a rename leaves them with the old database.
    """
    return _fill(_INHERIT, source=old, target=identifier(new), lists=",".join(_LIST_SETTINGS))


def _fill(template: str, **texts: str) -> str:
    """Put texts into a query as quoted literals, one for each `$name`."""
    return Template(template).substitute({name: literal(text) for name, text in texts.items()})
