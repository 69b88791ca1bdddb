"""Everything that must hold before a change lands: `nox -s ci` runs it all, `nox -s NAME` one part."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import nox
import nox.command

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements"
SAMPLE = ROOT / "docker" / "sample"
BASELINE = ROOT / ".secrets.baseline"
BASE_IMAGES = ("BASE_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE")
# Each of these tests holds containers of its own: more workers make a small machine slower, not faster.
CONTAINER_WORKERS = "2"
# Tests of a library that handles secrets are full of invented ones; keys of real services are found.
INVENTED_IN_TESTS = (
    "KeywordDetector",
    "BasicAuthDetector",
    "PrivateKeyDetector",
    "Base64HighEntropyString",
    "HexHighEntropyString",
)
# An old release with published vulnerabilities: a service that knows of none of them audits nothing.
KNOWN_VULNERABLE = "requests==2.19.0"

Body = TypeVar("Body", bound=Callable[..., None])
_times: list[tuple[str, float, str]] = []


def _print_times() -> None:
    """Print what each session took: Nox's own summary has no times."""
    width = max(len(name) for name, _, _ in _times)
    print("\nseconds  session", file=sys.stderr)
    for name, seconds, outcome in _times:
        print(f"{seconds:7.1f}  {name:<{width}}  {outcome}", file=sys.stderr)
    print(f"{sum(seconds for _, seconds, _ in _times):7.1f}  all", file=sys.stderr)


def _record(name: str, seconds: float, outcome: str) -> None:
    # At exit, so that the table comes last and also when a session failed and `ci` itself never ran.
    if not _times:
        atexit.register(_print_times)
    _times.append((name, seconds, outcome))


def timed(body: Body) -> Body:
    """Record how long a session takes and how it ended."""

    @functools.wraps(body)
    def wrapper(session: nox.Session, *args: Any) -> None:
        started = time.monotonic()
        outcome = "failed"
        try:
            body(session, *args)
            outcome = "passed"
        finally:
            _record(session.name, time.monotonic() - started, outcome)

    return wrapper  # type: ignore[return-value]


def install(session: nox.Session, requirements: str = "dev") -> None:
    """Install the locked packages and the project; uv links them from its cache, so each venv is cheap."""
    session.install("--require-hashes", "-r", str(REQUIREMENTS / f"{requirements}.txt"))
    session.install("--no-deps", "--no-build-isolation", "--editable", ".")


def files(session: nox.Session, *patterns: str) -> list[str]:
    """Return the repository's files that match a pattern: tracked ones, and new ones not ignored."""
    listed = session.run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns,
        external=True, silent=True, log=False,
    )  # fmt: skip
    return sorted(name for name in str(listed).split("\0") if name and Path(name).is_file())


def is_shell(name: str) -> bool:
    """Whether a file is a shell script by its name or its first line."""
    if name.endswith(".sh"):
        return True
    with Path(name).open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.rstrip().endswith((b"sh", b"bash"))


def with_base_images(session: nox.Session) -> dict[str, str]:
    """Return the variables that name the images to build from and run, made first where they are missing."""
    if all(os.environ.get(name) for name in BASE_IMAGES):
        return {name: os.environ[name] for name in BASE_IMAGES}
    printed = str(session.run("scripts/base-images", external=True, silent=True, stderr=None))
    return dict(line.split("=", 1) for line in printed.splitlines() if line.startswith(BASE_IMAGES))


def pytest(session: nox.Session, folder: str, *options: str, env: dict[str, str] | None = None) -> None:
    """Run the tests of a folder; what stands after `--` goes to pytest."""
    session.run("python", "-m", "pytest", f"tests/{folder}", "-q", *options, *session.posargs, env=env)


@nox.session
@timed
def lint(session: nox.Session) -> None:
    """Check style, shell scripts, Dockerfiles, YAML, workflows and the direction of imports."""
    install(session)
    shell = filter(is_shell, files(session, "scripts", "docker", ".ci"))
    dockerfiles = files(session, "docker/**/Dockerfile", "examples/**/Dockerfile")
    flows = files(session, ".github/workflows/*.yaml", ".github/workflows/*.yml")
    checks = [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["shellcheck", "--external-sources", *shell],
        ["hadolint", *dockerfiles],
        ["yamllint", "--strict", *files(session, "*.yaml", "*.yml")],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *flows],
        ["zizmor", "--offline", "--quiet", "--no-progress", *flows],
        ["lint-imports"],
    ]
    # actionlint comes in no package that could be locked with a hash (the one on PyPI downloads it while it
    # installs), so it runs where it is installed. The published schema and zizmor's audits run everywhere.
    if shutil.which("actionlint"):
        checks.append(["actionlint", *flows])
    else:
        session.log("actionlint is not installed: workflows are checked by their schema and zizmor alone")
    run_all(session, checks)


