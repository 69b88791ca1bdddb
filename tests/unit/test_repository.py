"""What holds for the repository as a whole: nothing in it is of one machine, and its links resolve."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
THIS = Path(__file__).resolve().relative_to(ROOT).as_posix()
# Where packages and images come from is the machine's business. Documentation on such a host is none of it.
PLACES = re.compile(
    r"""
    :// (?!docs\.) [^/\s"'<>]* (?: pythonhosted | pypi\. | deb\.debian | archive\.ubuntu | registry\.npmjs
                                 | registry-1\.docker | artifactory | nexus | mirror )
    | --(?:extra-)?index-url[= ]\S | --find-links[= ]\S | \bfile:///
    | (?<![\w.$}~-]) /
      (?: Users | home (?!/(?:deploy|app|ubuntu|user|me|you)\b) | mnt | workspace | work ) / \w
    """,
    re.VERBOSE,
)
LINK = re.compile(
    r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE
)
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


@cache
def tracked() -> tuple[str, ...]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return tuple(name for name in listed.decode().split("\0") if name and (ROOT / name).is_file())


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def machine_words() -> set[str]:
    """What only this machine says: where the checkout is, and which mirrors it was told to use."""
    # A short path, as a container has it (/srv/app), may stand in a file for its own sake.
    words = {str(ROOT)} if len(ROOT.parts) > 3 else set()
    configured = [value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))]
    for path in (Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".npmrc"):
        configured += [path.read_text()] if path.is_file() else []
    urls = re.findall(r"(?:https?|file)://[^\s\"']+", "\n".join(configured))
    return words | {
        part for url in urls for part in (urlsplit(url).hostname, urlsplit(url).path) if _telling(part)
    }


def _telling(part: str | None) -> bool:
    return bool(part) and len(part) > 8 and part != "localhost"


def test_nothing_of_a_machine_is_in_the_tree() -> None:
    words = machine_words()
    found = []
    for name in tracked():
        if name == THIS:
            continue
        for number, line in enumerate(text(name).splitlines(), 1):
            if PLACES.search(line) or any(word in line for word in words):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("https://files.pythonhosted.org/packages/x", True),
        ("deb http://deb.debian.org/debian trixie main", True),
        ("pip install --index-url https://example.org/simple x", True),
        ("--find-links /somewhere", True),
        ("file:///tmp/x", True),
        ("/home/somebody/project", True),
        ("--no-emit-index-url", False),
        ("https://docs.docker.com/reference", False),
        ("/home/deploy/.ssh", False),
        ("$HOME/work/file", False),
        ("https://api.example.com/health", False),
    ],
)
def test_the_pattern_knows_places_of_a_machine(line: str, place: bool) -> None:
    assert bool(PLACES.search(line)) is place


def scripts() -> list[str]:
    return [name for name in tracked() if name.startswith(("scripts/", ".ci/")) and "/lib/" not in name]


def test_scripts_can_be_executed_and_stop_at_errors() -> None:
    for name in scripts():
        first, *rest = text(name).splitlines()
        assert first == "#!/usr/bin/env bash", name
        assert (ROOT / name).stat().st_mode & stat.S_IXUSR, f"{name} is not executable"
        assert any(line.startswith(("set -euo pipefail", "exec ")) for line in rest), name


def test_scripts_are_executable_in_git_as_well() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "--", *scripts()],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert [line for line in listed.splitlines() if not line.startswith("100755")] == []


def test_ci_calls_the_test_script_and_nothing_more() -> None:
    lines = [line for line in text(".ci/run").splitlines() if line and not line.startswith("#")]
    assert lines == ['exec "$(dirname "$0")/../scripts/test"']


def test_the_workflow_calls_the_test_script() -> None:
    runs = re.findall(r"^\s*(?:- )?run: (.*)$", text(".github/workflows/ci.yaml"), re.MULTILINE)
    assert runs == ["./scripts/test"]


def documents() -> list[str]:
    return [name for name in tracked() if name.endswith(".md")]


def anchors(markdown: str) -> set[str]:
    """The anchors of a document's headings, as hosting sites make them."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", markdown)):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower())
        slug, count = plain.replace(" ", "-"), 0
        while (anchor := f"{slug}-{count}" if count else slug) in found:
            count += 1
        found.add(anchor)
    return found


def test_every_link_to_a_file_resolves() -> None:
    broken = []
    for name in documents():
        prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text(name)))
        for inline, reference in LINK.findall(prose):
            link = urlsplit(inline or reference)
            if link.scheme or link.netloc:
                continue
            target = (ROOT / name).parent / unquote(link.path) if link.path else ROOT / name
            if not target.exists() or not target.resolve().is_relative_to(ROOT):
                broken.append(f"{name}: {inline or reference}")
            elif (
                link.fragment and target.suffix == ".md" and link.fragment not in anchors(target.read_text())
            ):
                broken.append(f"{name}: {inline or reference} (no such heading)")
    assert not broken, "\n".join(broken)


def test_every_package_is_shipped() -> None:
    """A package left out of the list is missing from the wheel, and nothing in a checkout shows it."""
    listed = set(tomllib.loads(text("pyproject.toml"))["tool"]["setuptools"]["packages"])
    found = {
        Path(name).parent.as_posix().replace("/", ".") for name in tracked() if name.endswith("/__init__.py")
    }
    shipped = {name for name in found if name.split(".")[0] == "windlass"} | {"windlass.tasks"}
    assert listed == shipped
