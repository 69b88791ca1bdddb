"""The quickstart ends with a sentence, whatever failed."""

import importlib.util
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "scripts" / "lib" / "quickstart.py"


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
    spec = importlib.util.spec_from_file_location("quickstart_under_test", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)

    def fail(report: object) -> None:
        raise error

    monkeypatch.setattr(module, "run", fail)
    monkeypatch.setattr(module, "APP", f"test-{tmp_path.name}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["quickstart"])
    assert module.main() == 1
    assert capsys.readouterr().out.strip() == f"error: {said}"
