from __future__ import annotations

import base64
import json
import secrets as random_source
import textwrap
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.secrets.scan.detecting import Detector, Hit
from windlass.shell import MASK, Sensitive

VALUE = "q7Rk2-vX+9m/TzLw4pYd=Hs8"  # pragma: allowlist secret
KIND = "PRIVATE KEY"
KEY = "\n".join(
    [
        f"-----BEGIN {KIND}-----",
        *(base64.b64encode(bytes(range(n, n + 48))).decode() for n in range(8)),
        "-----END PRIVATE KEY-----",
        "",
    ]
)
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def invented(prefix: str, size: int) -> str:
    """A token that no file of this repository holds as it is."""
    return prefix + "".join(LETTERS[(at * 37 + size * 11) % len(LETTERS)] for at in range(size))


def hits(text: str | bytes, **values: str) -> list[Hit]:
    detector = Detector({name: Sensitive(value) for name, value in values.items()})
    return list(detector.search([text.encode() if isinstance(text, str) else text]))


def wrapped(text: str, width: int, joint: str) -> str:
    return joint.join(text[at : at + width] for at in range(0, len(text), width))


ENCODED = base64.b64encode(f"user:{VALUE}:more-of-it".encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        VALUE,
        f"x{VALUE}x",
        json.dumps({"a": VALUE}),
        quote(VALUE, safe=""),
        ENCODED,
        VALUE.encode().hex(),
        base64.b64encode(b"1" + VALUE.encode()).decode(),
        base64.b64encode(b"12" + VALUE.encode()).decode(),
        f"\0\1binary\0{VALUE}\0",
    ],
)
def test_a_value_is_found_in_every_form_and_never_shown(text: str) -> None:
    found = hits(f"first line\nbefore {text} after\n", TOKEN=VALUE)
    assert [(each.line, each.what) for each in found] == [(2, "TOKEN")]
    assert MASK in found[0].excerpt
    assert list(Detector({"A": Sensitive(VALUE)}).search([found[0].excerpt.encode()])) == []


@pytest.mark.parametrize(
    "joint",
    [
        "\n",
        "\r\n",
        "\n    ",
        '"\n    "',
        "' \\\n    '",
        '" +\n        "',
        "' .\n  '",
        "\\\n",
        "\n# ",
        "\n// ",
        "\n * ",
        '",\n  "',
        '" & _\n "',
        "\n> ",
        "\n+",
        '"\n    b"',
        "' \\\n  f'",
        ")\n(",
        "\n\n",
    ],
)
def test_a_value_broken_over_two_lines_is_found(joint: str) -> None:
    for at in (3, 12, len(VALUE) - 3):
        text = f'x = "{VALUE[:at]}{joint}{VALUE[at:]}"\nend\n'
        assert [(each.what, each.how, each.line) for each in hits(text, TOKEN=VALUE)] == [
            ("TOKEN", "split", 1)
        ]


@given(st.text(alphabet="abcXYZ019+/-_.&=", max_size=40), st.data())
@settings(max_examples=300, deadline=None)
def test_a_value_broken_anywhere_is_found(value: str, data: st.DataObject) -> None:
    # Letters and digits on both sides, ten in all: without them it is no more than a run of signs.
    signs = "+/-_.&"
    value = f"k{value}k".strip(signs) + "Zq7wP3xN9e"
    at = data.draw(st.integers(1, len(value) - 1))
    joint = data.draw(st.sampled_from(["\n", "\n        ", '"\n  "', '" + \n "', "\\\n"]))
    assert hits(f"a: {value[:at]}{joint}{value[at:]} z", V=value)


@pytest.mark.parametrize("width", [16, 20, 40, 57, 64, 76])
def test_wrapped_base64_is_found_at_every_alignment(width: int) -> None:
    for before in (b"", b"1", b"12"):
        text = base64.b64encode(before + VALUE.encode() * 2 + b"tail").decode()
        assert hits("data:\n  " + wrapped(text, width, "\n  "), V=VALUE * 2)


