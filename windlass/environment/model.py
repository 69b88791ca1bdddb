"""What an environment is: the typed model of `envs/base.toml` merged with `envs/<name>.toml`.

This model is the one source for `docs/reference/environment.md`, for the JSON schema editors use and
for validation. Every field has a description; a test proves that code reads every field.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from windlass.fields import (
    Allowed,
    Argument,
    FilledLine,
    Folder,
    Header,
    Line,
    Name,
    OptionalArgument,
    Port,
    Registry,
    Seconds,
    Section,
    Severity,
    StatusCode,
    VariableName,
)
from windlass.secrets.settings import SecretsSettings


class HostSettings(Section):
    """A machine the stack runs on."""

    transport: Literal["ssh", "local"] = Field(
        "ssh", description="`ssh` for a server, `local` for the machine Windlass is started on."
    )
    address: OptionalArgument = Field(
        "",
        description=(
            "Name or IP address, or an alias of your ssh_config; empty: the host's key in this table."
        ),
    )
    user: Argument | None = Field(None, description="Login name; empty: ssh_config's, else your own.")
    port: Port | None = Field(None, description="SSH port; empty: ssh_config's, else 22.")
    jump: Argument | None = Field(
        None,
        description=(
            "Jump host as `[user@]host[:port]` or an ssh_config alias; empty: ssh_config's ProxyJump."
        ),
    )
    identity_file: FilledLine | None = Field(
        None, description="Private key file; empty: ssh_config's, the agent's, then the usual names."
    )
    ssh_config: FilledLine | None = Field(
        None, description="An ssh_config file to use in place of `~/.ssh/config`, relative to the repository."
    )
    known_hosts: FilledLine = Field(
        "envs/known_hosts",
        description="Trusted host keys, relative to the repository; `~/.ssh/known_hosts` is read as well.",
    )
    connect_timeout: Seconds = Field(10.0, description="Longest wait for a connection and its login.")
    command_timeout: Seconds = Field(
        600.0, description="Longest run of a script on the host that has no limit of its own."
    )
    keepalive: Seconds = Field(
        15.0,
        description="Interval of keepalives; after three without an answer the link counts as lost. 0: none.",
    )


class StackChecks(Section):
    """What the check of the Compose project says of common faults.

    Empty: `error` where the environment is protected, else `warning`.
    """

    missing_variable: Severity | None = Field(
        "error", description="A variable without a default that no file or environment sets."
    )
    untagged_image: Severity | None = Field(None, description="An image without a tag, or with `latest`.")
    public_port: Severity | None = Field(
        None,
        description="A port published on all interfaces: Docker's own rules pass it by the host's firewall.",
    )
    missing_healthcheck: Severity | None = Field(
        None, description="A long-running service without a health check."
    )
    secret_build_argument: Severity | None = Field(
        None, description="A secret as a build argument: the image's history holds it."
    )
    exposed_secret: Severity | None = Field(
        None,
        description="A secret in a command, a health check or a label, which `docker inspect` shows.",
    )


class EnvFileSettings(Section):
    """A file of variables the Compose project names, made from `envs/*.env` at each deploy.

    It need not be in the repository, and nothing is written there. A file of that name is not read.
    """

    variables: list[str] = Field([], description="Names, with `*`, of the variables it holds.")
    renamed: dict[VariableName, VariableName] = Field(
        {},
        description=(
            "Further names in the file, each with the variable whose value it has, such as "
            '`DATABASE_URL = "INNGEST_DATABASE_URL"`.'
        ),
    )
    format: Literal["dotenv", "compose", "docker", "shell"] = Field(
        "dotenv",
        description=(
            "How it is written where a service mounts it and reads it itself: as python-dotenv, Compose, "
            "`docker run` or a shell reads it. What an `env_file:` names is always read by Compose."
        ),
    )


class StackSettings(Section):
    """The user's Compose project."""

    files: list[FilledLine] = Field(
        ["compose.yaml"],
        min_length=1,
        description="Compose files, relative to the repository, later ones win.",
    )
    profiles: list[Argument] = Field([], description="Compose profiles to enable.")
    public_services: list[Argument] = Field(
        [], description="Services that may publish ports on all interfaces, such as the edge."
    )
    env_files: dict[FilledLine, EnvFileSettings] = Field(
        {},
        description=(
            "Files of variables to generate, by their path relative to the repository, for `env_file:`, "
            "a mount or a secret of the Compose project."
        ),
    )
    checks: StackChecks = Field(StackChecks(), description="How severe each finding is.")


class ImagesSettings(Section):
    """Where images come from and go to."""

    registry: Registry | None = Field(
        None,
        description=(
            "Prefix images are pushed under, such as `ghcr.io/acme`; "
            "empty: shipped over SSH, only missing layers."
        ),
    )
    build_args: dict[VariableName, str] = Field({}, description="Extra build arguments for every image.")
    keep: int = Field(5, ge=1, description="Releases whose images stay on a host after a deploy.")


class MigrateSettings(Section):
    """The database migration a deploy runs once, with the new image, before any service changes."""

    service: Argument = Field(description="Service whose image and variables the migration uses.")
    command: list[str] = Field(min_length=1, description="The command, one word per item.")
    timeout: Seconds = Field(600.0, description="Longest run before the migration counts as failed.")


