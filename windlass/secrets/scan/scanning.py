"""Searches a project and its Git history for secrets: the values of its own, and what looks like one.

The tree is what git tracks and what it neither tracks nor ignores; the history is every object that a
branch, a tag, a stash, a note, a reflog or the index refers to. Each blob is read once, in chunks; a blob
that is a file of the tree, byte for byte, and held nothing, is not read again.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from windlass.events import Emit, Progress, ignore
from windlass.secrets.scan.allowing import Allowed
from windlass.secrets.scan.detecting import Detector, Hit
from windlass.secrets.scan.history import GitObject, Repository
from windlass.shell import Sensitive

Where = Literal["tree", "staged", "history", "message"]

_CHUNK: Final = 1 << 20
_PROGRESS_BYTES: Final = 8 << 20
# Where git says nothing of it: the file for values of this machine alone is their place.
_OWN_PLACE: Final = ("envs", ".local.env")
_SHORT_ID: Final = 12


@dataclass(frozen=True)
class Finding:
    """A secret where none should be.

    Args:
        fingerprint: tells it from others, by its place and kind and the text around it; it accepts the
            finding in the allow list. Of a value of the project nothing goes into it.
        where: in the tree, in what is staged, in a file of the history, or in a message of a commit or tag.
        path: the file, relative to the top of the repository; empty for a message.
        line: its line there, from 1 on.
        commit: the oldest commit that has it; empty in the tree, and where it is staged alone.
        what: the names of the variables whose value it is, or what it looks like.
        how: the form of the value; `shape` for what only looks like a secret.
        excerpt: the text around it, with masks.
        times: in how many versions and lines it is.
    """

    fingerprint: str
    where: Where
    path: str
    line: int
    commit: str
    what: str
    how: str
    excerpt: str
    times: int = 1

    @property
    def is_value(self) -> bool:
        """Whether it is the value of a secret of the project."""
        return self.how != "shape"

    @property
    def place(self) -> str:
        """The place for people: `path:line`, behind the commit where it is not in the tree."""
        spot = f"{self.path or 'message'}:{self.line}"
        return f"{self.commit[:_SHORT_ID]} {spot}" if self.commit else spot


@dataclass(frozen=True)
class Scope:
    """What is searched.

    Args:
        history: whether the history is, too.
        staged: only what the next commit changes.
        everything: files that git ignores, too.
    """

    history: bool = True
    staged: bool = False
    everything: bool = False


@dataclass
class Report:
    """What was searched, and what was found.

    Args:
        findings: what is not accepted, values first.
        accepted: how many findings the allow list and marks in the lines accept.
        unused: entries of the allow list that accepted nothing, when all was searched.
        unsearched: the secrets whose values were not searched for, with the reason.
        unread: the files that could not be read, with the reason.
        notes: what limits the result.
        files: how many files were searched.
        objects: how many blobs of the history were searched, beside those.
        commits: how many messages of commits and tags were searched.
        bytes: how much was searched, in bytes.
        seconds: how long it took.
    """

    findings: list[Finding] = field(default_factory=list)
    accepted: int = 0
    unused: tuple[str, ...] = ()
    unsearched: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    objects: int = 0
    commits: int = 0
    bytes: int = 0
    seconds: float = 0.0


def scan(
    root: Path,
    secrets: Mapping[str, Sensitive],
    scope: Scope | None = None,
    allowed: Allowed | None = None,
    emit: Emit = ignore,
) -> Report:
    """Search a project.

    Args:
        root: a folder of it; in a Git repository all of the repository is searched.
        secrets: the values to look for, by the names they are reported under.
        scope: what is searched; None for the tree and the history.
        allowed: the findings that are accepted.
        emit: told how far it is, in bytes.

    Raises:
        OperationFailed: git cannot read the repository.
    """
    return _Scan(root, secrets, allowed or Allowed(), emit).run(scope or Scope())


class _Scan:
    def __init__(self, root: Path, secrets: Mapping[str, Sensitive], allowed: Allowed, emit: Emit) -> None:
        self._repository = Repository.around(root.resolve())
        self._top = self._repository.top if self._repository else root.resolve()
        self._detector = Detector(secrets)
        self._allowed = allowed
        self._emit = emit
        self._report = Report(unsearched=dict(self._detector.unsearched))
        self._found: dict[tuple[Where, str], Finding] = {}
        self._blobs: dict[tuple[Where, str], list[str]] = {}
        self._used: set[str] = set()
        self._clean: set[bytes] = set()
        self._told = 0

    def run(self, scope: Scope) -> Report:
        began = time.monotonic()
        if scope.staged:
            self._staged()
        else:
            self._tree(scope.everything)
            if scope.history:
                self._history()
        report = self._report
        report.findings = sorted(
            self._dated(), key=lambda each: (not each.is_value, each.where, each.path, each.line)
        )
        if scope.history and not scope.staged:
            report.unused = tuple(sorted(self._allowed.entries - self._used))
        report.seconds = time.monotonic() - began
        return report

    def _staged(self) -> None:
        if self._repository is None:
            self._report.notes.append("There is no Git repository, so nothing is staged.")
            return
        for each, content in self._repository.contents(self._repository.staged()):
            self._report.files += 1
            self._take("staged", each.path, self._counted(content, "searching what is staged"), each.id)

    def _tree(self, everything: bool) -> None:
        listed = _walk(self._top) if everything or self._repository is None else self._repository.files()
        for path in listed:
            try:
                self._file(path)
            except FileNotFoundError:
                continue  # deleted, and git still tracks it
            except OSError as error:
                self._report.unread[self._shown(path)] = error.strerror or type(error).__name__

    def _file(self, path: str) -> None:
        place = self._top / path
        status = place.lstat()
        if stat.S_ISLNK(status.st_mode):
            self._report.files += 1
            self._take("tree", path, iter([os.fsencode(place.readlink())]))
        if not stat.S_ISREG(status.st_mode):
            return
        self._report.files += 1
        with place.open("rb", buffering=0) as file:
            content = _chunks(file.read)
            first = next(content, b"")
            if len(first) < _CHUNK:
                if not self._take("tree", path, self._counted(iter([_utf8(first)]), "searching files")):
                    self._remember(first)
                return
            self._take("tree", path, self._counted(_chain(first, content), "searching files"))

    def _remember(self, content: bytes) -> None:
        """Note that a blob with this content holds nothing."""
        if self._repository is not None:
            head = b"blob %d\0" % len(content)
            self._clean.add(
                hashlib.new(self._repository.hash_name, head + content, usedforsecurity=False).digest()
            )

    def _history(self) -> None:
        if self._repository is None:
            self._report.notes.append("There is no Git repository, so there is no history to search.")
            return
        if self._repository.is_shallow:
            self._report.notes.append(
                "The clone is shallow: older history was not searched (`git fetch --unshallow`)."
            )
        for each, content in self._repository.objects(self._is_wanted):
            counted = self._counted(content, "searching the history")
            if each.kind == "blob":
                self._report.objects += 1
                self._take("history", each.path, counted, each.id)
            else:
                self._report.commits += 1
                self._take("message", "", _message(counted), each.id)

    def _is_wanted(self, each: GitObject) -> bool:
        return each.kind != "blob" or bytes.fromhex(each.id) not in self._clean

    def _take(self, where: Where, path: str, content: Iterator[bytes], blob: str = "") -> bool:
        """Keep what is found in one file or message; return whether something was, accepted or not."""
        found = False
        for hit in self._detector.search(content):
            found = True
            self._keep(where, path, hit, blob)
        return found

    def _keep(self, where: Where, path: str, hit: Hit, blob: str) -> None:
        fingerprint = _fingerprint(path, hit)
        entry = self._allowed.accepts(fingerprint, path, is_value=hit.how != "shape")
        if entry or hit.pragma:
            self._used.add(entry)
            self._report.accepted += 1
            return
        key = (where, fingerprint)
        before = self._found.get(key)
        if before is None:
            shown = self._shown(path)
            self._found[key] = Finding(
                fingerprint, where, shown, hit.line, "", hit.what, hit.how, hit.excerpt
            )
        else:
            self._found[key] = replace(before, times=before.times + 1)
        self._blobs.setdefault(key, []).append(blob)

    def _dated(self) -> Iterator[Finding]:
        """Yield the findings, those of the history with the oldest commit that has them."""
        ids = {blob for (where, _), blobs in self._blobs.items() if where == "history" for blob in blobs}
        commits = self._repository.introduced(ids) if self._repository and ids else {}
        order = {commit: at for at, commit in enumerate(dict.fromkeys(commits.values()))}
        for key, found in self._found.items():
            blobs = self._blobs[key]
            if found.where == "message":
                yield replace(found, commit=blobs[0])
            elif found.where == "history":
                dated = [commits[blob] for blob in blobs if blob in commits]
                if dated:
                    yield replace(found, commit=min(dated, key=order.__getitem__))
                elif ("tree", found.fingerprint) not in self._found:
                    yield replace(found, where="staged")
            else:
                yield found

    def _counted(self, content: Iterator[bytes], what: str) -> Iterator[bytes]:
        for chunk in content:
            self._report.bytes += len(chunk)
            if self._report.bytes - self._told >= _PROGRESS_BYTES:
                self._told = self._report.bytes
                self._emit(Progress(what, self._told))
            yield chunk

    def _shown(self, path: str) -> str:
        """Return a path for people: without secrets, and without what controls a terminal."""
        text = self._detector.redact(os.fsencode(path).decode(errors="replace"))
        return "".join(char if char.isprintable() else "?" for char in text)


def _fingerprint(path: str, hit: Hit) -> str:
    kind = hit.what if hit.how == "shape" else "value"
    text = "\0".join((kind, os.fsencode(path).decode(errors="replace"), hit.excerpt, hit.check))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _message(content: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the message of a commit or tag, without the head that names trees, people and signatures."""
    head: bytes | None = b""
    for chunk in content:
        if head is None:
            yield chunk
            continue
        head += chunk
        _, blank, rest = head.partition(b"\n\n")
        if blank:
            head = None
            yield rest


def _chunks(read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    while chunk := read(_CHUNK):
        yield chunk


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _utf8(content: bytes) -> bytes:
    """Return the content of a file in UTF-16, which Windows writes, as UTF-8; any other as it is."""
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return content.decode("utf-16", errors="replace").encode(errors="replace")
    return content


def _walk(top: Path) -> Iterator[str]:
    """Yield every file below a folder, but for what Git keeps and the place of this machine's own values."""
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(each for each in folders if each != ".git")
        for name in sorted(files):
            path = os.path.relpath(os.path.join(folder, name), top)  # noqa: PTH118 - thousands of them
            own_folder, own_end = _OWN_PLACE
            if name.endswith(own_end) and os.path.basename(folder) == own_folder:  # noqa: PTH119
                continue
            yield path
