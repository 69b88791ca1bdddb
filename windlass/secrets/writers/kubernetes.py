"""Secrets of Kubernetes: a manifest in JSON, with data in base64, that never changes under its name.

JSON is what `kubectl` reads as YAML too, and base64 leaves nothing to quote. `immutable` together with a
name made of the content turns a changed value into a rollout of exactly what names the secret.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from windlass.errors import ConfigurationError
from windlass.secrets.writers.entries import text_fault
from windlass.secrets.writers.versions import SUFFIX_CHARACTERS, versioned
from windlass.shell import Sensitive

# core/v1 MaxSecretSize: of all values of a secret together, before base64.
MAX_BYTES: Final = 1024 * 1024
# RFC 1123, as metadata.name of a Secret is checked.
MAX_NAME: Final = 253
MAX_KEY: Final = 253
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")


@dataclass(frozen=True)
class KubernetesSecret:
    """A Secret as it is sent to `kubectl create --filename -`.

    Args:
        name: its name, `<plain name>-<8 hex digits of a keyed digest>`.
        manifest: the JSON, for the command's stdin.
    """

    name: str
    manifest: Sensitive = field(repr=False)


def kubernetes_secret(
    name: str,
    values: Mapping[str, str],
    key: bytes,
    *,
    namespace: str = "",
    labels: Mapping[str, str] | None = None,
) -> KubernetesSecret:
    """Return values as one immutable Secret.

    Args:
        name: the plain name.
        values: the values by key.
        key: a secret of the application that stays the same; the name's digest is keyed with it.
        namespace: empty: that of whoever creates it.
        labels: its labels.

    Raises:
        ConfigurationError: Kubernetes cannot hold it; no value is shown.
    """
    _require(name, values)
    data = {each: base64.b64encode(value.encode()).decode() for each, value in values.items()}
    content = json.dumps(data, sort_keys=True)
    full = versioned(name, content.encode(), key, "-")
    metadata: dict[str, Any] = {"name": full}
    metadata |= {"namespace": namespace} if namespace else {}
    metadata |= {"labels": dict(labels)} if labels else {}
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "immutable": True,
        "data": data,
    }
    return KubernetesSecret(full, Sensitive(json.dumps(manifest, sort_keys=True)))


def _require(name: str, values: Mapping[str, str]) -> None:
    longest = MAX_NAME - SUFFIX_CHARACTERS - 1
    if _NAME.fullmatch(name) is None or len(name) > longest:
        raise ConfigurationError(
            f"The Kubernetes secret {name!r} cannot be made: its name is small letters, digits, `-` and `.`,"
            f" a letter or digit at both ends, at most {longest} characters."
        )
    for each, value in values.items():
        if fault := _fault(each, value):
            raise ConfigurationError(
                f"The variable {each!r} cannot be written to the Kubernetes secret {name}: {fault}."
            )
    total = sum(len(value.encode()) for value in values.values())
    if total > MAX_BYTES:
        largest = max(values, key=lambda each: len(values[each].encode()))
        raise ConfigurationError(
            f"The Kubernetes secret {name} cannot be made: its values have {total} bytes and Kubernetes"
            f" takes {MAX_BYTES}; the largest is {largest!r}.",
            "Split it into several secrets; a file of a volume or of an image can hold more.",
        )


def _fault(each: str, value: str) -> str:
    if _KEY.fullmatch(each) is None or len(each) > MAX_KEY or each in {".", ".."} or each.startswith(".."):
        return f"a key is letters, digits, `-`, `_` and `.`, at most {MAX_KEY}, and does not begin with `..`"
    return text_fault(value)
