"""What changed in a service is told by name, from digests that tell nothing of the values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.stacks import environment
from windlass.shell import Sensitive
from windlass.stack.model import Stack
from windlass.stack.parts import differences
from windlass.stack.rendering import RenderedStack, render
from windlass.stack.services import services_of
from windlass.stack.texts import SecretRef, SecretText

URL = SecretText(("postgres://app:", SecretRef("WINDLASS_SECRET_DB_PASSWORD"), "@db/app"))
PIN = SecretText((SecretRef("WINDLASS_LITERAL_api_PIN"),))
SECRETS = {"DB_PASSWORD": "1234", "SIGNING": "5678"}


def rendered(root: Path, key: bytes = b"key", pin: str = "1234", **changes: Any) -> RenderedStack:
    (root / "app.conf").write_text(changes.pop("conf", "x"))
    api = {
        "image": "api:1",
        "environment": {"URL": URL, "PIN": PIN, "PORT": "80"},
        "secrets": [{"source": "signing"}],
        "volumes": [
            {"type": "bind", "source": str(root / "app.conf"), "target": "/etc/app.conf", "read_only": True},
            {"type": "volume", "source": "data", "target": "/data"},
        ],
        **changes.pop("api", {}),
    }
    other = {"image": "x:1", "environment": {"PORT": "80"}}
    model = {
        "services": {"api": api, "other": other},
        "secrets": {"signing": {"name": "s", "environment": "SIGNING"}},
        "volumes": {"data": {}},
    }
    literals = {"WINDLASS_LITERAL_api_PIN": Sensitive(pin)}
    what = Stack("app", root, root, model, services_of(model, root), literals=literals)
    where = environment(root, secret=SECRETS | changes.pop("secret", {}))
    places = {"files_root": "/srv/app/files", "shared_root": "/srv/app/shared"}
    return render(what, where, images=changes, release="r", key=key, **places)


def changed(before: RenderedStack, after: RenderedStack) -> Mapping[str, tuple[str, ...]]:
    found = {name: differences(before.parts[name], after.parts[name]) for name in after.parts}
    assert {name for name, each in found.items() if each} == {
        name for name in after.hashes if after.hashes[name] != before.hashes[name]
    }
    return {name: each for name, each in found.items() if each}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, {}),
        ({"secret": {"DB_PASSWORD": "4321"}}, {"api": ("secret DB_PASSWORD changed",)}),
        ({"secret": {"SIGNING": "8765"}}, {"api": ("secret file signing changed",)}),
        ({"pin": "4321"}, {"api": ("secret PIN changed",)}),
        ({"conf": "y"}, {"api": ("mount /etc/app.conf changed",)}),
        ({"api": {"restart": "always"}}, {"api": ("configuration changed",)}),
        (
            {"api": {"environment": {"URL": URL, "PORT": "81", "NEW": "1"}}},
            {
                "api": (
                    *("secret PIN removed", "variable NEW added"),
                    *("variable PIN removed", "variable PORT changed"),
                )
            },
        ),
    ],
)
def test_a_change_is_told_by_name_and_for_the_services_it_is_of(
    change: dict[str, Any], said: dict[str, tuple[str, ...]], tmp_path: Path
) -> None:
    before = rendered(tmp_path)
    assert changed(before, rendered(tmp_path, **change)) == said


def test_digests_tell_nothing_without_the_key(tmp_path: Path) -> None:
    parts, others = rendered(tmp_path).parts["api"], rendered(tmp_path, key=b"another").parts["api"]
    assert set(parts) == set(others)
    assert not set(parts.values()) & set(others.values())
    # Two secrets of one value, and the value as a bare hash.
    assert parts["secret DB_PASSWORD"] != parts["secret PIN"]
    text = json.dumps(parts)
    assert "1234" not in text
    assert not [
        kind for kind in ("md5", "sha1", "sha256") if hashlib.new(kind, b"1234").hexdigest()[:16] in text
    ]
