"""Where a server is: the environment's settings over ssh_config, jump hosts, and OpenSSH's argv."""

import shlex
import subprocess
from pathlib import Path

import pytest

from windlass.environment.model import HostSettings
from windlass.errors import ConfigurationError
from windlass.hosts.address import Address, resolve
from windlass.hosts.ssh import known_hosts_files, ssh_argv

CONFIG = """
Host web
  HostName WEB.example.com
  Port 2222
  User app
  IdentityFile ~/.ssh/web
  ProxyJump front

Host front
  HostName 192.0.2.7
  User jumper
  IdentityFile ~/.ssh/front

Host through
  HostName 10.0.0.9
  ProxyCommand nc --proxy 192.0.2.1 %h %p

Host one
  ProxyJump two
Host two
  ProxyJump one

Host apart
  ProxyJump none
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "me")
    (tmp_path / "config").write_text(CONFIG)
    return tmp_path


def address(root: Path, name: str = "server1", **settings: object) -> Address:
    return resolve(name, HostSettings.model_validate(settings), root)


def test_without_settings_the_hosts_key_is_its_name(home: Path) -> None:
    assert address(home) == Address("server1", 22, "me")


def test_ssh_config_fills_what_the_environment_leaves_open(home: Path) -> None:
    front = Address("192.0.2.7", 22, "jumper", (f"{home}/.ssh/front",))
    web = Address("web.example.com", 2222, "app", (f"{home}/.ssh/web",), front)
    assert address(home, "web", ssh_config="config") == web
    assert address(home, "server1", address="web", ssh_config="config") == web


def test_the_environment_wins_over_ssh_config(home: Path) -> None:
    found = address(
        home,
        "web",
        ssh_config="config",
        port=22,
        user="root",
        identity_file="keys/id",
        jump="x@192.0.2.9:2200",
    )
    key = (f"{home}/keys/id",)
    assert found == Address("web.example.com", 22, "root", key, Address("192.0.2.9", 2200, "x", key))


def test_a_jump_host_has_its_own_ssh_config_and_else_the_hosts_key(home: Path) -> None:
    found = address(home, ssh_config="config", jump="front", identity_file="id")
    assert found.jump == Address("192.0.2.7", 22, "jumper", (f"{home}/.ssh/front",))
    found = address(home, ssh_config="config", jump="elsewhere", identity_file="id")
    assert found.jump == Address("elsewhere", 22, "me", (f"{home}/id",))


def test_a_chain_of_jump_hosts_is_passed_in_its_order(home: Path) -> None:
    found = address(home, jump="a@first:1,b@second:2,c@third:3")
    names = []
    while found.jump is not None:
        found = found.jump
        names.append(str(found))
    assert names == ["c@third:3", "b@second:2", "a@first:1"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("[2001:db8::1]", "2001:db8::1", 22),
        ("[2001:db8::1]:2200", "2001:db8::1", 2200),
        ("plain:23", "plain", 23),
    ],
)
def test_the_forms_of_a_jump_host(home: Path, text: str, host: str, port: int) -> None:
    assert address(home, jump=f"u@{text}").jump == Address(host, port, "u")


@pytest.mark.parametrize("text", ["host:port", "a@b@c", "2001:db8::1", ":22", "a,,b"])
def test_what_is_no_jump_host_is_refused(home: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no jump host"):
        address(home, jump=text)


def test_jump_hosts_in_a_ring_are_refused(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="form a ring"):
        address(home, "one", ssh_config="config")


def test_none_means_no_jump_host(home: Path) -> None:
    assert address(home, "apart", ssh_config="config").jump is None


def test_a_proxy_command_gives_way_to_a_jump_host(home: Path) -> None:
    assert address(home, "through", ssh_config="config").proxy_command == "nc --proxy 192.0.2.1 10.0.0.9 22"
    assert address(home, "through", ssh_config="config", jump="front").proxy_command is None


def test_an_ssh_config_that_is_named_must_exist(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="other_config does not exist"):
        address(home, ssh_config="other_config")
    (home / ".ssh").mkdir()
    assert address(home).host == "server1"
    (home / ".ssh" / "config").write_text("Host *\n  User everybody\n")
    assert address(home).user == "everybody"


# --- the OpenSSH client


def argv(home: Path, **settings: object) -> list[str]:
    made = HostSettings.model_validate(settings)
    return ssh_argv(
        resolve("server1", made, home),
        known_hosts_files(made, home),
        config=home / "config",
        connect_timeout=10,
        keepalive=15,
    )


def effective(words: list[str]) -> dict[str, str]:
    """Return what the real client makes of an argv, without connecting."""
    said = subprocess.run([words[0], "-G", *words[1:]], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in said.splitlines() if " " in line)


def test_host_keys_are_always_checked_whatever_the_ssh_config_says(home: Path) -> None:
    (home / "config").write_text(
        "Host *\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n ControlMaster auto\n"
        " ControlPath /tmp/control\n RemoteCommand echo\n ServerAliveInterval 0\n"
    )
    found = effective(argv(home, user="deploy", port=2222))
    assert found["stricthostkeychecking"] == "true"
    assert found["userknownhostsfile"] == f"{home}/envs/known_hosts {home}/.ssh/known_hosts"
    assert found["controlmaster"] == "false"
    assert "controlpath" not in found
    assert "remotecommand" not in found
    assert (found["serveraliveinterval"], found["serveralivecountmax"]) == ("15", "3")
    assert (found["user"], found["port"], found["hostname"]) == ("deploy", "2222", "server1")


def test_a_jump_host_for_the_address_alone_is_not_used(home: Path) -> None:
    (home / "config").write_text("Host alias\n HostName 10.0.0.5\nHost 10.*\n ProxyJump front\n")
    words = argv(home, address="alias", ssh_config="config")
    assert "proxyjump" not in effective(words)
    assert "proxycommand" not in effective(words)


def test_a_chain_of_jump_hosts_survives_each_shell_on_the_way(home: Path) -> None:
    """Each client runs the one before it through a shell, which takes one layer of quotes and `%%` away."""
    folder = home / "it's 100% mine"
    folder.mkdir()
    command = ""
    words = argv(home, jump="a@first:1,b@[2001:db8::2]:2", identity_file=str(folder / "id"))
    targets, keys = [], []
    while words:
        command = next(
            (word.removeprefix("ProxyCommand=") for word in words if word.startswith("ProxyCommand=")), ""
        )
        keys.append(words[words.index("-i") + 1])
        targets.append(words[-1])
        if command == "none":
            break
        words = shlex.split(command.replace("%%", "%"))
        assert words[0] == "ssh"
        targets[-1] += " through " + words[words.index("-W") + 1]
        assert any(word.startswith("StrictHostKeyChecking=yes") for word in words)
    assert targets == ["server1 through server1:22", "2001:db8::2 through [2001:db8::2]:2", "first"]
    assert keys == [str(folder / "id").replace("%", "%%")] * 3  # as OpenSSH reads it
