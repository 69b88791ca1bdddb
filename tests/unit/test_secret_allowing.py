from __future__ import annotations

from pathlib import Path

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.scan.allowing import ALLOW_FILE, Allowed, load


def written(root: Path, text: str) -> Path:
    path = root / ALLOW_FILE
    path.parent.mkdir()
    path.write_text(text)
    return root


def test_without_a_file_nothing_is_accepted(tmp_path: Path) -> None:
    assert load(tmp_path) == Allowed()


def test_entries_have_reasons(tmp_path: Path) -> None:
    text = "# known\n\n0123456789abcdef  the key of the test server\npath:tests/**  # invented ones\n"
    allowed = load(written(tmp_path, text))
    assert allowed.fingerprints == {"0123456789abcdef": "the key of the test server"}
    assert allowed.paths == {"tests/**": "invented ones"}
    assert allowed.entries == {"0123456789abcdef", "path:tests/**"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0123456789abcdef", "no reason"),
        ("0123456789abcdef  #", "no reason"),
        ("path:tests/**", "no reason"),
        ("0123456789ABCDEF why", "no entry"),
        ("path: why", "no entry"),
        ("tests/** why", "no entry"),
    ],
)
def test_a_line_that_says_too_little_is_refused_with_its_place(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=f"envs/scan-allow.txt:2: .*{says}"):
        load(written(tmp_path, f"# list\n{line}\n"))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "")
    (tmp_path / ALLOW_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("tests/**", "tests/a/b.txt", True),
        ("tests/**", "src/tests/a", False),
        ("**/tests/**", "src/tests/a", True),
        ("**/tests/*", "tests/a", True),
        ("*.md", "a.md", True),
        ("*.md", "docs/a.md", False),
        ("a.b", "axb", False),
        ("a?c", "abc", True),
        ("tests/*", "tests/a/b", False),
    ],
)
def test_patterns_of_paths(pattern: str, path: str, fits: bool) -> None:
    allowed = Allowed(paths={pattern: "why"})
    assert bool(allowed.accepts("0" * 16, path, is_value=False)) is fits
    assert allowed.accepts("0" * 16, path, is_value=True) == ""


def test_a_message_has_no_path() -> None:
    assert Allowed(paths={"**": "why"}).accepts("0" * 16, "", is_value=False) == ""
