from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.secretstores import Memory, Versioned, install
from windlass.errors import ConfigurationError
from windlass.secrets.copying import Item, Plan, carry_out, plan_one, plan_scope
from windlass.secrets.providers.base import ProviderError, Version, Written
from windlass.secrets.references import Address
from windlass.secrets.resolving import Resolver
from windlass.shell import Sensitive

SOURCE, TARGET = Address("here", "shop"), Address("there", "prod")
SECRET = "hunter2-and-more"  # pragma: allowlist secret


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return Memory("here")


@pytest.fixture
def there(here: Memory, monkeypatch: pytest.MonkeyPatch) -> Versioned:
    client = Versioned("there")
    install(monkeypatch, here, client)
    return client


def fill(client: Memory, **values: str) -> None:
    scope = "shop" if client.name == "here" else "prod"
    client.write({f"{scope}/{name}": Sensitive(value) for name, value in values.items()})
    client.writes.clear()


def resolver() -> Resolver:
    return Resolver(Path(), {})


def states(items: tuple[Item, ...]) -> dict[str, str]:
    return {item.name: item.state for item in items}


def test_a_plan_says_what_would_become_of_each_and_writes_nothing(here: Memory, there: Versioned) -> None:
    fill(here, NEW=SECRET, SAME="s", OTHER="new", EMPTY=" ", NO_WAY="x", UNREADABLE="x")
    fill(there, SAME="s", OTHER="old", MORE="m", UNREADABLE="y")
    there.refused.add("prod/UNREADABLE")
    plan = plan_scope(resolver(), SOURCE, TARGET)
    assert states(plan.items) == {
        "EMPTY": "failed",
        "MORE": "only in target",
        "NEW": "create",
        "NO_WAY": "failed",
        "OTHER": "change",
        "SAME": "same",
        "UNREADABLE": "failed",
    }
    reasons = {item.name: item.reason for item in plan.items if item.reason}
    assert reasons == {
        "EMPTY": "the value is empty",
        "MORE": "left alone",
        "NO_WAY": "prod cannot keep NO_WAY",
        "UNREADABLE": "what the target holds cannot be read: prod/UNREADABLE is closed; ask for it",
    }
    assert there.writes == []
    assert SECRET not in repr(plan)
    assert [item.name for item in plan.to_write] == ["NEW", "OTHER"]


def test_what_is_planned_is_written_and_nothing_else(here: Memory, there: Versioned) -> None:
    fill(here, NEW=SECRET, SAME="s", OTHER="new")
    fill(there, SAME="s", OTHER="old", MORE="m")
    opened = resolver()
    plan = plan_scope(opened, SOURCE, TARGET)
    # A value that changes after the plan was shown is not the one that was agreed to.
    fill(here, OTHER="changed meanwhile")
    done = carry_out(opened, plan)
    assert states(done) == {"MORE": "only in target", "NEW": "written", "OTHER": "written", "SAME": "same"}
    assert {item.name: item.version for item in done if item.version} == {"NEW": "1", "OTHER": "2"}
    assert there.writes == ["prod/NEW", "prod/OTHER"]
    assert {name: there.now(name) for name in there.kept} == {
        "prod/NEW": SECRET,
        "prod/OTHER": "new",
        "prod/SAME": "s",
        "prod/MORE": "m",
    }
    assert plan_scope(resolver(), SOURCE, TARGET, ["NEW"]).to_write == ()


def test_one_that_fails_keeps_no_other_from_being_written(
    here: Memory, there: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, A="a", B="b", C="c")
    opened = resolver()
    plan = plan_scope(opened, SOURCE, TARGET)
    write = there.write

    def partly(values: Mapping[str, Sensitive]) -> dict[str, Written]:
        there.refused.add("prod/B")
        answers = write(values)
        return {name: answer for name, answer in answers.items() if name != "prod/C"}

    monkeypatch.setattr(Versioned, "write", lambda self, values: partly(values))
    done = {item.name: item for item in carry_out(opened, plan)}
    assert states(tuple(done.values())) == {"A": "written", "B": "failed", "C": "failed"}
    assert done["B"].reason == "prod/B is closed; ask for it"
    assert done["C"].reason == "the provider gave no answer"