def run_all(session: nox.Session, commands: Iterable[Sequence[str]]) -> None:
    """Run every command, whatever the others found, and fail in the end if one did."""
    failed = []
    for command in commands:
        try:
            session.run(*command, external=command[0] == "actionlint")
        except nox.command.CommandFailed:
            failed.append(" ".join(command[:2]))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
@timed
def typecheck(session: nox.Session) -> None:
    """Check types, strictly."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
@timed
def unit(session: nox.Session) -> None:
    """Run the tests that need nothing but Python."""
    install(session)
    pytest(session, "unit", "-n", "auto")


@nox.session(default=False)
@timed
def compat(session: nox.Session) -> None:
    """Run the unit tests with Invoke 3 and the Fabric that goes with it."""
    install(session, "compat")
    pytest(session, "unit", "-n", "auto")


@nox.session
@timed
def integration(session: nox.Session) -> None:
    """Run the tests against a real Docker Engine, PostgreSQL, Redis and sshd."""
    install(session)
    images = with_base_images(session)
    pytest(session, "integration", "-n", CONTAINER_WORKERS, "--dist", "loadfile", env=images)


@nox.session
@timed
def e2e(session: nox.Session) -> None:
    """Deploy to servers of the test bed."""
    install(session)
    images = with_base_images(session)
    pytest(session, "e2e", "-n", CONTAINER_WORKERS, "--dist", "loadfile", env=images)


@nox.session
@timed
def build(session: nox.Session) -> None:
    """Build wheel, sdist and sample images, and use the wheel in a repository new to Windlass."""
    install(session)
    dist = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(dist), silent=True)
    # Outside the checkout: no parent folder may have tasks, environments or a repository to find.
    with tempfile.TemporaryDirectory(prefix="windlass-build-") as work:
        use_wheel(session, next(dist.glob("*.whl")), Path(work))
    build_sample(session)


def use_wheel(session: nox.Session, wheel: Path, work: Path) -> None:
    """Install the wheel into an empty venv and set a foreign repository up with it.

    Its own metadata has to name all it needs; the lock only says which versions, and their hashes.
    """
    venv, repository = work / "venv", work / "foreign"
    session.run("uv", "venv", "--quiet", "--clear", str(venv), silent=True)
    session.run(
        "uv", "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"),
        "--constraint", str(REQUIREMENTS / "runtime.txt"), str(wheel),
    )  # fmt: skip
    repository.mkdir()
    repository.joinpath("compose.yaml").write_text(
        "services:\n  web:\n    image: nginx:1.27\n    ports:\n      - 127.0.0.1:8080:80\n"
    )
    env = {"PYTHONPATH": "", "VIRTUAL_ENV": str(venv), "PATH": f"{venv / 'bin'}:{os.environ['PATH']}"}

    def run(*argv: str) -> str:
        return str(session.run(*argv, env=env, external=True, silent=True))

    with session.chdir(repository):
        run("git", "init", "--quiet")
        windlass = str(venv / "bin" / "windlass")
        session.log(run(windlass, "--version").strip())
        expect(session, run(windlass, "--list"), "deploy.plan", "db.backup", "health.check")
        run(windlass, "init")
        expect(session, run(str(venv / "bin" / "inv"), "--list"), "deploy.plan", "db.backup", "health.check")


def expect(session: nox.Session, text: str, *wanted: str) -> None:
    """Fail unless the text names all that is wanted."""
    missing = [word for word in wanted if word not in text]
    if missing:
        session.error(f"missing in the output: {', '.join(missing)}\n{text}")


def build_sample(session: nox.Session) -> None:
    """Build the sample's images under a name of this run; the name goes again, the layers stay cached."""
    env = {**with_base_images(session), "POSTGRES_PASSWORD": "-", "APP_SECRET": "-"}
    compose = ("docker", "compose", "--project-name", f"windlass-build-{os.getpid()}")
    with session.chdir(SAMPLE):
        try:
            session.run(*compose, "build", env=env, external=True, silent=True)
        finally:
            session.run(*compose, "down", "--rmi", "local", env=env, external=True, silent=True)


@nox.session
@timed
def scan(session: nox.Session) -> None:
    """Look for known vulnerabilities, for insecure code and for secrets that were committed."""
    install(session)
    session.run("bandit", "--quiet", "--configfile", "pyproject.toml", "--recursive", "windlass", "tasks")
    find_secrets(session)
    # Of the sample's own secrets too, in the tree and in all that Git keeps; those of prod are not here.
    session.run("python", "-m", "invoke", "secrets.scan", "--env", "local")
    audit(session)


