"""What the pages of the documentation hold: commands, links, names of tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The pages whose commands the end-to-end tests run.
RUN_PAGES = ("README.md", "docs/tutorial.md", "docs/operations.md")
PLACES = ("here", "server", "checkout")
NORMAL = "back to normal"

_FENCE = re.compile(r"```(\w*)\s*")
_MARKER = re.compile(r"<!-- run: (\w+)(?:, given: ([\w ]+))? -->")
_SIZES = ("B", "KiB", "MiB", "GiB")
_EXIT_CODE = re.compile(r"\s+# exit code (\d+)$")


class PageError(Exception):
    """A page that cannot be run as it is."""


@dataclass(frozen=True)
class Step:
    """A command and what it should do.

    Args:
        command: the command, or a whole script.
        code: its exit code.
        output: lines it should print, in order; see `pattern`.
    """

    command: str
    code: int = 0
    output: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """A fenced block of commands.

    Args:
        page: the page's path.
        line: where its fence is.
        section: the heading it stands under.
        language: `sh`, a script, or `console`, commands after `$ ` and lines they print.
        place: where it runs: `here`, on the `server`, or in the `checkout`.
        given: the situation it is written for; empty: that of the block before it in its section.
        text: its content.
    """

    page: str
    line: int
    section: str
    language: str
    place: str
    given: str
    text: str

    @property
    def name(self) -> str:
        """Where it is, for a message."""
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Return every page of the documentation."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str, text: str) -> Iterator[Block]:
    """Yield a page's blocks of commands.

    Raises:
        PageError: a block has no marker in the line before it, so nobody knows where it runs.
    """
    lines = text.splitlines()
    section, at = "", 0
    while at < len(lines):
        if lines[at].startswith("#"):
            section = lines[at].lstrip("# ")
        fence = _FENCE.fullmatch(lines[at])
        if fence is None:
            at += 1
            continue
        end = lines.index("```", at + 1)
        if fence[1] in {"sh", "console", "bash", "shell"}:
            marker = _MARKER.fullmatch(lines[at - 1]) if at else None
            if marker is None or fence[1] not in {"sh", "console"} or marker[1] not in PLACES:
                raise PageError(
                    f"{page}:{at + 1}: a block of commands needs <!-- run: {'|'.join(PLACES)} -->"
                )
            content = "\n".join(lines[at + 1 : end])
            yield Block(page, at + 1, section, fence[1], marker[1], marker[2] or "", content)
        at = end + 1


def steps(language: str, text: str) -> list[Step]:
    """Return what a block does: a script is one step, a console one for each `$ `."""
    if language == "sh":
        return [Step(text)]
    found: list[Step] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            code = _EXIT_CODE.search(line)
            found.append(Step(_EXIT_CODE.sub("", line[2:]), int(code[1]) if code else 0))
        elif not found:
            raise PageError(f"output before the first command: {line}")
        elif line.strip() not in {"", "…"}:
            last = found[-1]
            found[-1] = Step(last.command, last.code, (*last.output, line))
    return found


def pattern(line: str) -> re.Pattern[str]:
    """Return what a printed line must look like: `…` is anything, a number any number."""
    parts = (part.split() for part in line.split("…"))
    return re.compile(".*".join(r"\s+".join(map(_word, words)) for words in parts))


def _word(word: str) -> str:
    if word in _SIZES:
        return "|".join(_SIZES).join(("(?:", ")"))
    return r"\S*\d\S*" if re.search(r"\d", word) else re.escape(word)


def unprinted(output: str, expected: tuple[str, ...]) -> list[str]:
    """Return the expected lines that a command did not print, in their order."""
    printed = iter(output.splitlines())
    return [line for line in expected if not any(pattern(line).search(each) for each in printed)]
