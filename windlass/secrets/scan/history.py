"""Reads a Git repository for the scan: files, what is staged, every object it refers to."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, Final

from windlass.errors import OperationFailed

_CHUNK: Final = 1 << 20
_BATCH: Final = 64
# Whatever hides objects or runs programs of the user's configuration is left out.
_GIT: Final = ("git", "--no-replace-objects", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true")
# Branches, tags, stashes and notes; what they were before; what is staged.
_EVERYTHING: Final = ("--all", "--reflog", "--indexed-objects")


@dataclass(frozen=True)
class GitObject:
    """An object of a repository.

    Args:
        id: its hash, in hexadecimal.
        kind: `blob`, `commit` or `tag`.
        size: its bytes.
        path: one of the places a blob has in the tree.
    """

    id: str
    kind: str
    size: int
    path: str


class Repository:
    """A Git repository, read with the user's own `git`.

    Args:
        top: its work tree.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self.hash_name = self._words("rev-parse", "--show-object-format")
        self.is_shallow = self._words("rev-parse", "--is-shallow-repository") == "true"

    @classmethod
    def around(cls, folder: Path) -> Repository | None:
        """Return the repository a folder is in, or None.

        Raises:
            OperationFailed: there is one, and git cannot read it.
        """
        if not any((each / ".git").exists() for each in (folder, *folder.parents)):
            return None
        top = _run(folder, ["rev-parse", "--show-toplevel"]).decode(errors="surrogateescape")
        return cls(Path(top.removesuffix("\n")))

    def files(self) -> list[str]:
        """Return the paths git tracks and those it neither tracks nor ignores."""
        listed = _run(self.top, ["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        return sorted(dict.fromkeys(_paths(listed)))

    def staged(self) -> list[GitObject]:
        """Return the files that the next commit changes, as they are staged."""
        heads = _run(self.top, ["rev-list", "--max-count=1", "--ignore-missing", "HEAD", "--"], check=False)
        base = "HEAD" if heads else self._words("hash-object", "-t", "tree", os.devnull)
        argv = ["diff-index", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=du"]
        argv.append(base)
        words = _paths(_run(self.top, argv))
        changes = zip(words[::2], words[1::2], strict=True)
        # `:<mode> <mode> <id> <id> <status>`; 160000 is a submodule.
        fields = [(change.split(), path) for change, path in changes]
        return [GitObject(each[3], "blob", 0, path) for each, path in fields if each[1] != "160000"]

    def objects(self, is_wanted: Callable[[GitObject], bool]) -> Iterator[tuple[GitObject, Iterator[bytes]]]:
        """Yield every blob, commit and tag that anything refers to, with its content in chunks.

        Args:
            is_wanted: told of each; the content of others is not read.

        Raises:
            OperationFailed: git could not read everything.
        """
        with _Reader(self.top) as reader:
            lister = _Lister(self.top)
            feeder = threading.Thread(target=reader.feed, args=(lister.objects(is_wanted),), daemon=True)
            feeder.start()
            try:
                yield from reader.read()
                feeder.join()
                lister.finish()
            finally:
                lister.end()

    def contents(self, wanted: Sequence[GitObject]) -> Iterator[tuple[GitObject, Iterator[bytes]]]:
        """Yield these objects with their content in chunks."""
        with _Reader(self.top) as reader:
            feeder = threading.Thread(target=reader.feed, args=(iter(wanted),), daemon=True)
            feeder.start()
            yield from reader.read()
            feeder.join()

    def introduced(self, blobs: Iterable[str]) -> dict[str, str]:
        """Return for each of these blobs the oldest commit that has it; one that is staged alone has none."""
        wanted = set(blobs)
        found: dict[str, str] = {}
        if not wanted:
            return found
        lister = _start(self.top, ["rev-list", "--all", "--reflog", "--reverse", "--topo-order"])
        argv = ["diff-tree", "--stdin", "-r", "-m", "--root", "--raw", "--no-abbrev", "--no-renames"]
        differ = _start(self.top, argv, lister.stdout)
        commit = ""
        for raw in _stream(differ.stdout):
            line = raw.split(b"\t", 1)[0].split()
            if not raw.startswith(b":"):
                commit = line[0].decode() if line else commit
            elif (blob := line[3].decode()) in wanted:
                found[blob] = commit
                wanted.discard(blob)
                if not wanted:
                    break
        for child in (differ, lister):
            _end(child)
        return found

    def _words(self, *argv: str) -> str:
        return _run(self.top, argv).decode(errors="replace").strip()


class _Lister:
    """Lists every object that anything refers to."""

    def __init__(self, top: Path) -> None:
        self._walk = _start(top, ["rev-list", "--objects", *_EVERYTHING], keep_errors=True)
        form = "--batch-check=%(objectname) %(objecttype) %(objectsize) %(rest)"
        self._look = _start(top, ["cat-file", "--buffer", form], self._walk.stdout)
        self._missing = 0

    def objects(self, is_wanted: Callable[[GitObject], bool]) -> Iterator[GitObject]:
        for line in _stream(self._look.stdout):
            fields = line.decode(errors="surrogateescape").rstrip("\n").split(" ", 3)
            if len(fields) < 3 or fields[1] == "missing":
                self._missing += 1
            elif fields[1] != "tree":
                each = GitObject(fields[0], fields[1], int(fields[2]), "".join(fields[3:]))
                if is_wanted(each):
                    yield each

    def finish(self) -> None:
        said = _stream(self._walk.stderr).read().decode(errors="replace").strip()
        codes = (self._walk.wait(), self._look.wait())
        if any(codes) or self._missing:
            last = said.splitlines()[-1] if said else f"{self._missing} objects are missing"
            raise OperationFailed(
                f"git could not read the whole history: {last}.", "See what `git fsck` says."
            )

    def end(self) -> None:
        for child in (self._look, self._walk):
            _end(child)


class _Reader:
    """Reads objects through one `git cat-file --batch`."""

    def __init__(self, top: Path) -> None:
        self._child = _start(top, ["cat-file", "--batch"], subprocess.PIPE)
        self._asked: queue.Queue[GitObject | BaseException | None] = queue.Queue(1000)
        self._closed = threading.Event()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        _end(self._child)

    def feed(self, wanted: Iterator[GitObject]) -> None:
        """Ask for objects; in a thread of its own, since git answers while it is asked."""
        end: BaseException | None = None
        try:
            batch: list[GitObject] = []
            for each in wanted:
                batch.append(each)
                if len(batch) >= _BATCH:
                    self._ask(batch)
                    batch = []
            self._ask(batch)
            _stream(self._child.stdin).close()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            end = error
        self._put(end)

    def _ask(self, batch: Sequence[GitObject]) -> None:
        stream = _stream(self._child.stdin)
        # Less than a pipe holds, so that this never waits for whoever waits for the queue.
        stream.write("".join(f"{each.id}\n" for each in batch).encode())
        stream.flush()
        for each in batch:
            self._put(each)

    def _put(self, item: GitObject | BaseException | None) -> None:
        while not self._closed.is_set():
            try:
                return self._asked.put(item, timeout=1)
            except queue.Full:
                continue
        return None

    def read(self) -> Iterator[tuple[GitObject, Iterator[bytes]]]:
        """Yield what was asked for; what is not read of one is passed over."""
        out = _stream(self._child.stdout)
        while (each := self._asked.get()) is not None:
            if isinstance(each, BaseException):
                raise each
            head = out.readline().split()
            if len(head) != 3:
                raise OperationFailed(
                    f"git could not read the object {each.id}.", "See what `git fsck` says."
                )
            content = _content(out, int(head[2]))
            yield GitObject(each.id, each.kind, int(head[2]), each.path), content
            for _ in content:
                pass


def _content(out: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0:
        chunk = out.read(min(size, _CHUNK))
        if not chunk:
            raise OperationFailed("git ended in the middle of an object.", "See what `git fsck` says.")
        size -= len(chunk)
        yield chunk
    out.read(1)  # the newline after each


def _paths(listed: bytes) -> list[str]:
    return [os.fsdecode(each) for each in listed.split(b"\0") if each]


def _environ() -> dict[str, str]:
    return {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


def _run(folder: Path, argv: Sequence[str], *, check: bool = True) -> bytes:
    try:
        done = subprocess.run(
            [*_GIT, *argv],
            cwd=folder,
            env=_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise OperationFailed("There is a Git repository, and no `git` to read it.", "Install git.") from None
    if done.returncode != 0 and check:
        said = done.stderr.decode(errors="replace").strip()
        raise OperationFailed(f"git {argv[0]} failed: {said or f'exit code {done.returncode}'}")
    return done.stdout


def _start(
    folder: Path, argv: Sequence[str], source: IO[bytes] | int | None = None, *, keep_errors: bool = False
) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [*_GIT, *argv],
        cwd=folder,
        env=_environ(),
        stdin=subprocess.DEVNULL if source is None else source,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if keep_errors else subprocess.DEVNULL,
    )
    if source is not None and not isinstance(source, int):
        source.close()  # the child's alone, so that the writer learns when it ends
    return child


def _stream(stream: object) -> BinaryIO:
    assert stream is not None  # noqa: S101 - the pipes are asked for
    return stream  # type: ignore[return-value]


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that is done, or is no longer needed."""
    if child.poll() is None:
        child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None and not stream.closed:
            try:
                stream.close()
            except BrokenPipeError:
                continue
