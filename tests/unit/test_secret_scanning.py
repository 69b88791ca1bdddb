"""The scan against real Git repositories: every place something can be left in, and nothing in clean ones."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from windlass.errors import OperationFailed
from windlass.events import Event, Progress
from windlass.secrets.scan.allowing import Allowed
from windlass.secrets.scan.scanning import Finding, Report, Scope, scan
from windlass.shell import Sensitive

VALUE = "q7Rk2-vX+9m/TzLw4pYd=Hs8"  # pragma: allowlist secret
SECRETS = {
    "DB_PASSWORD": Sensitive(VALUE),
    **{f"OTHER_{at}": Sensitive(f"another-{at:04}-Zq7wP3xN") for at in range(25)},
}
TOKEN = "ghp_" + "Zq7wP3xN9eKt2LmB" * 2

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """A repository with one commit; nothing of the user's own configuration is used."""
    for name in [each for each in os.environ if each.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgSign=false"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "--quiet", "--initial-branch=main")
    write(tmp_path, "README.md", "# A project\n\nNothing is here.\n")
    run("add", ".")
    run("commit", "-qm", "Begin")
    return run


def write(root: Path, name: str, content: str | bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def places(report: Report) -> list[tuple[str, str, int]]:
    return [(each.where, each.path, each.line) for each in report.findings]


def only(report: Report) -> Finding:
    assert len(report.findings) == 1, places(report)
    found = report.findings[0]
    assert VALUE not in repr(report)
    return found


def commit(git: Git, root: Path, name: str, content: str | bytes, message: str = "Change") -> str:
    write(root, name, content)
    git("add", "--force", name)
    git("commit", "-qm", message)
    return git("rev-parse", "HEAD")


def test_nothing_is_found_in_a_clean_project(git: Git, tmp_path: Path) -> None:
    for at in range(300):
        write(tmp_path, f"src/m{at % 7}/file{at}.py", f"def f{at}():\n    return 'nothing {at}'\n" * 20)
    git("add", ".")
    git("commit", "-qm", "Add files")
    report = scan(tmp_path, SECRETS)
    assert report.findings == []
    assert (report.files, report.commits, report.unread, report.notes) == (301, 2, {}, [])
    # Every blob is a file of the tree that was searched already.
    assert report.objects == 0
    assert report.bytes > 300 * 700


ENCODED = base64.b64encode(VALUE.encode()).decode()
FORMS = {
    "plain": f"password: {VALUE}\n",
    "base64": f"auth: {base64.b64encode(f'app:{VALUE}'.encode()).decode()}\n",
    "two lines": f"x = (\n    '{VALUE[:11]}'\n    '{VALUE[11:]}'\n)\n",
    "wrapped base64": f"data:\n  {ENCODED[:14]}\n  {ENCODED[14:]}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_value_in_the_tree_is_found(git: Git, tmp_path: Path, form: str) -> None:
    write(tmp_path, "conf/app.yaml", FORMS[form])
    found = only(scan(tmp_path, SECRETS))
    assert (found.where, found.path, found.what, found.commit) == ("tree", "conf/app.yaml", "DB_PASSWORD", "")


@pytest.mark.parametrize("form", FORMS)
def test_a_value_in_an_old_commit_is_found_with_the_commit_that_brought_it(
    git: Git, tmp_path: Path, form: str
) -> None:
    bringer = commit(git, tmp_path, "conf/app.yaml", FORMS[form])
    commit(git, tmp_path, "conf/app.yaml", FORMS[form] + "# one more line\n")
    git("rm", "-q", "conf/app.yaml")
    git("commit", "-qm", "Remove it")
    found = only(scan(tmp_path, SECRETS))
    assert (found.where, found.path, found.commit, found.times) == ("history", "conf/app.yaml", bringer, 2)
    assert found.place.startswith(bringer[:12])
    assert scan(tmp_path, SECRETS, Scope(history=False)).findings == []


def test_what_is_in_the_tree_and_committed_is_told_of_both(git: Git, tmp_path: Path) -> None:
    bringer = commit(git, tmp_path, "a.txt", FORMS["plain"])
    report = scan(tmp_path, SECRETS)
    assert [(each.where, each.commit) for each in report.findings] == [("history", bringer), ("tree", "")]
    assert len({each.fingerprint for each in report.findings}) == 1


def left_by_amend(git: Git, root: Path) -> None:
    commit(git, root, "a.txt", FORMS["plain"])
    write(root, "a.txt", "nothing\n")
    git("commit", "-qa", "--amend", "-m", "Better")


def left_by_reset(git: Git, root: Path) -> None:
    commit(git, root, "a.txt", FORMS["plain"])
    git("reset", "-q", "--hard", "HEAD~1")


def left_in_a_stash(git: Git, root: Path) -> None:
    write(root, "README.md", FORMS["plain"])
    git("stash", "-q")


def left_in_an_old_stash(git: Git, root: Path) -> None:
    left_in_a_stash(git, root)
    write(root, "README.md", "another\n")
    git("stash", "-q")


def left_untracked_in_a_stash(git: Git, root: Path) -> None:
    write(root, "new.txt", FORMS["plain"])
    git("stash", "-q", "--include-untracked")


def left_on_a_branch(git: Git, root: Path) -> None:
    git("switch", "-qc", "other")
    commit(git, root, "a.txt", FORMS["plain"])
    git("switch", "-q", "main")


def left_on_a_deleted_branch(git: Git, root: Path) -> None:
    left_on_a_branch(git, root)
    git("branch", "-qD", "other")


def left_in_a_tag_on_nothing_else(git: Git, root: Path) -> None:
    left_on_a_branch(git, root)
    git("tag", "-a", "v1", "-m", "One", "other")
    git("branch", "-qD", "other")
    git("reflog", "expire", "--expire=now", "--all")


def left_in_a_merge(git: Git, root: Path) -> None:
    git("switch", "-qc", "other")
    commit(git, root, "a.txt", "one\n")
    git("switch", "-q", "main")
    commit(git, root, "b.txt", "two\n")
    git("merge", "-q", "--no-commit", "--no-ff", "other")
    commit(git, root, "a.txt", FORMS["plain"], "Merge")
    commit(git, root, "a.txt", "three\n")


def left_in_a_note(git: Git, root: Path) -> None:
    git("notes", "add", "-m", FORMS["plain"])


def left_in_a_replaced_object(git: Git, root: Path) -> None:
    commit(git, root, "a.txt", FORMS["plain"])
    clean = write(root, "b.txt", "clean\n")
    blob, other = git("rev-parse", "HEAD:a.txt"), git("hash-object", "-w", str(clean))
    git("replace", blob, other)
    git("rm", "-q", "a.txt")
    git("commit", "-qm", "Remove")


def left_packed(git: Git, root: Path) -> None:
    left_by_reset(git, root)
    git("gc", "-q")


@pytest.mark.parametrize(
    "leave",
    [
        left_by_amend,
        left_by_reset,
        left_in_a_stash,
        left_in_an_old_stash,
        left_untracked_in_a_stash,
        left_on_a_branch,
        left_on_a_deleted_branch,
        left_in_a_tag_on_nothing_else,
        left_in_a_merge,
        left_in_a_note,
        left_in_a_replaced_object,
        left_packed,
    ],
)
def test_it_is_found_wherever_git_still_has_it(
    git: Git, tmp_path: Path, leave: Callable[[Git, Path], None]
) -> None:
    leave(git, tmp_path)
    found = [each for each in scan(tmp_path, SECRETS).findings if each.where == "history"]
    assert [each.what for each in found] == ["DB_PASSWORD"]
    assert git("cat-file", "-t", found[0].commit) == "commit"


def test_messages_of_commits_and_tags_are_searched(git: Git, tmp_path: Path) -> None:
    made = commit(git, tmp_path, "a.txt", "one\n", f"Change\n\nthe password is {VALUE}\n")
    git("tag", "-a", "v1", "-m", f"One\n\n{TOKEN}")
    report = scan(tmp_path, SECRETS)
    assert [(each.where, each.what, each.line) for each in report.findings] == [
        ("message", "DB_PASSWORD", 3),
        ("message", "GitHub token", 3),
    ]
    assert report.findings[0].commit == made


def test_what_is_staged_and_changed_again_is_found(git: Git, tmp_path: Path) -> None:
    write(tmp_path, "a.txt", FORMS["plain"])
    git("add", "a.txt")
    write(tmp_path, "a.txt", "clean\n")
    assert only(scan(tmp_path, SECRETS)).where == "staged"


def test_only_what_is_staged_is_searched_when_asked(git: Git, tmp_path: Path) -> None:
    commit(git, tmp_path, "old.txt", FORMS["plain"])
    write(tmp_path, "unstaged.txt", FORMS["plain"])
    assert scan(tmp_path, SECRETS, Scope(staged=True)).findings == []
    write(tmp_path, "nä me.txt", FORMS["base64"])
    git("add", "nä me.txt")
    git("rm", "-q", "--cached", "old.txt")
    report = scan(tmp_path, SECRETS, Scope(staged=True))
    assert places(report) == [("staged", "nä me.txt", 1)]
    assert report.files == 1


def test_the_first_commit_is_searched_before_it_is_made(git: Git, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=fresh, check=True)
    write(fresh, "a.txt", FORMS["plain"])
    subprocess.run(["git", "add", "."], cwd=fresh, check=True)
    assert places(scan(fresh, SECRETS, Scope(staged=True))) == [("staged", "a.txt", 1)]
    assert places(scan(fresh, SECRETS)) == [("tree", "a.txt", 1)]


def test_ignored_files_are_searched_only_when_asked(git: Git, tmp_path: Path) -> None:
    write(tmp_path, ".gitignore", "*.log\n")
    write(tmp_path, "app.log", FORMS["plain"])
    write(tmp_path, "envs/prod.local.env", f"A={VALUE}\n")
    git("add", ".gitignore")
    assert [each.path for each in scan(tmp_path, SECRETS).findings] == ["envs/prod.local.env"]
    assert [each.path for each in scan(tmp_path, SECRETS, Scope(everything=True)).findings] == ["app.log"]


def test_without_git_every_file_is_searched(tmp_path: Path) -> None:
    write(tmp_path, "deep/er/a.txt", FORMS["plain"])
    report = scan(tmp_path, SECRETS)
    assert places(report) == [("tree", "deep/er/a.txt", 1)]
    assert report.notes == ["There is no Git repository, so there is no history to search."]


def test_a_repository_that_git_cannot_read_is_no_clean_one(tmp_path: Path) -> None:
    write(tmp_path, ".git/HEAD", "nonsense")
    with pytest.raises(OperationFailed, match="git rev-parse failed"):
        scan(tmp_path, SECRETS)


def test_a_history_with_holes_is_no_clean_one(git: Git, tmp_path: Path) -> None:
    commit(git, tmp_path, "a.txt", "some content\n")
    blob = git("rev-parse", "HEAD:a.txt")
    write(tmp_path, "a.txt", "other content\n")
    (tmp_path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(OperationFailed, match="could not read"):
        scan(tmp_path, SECRETS)


def test_a_shallow_clone_is_told(git: Git, tmp_path: Path) -> None:
    commit(git, tmp_path, "a.txt", FORMS["plain"])
    commit(git, tmp_path, "a.txt", "clean\n")
    clone = tmp_path / "clone"
    git("clone", "-q", "--depth=1", tmp_path.as_uri(), str(clone))
    report = scan(clone, SECRETS)
    assert report.findings == []
    assert any("shallow" in each for each in report.notes)


def test_binary_files_links_and_other_encodings_are_searched(git: Git, tmp_path: Path) -> None:
    write(tmp_path, "image.bin", b"\0\1\2" * 3000 + VALUE.encode() + b"\0")
    write(tmp_path, "windows.txt", f"password {VALUE}\r\n".encode("utf-16"))
    (tmp_path / "link").symlink_to(f"/nowhere/{VALUE}")
    os.mkfifo(tmp_path / "pipe")
    report = scan(tmp_path, SECRETS)
    assert [each.path for each in report.findings] == ["image.bin", "link", "windows.txt"]


@pytest.mark.parametrize("history", [False, True])
def test_a_file_larger_than_what_is_held_at_once_is_searched_to_its_end(
    git: Git, tmp_path: Path, history: bool
) -> None:
    write(tmp_path, "big.sql", b"insert into t values (1, 'nothing');\n" * 250_000 + VALUE.encode())
    if history:
        git("add", ".")
        git("commit", "-qm", "Add")
        (tmp_path / "big.sql").unlink()
    told: list[Event] = []
    found = only(scan(tmp_path, SECRETS, emit=told.append))
    assert (found.path, found.line) == ("big.sql", 250_001)
    assert any(isinstance(each, Progress) and each.done > 8_000_000 for each in told)


def test_a_finding_keeps_its_fingerprint_when_lines_move_and_is_accepted_by_it(
    git: Git, tmp_path: Path
) -> None:
    write(tmp_path, "a.txt", f"token: {TOKEN}\n")
    first = only(scan(tmp_path, SECRETS))
    bringer = commit(git, tmp_path, "a.txt", f"more\nlines\ntoken: {TOKEN}\n")
    report = scan(tmp_path, SECRETS)
    assert {each.fingerprint for each in report.findings} == {first.fingerprint}
    assert {each.commit for each in report.findings} == {"", bringer}
    allowed = Allowed({first.fingerprint: "the test server's", "0" * 16: "gone"})
    accepted = scan(tmp_path, SECRETS, allowed=allowed)
    assert (accepted.findings, accepted.accepted, accepted.unused) == ([], 2, ("0" * 16,))


def test_an_accepted_token_does_not_accept_its_successor(git: Git, tmp_path: Path) -> None:
    write(tmp_path, "a.txt", f"token: {TOKEN}\n")
    allowed = Allowed({only(scan(tmp_path, SECRETS)).fingerprint: "revoked"})
    write(tmp_path, "a.txt", f"token: {TOKEN[:-3]}9zQ\n")
    assert only(scan(tmp_path, SECRETS, allowed=allowed)).what == "GitHub token"


def test_a_pattern_of_paths_never_accepts_a_value(git: Git, tmp_path: Path) -> None:
    write(tmp_path, "tests/data/a.txt", f"token: {TOKEN}\n\npassword: {VALUE}\n")
    allowed = Allowed(paths={"tests/**": "invented", "docs/**": "invented"})
    report = scan(tmp_path, SECRETS, allowed=allowed)
    assert only(report).what == "DB_PASSWORD"
    assert (report.accepted, report.unused) == (1, ("path:docs/**",))


def test_the_fingerprint_of_a_value_does_not_depend_on_it(git: Git, tmp_path: Path) -> None:
    prints = []
    for value in (VALUE, "a-quite-other-value-Zq7w"):
        write(tmp_path, "a.txt", f"password: {value}\n")
        prints.append(only(scan(tmp_path, {"DB_PASSWORD": Sensitive(value)})).fingerprint)
    assert prints[0] == prints[1]


def test_a_file_that_cannot_be_read_is_named(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "locked.txt", "x\n")
    whole = Path.open

    def refuse(self: Path, *words: object, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return whole(self, *words, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    assert scan(tmp_path, SECRETS).unread == {"locked.txt": "Permission denied"}


def test_a_name_of_a_file_controls_no_terminal_and_shows_no_value(git: Git, tmp_path: Path) -> None:
    write(tmp_path, f"\x1b[2J{VALUE.replace('/', '_')}\n.txt", FORMS["plain"])
    found = only(scan(tmp_path, SECRETS))
    assert found.path.isprintable()
    assert found.path.endswith(".txt")
