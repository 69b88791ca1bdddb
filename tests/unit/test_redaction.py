from __future__ import annotations

import base64
import json
import pickle
import random
import shlex
import string
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.secrets.redaction import Redactor
from windlass.secrets.writers import compose_env_file
from windlass.shell import MASK

SECRET = 'S3cr3t$x "y" \\z/é&<+'
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END PRIVATE KEY-----\n"

# Few letters, so that values overlap, repeat and begin alike.
secrets = st.lists(st.text(alphabet="ab$é\n\\ ", min_size=1, max_size=12), max_size=6)
noise = st.text(alphabet="ab$é\n\\ xy", max_size=40)


def mixed(values: list[str]) -> st.SearchStrategy[str]:
    pieces = st.one_of(noise, st.sampled_from(values)) if values else noise
    return st.lists(pieces, max_size=8).map("".join)


@given(st.data())
def test_no_value_survives_in_text(data: st.DataObject) -> None:
    values = data.draw(secrets)
    text = data.draw(mixed(values))
    redacted = Redactor(values).redact(text)
    for value in values:
        if len(value) >= 4 and value not in MASK:
            # A value may only show again where the mask itself made it.
            assert all(value not in part for part in redacted.split(MASK))


@given(st.data())
@settings(max_examples=400)
def test_chunks_of_any_size_give_what_the_whole_gives(data: st.DataObject) -> None:
    values = data.draw(secrets)
    content = data.draw(mixed(values)).encode()
    redactor = Redactor(values)
    stream = redactor.stream()
    out, position = b"", 0
    while position < len(content):
        size = data.draw(st.integers(1, 9))
        out += stream.feed(content[position : position + size])
        position += size
    assert out + stream.flush() == redactor.redact_bytes(content)


