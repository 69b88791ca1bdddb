from __future__ import annotations

import base64
import json

import pytest

from windlass.errors import ConfigurationError
from windlass.secrets.writers.kubernetes import MAX_BYTES, kubernetes_secret

KEY = b"a key of the test"


def test_the_manifest_is_immutable_and_named_after_its_content() -> None:
    made = kubernetes_secret(
        "shop-api", {"TOKEN": "hidden\n", "B": ""}, KEY, namespace="shop", labels={"a": "b"}
    )
    manifest = json.loads(made.manifest.reveal())
    assert manifest.pop("metadata") == {"name": made.name, "namespace": "shop", "labels": {"a": "b"}}
    assert manifest == {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "immutable": True,
        "data": {"TOKEN": base64.b64encode(b"hidden\n").decode(), "B": ""},
    }
    assert made.name.startswith("shop-api-")
    assert "hidden" not in repr(made)


def test_the_name_follows_names_and_values_and_not_their_order() -> None:
    first = kubernetes_secret("shop", {"A": "1", "B": "2"}, KEY).name
    assert first == kubernetes_secret("shop", {"B": "2", "A": "1"}, KEY).name
    assert first != kubernetes_secret("shop", {"A": "2", "B": "1"}, KEY).name
    assert first != kubernetes_secret("shop", {"A": "1"}, KEY).name


@pytest.mark.parametrize("name", ["", "Shop", "a_b", "-a", "a.", "a..b", "é", "a" * 245])
def test_a_name_that_kubernetes_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="its name is small letters"):
        kubernetes_secret(name, {"A": "x"}, KEY)


@pytest.mark.parametrize("key", ["", "a b", "a/b", "é", "..", "..a", ".", "a" * 254])
def test_a_key_that_kubernetes_does_not_take_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="a key is letters"):
        kubernetes_secret("shop", {key: "x"}, KEY)


def test_what_is_no_text_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="'TOKEN'") as caught:
        kubernetes_secret("shop", {"TOKEN": "hidden\udfff"}, KEY)
    assert "hidden" not in str(caught.value)


def test_the_limit_is_that_of_all_values_together() -> None:
    half = "x" * (MAX_BYTES // 2)
    assert kubernetes_secret("shop", {"A": half, "B": half}, KEY).manifest
    with pytest.raises(ConfigurationError, match="1048577 bytes") as caught:
        kubernetes_secret("shop", {"A": half, "B": half + "x"}, KEY)
    assert "'B'" in caught.value.message
    assert "xxx" not in str(caught.value)
