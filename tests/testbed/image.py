"""The server's image, and how much this machine allows a container of it to do."""

import functools
import hashlib
from pathlib import Path

from tests.testbed.docker import TestbedError, docker, run, succeeds

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docker" / "server"
REPOSITORY = "windlass-testbed-server"

# What a Docker Engine in a container needs, where the machine lacks some of what --privileged hands out.
CAPABILITIES = (
    "SYS_ADMIN",
    "NET_ADMIN",
    "NET_RAW",
    "SYS_PTRACE",
    "SYS_CHROOT",
    "MKNOD",
    "DAC_READ_SEARCH",
    "SYSLOG",
    "SYS_NICE",
    "SYS_TIME",
    "IPC_LOCK",
    "LINUX_IMMUTABLE",
)
UNCONFINED = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")


@functools.cache
def base_images() -> dict[str, str]:
    """Return the images to build and run with: BASE_IMAGE, POSTGRES_IMAGE, REDIS_IMAGE.

    They are pulled or built the first time, which takes a minute or so.
    """
    lines = run([str(ROOT / "scripts" / "base-images")], timeout=1800).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines)


def server_image() -> str:
    """Build the server's image unless it is there, and return its name; another content has another name."""
    base = base_images()["BASE_IMAGE"]
    reference = f"{REPOSITORY}:{_fingerprint(base)}"
    if not succeeds("image", "inspect", reference):
        words = ["buildx", "build", "--load", "--tag", reference, "--build-arg", f"BASE_IMAGE={base}"]
        docker(*words, str(SOURCE), timeout=900)
    return reference


def _fingerprint(base: str) -> str:
    digest = hashlib.sha256(docker("image", "inspect", "--format", "{{.Id}}", base).encode())
    for file in sorted(SOURCE.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def isolation(image: str) -> tuple[str, ...]:
    """Return the `docker run` options with which a container of `image` can run an engine of its own."""
    if succeeds("run", "--rm", "--privileged", "--network", "none", "--entrypoint", "true", image):
        return ("--privileged", "--cgroupns", "private")
    options = [f"--cap-add={name}" for name in CAPABILITIES]
    options += [f"--security-opt={rule}" for rule in UNCONFINED]
    options += ["--device-cgroup-rule", "a *:* rwm", "--cgroupns", "private"]
    if not succeeds("run", "--rm", *options, "--network", "none", "--entrypoint", "true", image):
        raise TestbedError(
            "this machine lets no container run a Docker Engine of its own: root and Linux are needed"
        )
    return tuple(options)
