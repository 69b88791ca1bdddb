"""What a service is made of, by name: so that a plan can say what changed, and never what it is.

Every part has a digest keyed with a secret of the application, or short secrets could be guessed from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from windlass.stack.files import Digest
from windlass.stack.texts import LITERAL_PREFIX, SECRET_PREFIX, SecretText, secret_texts, template

CONFIGURATION: Final = "configuration"
# These have parts of their own, or a plan says what becomes of them.
_APART: Final = ("environment", "image", "secrets", "configs")


def parts_of(
    name: str, model: Mapping[str, Any], values: Mapping[str, str], digest: Digest
) -> dict[str, str]:
    """Return a keyed digest of each part of a service: its variables, secrets, mounts, and all the rest.

    Args:
        name: the service.
        model: the rewritten model, with `SecretText` where secrets belong.
        values: every secret value, by the name a `SecretText` has for it.
        digest: a keyed digest.

    Returns:
        Digests of 16 characters by what they are of, in words: `secret API_KEY`, `variable PORT`,
        `mount /etc/caddy`, `secret file signing`, `configuration`.
    """
    service = model["services"][name]
    found: dict[str, Any] = {
        f"variable {key}": _plain(value) for key, value in (service.get("environment") or {}).items()
    }
    needed = {each for text in secret_texts(service) for each in text.names}
    found |= {f"secret {_shown(each, name)}": values[each] for each in needed}
    mounts = [each for each in service.get("volumes") or () if each.get("type") == "bind"]
    found |= {f"mount {each['target']}": _plain(each) for each in mounts}
    for kind, words in (("secrets", "secret file"), ("configs", "config")):
        for each in service.get(kind) or ():
            found[f"{words} {each['source']}"] = [_plain(each), _plain(model[kind][each["source"]])]
    rest = {key: value for key, value in service.items() if key not in _APART}
    rest["volumes"] = [each for each in service.get("volumes") or () if each.get("type") != "bind"]
    found[CONFIGURATION] = _plain(rest)
    # The name is in the digest: equal values of two variables do not look equal.
    return {
        what: digest(json.dumps([what, each], sort_keys=True).encode())[:16] for what, each in found.items()
    }


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    """Return what differs between the parts of two releases' service, such as `secret API_KEY changed`."""
    changed = (f"{what} changed" for what in after if what in before and before[what] != after[what])
    added = (f"{what} added" for what in after if what not in before)
    removed = (f"{what} removed" for what in before if what not in after)
    return tuple(sorted((*changed, *added, *removed)))


def _shown(name: str, service: str) -> str:
    """Return a secret's own name: a variable's, or the key it stands under in the Compose project."""
    own = LITERAL_PREFIX + re.sub(r"\W", "_", f"{service}_")
    return name.removeprefix(own).removeprefix(LITERAL_PREFIX).removeprefix(SECRET_PREFIX)


def _plain(node: Any) -> Any:
    """Return a tree of the model as JSON has it, with placeholders where secrets belong."""
    if isinstance(node, SecretText | str):
        return template(node)
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(each) for each in node] if isinstance(node, list | tuple) else node
