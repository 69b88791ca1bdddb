"""Every key an environment file may hold is read by code: none is only documented.

The code is copied; in the copy each field of the model becomes a property that no instance may read and
that is deprecated, and the type checker then tells every place that reads it: the first it tells in
expressions, the second in patterns of `match`. (Were the fields renamed away, the checker would lose the
type at the first unknown name and not see what is read below it.)
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.environment import model
from windlass.environment.describe import members
from windlass.environment.reference import tables
from windlass.secrets import settings

ROOT = Path(__file__).parents[2]
BASE = Path("windlass/fields.py")
MODELS = {
    model.__name__: Path("windlass/environment/model.py"),
    settings.__name__: Path("windlass/secrets/settings.py"),
}
# The reference shows keys; that is not reading them.
NOT_READERS = {*map(str, MODELS.values()), "windlass/environment/reference.py"}
READ = re.compile(
    r"^(?P<file>[^:]+):\d+: error: (?:"
    r"Invalid self argument \"(?P<section>\w+)\" to attribute function \"(?P<field>\w+)\""
    r"|function \S+\.(?P<section_2>\w+)\.(?P<field_2>\w+) is deprecated: key of the environment"
    r")"
)
# Pydantic itself reads these: they choose the type of a check.
CHOSEN_BY = {(section.__name__, "kind") for section in members(model.Check)}

Key = tuple[str, str]


def sections() -> set[type]:
    """Every table, and those it is derived from."""
    return {base for _, section in tables() for base in section.__mro__ if base.__module__ in MODELS}


def declared() -> set[Key]:
    """Every field, with the class that declares it."""
    return {
        (section.__name__, field)
        for section in sections()
        for field in getattr(section, "model_fields", {})
        if field in section.__annotations__
    }


def marked(source: str, keys: set[Key]) -> str:
    """A model's source with each of its fields as a property of the same type that nobody may read."""
    lines = source.splitlines()
    changes = []
    for section in ast.parse(source).body:
        for field in section.body if isinstance(section, ast.ClassDef) else ():
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                assert isinstance(section, ast.ClassDef)
                key = (section.name, field.target.id)
                if key in keys:
                    changes.append((field.lineno, field.end_lineno or 0, key, ast.unparse(field.annotation)))
    assert changes
    for first, last, (_, name), annotation in sorted(changes, reverse=True):
        lines[first - 1 : last] = [
            "    @property",
            '    @_deprecated("key of the environment")',
            f"    def {name}(self: _Nobody) -> {annotation}: ...",
        ]
    future = next(number for number, line in enumerate(lines) if line.startswith("from __future__"))
    lines.insert(future + 1, "from typing_extensions import deprecated as _deprecated")
    return "\n".join([*lines, "class _Nobody: ...", ""])


def keys_read(root: Path, keys: set[Key]) -> set[Key]:
    """The fields that code below `root` reads, outside the model and the reference."""
    for path in MODELS.values():
        copy = root / path
        copy.write_text(marked(copy.read_text(encoding="utf-8"), keys), encoding="utf-8")
    base = (root / BASE).read_text(encoding="utf-8")
    assert "class Section(BaseModel):" in base
    # With a base the checker does not know, a section would pass for anything, even for nobody.
    (root / BASE).write_text(base.replace("class Section(BaseModel):", "class Section:"), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", str(root / "cache")),
        *("--enable-error-code=deprecated", "--check-untyped-defs", "--explicit-package-bases"),
        # Only the types of this code are needed, and the standard library's.
        *("--follow-imports=skip", "--ignore-missing-imports", "--no-error-summary", "--no-color-output"),
        *(
            "--show-error-codes",
            "--hide-error-context",
            "windlass",
            *(["tasks"] if (root / "tasks").exists() else []),
        ),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    found = [READ.match(line) for line in done.stdout.splitlines()]
    return {declaring(each) for each in found if each and each["file"] not in NOT_READERS}


def declaring(found: re.Match[str]) -> Key:
    """The field that was read, with the class that declares it: it may be read through a subclass."""
    name = found["section"] or found["section_2"]
    section = next(each for each in sections() if each.__name__ == name)
    field = found["field"] or found["field_2"]
    owner = next(base for base in section.__mro__ if field in base.__annotations__)
    return owner.__name__, field


def test_every_key_is_read_by_code(tmp_path: Path) -> None:
    for folder in ("windlass", "tasks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    unread = declared() - CHOSEN_BY - keys_read(tmp_path, declared())
    assert not unread, "no code reads " + ", ".join(sorted(f"{section}.{field}" for section, field in unread))


@pytest.mark.parametrize(
    ("code", "read"),
    [
        (
            "def f(s: Settings): return s.deploy.migrate.service if s.deploy.migrate else 0",
            {"MigrateSettings.service"},
        ),
        ("def f(s: Settings): return [c.smoke for c in s.health.checks.values()]", {"CheckBase.smoke"}),
        ("def f(c: HttpCheck): return c.timeout, c.url", {"CheckBase.timeout", "HttpCheck.url"}),
        ("def f(s: Settings): h = s.hosts['a']; return h.port", {"HostSettings.port"}),
        (
            "def f(c: HttpCheck | TcpCheck):\n match c:\n  case TcpCheck(port=p): return p",
            {"TcpCheck.port"},
        ),
        (
            "def f(p: Path, h: HostSettings): return p / Path(h.known_hosts).name",
            {"HostSettings.known_hosts"},
        ),
        (
            "def f(h: HostSettings): return [*g([1], h.keepalive)]\ndef g(a: list[int], b: float): return a",
            {"HostSettings.keepalive"},
        ),
        ("class A:\n port = 1\n url = 2\ndef f(a: A): return a.port, a.url, 'smoke'", set()),
    ],
)
def test_the_proof_sees_what_is_read_and_nothing_else(tmp_path: Path, code: str, read: set[str]) -> None:
    for path in (*MODELS.values(), BASE):
        (tmp_path / path.parent).mkdir(parents=True, exist_ok=True)
        (tmp_path / path.parent / "__init__.py").write_text("")
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "windlass" / "code.py").write_text(
        f"from windlass.environment.model import *\nfrom pathlib import Path\n{code}\n"
    )
    found = {f"{section}.{field}" for section, field in keys_read(tmp_path, declared())}
    containers = {
        "Settings.deploy",
        "DeploySettings.migrate",
        "Settings.health",
        "HealthSettings.checks",
        "Settings.hosts",
    }
    assert found - containers == read
