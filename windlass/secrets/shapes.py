"""What secrets look like: names that say so, tokens that tell who gave them out, values like random text.

The loading of variables asks it which values must be masked, the scan which texts look like secrets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import unquote

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# Also as the end of a word: PGPASSWORD, GITHUBTOKEN.
_SECRET_ENDINGS: Final = (
    *("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "APIKEY"),
    *("PASSWORDS", "SECRETS", "TOKENS", "CREDENTIAL", "CREDENTIALS"),
)
_SECRET_WORDS: Final = frozenset(
    {"PASS", "CREDS", "DSN", "PRIVATE", "KEY", "KEYS", "PEPPER", "SALT", "CREDENTIAL", "CREDENTIALS"}
)
# Secret where nothing but a stage or a number follows: GITHUB_PAT, STRIPE_SK_LIVE, but AUTH_URL is none.
_SECRET_LAST_WORDS: Final = frozenset({"PAT", "JWT", "AUTH", "SK", "BEARER"})
_STAGE_WORDS: Final = frozenset(
    {
        *("LIVE", "TEST", "PROD", "PRODUCTION", "STAGING", "DEV", "DEVELOPMENT"),
        *("OLD", "NEW", "PREVIOUS", "CURRENT", "NEXT", "DEFAULT", "BASIC", "VALUE"),
    }
)
# `PWD` alone is the working directory of a shell.
_SECRET_NAMES: Final = ("*_PWD", "*SECRET_ID", "*CONNECTION_STRING*")
# A last word that says the value is about a secret and is none.
_ABOUT_WORDS: Final = frozenset(
    {
        *("ALG", "ALGORITHM", "AGE", "BITS", "BYTES", "COUNT", "DAYS", "ENABLED", "EXPIRES", "EXPIRY"),
        *("FILE", "FORMAT", "HEADER", "HOURS", "ID", "IDS", "ISSUER", "LENGTH", "LIFETIME", "MINUTES"),
        *("NAME", "PATH", "PREFIX", "REQUIRED", "ROUNDS", "SECONDS", "SIZE", "TIMEOUT", "TTL", "TYPE"),
        "VERSION",
    }
)
_PUBLIC_KEYS: Final = frozenset({"PUBLIC", "PUBLISHABLE", "PARTITION", "SORT", "FOREIGN", "PRIMARY"})
_PASSWORDS: Final = (
    # Without the scheme in front: searching for it takes quadratic time in a long word.
    re.compile(r"://[^\s/:@]*:([^\s/]+)@"),
    re.compile(r"(?i)(?:^|[;\s?&])(?:password|passwd|pwd|accountkey|sharedaccesskey)=([^;\s&]+)"),
)


@dataclass(frozen=True)
class Shape:
    """Text that says by itself what it is.

    Args:
        name: what it is, for people.
        marks: what stands in every such text, as it is; looking for them is fast.
        pattern: the whole text, for `re` with ASCII classes.
        maybe_public: some of them are meant for browsers, so an environment may name them public.
    """

    name: str
    marks: tuple[str, ...]
    pattern: str
    maybe_public: bool = False


# Their forms are in the documentation of who gives them out; lengths are the least ones seen.
SHAPES: Final = (
    Shape("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_\w{16,}"),
    Shape("GitHub token", ("github_pat_",), r"github_pat_\w{16,}"),
    Shape("GitLab token", ("glpat-",), r"glpat-[\w-]{16,}"),
    Shape("Stripe key", ("k_live_",), r"[sr]k_live_\w{10,}"),
    Shape("Slack token", ("xox",), r"xox[abeprs]-[\w-]{10,}"),
    Shape("npm token", ("npm_",), r"npm_[A-Za-z0-9]{36}(?![A-Za-z0-9_])"),
    # The first bytes of every macaroon of PyPI, in base64.
    Shape("PyPI token", ("pypi-AgE",), r"pypi-AgE[\w-]{50,}"),
    Shape("SendGrid key", ("SG.",), r"SG\.[\w-]{20,24}\.[\w-]{39,50}"),
    Shape("Hugging Face token", ("hf_",), r"hf_[A-Za-z]{34}(?![A-Za-z0-9_])"),
    Shape("Docker Hub token", ("dckr_",), r"dckr_(?:pat|oat)_[\w-]{20,}"),
    Shape("Vault token", ("hvs.", "hvb."), r"hv[sb]\.[\w-]{20,}"),
    Shape("Anthropic key", ("sk-ant-",), r"sk-ant-[\w-]{24,}"),
    Shape("OpenAI key", ("T3BlbkFJ",), r"sk-[\w-]{16,}T3BlbkFJ[\w-]{16,}"),
    Shape(
        "Slack webhook", ("hooks.slack.com/services/",), r"hooks\.slack\.com/services/T\w{7,}/B\w{7,}/\w{20,}"
    ),
    # The four characters `7Q~` and `8Q~` are in every client secret of Entra ID.
    Shape("Azure client secret", ("Q~",), r"[A-Za-z0-9_~.-]{3}[78]Q~[A-Za-z0-9_~.-]{31,34}(?![\w~.-])"),
    Shape(
        "Azure key",
        ("AccountKey=", "SharedAccessKey="),
        r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{42,86}={0,2}",
    ),
    Shape("JSON Web Token", ("eyJ",), r"eyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]{4,}", maybe_public=True),
    Shape("AWS access key id", ("AKIA", "ASIA"), r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])", maybe_public=True),
    Shape("Google key", ("AIza",), r"AIza[\w-]{30,}", maybe_public=True),
)
BEFORE: Final = r"(?<![A-Za-z0-9])"
PEM_BEGIN: Final = r"-----BEGIN (?!CERTIFICATE-|PUBLIC KEY-|RSA PUBLIC KEY-)[A-Z0-9 ]+-----"
_PEM: Final = re.compile(PEM_BEGIN)


def _any_of(maybe_public: bool) -> re.Pattern[str]:
    patterns = (shape.pattern for shape in SHAPES if shape.maybe_public is maybe_public)
    return re.compile(f"{BEFORE}(?:{'|'.join(patterns)})", re.ASCII)


_TOKEN: Final = _any_of(False)
_MAYBE_TOKEN: Final = _any_of(True)


def name_is_secret(name: str) -> bool:
    """Whether a name says that its value is secret, as `DB_PASSWORD`, `API_KEY`, `githubToken` do."""
    upper = name.upper()
    words = [word.upper() for word in _WORD.findall(name)]
    if any(fnmatchcase(upper, pattern) for pattern in _SECRET_NAMES):
        return True
    if not words or words[-1] in _ABOUT_WORDS:
        return False
    if any(_word_is_secret(before, word) for before, word in zip(["", *words], words, strict=False)):
        return True
    telling = [word for word in words if not word.isdigit() and word not in _STAGE_WORDS]
    return bool(telling) and telling[-1] in _SECRET_LAST_WORDS


def _word_is_secret(before: str, word: str) -> bool:
    if word in {"KEY", "KEYS"} and before in _PUBLIC_KEYS:
        return False
    return word in _SECRET_WORDS or word.endswith(_SECRET_ENDINGS)


def value_is_secret(value: str) -> bool:
    """Whether a value says itself that it is secret: a password in a URL, a PEM block, a token."""
    return bool(passwords_in(value)) or any(each.search(value) for each in (_PEM, _TOKEN))


def may_be_token(value: str) -> bool:
    """Whether a value holds a token of a kind that is meant for browsers in some uses, such as a JWT."""
    return _MAYBE_TOKEN.search(value) is not None


def passwords_in(value: str) -> set[str]:
    """Return the passwords inside a URL or a connection string, as written and decoded."""
    found = {match[1] for pattern in _PASSWORDS for match in pattern.finditer(value)}
    return found | {unquote(each) for each in found}


# What people write where a secret will be; a value that holds one of these is none.
_STAND_INS: Final = re.compile(
    r"(?i)example|change|placeholder|your|dummy|sample|fake|insert|replace|redacted|secret_|not-?a-?real"
    r"|todo|xxx|\*\*\*|\.\.\.|0{6}|1234567|abcdef|deadbeef|[<>{}$%]|(.)\1{5}"
)
_COMMON: Final = frozenset(
    {
        *("password", "passwd", "pass", "passphrase", "secret", "token", "pw", "pwd", "admin", "root"),
        *("postgres", "postgresql", "mysql", "redis", "rabbitmq", "guest", "user", "username", "app"),
        *("test", "testing", "tester", "default", "letmein", "hunter2", "qwerty", "foobar", "foo", "bar"),
        *("true", "false", "none", "null", "development", "production", "staging", "local", "localhost"),
        *("string", "value", "key", "apikey", "my-secret", "mysecret", "mypassword", "p@ssw0rd", "abc123"),
    }
)


def is_stand_in(text: str) -> bool:
    """Whether a text is what people write where a secret will be, such as `change-me` or `your-token`."""
    return text.lower() in _COMMON or _STAND_INS.search(text) is not None


def is_common_word(text: str) -> bool:
    """Whether a text is a word that stands everywhere, such as `postgres`, also where it is no secret."""
    return text.lower() in _COMMON


def entropy(text: str) -> float:
    """Return the bits of information of each character, by how often each occurs."""
    size = len(text)
    return -sum(n / size * math.log2(n / size) for n in Counter(text).values()) if size else 0.0


def looks_random(text: str) -> bool:
    """Whether a word looks as if a generator had made it: no prose, no identifier, no path, no version."""
    kinds = [any(map(test, text)) for test in (str.isdigit, str.islower, str.isupper)]
    if len(text) < 16 or sum(kinds) < 2 or not kinds[0] or is_stand_in(text):
        return False
    if set(text) <= _HEX:
        return len(text) >= 32 and entropy(text) >= 3.0
    return entropy(text) >= 3.5 and not _is_words(text)


_HEX: Final = frozenset("0123456789abcdefABCDEF")
_PARTS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^A-Za-z0-9]")
_PLAIN: Final = re.compile(r"(?:[A-Z]?[a-z]*|[A-Z]*|[a-z]{1,3}|v)(?:[0-9]{0,4})|(?:[A-Z]?[a-z]+){1,5}")


def _is_words(text: str) -> bool:
    """Whether a text is words: pieces of one kind of letter are long, or all that signs part are plain."""
    if all(map(_PLAIN.fullmatch, re.split(r"[-_.=/:+~@#!*^&]+", text))):
        return True
    return len(text) / len(_PARTS.findall(text)) > 3.2


_KEY_OF: Final = frozenset(
    {
        *("API", "SECRET", "ACCESS", "PRIVATE", "MASTER", "ENCRYPTION", "ENCRYPT", "SIGNING", "SIGNATURE"),
        *("AUTH", "ACCOUNT", "STORAGE", "SERVICE", "SESSION", "COOKIE", "DEPLOY", "ADMIN", "SHARED"),
        *("DATA", "APP", "JWT", "WEBHOOK", "AES", "HMAC", "CRYPTO", "INTEGRATION"),
    }
)
# What is made from a secret and does not give it away; tokens that only tell one request from the next.
_DERIVED: Final = frozenset(
    {
        *("HASH", "HASHED", "DIGEST", "CHECKSUM", "FINGERPRINT", "INTEGRITY", "ETAG", "PUB", "PUBLIC"),
        *("REQUEST", "CONTINUATION", "PAGE", "PAGINATION", "CHANGE", "ACTION", "IDEMPOTENCY", "SYNC"),
    }
)


def assigns_secret(name: str) -> bool:
    """Whether a value assigned to this name in any file is a secret; `cache_key` and `key` are not."""
    if not name_is_secret(name):
        return False
    words = [word.upper() for word in _WORD.findall(name)]
    if _DERIVED & set(words):
        return False
    pairs = zip(["", *words], words, strict=False)
    keyed = {before in _KEY_OF for before, word in pairs if word in {"KEY", "KEYS"}}
    others = " ".join(word for word in words if word not in {"KEY", "KEYS"})
    return True in keyed or name_is_secret(others.replace(" ", "_"))
