"""Seconds to search a tree of 10,000 files and its history for secrets, against `git grep` and `git log -p`.

Two of them: what was planted in one must be found, every piece of it, and in the clean one nothing. What
is typed by hand looks for the values as they are, so it finds the plain ones alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import string
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Result, meets
from windlass.secrets.scan.scanning import Report, scan
from windlass.shell import Sensitive

FILES = 10_000
COMMITS = 40
CHANGED = 50  # files in each commit
SECRETS = 25
ROUNDS = 3
GOAL = "<=10"
WORDS = (
    *("order", "item", "price", "user", "account", "request", "response", "handler", "client", "server"),
    *("query", "result", "value", "index", "token", "password", "secret", "key", "config", "settings"),
    *("session", "cache", "queue", "worker", "event", "message", "stream", "buffer", "parse", "render"),
)


@dataclass(frozen=True)
class Planted:
    """A value and where it was put."""

    name: str
    path: str
    content: str
    is_old: bool = False


def random_value(source: random.Random) -> str:
    letters = string.ascii_letters + string.digits + "+/-_=!"
    return "".join(source.choices(letters, k=source.randint(20, 48)))


def secrets(source: random.Random) -> dict[str, Sensitive]:
    """Return the values that are looked for: passwords, tokens, URLs, a private key."""
    found = {f"SECRET_{at}": Sensitive(random_value(source)) for at in range(SECRETS - 3)}
    body = base64.b64encode(source.randbytes(1200)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    found["DATABASE_URL"] = Sensitive(f"postgres://app:{random_value(source).replace('/', 'x')}@db/app")
    found["SHORT"] = Sensitive("Kq7-xw2Z")
    found["KEY"] = Sensitive(f"-----BEGIN PRIVATE KEY-----\n{lines}\n-----END PRIVATE KEY-----\n")
    return found


def words(source: random.Random, count: int, joint: str = " ") -> str:
    return joint.join(source.choices(WORDS, k=count))


def python(source: random.Random) -> str:
    body = "".join(
        f"def {words(source, 3, '_')}(self, {words(source, 1)}: str) -> int:\n"
        f'    """Return the {words(source, 6)}."""\n'
        f"    password = settings.{words(source, 2, '_')}\n"
        f"    return self.{words(source, 2, '.')}({source.randrange(999)}, key='{words(source, 2, '-')}')\n"
        "\n\n"
        for _ in range(source.randint(6, 26))
    )
    return f"import os\n\nTOKEN = os.environ['API_TOKEN']\nURL = 'postgres://user:password@localhost/db'\n\n\n{body}"


def lock(source: random.Random) -> str:
    """Return a lock file: nothing but hashes."""
    entries = {
        f"node_modules/{words(source, 2, '-')}-{at}": {
            "version": f"{at}.2.1",
            "resolved": f"https://registry.example.com/{words(source, 1)}/-/{at}.tgz",
            "integrity": "sha512-" + base64.b64encode(source.randbytes(64)).decode(),
        }
        for at in range(source.randint(10, 60))
    }
    return json.dumps({"packages": entries}, indent=2)


def markup(source: random.Random) -> str:
    text = "\n\n".join(f"## {words(source, 3)}\n\n{words(source, 60)}." for _ in range(source.randint(3, 12)))
    shell = "```shell\nexport API_KEY=change-me\nexport SECRET_KEY=<your-secret>\n```"
    return f"# {words(source, 3)}\n\n{shell}\n\n{text}\n"


def settings(source: random.Random) -> str:
    lines = "".join(
        f"{words(source, 2, '_')}: {words(source, 2, '-')}\n" for _ in range(source.randint(10, 80))
    )
    digest = hashlib.sha256(source.randbytes(8)).hexdigest()
    return f"image: web@sha256:{digest}\npassword: ${{DB_PASSWORD}}\nsecret_key: changeme\n{lines}"


def script(source: random.Random) -> str:
    """Return what a bundler makes: long lines, and an image in base64."""
    body = "".join(
        f"function {words(source, 1)}{at}(e,t){{return e.{words(source, 1)}?t:{at}}}" for at in range(120)
    )
    image = base64.b64encode(source.randbytes(900)).decode()
    return f"!function(){{{body}}}();var i='data:image/png;base64,{image}'\n"


MAKERS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    *[("py", python)] * 3,
    ("json", lock),
    ("md", markup),
    ("yaml", settings),
    ("js", script),
)


def git(root: Path, *argv: str, stdin: bytes | None = None) -> bytes:
    nowhere = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    words = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "gc.auto=0", *argv]
    return subprocess.run(
        words, cwd=root, env={**os.environ, **nowhere}, input=stdin, capture_output=True, check=True
    ).stdout


def write(root: Path, path: str, content: str | bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(content if isinstance(content, bytes) else content.encode())


def make_tree(root: Path, source: random.Random) -> None:
    """Make a repository of 10,000 files whose history changes some of them again and again."""
    paths: list[str] = []
    for at in range(FILES):
        if at % 100 == 99:
            write(root, f"assets/{at}.png", b"\x89PNG\r\n\x1a\n\0\0" + source.randbytes(6000))
            continue
        end, make = MAKERS[at % len(MAKERS)]
        paths.append(f"part{at % 37}/sub{at % 11}/file{at}.{end}")
        write(root, paths[-1], make(source))
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "Begin")
    for at in range(COMMITS):
        for path in source.sample(paths, CHANGED):
            with (root / path).open("a") as file:
                file.write(f"\n# {words(source, 8)} {at}\n")
        git(root, "commit", "-qam", f"Change {at}\n\n{words(source, 20)}")


def plantings(values: dict[str, Sensitive]) -> list[Planted]:
    """Return what is planted: plain, encoded, broken over two lines, and each of them in an old commit."""
    found = []
    for is_old in (False, True):
        age = "old" if is_old else "new"
        at = 10 if is_old else 0
        shown = [values[f"SECRET_{at + number}"].reveal() for number in range(6)]
        encoded = base64.b64encode(f"app:{shown[1]}:x".encode()).decode()
        texts = (
            f"password: {shown[0]}\n",
            f"auth: {encoded}\n",
            f'x = (\n    "{shown[2][:9]}"\n    "{shown[2][9:]}"\n)\n',
            f"data: >\n  {base64.b64encode(shown[3].encode()).decode()[:16]}\n"
            f"  {base64.b64encode(shown[3].encode()).decode()[16:]}\n",
            json.dumps({"url": f"https://x/?t={shown[4]}"}),
            shown[5].encode().hex(),
        )
        found += [
            Planted(f"SECRET_{at + number}", f"planted/{age}{number}.txt", text, is_old)
            for number, text in enumerate(texts)
        ]
        found.append(
            Planted("KEY", f"planted/{age}-key.txt", values["KEY"].reveal().replace("\n", "\n  "), is_old)
        )
    return found


def plant(root: Path, planted: list[Planted]) -> None:
    """Put the old ones into a commit that the next one takes back, and the new ones into the tree."""
    for each in planted:
        if each.is_old:
            write(root, each.path, each.content)
    git(root, "add", ".")
    git(root, "commit", "-qm", "Plant")
    for each in planted:
        if each.is_old:
            (root / each.path).unlink()
    git(root, "commit", "-qam", "Take back")
    for each in planted:
        if not each.is_old:
            write(root, each.path, each.content)


def missed(report: Report, planted: list[Planted]) -> list[str]:
    """Return what was planted and not found where it is, and what was found and not planted."""
    found = {
        (name, each.path, bool(each.commit)) for each in report.findings for name in each.what.split(", ")
    }
    wanted = {(each.name, each.path, each.is_old) for each in planted}
    return sorted(f"{name} in {path}" for name, path, _ in found ^ wanted)


def by_hand(root: Path, values: dict[str, Sensitive]) -> float:
    """Search the tree and the history for the plain values with git and grep; return the seconds."""
    lines = [line for each in values.values() for line in each.reveal().splitlines() if line]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as patterns:
        patterns.write("\n".join(lines) + "\n")
        patterns.flush()
        began = time.monotonic()
        for command in (
            f"git grep -I --untracked -n -F -f {patterns.name}",
            f"git log --all --reflog -p | grep -a -F -f {patterns.name}",
        ):
            subprocess.run(["bash", "-c", command], cwd=root, stdout=subprocess.DEVNULL, check=False)
        return time.monotonic() - began


def run() -> Result:
    """Search both trees in turn with the work by hand; the slower of the two trees counts."""
    source = random.Random(11)  # noqa: S311 - the same tree every time
    values = secrets(source)
    planted = plantings(values)
    with tempfile.TemporaryDirectory(prefix="windlass-bench-") as name:
        root = Path(name)
        make_tree(root, source)
        clean = [scan(root, values) for _ in range(ROUNDS)]
        hand = [by_hand(root, values) for _ in range(ROUNDS)]
        plant(root, planted)
        dirty = [scan(root, values) for _ in range(ROUNDS)]
    wrong = [f"{each.what} in {each.place}, which is clean" for report in clean for each in report.findings]
    wrong += [each for report in dirty for each in missed(report, planted)]
    for each in dict.fromkeys(wrong):
        print(f"secrets-scan: wrong: {each}")
    size = clean[0].bytes / 1e6
    searched = f"{clean[0].files} files, {clean[0].objects} more blobs, {size:.0f} MB"
    print(f"secrets-scan: {searched}, {len(planted)} planted")
    value = max(sorted(each.seconds for each in reports)[ROUNDS // 2] for reports in (clean, dirty))
    baseline = sorted(hand)[ROUNDS // 2]
    passed = meets(GOAL, value) and not wrong and clean[0].files >= FILES
    return Result("secrets-scan", value, "s", baseline, value / baseline, GOAL, passed)
