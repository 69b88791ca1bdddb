"""What a reference to Vault may say."""

from __future__ import annotations

import re
from typing import Final

from windlass.secrets.targets import parse_target, target_fault

_OPTIONS: Final = ("version", "mount", "namespace")
NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")


def fault(text: str) -> str:
    """Return what is wrong with a target; empty when nothing is."""
    if problem := target_fault(text, _OPTIONS):
        return problem
    target = parse_target(text)
    for part in (target.path, target.options.get("mount", ""), target.options.get("namespace", "")):
        if any(each in {"", ".", ".."} for each in part.split("/")) and part:
            return "a path has no `/` at its ends, no `//`, and no `.` or `..` as a part"
        if not part.isprintable():
            return "a path has a sign that cannot be shown"
    number = target.options.get("version", "1")
    if number != "previous" and (not NUMBER.fullmatch(number)):
        return "`version` is a number from 1 on, or `previous`"
    return ""