class DeploySettings(Section):
    """How a release becomes the running one."""

    strategy: Literal["recreate"] = Field(
        "recreate", description="`recreate` replaces each changed container in place."
    )
    migrate: MigrateSettings | None = Field(None, description="The migration; empty: none.")
    up_timeout: Seconds = Field(300.0, description="Longest run of `docker compose up` itself.")
    health_timeout: Seconds = Field(120.0, description="Longest wait for every service to be healthy.")
    healthy_polls: int = Field(3, ge=1, description="Polls in a row that must find a service healthy.")
    poll_interval: Seconds = Field(0.5, gt=0, description="Time between two polls.")
    keep_releases: int = Field(5, ge=2, description="Releases kept on a host for rollback.")
    secrets_in: Literal["disk", "memory"] = Field(
        "disk",
        description=(
            "Where a host keeps the secrets of its releases for a rollback: in 0600 files, or in `/dev/shm`, "
            "which is empty after a restart. What services mount as files is on disk in both."
        ),
    )
    min_free_disk_mb: int = Field(
        512, ge=0, description="Free space in MiB a host must have before anything is changed."
    )
    parallel_hosts: int = Field(8, ge=1, le=50, description="Hosts worked on at the same time.")


class DatabaseSettings(Section):
    """A database of the stack."""

    engine: Literal["postgres"] = Field("postgres", description="The kind of database.")
    service: Argument = Field(description="The Compose service it runs in.")
    name: FilledLine = Field(description="The database's name in the server.")
    user: FilledLine = Field(
        "postgres", description="The role Windlass connects as, over the container's local socket."
    )


class DirectoryStore(Section):
    """A store that is a directory of this machine."""

    kind: Literal["directory"] = Field("directory", description="The kind of store.")
    path: FilledLine = Field(
        description="The directory, relative to the repository or absolute; `~` is your home."
    )


class BackupSettings(Section):
    """Where backups go."""

    store: str = Field("local", description="The store backups are written to, a key of `stores`.")
    stores: dict[Name, DirectoryStore] = Field(
        {"local": DirectoryStore(path=".windlass/backups")}, description="The stores, by name."
    )
    timeout: Seconds = Field(6 * 3600.0, description="Longest run of one backup or restore.")


class CheckBase(Section):
    """What all checks have."""

    service: Argument | None = Field(
        None, description="The service this check speaks for, for `health.check --service`."
    )
    timeout: Seconds = Field(5.0, gt=0, description="Longest wait for an answer.")
    smoke: bool = Field(False, description="A deploy runs it too, after the services are healthy.")


class HttpCheck(CheckBase):
    """An HTTP request, made from the host through its own network."""

    kind: Literal["http"] = Field(description="An HTTP request.")
    url: Annotated[str, Allowed("address that begins with `http://` or `https://`, without spaces")] = Field(
        pattern=r"^https?://[^\s\x00-\x1f]+$",
        description="Address as the host sees it, such as `http://127.0.0.1:8080/health`.",
    )
    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"] = Field(
        "GET", description="The method."
    )
    headers: dict[Header, Line] = Field({}, description="Headers to send.")
    secret_headers: dict[Header, VariableName] = Field(
        {}, description="Headers whose value is a variable of `envs/*.env`, by its name."
    )
    body: str | None = Field(None, description="A body to send.")
    status: list[StatusCode] = Field([200], min_length=1, description="Status codes that count as healthy.")
    json_fields: dict[str, str | int | float | bool] = Field(
        {}, description="Fields of the JSON answer, as `a.b.c`, and the value each must have."
    )
    verify_tls: bool = Field(True, description="Whether the certificate must be valid.")


class TcpCheck(CheckBase):
    """A TCP connection, made from the host."""

    kind: Literal["tcp"] = Field(description="A TCP connection.")
    address: Argument = Field("127.0.0.1", description="Name or address as the host sees it.")
    port: Port = Field(description="The port.")


class CommandCheck(CheckBase):
    """A command inside the container of a service; healthy when it ends with 0."""

    kind: Literal["command"] = Field(description="A command in the service's container.")
    command: list[str] = Field(min_length=1, description="The command, one word per item.")
    expect: str | None = Field(None, description="A text its output must contain.")


Check = Annotated[HttpCheck | TcpCheck | CommandCheck, Field(discriminator="kind")]


class HealthSettings(Section):
    """What `health.check` looks at beside the health state Compose reports."""

    checks: dict[Name, Check] = Field({}, description="The checks, by name.")


class VariablesSettings(Section):
    """How the variables of `envs/*.env` are treated."""

    secret: list[str] = Field(
        [], description="Names, with `*`, that are secret beside those whose name or value says so."
    )
    public: list[str] = Field(
        [], description="Names, with `*`, that are not secret though their name says so."
    )


class Settings(Section):
    """An environment: `envs/base.toml` with `envs/<name>.toml` merged over it."""

    app: Name = Field(
        description="The application's name: of the Compose project and of its folder on hosts."
    )
    default: bool = Field(False, description="Tasks take this environment when none is named.")
    protected: bool = Field(
        False,
        description="Changes ask for the environment's name to be typed, or `--yes`; checks are stricter.",
    )
    directory: Folder = Field(
        "/srv/{app}",
        description=(
            "Folder on each host that holds releases; `{app}` is the name. "
            "Relative: to the repository (local hosts) or the login's home."
        ),
    )
    hosts: dict[Name, HostSettings] = Field(min_length=1, description="The hosts, by name.")
    stack: StackSettings = Field(StackSettings(), description="The Compose project.")
    variables: VariablesSettings = Field(VariablesSettings(), description="How variables are treated.")
    secrets: SecretsSettings = Field(SecretsSettings(), description="Where secrets are kept.")
    images: ImagesSettings = Field(ImagesSettings(), description="Where images come from and go to.")
    deploy: DeploySettings = Field(DeploySettings(), description="How a release becomes the running one.")
    databases: dict[Name, DatabaseSettings] = Field({}, description="The databases, by name.")
    backup: BackupSettings = Field(BackupSettings(), description="Where backups go.")
    health: HealthSettings = Field(HealthSettings(), description="What `health.check` looks at.")
