"""The documentation says what is true: names, options, links, and commands somebody runs."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.lib import tasks_reference as _reference
from tests.pages import NORMAL, ROOT, RUN_PAGES, PageError, blocks, pages, pattern, steps, unprinted
from windlass.errors import EXIT_CODES

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
NAMESPACES = {str(module.namespace.name) for module in _reference.MODULES}
# What a name before a dot means on these pages beside a namespace of tasks.
FILES = re.compile(r"\.(py|toml|env|md|json|jsonl|sh|txt|ya?ml|lock)$")
# Those the pages speak of as examples.
ENVIRONMENTS = {"prod", "staging", "local", "<name>", "<environment>"}
CORE_OPTIONS = {"--dry", "--list", "--help", "--version"}


def page_ids() -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages()]


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every `inv …` and `windlass …` in code, fenced or not."""
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = [line.strip().removeprefix("$ ") for part in fenced for line in part.splitlines()]
    inline = CODE.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for line in (*lines, *inline):
        for command in re.split(r"&&|\|\||;|\|", line.partition(" #")[0]):
            words = command.split()
            if words and words[0].rpartition("/")[2] in {"inv", "windlass"}:
                # After `--` comes somebody else's command.
                yield words[1 : words.index("--")] if "--" in words else words[1:]


def task_called(words: list[str]) -> tuple[str, list[str]]:
    """Return the task's name and its options."""
    rest = [word for word in words if word not in CORE_OPTIONS]
    if not rest or rest[0].startswith("-"):
        return "", rest
    return rest[0], [word.partition("=")[0] for word in rest[1:] if word.startswith("--")]


def known_options(name: str) -> set[str]:
    known = _reference.names()
    space, _, short = name.partition(".")
    if space == "deploy" and short in ENVIRONMENTS:
        name = f"deploy.{_reference.ANY_ENVIRONMENT}"
    task = known[name]
    found = set()
    for each in _reference.options(task):
        found |= {f"--{each.name}".replace("_", "-"), f"--no-{each.name}".replace("_", "-")}
    return found | CORE_OPTIONS


def default_task(space: str) -> str:
    names = [
        name for name, task in _reference.names().items() if name.startswith(f"{space}.") and task.is_default
    ]
    return names[0] if names else space


def test_the_reference_of_tasks_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/lib/tasks_reference.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_reference_is_told_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--root", str(tmp_path)]
    assert _reference.main([*arguments, "--check"]) == 1
    assert "run python scripts/lib/tasks_reference.py" in capsys.readouterr().out
    assert _reference.main(arguments) == 0
    assert _reference.main([*arguments, "--check"]) == 0


def test_the_reference_names_every_task_and_option_with_its_help() -> None:
    text = (ROOT / _reference.PAGE).read_text()
    for name, task in _reference.names().items():
        assert f"`{'windlass init' if name == 'init' else name}`" in text
        for option in _reference.options(task):
            assert option.help, f"{name} --{option.name} has no help"
            assert f"`--{str(option.name).replace('_', '-')}" in text


@pytest.mark.parametrize("page", page_ids())
def test_every_task_and_option_on_a_page_exists(page: str) -> None:
    for words in command_lines((ROOT / page).read_text()):
        name, given = task_called(words)
        if not name or name.startswith(("testbed.", "<", "…", "--")):
            continue
        if name in NAMESPACES:
            name = default_task(name)
        try:
            known = known_options(name)
        except KeyError:
            pytest.fail(f"{page}: there is no task {name}")
        unknown = [option for option in given if option not in known]
        assert not unknown, f"{page}: {name} has no {', '.join(unknown)}"


@pytest.mark.parametrize("page", page_ids())
def test_every_task_named_in_passing_exists(page: str) -> None:
    known = _reference.names()
    for code in CODE.findall(re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)):
        space, dot, _ = code.partition(".")
        if dot and space in NAMESPACES and re.fullmatch(r"[a-z]+\.[a-z]+", code) and not FILES.search(code):
            environment = space == "deploy" and code.partition(".")[2] in ENVIRONMENTS
            assert code in known or environment or code in settings_keys(), f"{page}: {code}"


def settings_keys() -> set[str]:
    """Return keys of the environment files that look like a task's name."""
    text = (ROOT / "docs" / "reference" / "environment.md").read_text()
    return {f"{name}.checks" for name in ("health", "stack")} | set(re.findall(r"`\[([a-z.]+)\]`", text))


@pytest.mark.parametrize("page", page_ids())
def test_every_link_to_a_file_resolves(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page}: {target}"
        if anchor:
            anchors = {slug(heading) for heading in HEADING.findall(file.read_text())}
            assert anchor in anchors, f"{page}: {target}; there is {', '.join(sorted(anchors))}"


def slug(heading: str) -> str:
    """Return the anchor GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", page_ids())
def test_every_exit_code_on_a_page_exists(page: str) -> None:
    codes = {int(code) for code in re.findall(r"exit code (\d+)", (ROOT / page).read_text())}
    assert codes <= set(EXIT_CODES), page


@pytest.mark.parametrize("page", RUN_PAGES)
def test_every_block_of_commands_says_where_it_runs(page: str) -> None:
    found = list(blocks(page, (ROOT / page).read_text()))
    assert found
    for block in found:
        assert steps(block.language, block.text)


def test_a_block_without_a_marker_is_an_error() -> None:
    with pytest.raises(PageError, match="page:3"):
        list(blocks("page", "# Title\n\n```sh\ntrue\n```\n"))


def test_a_block_says_where_it_runs_and_in_which_situation() -> None:
    text = (
        f"## Full\n<!-- run: here, given: {NORMAL} -->\n```console\n$ false    # exit code 1\nno 3 s\n```\n"
    )
    (block,) = blocks("page", text)
    assert (block.place, block.given, block.section, block.line) == ("here", NORMAL, "Full", 3)
    (step,) = steps(block.language, block.text)
    assert (step.command, step.code, step.output) == ("false", 1, ("no 3 s",))


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("✓ build (3.2 s)", "✓ build (11.9 s)"),
        ("locked by …, since", "server1: locked by me@here, since"),
        ("by … was", "a deploy by root@vm was interrupted"),
        ("release …", "release 1-2"),
        ("server1 api  running", "server1  api      running  healthy"),
    ],
)
def test_a_printed_line_has_the_shape_of_the_expected_one(expected: str, printed: str) -> None:
    assert pattern(expected).search(printed)


def test_lines_are_expected_in_their_order() -> None:
    assert unprinted("one\ntwo\nthree", ("one", "three")) == []
    assert unprinted("one\ntwo", ("two", "one")) == ["one"]
    assert unprinted("✓ build", ("✗ build",)) == ["✗ build"]