def test_words_apart_are_no_broken_value() -> None:
    assert hits("alpha\nbeta gamma\n", V="alpha-beta-gamma") == []
    assert hits("alpha beta-gamma\n", V="alpha-beta-gamma") == []
    assert hits("alpha-\n    beta-gamma\n", V="alpha-beta-gamma") != []


def test_the_lines_of_a_key_are_found_alone_but_not_what_every_key_has() -> None:
    line = KEY.splitlines()[3]
    assert [each.how for each in hits(f"  # {line}\n", KEY=KEY)] == ["line"]
    assert hits(f"-----BEGIN {KIND}-----\n-----END {KIND}-----\n", KEY=KEY) == []


def test_short_values_and_common_words_are_named_and_not_searched_for() -> None:
    detector = Detector(
        {"SHORT": Sensitive("abc12"), "WORD": Sensitive("postgres"), "GOOD": Sensitive(VALUE)}
    )
    assert set(detector.unsearched) == {"SHORT", "WORD"}
    assert list(detector.search([b"postgres abc12"])) == []


def test_a_short_value_stands_alone() -> None:
    assert hits("monkeypatch, amonkey", V="monkey") == []
    assert len(hits("pass: monkey\n'monkey'", V="monkey")) == 2


def test_names_of_one_value_are_told_together() -> None:
    assert [each.what for each in hits(VALUE, B=VALUE, A=VALUE)] == ["A, B"]


def test_an_excerpt_shows_no_other_secret_of_its_line() -> None:
    other = "zz9-other-value-Q1"
    token = invented("ghp_", 36)
    text = f"{VALUE} {other} {token} pin=abc12 end"
    for each in hits(text, A=VALUE, B=other, C="abc12"):
        assert all(secret not in each.excerpt for secret in (VALUE, other, token, "abc12"))


