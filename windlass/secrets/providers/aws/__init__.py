"""Secrets in AWS Secrets Manager."""

from __future__ import annotations

from typing import Final

from windlass.secrets.providers.aws.targets import Place, fault
from windlass.secrets.providers.base import Client, Context, Provider, import_sdk, setting


def _connect(context: Context) -> Client:
    import_sdk("botocore.session", "aws")
    from windlass.secrets.providers.aws.client import AwsClient
    from windlass.secrets.providers.aws.sessions import Login

    given = context.settings.aws

    def text(value: str | None) -> str:
        return setting(context, value).reveal() if value else ""

    place = Place(text(given.region), text(given.profile), text(given.role))
    login = Login(context.process, given.endpoint or "", text(given.external_id))
    return AwsClient(login, place)


PROVIDER: Final = Provider(
    "aws",
    "${aws:shop/prod#password}",
    "A secret of AWS Secrets Manager by name or ARN, with `#` one field of a JSON document. "
    "Options: `stage`, `version`, `region`, `profile`, `role`; see [AWS](../providers/aws.md).",
    fault,
    _connect,
    extra="aws",
    is_remote=True,
)
