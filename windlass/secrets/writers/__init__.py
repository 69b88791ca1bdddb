"""Writes variables byte for byte, one exact writer per program that reads them.

There is no common env file format: what Compose reads, a shell or `docker run` reads differently.
"""

from windlass.secrets.writers.compose import compose_env_file, compose_quote, compose_text
from windlass.secrets.writers.docker import RunVariables, docker_env_file, docker_run_variables
from windlass.secrets.writers.dotenv import dotenv_file, dotenv_quote
from windlass.secrets.writers.entries import MAX_ENTRY_BYTES, entry_fault
from windlass.secrets.writers.kubernetes import KubernetesSecret, kubernetes_secret
from windlass.secrets.writers.shell import shell_file
from windlass.secrets.writers.swarm import SwarmSecret, swarm_secret

__all__ = [
    "MAX_ENTRY_BYTES",
    "KubernetesSecret",
    "RunVariables",
    "SwarmSecret",
    "compose_env_file",
    "compose_quote",
    "compose_text",
    "docker_env_file",
    "docker_run_variables",
    "dotenv_file",
    "dotenv_quote",
    "entry_fault",
    "kubernetes_secret",
    "shell_file",
    "swarm_secret",
]