@given(st.integers(0, 40), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_chunks_of_a_large_file_give_what_the_whole_gives(shift: int, pieces: int) -> None:
    filler = (b"some ordinary line of text\n" * 60_000)[: 1_400_000 + shift]
    content = (
        filler + VALUE.encode() + b"\n" + filler[:300_000] + VALUE[:9].encode() + b"\n  " + VALUE[9:].encode()
    )
    detector = Detector({"V": Sensitive(VALUE)})
    size = len(content) // pieces + 1
    chunks = [content[at : at + size] for at in range(0, len(content), size)]
    found = list(detector.search(chunks))
    assert [(each.line, each.how) for each in found] == [
        (filler.count(b"\n") + 1, "plain"),
        (content[: content.rindex(VALUE[:9].encode())].count(b"\n") + 1, "split"),
    ]


def test_a_value_longer_than_a_block_is_found_across_blocks() -> None:
    value = random_source.token_hex(60_000)
    content = b"x" * 3_000_000 + value.encode() + b"y" * 1_000_000
    detector = Detector({"V": Sensitive(value)})
    found = list(detector.search(content[at : at + 65536] for at in range(0, len(content), 65536)))
    assert [each.what for each in found] == ["V"]


WEB_TOKEN = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', bytes(range(32)))
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (KEY, "private key"),
        (KEY.replace("PRIVATE", "RSA PRIVATE"), "private key"),
        (json.dumps({"key": KEY}), "private key"),
        (textwrap.indent(KEY, "    "), "private key"),
        ('"' + KEY.replace("\n", '\\n"\n"') + '"', "private key"),
        (base64.b64encode(KEY.encode()).decode(), "private key in base64"),
        (invented("ghp_", 36), "GitHub token"),
        (invented("github_pat_", 60), "GitHub token"),
        (invented("glpat-", 20), "GitLab token"),
        ("AKIA" + "Q3EGRJ7WXPT2LKMN"[:16], "AWS access key id"),
        (f"aws_secret_access_key = {invented('', 40)}", "value of a secret name"),
        (invented("xoxb-", 40), "Slack token"),
        (invented("sk_live_", 24), "Stripe key"),
        (invented("AIza", 35), "Google key"),
        (f"AccountKey={invented('', 86)}==;", "Azure key"),
        (invented("npm_", 36), "npm token"),
        (invented("pypi-AgEIcHlwaS5vcmc", 80), "PyPI token"),
        (WEB_TOKEN, "JSON Web Token"),
        ("postgres://app:k4Zp-92xq@db.internal/app", "password in a URL"),
        (f'API_KEY = "{invented("", 32)}"', "value of a secret name"),
        (f"sessionSecret: {invented('', 32)}", "value of a secret name"),
        (f'  "clientSecret" : "{invented("", 40)}",', "value of a secret name"),
        (f'password: str = "{invented("", 24)}"', "value of a secret name"),
        (f"DB_PASSWORD={invented('', 20)}", "value of a secret name"),
    ],
)
def test_what_looks_like_a_secret_is_found(text: str, what: str) -> None:
    found = hits(f"line one\n{text}\nline three\n")
    assert [each.what for each in found] == [what]
    assert found[0].line >= 2
    assert found[0].how == "shape"
    assert all(part not in found[0].excerpt for part in (invented("", 20)[:12], KEY[30:50], "k4Zp-92xq"))


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN CERTIFICATE-----\n" + KEY.split("\n", 1)[1],
        "-----BEGIN PUBLIC KEY-----\n" + KEY.split("\n", 1)[1],
        f'HEADER = "-----BEGIN {KIND}-----"\nraise ValueError(HEADER)',
        "ghp_" + "x" * 36,
        "glpat-" + "your-token-goes-here-1",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "postgres://user:password@localhost/db",
        "https://${USER}:${PASS}@host/",
        "redis://:change-me-1@cache",
        "amqp://guest:guest@rabbit",
        "https://example.com/a:b/c@d",
        "git@github.com:org/repo.git",
        'password = os.environ["DB_PASSWORD_OF_2024"]',
        "token = settings.github_token_v2_of_user",
        "api_key: ${API_KEY_1}",
        "SECRET_KEY=change-me-to-a-long-value-1",
        'token = "your-api-token-12345"',
        '"integrity": "sha512-' + invented("", 86) + '=="',
        "  sha256:" + "0a1b2c3d" * 8,
        "commit = " + "0a1b2c3d5e" * 4,
        "cache_key = " + invented("", 32),
        f'"nextPageToken": "{invented("", 32)}"',
        "keyboard = " + invented("", 20),
        'password_hash = "' + invented("", 40) + '"',
        "KEY_ID=" + invented("", 20),
        "eyJhbGciOi.not-a-token.at-all",
        "secret_name: projects/shop/secrets/database-v2",
        "npm_package_config_something_or_other_1",
    ],
)
def test_what_only_resembles_a_secret_is_left(text: str) -> None:
    assert hits(text) == []


@pytest.mark.parametrize("before", ["", "x = 1, ", "a long line of some script; " * 20])
def test_an_assignment_is_found_wherever_its_line_begins(before: str) -> None:
    assert len(hits(f'{before}api_key="{invented("", 32)}"')) == 1


def test_a_line_may_say_itself_that_it_is_none_but_not_of_a_value() -> None:
    line = f"{invented('ghp_', 36)}  # pragma: allowlist secret"
    assert [each.pragma for each in hits(line)] == [True]
    assert [each.pragma for each in hits(f"{VALUE} # pragma: allowlist secret", A=VALUE)] == [False]


def test_what_looks_like_a_secret_is_not_looked_for_in_binary_files() -> None:
    assert hits(b"\0\1\2" + invented("ghp_", 36).encode()) == []


def test_a_successor_of_a_token_is_told_apart_and_a_value_gives_nothing_away() -> None:
    one, two = hits(invented("ghp_", 36))[0], hits(invented("ghp_", 37))[0]
    assert one.excerpt == two.excerpt
    assert one.check != two.check
    assert hits(VALUE, A=VALUE)[0].check == ""


def test_a_detector_shows_no_value() -> None:
    assert VALUE not in repr(Detector({"A": Sensitive(VALUE)}))
