"""The programs that read what Windlass writes: real ones, in several versions; none may be missing."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Final

INSTALLED: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "windlass" / "bin"


def _has_debian() -> bool:
    """Whether packages of Debian's suites can be had here, as `scripts/setup-machine` finds out too."""
    release = Path("/etc/os-release")
    text = release.read_text() if release.is_file() else ""
    return "ID=debian" in text.splitlines() or bool(os.environ.get("WINDLASS_DEBIAN_MIRROR"))


# By suite of Debian: the first has Compose 2.26 for good, the other one moves on. Elsewhere the one in use
# is the only one there is.
COMPOSE: Final = ("docker-compose-trixie", "docker-compose-forky") if _has_debian() else ()
KUBECTL: Final = ("kubectl",) if _has_debian() or shutil.which("kubectl") else ()

# Everything that some reader of variables takes for something else.
ALPHABET: Final = "ab1 $\"'\n\r\t#={}():`!&;%~é密🔑\u00a0\u0085\u2028\ufeffnrtvabf0x7\\\\"
CHOSEN: Final = (
    *("", " ", " lead", "trail ", "\t", "$HOME", "${HOME}", "$$", "$", "$(id)", "a#b", "a #b", "#a"),
    *('"', "'", "'\"", '"whole"', "'whole'", "`id`", "=", "C:\\x\\n", "abc\\", "\\\\", "\\'", '\\"', "\\$"),
    *("\n", "x\n", "\r", "a\r\nb", "密钥", "🔑", "\u00a0", "\ufeff", "!", "%", ";&|", "a: b", "~", "é"),
    *("postgres://u:p$1#@h/d", '{"a": "b"}', "${X:-y}", "${X", "export A=b", "null", "0x10", "1e3", "yes"),
    "-----BEGIN KEY-----\nMIIB\n-----END KEY-----\n",
    *("x" * 65_530, "x" * 70_000, "x" * 131_000),
)


def program(name: str) -> str:
    """Return the path of a program that the tests compare with.

    Raises:
        AssertionError: it is not installed; says how to get it.
    """
    own = INSTALLED / name
    found = str(own) if own.is_file() else shutil.which(name)
    assert found, f"{name} is not there to compare with: scripts/setup-machine --with-tests"
    return found


def fuzzed(seed: int, count: int) -> dict[str, str]:
    """Return the chosen values and `count` random ones of up to 24 characters, by variable name."""
    source = random.Random(seed)  # noqa: S311
    drawn = ("".join(source.choices(ALPHABET, k=source.randint(0, 24))) for _ in range(count))
    return {f"V{number}": value for number, value in enumerate([*CHOSEN, *drawn])}
