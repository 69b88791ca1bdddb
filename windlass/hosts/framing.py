"""How a script reaches a host: its length, the script and its payload, all on stdin.

Nothing of a script is in any argv, and a payload (an upload, say) shares the round trip. `head -c`
never reads past the count it was given, so the payload stays on stdin, byte for byte. A script that a
dropped link cut short lacks its last line and does not run at all.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from windlass.errors import CommandFailed
from windlass.hosts.base import Completed, OnLine, Payload, Redact
from windlass.shell import Script

END: Final = "#windlass:end"
# `unset` comes before any program runs: where the login exports an `s`, all would inherit the script.
BOOTSTRAP: Final = (
    'IFS= read -r n && s=$(head -c "$n") && '
    f'case $s in *"{END}") eval "unset n s; $s" ;;'
    " *) echo 'only a part of the script arrived; nothing was run' >&2; exit 1 ;; esac"
)
PRELUDE: Final = "set -euo pipefail\n"
NO_INPUT: Final = "exec </dev/null\n"
TIMED_OUT: Final = 124  # GNU timeout's exit code when it ended the command (coreutils manual, 23.2)
KILL_AFTER_SECONDS: Final = 5
CHUNK: Final = 1 << 18
_TAIL_CHARACTERS: Final = 2000
# Far more than is shown, so that a secret where it is cut is far from what is shown.
_TAIL_KEPT: Final = 256 * 1024
_TOO_LONG: Final = f"(its last line is longer than {_TAIL_KEPT // 1024} KiB and is not shown)"

T = TypeVar("T")


def frame(script: Script, payload: Payload) -> Iterator[bytes]:
    """Yield what goes to stdin: the header, the script, then the payload."""
    has_payload = not (isinstance(payload, bytes) and not payload)
    body = (PRELUDE + ("" if has_payload else NO_INPUT) + script.text() + f"\n{END}").encode()
    yield f"{len(body)}\n".encode() + body
    if isinstance(payload, bytes):
        if payload:
            yield payload
    else:
        yield from payload


def shell_words(timeout: float | None) -> list[str]:
    """Return the argv that runs a framed script on a server and ends it after `timeout` seconds."""
    bash = ["bash", "-c", BOOTSTRAP, "windlass"]
    return bash if timeout is None else ["timeout", "-k", str(KILL_AFTER_SECONDS), f"{timeout:g}", *bash]


class LineSplitter:
    """Cuts a byte stream into redacted lines and hands each to a listener."""

    def __init__(self, on_line: OnLine | None, redact: Redact) -> None:
        self._on_line = on_line
        self._redact = redact
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        """Take the next bytes; `final` flushes a last line without a newline."""
        if self._on_line is None:
            return
        *lines, self._rest = (self._rest + self._decoder.decode(chunk, final)).split("\n")
        if final and self._rest:
            lines.append(self._rest)
            self._rest = ""
        for line in lines:
            self._on_line(self._redact(line.rstrip("\r")))


def collect(
    read: Callable[[int], bytes], splitter: LineSplitter | None = None, *, keep: bool = True
) -> bytes:
    """Read a stream to its end and return it whole, or nothing unless `keep`; lines go to the splitter."""
    parts: list[bytes] = []
    while chunk := read(CHUNK):
        if keep:
            parts.append(chunk)
        if splitter is not None:
            splitter.feed(chunk)
    if splitter is not None:
        splitter.feed(b"", final=True)
    return b"".join(parts)


class Background(Generic[T]):
    """A function running in a thread, whose result or error `result` gives.

    Args:
        function: what runs.
        on_error: called when it raised, once `failed` says so: whoever this wakes sees the error.
    """

    def __init__(self, function: Callable[[], T], on_error: Callable[[], None] | None = None) -> None:
        self._function = function
        self._on_error = on_error
        self._value: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - handed to the caller of result()
            self._error = error
            if self._on_error is not None:
                self._on_error()

    @property
    def failed(self) -> bool:
        """Whether it raised, so far."""
        return self._error is not None

    def result(self) -> T:
        """Wait for the end and return what the function returned, or raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


def checked(completed: Completed, script: Script, redact: Redact, timeout: float | None) -> Completed:
    """Return the result of a script that ended with 0.

    Raises:
        CommandFailed: it ended otherwise; the sentence holds the last of its stderr, redacted.
    """
    if completed.code == 0:
        return completed
    what = f"{completed.host}: {script.what}"
    if completed.code == TIMED_OUT and timeout is not None:
        raise CommandFailed(what, TIMED_OUT, f"it took longer than {timeout:g} s and was ended")
    said = LastWords(completed.stderr.strip() or completed.stdout.strip())
    raise CommandFailed(what, completed.code, said.text(redact))


class LastWords:
    """The last of what a command wrote, raw: what is cut before it is redacted may show half a secret.

    Args:
        data: what it wrote so far.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._kept = bytearray()
        self._is_cut = False
        self.feed(data)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; no more than a fixed number is kept."""
        self._kept += chunk[-_TAIL_KEPT:]
        if len(chunk) > _TAIL_KEPT or len(self._kept) > _TAIL_KEPT:
            self._is_cut = True  # before the bytes go: `text` may run in another thread
            del self._kept[:-_TAIL_KEPT]

    def text(self, redact: Redact) -> str:
        """Return the end of it, redacted as a whole and only then cut to a few lines."""
        text = redact(bytes(self._kept).decode(errors="replace"))
        if self._is_cut:
            # A part of a secret may begin the first line; a line this long may be all secret.
            text = text.partition("\n")[2].strip() or _TOO_LONG
        return tail(text)


def tail(text: str, limit: int = _TAIL_CHARACTERS) -> str:
    """Return the last `limit` characters of a redacted text, from the start of a line if there is one."""
    text = text.strip()
    if len(text) <= limit:
        return text
    return text[-limit:].partition("\n")[2] or text[-limit:]