def test_a_provider_that_falls_over_is_told_without_its_message(
    here: Memory, there: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, A=SECRET)
    opened = resolver()
    plan = plan_scope(opened, SOURCE, TARGET)

    def fails(self: Versioned, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        raise ValueError(f"cannot write {SECRET}")

    monkeypatch.setattr(Versioned, "write", fails)
    (item,) = carry_out(opened, plan)
    assert (item.state, item.reason) == ("failed", "the provider failed with ValueError")


@pytest.mark.parametrize(
    ("kept", "reason"), [("other", "another value is read back"), ("", "cannot be read")]
)
def test_what_is_written_is_read_back(
    kept: str, reason: str, here: Memory, there: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, A=SECRET)
    opened = resolver()
    plan = plan_scope(opened, SOURCE, TARGET)

    def writes(self: Versioned, values: Mapping[str, Sensitive]) -> dict[str, Written]:
        for name in values if kept else ():
            self._put(name, Sensitive(kept))
        return {name: Version("9") for name in values}

    monkeypatch.setattr(Versioned, "write", writes)
    (item,) = carry_out(opened, plan)
    assert (item.state, item.version) == ("failed", "9")
    assert reason in item.reason


def test_only_names_that_fit_are_copied(here: Memory, there: Versioned) -> None:
    fill(here, DB_USER="u", DB_PASSWORD=SECRET, API_KEY="k")
    fill(there, DB_OLD="o", API_OLD="o")
    plan = plan_scope(resolver(), SOURCE, TARGET, ["DB_*", "nothing"])
    assert states(plan.items) == {"DB_OLD": "only in target", "DB_PASSWORD": "create", "DB_USER": "create"}
    with pytest.raises(ConfigurationError, match=r"nothing to copy in here:shop that fits NOT_THERE_\*"):
        plan_scope(resolver(), SOURCE, TARGET, ["NOT_THERE_*"])


def test_a_target_that_cannot_be_listed_is_no_empty_one(here: Memory, there: Versioned) -> None:
    fill(here, A="new", B="b")
    fill(there, A="old")
    there.refused.add("prod")
    plan = plan_scope(resolver(), SOURCE, TARGET)
    assert states(plan.items) == {"A": "change", "B": "create"}
    assert plan.note == "What else there:prod holds is not known: prod cannot be listed."


def test_a_source_that_cannot_be_listed_or_is_empty_is_an_error(here: Memory, there: Versioned) -> None:
    with pytest.raises(ConfigurationError, match="nothing to copy in here:shop"):
        plan_scope(resolver(), SOURCE, TARGET)
    here.refused.add("shop")
    with pytest.raises(ProviderError, match="cannot be listed"):
        plan_scope(resolver(), SOURCE, TARGET)


def test_two_names_in_one_place_are_both_refused(
    here: Memory, there: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, A_B="one", A__B="two", C="three")
    monkeypatch.setattr(Versioned, "member", lambda self, scope, name: f"{scope}/{name.replace('__', '_')}")
    plan = plan_scope(resolver(), SOURCE, TARGET)
    assert states(plan.items) == {"A_B": "failed", "A__B": "failed", "C": "create"}
    assert plan.items[0].reason == "another secret would be kept as there:prod/A_B too"
    assert list(plan.values) == [Address("there", "prod/C")]


def test_one_secret_is_copied_from_address_to_address(here: Memory, there: Versioned) -> None:
    fill(here, A=SECRET)
    opened = resolver()
    one = plan_one(opened, Address("here", "shop/A"), Address("there", "prod/OTHER"))
    assert states(one.items) == {"here:shop/A": "create"}
    (item,) = carry_out(opened, one)
    assert (item.state, there.now("prod/OTHER")) == ("written", SECRET)
    again = plan_one(resolver(), Address("here", "shop/A"), Address("there", "prod/OTHER"))
    assert states(again.items) == {"here:shop/A": "same"}


def test_what_cannot_be_written_to_is_refused_before_anything_is_read(here: Memory, there: Versioned) -> None:
    fill(here, A="a")
    for make in (
        lambda: plan_scope(resolver(), SOURCE, Address("env", "X")),
        lambda: plan_one(resolver(), Address("here", "shop/A"), Address("env", "X")),
    ):
        with pytest.raises(ConfigurationError, match="cannot write to"):
            make()
    with pytest.raises(ConfigurationError, match="both source and target"):
        plan_scope(resolver(), SOURCE, SOURCE)
    with pytest.raises(ConfigurationError, match="both source and target"):
        plan_one(resolver(), Address("here", "a"), Address("here", "a"))


def test_a_plan_without_anything_to_do_writes_nothing(here: Memory, there: Versioned) -> None:
    assert carry_out(resolver(), Plan((), {})) == ()
    assert there.writes == []


def test_files_are_copied_to_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "KEY").write_bytes(f"{SECRET}\nand more\n".encode())
    with Resolver(tmp_path, {}) as opened:
        plan = plan_scope(opened, Address("file", "a"), Address("file", "b"))
        assert "cannot be listed" in plan.note
        assert states(carry_out(opened, plan)) == {"KEY": "written"}
    assert (tmp_path / "b" / "KEY").read_bytes() == f"{SECRET}\nand more\n".encode()
    assert (tmp_path / "b" / "KEY").stat().st_mode & 0o777 == 0o600


def test_a_reference_in_a_dotenv_file_is_no_secret_to_copy(tmp_path: Path) -> None:
    text = "A=${file:keys/a}\nB='${file:b} ?? ${file:c}'\nC='${nowhere:x}'\nD='${HOME}/d'\nE=plain\n"
    (tmp_path / "one.env").write_text(text)
    opened = Resolver(tmp_path, {})
    plan = plan_scope(opened, Address("dotenv", "one.env"), Address("dotenv", "two.env"))
    assert states(plan.items) == {"A": "failed", "B": "failed", "C": "failed", "D": "create", "E": "create"}
    assert "a reference, not a value" in plan.items[0].reason
    carry_out(opened, plan)
    assert "file:" not in (tmp_path / "two.env").read_text()
    one = plan_one(opened, Address("dotenv", "one.env#A"), Address("dotenv", "two.env#A"))
    assert states(one.failed) == {"dotenv:one.env#A": "failed"}
