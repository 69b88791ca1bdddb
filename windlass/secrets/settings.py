"""The `[secrets]` table of an environment: how each provider is reached, and how secrets are rotated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from windlass.fields import Allowed, Argument, FilledLine, Name, Referenced, Seconds, Section, VariableName

Url = Annotated[str, Allowed("address that begins with `https://` or `http://`, without spaces")]


class AwsSettings(Section):
    """AWS Secrets Manager; what is empty comes from the AWS SDK's own files and variables."""

    region: Argument | None = Field(None, description="The region; a reference's `region` comes first.")
    profile: FilledLine | None = Field(None, description="The profile of `~/.aws/config` to log in with.")
    role: Argument | None = Field(None, description="ARN of a role to assume.")
    external_id: FilledLine | None = Field(None, description="The external id the role asks for.")
    endpoint: Url | None = Field(
        None,
        pattern=r"^https?://[^\s\x00-\x1f]+$",
        description="Another address of the service, such as that of a VPC endpoint.",
    )


class AzureSettings(Section):
    """Azure Key Vault."""

    vault: FilledLine | None = Field(
        None, description="The vault of references that name none: its name, or its whole address."
    )
    cloud: Literal["public", "us-government", "china"] = Field("public", description="The cloud it is in.")
    login: Literal["default", "managed-identity", "client-secret"] = Field(
        "default",
        description="`default` tries what `DefaultAzureCredential` does: variables, identity, Azure CLI.",
    )
    tenant_id: Argument | None = Field(None, description="The tenant, for `client-secret`.")
    client_id: Argument | None = Field(
        None, description="The application, for `client-secret`, or the user-assigned managed identity."
    )
    client_secret: Referenced = Field(
        "${env:AZURE_CLIENT_SECRET}", description="The application's secret, as a reference."
    )
    ca_file: FilledLine | None = Field(
        None, description="Certificates to trust beside the system's, relative to the repository."
    )
    verify_challenge: bool = Field(
        True, description="Whether the vault must be of the cloud's domain; false for an emulator only."
    )


class VaultSettings(Section):
    """HashiCorp Vault or OpenBao, its KV secrets engine."""

    address: Url | None = Field(
        None,
        pattern=r"^https?://[^\s\x00-\x1f]+$",
        description="The server's address; empty: the variable `VAULT_ADDR`.",
    )
    namespace: FilledLine | None = Field(None, description="The namespace; empty: `VAULT_NAMESPACE`.")
    mount: FilledLine = Field("secret", description="Where the KV engine of references is mounted.")
    version: Literal[1, 2] = Field(2, description="The KV engine's version.")
    login: Literal["token", "approle"] = Field("token", description="How to log in.")
    token: Referenced = Field("${env:VAULT_TOKEN}", description="The token, as a reference.")
    role_id: FilledLine = Field("${env:VAULT_ROLE_ID}", description="The AppRole's id, as a reference.")
    secret_id: Referenced = Field(
        "${env:VAULT_SECRET_ID}", description="The AppRole's secret id, as a reference."
    )
    login_mount: FilledLine = Field("approle", description="Where AppRole is mounted.")
    ca_file: FilledLine | None = Field(
        None, description="Certificates to trust in place of the system's, relative to the repository."
    )


class PostgresSettings(Section):
    """A table of a PostgreSQL database with a row for each secret."""

    url: Referenced = Field("${variable:DATABASE_URL}", description="The database's address, as a reference.")
    table: FilledLine = Field(
        "EnvironmentVariable", description="The table, `name` or `schema.name`, in the case it was made in."
    )
    name_column: FilledLine = Field("key", description="The column that holds the names.")
    value_column: FilledLine = Field("value", description="The column that holds the values.")


class CommandSettings(Section):
    """Commands that print a secret."""

    timeout: Seconds = Field(30.0, gt=0, description="Longest run of a command.")


class CacheSettings(Section):
    """A cache of fetched secrets on this machine, encrypted; off unless it has a time to live."""

    ttl: Seconds = Field(0.0, description="How long a value may be used again. 0: no cache.")
    directory: FilledLine = Field("~/.cache/windlass/secrets", description="Where it is kept, mode 0700.")
    key: Referenced = Field(
        "${file:~/.config/windlass/cache.key}",
        description="The key it is encrypted with, as a reference; a file of this name is made when missing.",
    )


class ReencryptSettings(Section):
    """What an application must do before an old key may go, run in the new release's image."""

    service: Argument = Field(description="Service whose image and variables the command uses.")
    command: list[str] = Field(min_length=1, description="The command, one word per item.")
    timeout: Seconds = Field(600.0, description="Longest run before the rotation counts as failed.")


class RotationSettings(Section):
    """How one secret is rotated."""

    generate: FilledLine = Field(
        "password:32",
        description=(
            "How a new value is made: `password:32` (characters), `base64:32`, `hex:32` (bytes), `uuid`."
        ),
    )
    previous: VariableName | None = Field(
        None, description="The variable that gives the application the value before, such as `KEY_PREVIOUS`."
    )
    reencrypt: ReencryptSettings | None = Field(
        None, description="The command that makes everything use the new value; empty: none."
    )


class SecretsSettings(Section):
    """Where the secrets of `envs/*.env` are kept."""

    aws: AwsSettings = Field(AwsSettings(), description="AWS Secrets Manager.")
    azure: AzureSettings = Field(AzureSettings(), description="Azure Key Vault.")
    vault: VaultSettings = Field(VaultSettings(), description="HashiCorp Vault or OpenBao.")
    postgres: PostgresSettings = Field(PostgresSettings(), description="A PostgreSQL table.")
    command: CommandSettings = Field(CommandSettings(), description="Commands that print a secret.")
    cache: CacheSettings = Field(CacheSettings(), description="A cache on this machine.")
    rotation: dict[VariableName, RotationSettings] = Field(
        {}, description="How secrets are rotated, by the variable's name."
    )
    plugins: dict[Name, dict[str, str]] = Field(
        {}, description="Settings of providers that other packages bring, by the provider's name."
    )
