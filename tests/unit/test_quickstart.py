"""The quickstart ends with a sentence, whatever failed."""

import importlib.util
import socketserver
import subprocess
import sys
import threading
import time
import urllib.error
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "scripts" / "lib" / "quickstart.py"


def quickstart(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart_under_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (subprocess.CalledProcessError(128, ["git", "add", "a b"]), "git add 'a b' ended with exit code 128"),
        (urllib.error.URLError("refused"), "the application does not answer: refused"),
        (
            urllib.error.HTTPError("http://127.0.0.1/x", 503, "Unavailable", Message(), None),
            "http://127.0.0.1/x answered 503 Unavailable",
        ),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_fails_is_one_sentence(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = quickstart(monkeypatch)

    def fail(report: object) -> None:
        raise error

    monkeypatch.setattr(module, "run", fail)
    monkeypatch.setattr(module, "APP", f"test-{tmp_path.name}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["quickstart"])
    assert module.main() == 1
    assert capsys.readouterr().out.strip() == f"error: {said}"


class BreaksOff(socketserver.BaseRequestHandler):
    """An answer of 100 bytes of which one comes."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


def test_an_answer_that_breaks_off_is_a_failed_request(monkeypatch: pytest.MonkeyPatch) -> None:
    module = quickstart(monkeypatch)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), BreaksOff) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        limit = time.monotonic() + 60
        with module.load(server.server_address[1]) as counted:
            while counted.failed < 2 and time.monotonic() < limit:
                time.sleep(0.01)
        server.shutdown()
    assert counted.failed >= 2
    assert counted.answered == 0