@given(st.text(min_size=4, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_every_encoded_form_is_found(secret: str, before: bytes, after: bytes) -> None:
    redactor = Redactor([secret])
    raw = secret.encode()
    doubled = secret.replace("$", "$$")
    forms = [
        secret,
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        base64.b64encode(raw).decode().rstrip("="),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps(doubled),
        shlex.quote(secret),
        repr(secret),
        doubled,
    ]
    if "\0" not in secret:
        forms.append(compose_env_file({"A": secret}).decode().removeprefix("A="))
    for form in forms:
        assert MASK in redactor.redact(f"x{form}x"), form
    if len(raw) >= 8:
        inside = base64.b64encode(before + raw + after).decode()
        assert MASK in redactor.redact(inside)


def test_go_json_is_found() -> None:
    go = json.dumps(SECRET, ensure_ascii=False).replace("&", "\\u0026").replace("<", "\\u003c")
    assert Redactor([SECRET]).redact(f"[{go}]") == f'["{MASK}"]'


def test_lower_case_percent_escapes_are_found() -> None:
    assert Redactor(["pass/word"]).redact("x=pass%2fword;") == f"x={MASK};"


def test_the_longest_value_wins() -> None:
    assert Redactor(["token", "token-of-prod"]).redact("token-of-prod token") == f"{MASK} {MASK}"


def test_of_secrets_that_overlap_nothing_is_left() -> None:
    redactor = Redactor(["first-secret-abc", "secret-abc-second"])
    assert redactor.redact("<first-secret-abc-second>") == f"<{MASK}>"
    stream = redactor.stream()
    shown = [stream.feed(b"%c" % byte) for byte in b"<first-secret-abc-second>"]
    assert b"".join([*shown, stream.flush()]).decode() == f"<{MASK}>"


@given(st.lists(st.text(alphabet="abc", min_size=4, max_size=9), min_size=1, max_size=4), st.data())
@settings(max_examples=400)
def test_not_one_byte_of_a_secret_is_left(values: list[str], data: st.DataObject) -> None:
    text = data.draw(st.text(alphabet="abc", max_size=40))
    parts = Redactor(values).redact(text).split(MASK)
    # Lengths alone: what is shown must be what no secret covers.
    hidden = {
        at
        for each in values
        for at in range(len(text))
        if text.startswith(each, at)
        for at in range(at, at + len(each))
    }
    assert "".join(parts) == "".join(char for at, char in enumerate(text) if at not in hidden)


def test_lines_of_a_multi_line_value_are_found_alone() -> None:
    redacted = Redactor([PEM]).redact("  MIIEvQIBADANBgkq\r\nhkiG9w0BAQEFAASC\r\n")
    assert redacted == f"  {MASK}\r\n{MASK}\r\n"


def test_short_lines_of_a_multi_line_value_are_left() -> None:
    assert Redactor(["{\n1234567\n}"]).redact("1234567 {") == "1234567 {"


def test_a_value_with_a_final_newline_is_found_without_it() -> None:
    assert Redactor(["hunter2\n"]).redact("hunter2 ") == f"{MASK} "


@pytest.mark.parametrize(
    "value",
    [
        "postgres://app:p%40ssw0rd@db:5432/app",
        "redis://:p%40ssw0rd@cache",
        "host=db password=p%40ssw0rd user=app",
        "Server=db;Password=p%40ssw0rd;Encrypt=true",
    ],
)
def test_the_password_inside_a_value_is_found_alone(value: str) -> None:
    assert Redactor([value]).redact("as p%40ssw0rd here") == f"as {MASK} here"


def test_the_decoded_password_of_a_url_is_found() -> None:
    assert Redactor(["postgres://app:p%40ssw0rd@db/app"]).redact("p@ssw0rd") == MASK


def test_values_shorter_than_four_characters_are_left() -> None:
    assert Redactor(["abc", "", "é"]).redact("abc é") == "abc é"


def test_a_four_character_value_is_found_anywhere() -> None:
    redactor = Redactor(["abcd", "efghi-long-one"])
    for shift in range(8):
        text = "x" * shift + "abcdefghi-long-one"
        assert redactor.redact(text) == "x" * shift + MASK + MASK


def test_without_secrets_everything_is_as_it_was() -> None:
    redactor = Redactor([])
    assert redactor.redact("a\ud800") == "a\ud800"
    assert redactor.stream().feed(b"abc") == b"abc"


def test_text_that_is_no_utf8_passes() -> None:
    assert Redactor(["secret-one"]).redact("\ud800 secret-one") == f"\ud800 {MASK}"
    assert Redactor(["secret-one"]).redact_bytes(b"\xff secret-one \xfe") == b"\xff [REDACTED] \xfe"


def test_a_stream_holds_back_no_more_than_the_beginning_of_a_secret() -> None:
    stream = Redactor(["secret-value"]).stream()
    assert stream.feed(b"a line\nthe secr") == b"a line\nthe "
    assert stream.feed(b"etary\n") == b"secretary\n"
    assert stream.feed(b"x secret-valu") == b"x "
    assert stream.flush() == b"secret-valu"


def test_it_is_a_callable_from_text_to_text_and_shows_nothing() -> None:
    redactor = Redactor(["secret-value"])
    assert redactor("secret-value") == MASK
    assert "secret" not in repr(redactor)
    with pytest.raises(TypeError):
        pickle.dumps(redactor)


def test_a_hundred_secrets_are_searched_at_more_than_ten_megabytes_a_second() -> None:
    random_ = random.Random(1)  # noqa: S311
    letters = string.ascii_letters + string.digits + "+/$!-_"
    values = ["".join(random_.choices(letters, k=random_.randint(12, 48))) for _ in range(100)]
    content = "".join(random_.choices(string.ascii_lowercase + " \n", k=1_000_000)).encode() * 4
    redactor = Redactor(values)
    rates = []
    for _ in range(3):
        # Processor time, and the best of three: other work on the machine does not count.
        started = time.process_time()
        redactor.redact_bytes(content)
        rates.append(len(content) / (time.process_time() - started))
    assert max(rates) > 10e6


@pytest.mark.parametrize("unit", ["x", "é", "://a:", "a:b@", "-", "%$\\\"'\n", "BEGIN -----", "password="])
def test_the_longest_value_a_variable_can_hold_is_no_burden(unit: str) -> None:
    secret = (unit * 131000)[:131000]
    started = time.process_time()
    redactor = Redactor([secret])
    assert redactor.redact(f"<{secret}>" * 2) == f"<{MASK}>" * 2
    stream = redactor.stream()
    assert b"".join([*(stream.feed(b"%d some line\n" % number) for number in range(100)), stream.flush()])
    assert time.process_time() - started < 5