def find_secrets(session: nox.Session) -> None:
    """Compare the secrets found in the tree with the known false ones of the baseline.

    `nox -s scan -- --accept` writes what is found into the baseline, to be read before it is committed.
    Compared by content, not by line, so that an edit above a known one is no new finding.
    """
    # Lock files are hashes and nothing else.
    listed = [name for name in files(session) if not name.startswith(("requirements/", BASELINE.name))]
    report = detect(session, [name for name in listed if not name.startswith("tests/")])
    tests = [name for name in listed if name.startswith("tests/")]
    report["results"] |= detect(session, tests, INVENTED_IN_TESTS)["results"]
    if "--accept" in session.posargs:
        report.pop("generated_at", None)
        BASELINE.write_text(json.dumps(report, indent=2) + "\n")
    known = {key for _, key in _findings(json.loads(BASELINE.read_text()))}
    new = [where for where, key in _findings(report) if key not in known]
    if new:
        session.error(
            "looks like a secret; mark what is none with `# pragma: allowlist secret`, or run "
            "`nox -s scan -- --accept`:\n  " + "\n  ".join(new)
        )


def detect(session: nox.Session, names: Sequence[str], without: Sequence[str] = ()) -> dict[str, Any]:
    """Return what detect-secrets reports of some files."""
    session.log(f"detect-secrets scan ({len(names)} files)")
    options = [f"--disable-plugin={name}" for name in without]
    printed = session.run("detect-secrets", "scan", *options, *names, silent=True, log=False)
    report: dict[str, Any] = json.loads(str(printed))
    return report


def _findings(report: dict[str, Any]) -> Iterable[tuple[str, tuple[str, str, str]]]:
    for name, entries in report["results"].items():
        for entry in entries:
            where = f"{name}:{entry['line_number']}: {entry['type']}"
            yield where, (name, entry["type"], entry["hashed_secret"])


def audit(session: nox.Session) -> None:
    """Audit the locked packages; without an advisory service, say that nothing was audited."""
    auditor = ("pip-audit", "--disable-pip", "--progress-spinner", "off", "--timeout", "15")
    reason = no_advisories(session, auditor)
    if reason:
        session.warn(f"NOT AUDITED: known vulnerabilities were not looked up: {reason}")
        return
    for path in sorted(REQUIREMENTS.glob("*.txt")):
        # Strict: a package that could not be looked up is a failure, not a silent hole.
        session.run(*auditor, "--strict", "--require-hashes", "--requirement", str(path))


def no_advisories(session: nox.Session, auditor: Sequence[str]) -> str:
    """Return why packages cannot be audited here, or nothing.

    pip-audit passes what its service does not know; an index that knows no advisories at all (a mirror) would
    thus pass everything. So it is asked first for a package that has some.
    """
    probe = Path(session.create_tmp()) / "vulnerable.txt"
    probe.write_text(KNOWN_VULNERABLE + "\n")
    printed = session.run(
        *auditor, "--no-deps", "--requirement", str(probe), "--format", "json",
        silent=True, stderr=subprocess.DEVNULL, success_codes=range(256),
    )  # fmt: skip
    try:
        (found,) = json.loads(str(printed))["dependencies"]
    except ValueError:
        return "no advisory service answers"
    return "" if found.get("vulns") else found.get("skip_reason", "the advisory service knows no advisories")


@nox.session
@timed
def docs(session: nox.Session) -> None:
    """Check that the generated references are what the code says now."""
    install(session)
    session.run("python", "-m", "windlass.environment.reference", "--check")
    session.run("python", "scripts/lib/tasks_reference.py", "--check")


@nox.session
@timed
def bench(session: nox.Session) -> None:
    """Measure and compare with the goals: all benchmarks, or those named after `--`."""
    install(session)
    session.run("python", "-m", "benchmarks", *session.posargs, env=with_base_images(session))


@nox.session(
    default=False,
    # Not `notify`: it would run only the first of several sessions of one name, and say nothing.
    requires=["lint", "typecheck", "unit", "compat", "docs", "build", "scan", "integration", "e2e", "bench"],
    venv_backend="none",
)
def ci(session: nox.Session) -> None:
    """Run everything; prints the time of each session at the end."""
    session.log("all of it passed")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Lock the dependencies with hashes; `nox -s lock -- --upgrade` takes newer versions."""
    # What is locked already would not include uv on the first run.
    session.install("uv")
    compile_lock(session, "dev", "--all-extras", "--group", "dev")
    compile_lock(session, "runtime", "--constraints", "requirements/dev.txt")
    compat = ("--all-extras", "--group", "dev", "--constraints", "requirements/compat.in")
    compile_lock(session, "compat", *compat)


def compile_lock(session: nox.Session, name: str, *options: str) -> None:
    """Write one lock file: for every platform, and without the address of the index it was resolved on."""
    command: Sequence[str] = (
        "uv", "pip", "compile", "pyproject.toml", "--quiet", "--universal", "--python-version", "3.11",
        "--generate-hashes", "--no-annotate", "--no-emit-index-url",
        "--custom-compile-command", "nox -s lock", "--output-file", f"requirements/{name}.txt",
    )  # fmt: skip
    session.run(*command, *options, *session.posargs)
