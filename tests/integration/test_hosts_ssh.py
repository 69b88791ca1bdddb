"""Servers over SSH, against real ones: streams, exit codes, host keys, jump hosts, links that die."""

import contextlib
import hashlib
import json
import os
import pty
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from tests.testbed import Server, Testbed
from windlass.environment.model import HostSettings
from windlass.errors import CommandFailed, HostKeyError, HostUnreachable, LinkDropped, WindlassError
from windlass.hosts.base import Host
from windlass.hosts.files import put_script
from windlass.hosts.group import Hosts
from windlass.hosts.ssh import SshHost
from windlass.shell import Command, Script, Sensitive, assign

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
DATA = os.urandom(5 * MIB)
SHA = hashlib.sha256(DATA).hexdigest()

Make = Callable[..., SshHost]


@pytest.fixture(scope="module")
def bed() -> Iterator[Testbed]:
    with Testbed.up(hosts=2, name=f"ssh-{os.getpid()}-{secrets.token_hex(3)}") as bed:
        yield bed


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a repository of their own: nothing of this machine's user counts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    (tmp_path / "envs").mkdir()
    return tmp_path


@pytest.fixture
def make(bed: Testbed, home: Path) -> Iterator[Make]:
    """Make hosts that are closed at the end; both servers' keys are trusted, unless said otherwise."""
    opened: list[SshHost] = []
    trust(home, *bed.servers)

    def made(server: Server | None = None, redact: Callable[[str], str] = str, **settings: object) -> SshHost:
        chosen = server or bed.servers[0]
        options = {
            "address": chosen.address,
            "user": "deploy",
            "identity_file": str(bed.key_path),
            **settings,
        }
        host = SshHost(chosen.name, HostSettings.model_validate(options), home, redact)
        opened.append(host)
        return host

    yield made
    for host in opened:
        host.close()


def trust(home: Path, *servers: Server, key: str = "") -> None:
    lines = [f"{server.address} {key or server.host_key}\n" for server in servers]
    (home / "envs" / "known_hosts").write_text("".join(lines))


def other_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path / "other"], check=True)
    return " ".join((path / "other.pub").read_text().split()[:2])


def fingerprint(server: Server) -> str:
    listing = server.exec(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    return listing.split()[1]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


# --- scripts, streams, exit codes


def test_a_script_reads_a_binary_payload_and_answers_in_binary(make: Make) -> None:
    host = make()
    assert host.run(Script.of("echo it", "cat"), payload=DATA).stdout == DATA
    assert host.run(Script.of("sum it", "sha256sum"), payload=DATA).text.split()[0] == SHA


def test_without_a_payload_the_scripts_stdin_is_empty(make: Make) -> None:
    assert make().run(Script.of("read", "wc -c; cat", "echo end")).text.split() == ["0", "end"]


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_streams_carry_binary_data_both_ways(make: Make, bulk: bool) -> None:
    host = make()
    with host.open(Command.of("sh", "-c", "cat > /srv/in && cat /srv/in"), bulk=bulk) as process:
        writer = threading.Thread(target=send, args=(process.stdin, DATA))
        writer.start()
        received = b"".join(iter(lambda: process.stdout.read(65536), b""))
        writer.join()
        assert process.wait() == 0
    assert received == DATA
    assert host.run(Script.of("sum", "sha256sum </srv/in; rm /srv/in")).text.split()[0] == SHA


def send(stream: object, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[stream.write(view[:65536]) :]  # type: ignore[attr-defined]
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("exit 254", 254), ("kill -9 $$", 137)],
    ids=["0", "7", "254", "killed"],
)
def test_streams_have_real_exit_codes(make: Make, bulk: bool, script: str, code: int) -> None:
    with make().open(Command.of("bash", "-c", script), bulk=bulk) as process:
        process.stdin.close()
        assert process.wait() == code


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_a_commands_own_255_is_no_lost_link(make: Make, bulk: bool) -> None:
    with make().open(Command.of("bash", "-c", "exit 255"), bulk=bulk) as process:
        process.stdin.close()
        assert process.wait() == 254


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_much_on_stderr_blocks_nothing_and_its_end_is_kept(make: Make, bulk: bool) -> None:
    def redact(text: str) -> str:
        return text.replace("hush", "[REDACTED]")

    script = "head -c 8388608 /dev/zero | tr '\\0' x >&2; echo; echo >&2; echo the hush end >&2; exit 3"
    with make(redact=redact).open(Command.of("bash", "-c", script), bulk=bulk) as process:
        process.stdin.close()
        assert process.stdout.read(10) == b"\n"
        assert process.wait() == 3
        assert process.error_text().endswith("the [REDACTED] end")


def test_a_failed_command_says_what_where_and_how(make: Make) -> None:
    with pytest.raises(CommandFailed) as caught:
        make().run(Script.of("look", "echo no such thing >&2", "exit 9"))
    assert caught.value.code == 9
    assert caught.value.message == "server1: look failed with exit code 9: no such thing"
    assert make().run(Script.of("look", "exit 9"), check=False).code == 9


def test_a_script_that_takes_too_long_is_ended_on_the_host(make: Make, bed: Testbed) -> None:
    mark = secrets.token_hex(6)
    host = make()
    with pytest.raises(CommandFailed, match="took longer than 1 s"):
        host.run(Script.of("sleep", f"exec -a {mark} sleep 300", timeout=1))
    assert bed.servers[0].exec(["pgrep", "-f", mark], check=False).returncode == 1


def test_lines_come_as_they_are_printed_and_redacted(make: Make, bed: Testbed) -> None:
    seen: list[str] = []

    def hear(line: str) -> None:
        seen.append(line)
        bed.servers[0].exec(["touch", "/tmp/heard"])

    host = make(redact=lambda text: text.replace("hush", "[REDACTED]"))
    # It goes on only once its first line was heard.
    wait = "until [ -e /tmp/heard ]; do sleep 0.1; done"
    host.run(Script.of("talk", "echo one hush", wait, "printf 'two\\r\\nthr\\xff'", timeout=60), on_line=hear)
    bed.servers[0].exec(["rm", "/tmp/heard"])
    assert seen == ["one [REDACTED]", "two", "thr\N{REPLACEMENT CHARACTER}"]


def test_half_a_script_does_not_run(make: Make, bed: Testbed) -> None:
    """What a link that drops at the wrong moment would leave: bash gets the beginning only."""
    from windlass.hosts.framing import frame, shell_words

    whole = b"".join(frame(Script.of("two", "touch /srv/first", "touch /srv/second"), b""))
    with make().open(Command(tuple(shell_words(10))), bulk=False) as process:
        process.stdin.write(whole[: whole.index(b"touch /srv/second")])
        process.stdin.close()
        assert process.wait() == 1
        assert "only a part" in process.error_text()
    assert bed.servers[0].exec(["ls", "/srv"]).stdout == ""


def test_a_payload_that_breaks_off_is_the_error(make: Make, bed: Testbed) -> None:
    def payload() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("the source is gone")

    start = time.monotonic()
    with pytest.raises(ValueError, match="the source is gone"):
        make().run(put_script("/srv/target", 10, 0o600), payload=payload())
    assert time.monotonic() - start < 60
    wait_for(lambda: bed.servers[0].exec(["ls", "-A", "/srv"]).stdout == "")


# --- uploads


def test_put_writes_atomically_with_exactly_the_mode(make: Make, bed: Testbed) -> None:
    host = make()
    host.put("/srv/it's a file", DATA, 0o600)
    host.put("/srv/it's a file", DATA[:-1], 0o640)
    shown = bed.servers[0].exec(["stat", "-c", "%a %s %U", "/srv/it's a file"]).stdout
    assert shown == f"640 {5 * MIB - 1} deploy\n"
    assert bed.servers[0].exec(["ls", "-A", "/srv"]).stdout == "it's a file\n"
    bed.servers[0].exec(["rm", "/srv/it's a file"])


def test_an_upload_whose_client_is_killed_leaves_nothing(make: Make, bed: Testbed, home: Path) -> None:
    server = bed.servers[0]
    program = f"""
        import sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from windlass.environment.model import HostSettings
        from windlass.hosts.files import put_script
        from windlass.hosts.ssh import SshHost

        def slowly():
            yield b"x" * 2_000_000
            print("half", flush=True)
            time.sleep(300)

        key = {str(bed.key_path)!r}
        settings = HostSettings(address={server.address!r}, user="deploy", identity_file=key)
        host = SshHost("server1", settings, Path({str(home)!r}), str)
        host.run(put_script("/srv/target", 4_000_000, 0o600), payload=slowly())
    """
    make()
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, cwd=ROOT
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"half\n"
        wait_for(lambda: "target" in server.exec(["ls", "-A", "/srv"]).stdout)
        client.send_signal(signal.SIGKILL)
    wait_for(lambda: server.exec(["ls", "-A", "/srv"]).stdout == "")


def test_an_upload_to_a_full_disk_leaves_the_old_file(make: Make, bed: Testbed) -> None:
    host, server = make(), bed.servers[0]
    host.put("/srv/kept", b"old", 0o600)
    server.fill_disk("/srv", leave=MIB)
    try:
        with pytest.raises(CommandFailed, match="No space left"):
            host.put("/srv/kept", DATA, 0o600)
    finally:
        server.free_disk("/srv")
    assert server.exec(["cat", "/srv/kept"]).stdout == "old"
    assert server.exec(["ls", "-A", "/srv"]).stdout == "kept\n"
    server.exec(["rm", "/srv/kept"])


# --- host keys


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_a_wrong_host_key_is_refused(make: Make, bed: Testbed, home: Path, bulk: bool) -> None:
    trust(home, bed.servers[0], key=other_key(home))
    mark = bed.servers[0].mark()
    with pytest.raises(HostKeyError) as caught:
        finish(make(), bulk)
    assert "host key" in caught.value.message
    assert caught.value.exit_code == 11
    assert bed.servers[0].count_ssh_connections(mark) == 0


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_an_unknown_host_key_is_refused(make: Make, bed: Testbed, home: Path, bulk: bool) -> None:
    (home / "envs" / "known_hosts").write_text("")
    mark = bed.servers[0].mark()
    with pytest.raises(HostKeyError, match="host key"):
        finish(make(), bulk)
    assert bed.servers[0].count_ssh_connections(mark) == 0


def finish(host: Host, bulk: bool) -> int:
    with host.open(Command.of("true"), bulk=bulk) as process:
        process.stdin.close()
        return process.wait()


def test_the_users_ssh_config_cannot_switch_the_check_off(make: Make, bed: Testbed, home: Path) -> None:
    config = home / "config"
    config.write_text(
        "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  ControlMaster auto\n"
        f"  ControlPath {home}/control\n  ControlPersist 60\n  RemoteCommand echo no\n"
    )
    assert finish(make(ssh_config=str(config)), bulk=True) == 0
    assert not (home / "control").exists()
    trust(home, bed.servers[0], key=other_key(home))
    for bulk in (True, False):
        with pytest.raises(HostKeyError):
            finish(make(ssh_config=str(config)), bulk)


def test_damaged_lines_of_a_known_hosts_file_stop_nothing(make: Make, bed: Testbed, home: Path) -> None:
    good = bed.servers[0]
    text = (
        "# a comment\n\n|1|nonsense|more ssh-ed25519 AAAA\nhost ssh-ed25519 !!!\nonly-a-name\n\xff\xfe\n"
        f"{good.address} {good.host_key} a comment\n"
    )
    (home / "envs" / "known_hosts").write_bytes(text.encode("latin-1"))
    for bulk in (True, False):
        assert finish(make(), bulk) == 0


# --- jump hosts


def behind(bed: Testbed) -> dict[str, str]:
    return {"jump": f"deploy@{bed.servers[0].address}"}


@contextlib.contextmanager
def only_through_the_first(bed: Testbed) -> Iterator[None]:
    """Let the second server answer the first one alone."""
    rule = ["--protocol", "tcp", "--dport", "22", "!", "--source", bed.servers[0].address, "--jump", "DROP"]
    bed.servers[1].exec(["iptables", "--insert", "INPUT", *rule])
    try:
        yield
    finally:
        bed.servers[1].exec(["iptables", "--delete", "INPUT", *rule])


def test_a_server_behind_a_jump_host_is_reached_and_both_keys_are_checked(make: Make, bed: Testbed) -> None:
    with only_through_the_first(bed):
        host = make(bed.servers[1], **behind(bed))
        assert host.run(Script.of("name", "hostname"), payload=DATA).text == "server2\n"
        for bulk in (True, False):
            assert finish(host, bulk) == 0
        for bulk in (True, False):
            with pytest.raises(HostUnreachable):
                finish(make(bed.servers[1], connect_timeout=1), bulk)


def test_a_server_its_jump_host_cannot_reach_is_one_sentence(make: Make, bed: Testbed) -> None:
    host = make(bed.servers[1], **behind(bed))
    bed.servers[1].stop_sshd()
    try:
        for bulk in (True, False):
            with pytest.raises(HostUnreachable, match="server2"):
                finish(host, bulk)
    finally:
        bed.servers[1].start_sshd()
        wait_for(bed.servers[1].is_ready)


def test_a_chain_of_jump_hosts(make: Make, bed: Testbed) -> None:
    one, two = (f"deploy@{server.address}" for server in bed.servers)
    host = make(bed.servers[0], jump=f"{one},{two}")
    with only_through_the_first(bed):
        assert host.run(Script.of("name", "hostname")).text == "server1\n"
        for bulk in (True, False):
            assert finish(host, bulk) == 0


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
@pytest.mark.parametrize("wrong", [0, 1], ids=["jump", "target"])
def test_a_wrong_key_anywhere_on_the_way_is_refused(
    make: Make, bed: Testbed, home: Path, bulk: bool, wrong: int
) -> None:
    host = make(bed.servers[1], **behind(bed))
    bad = other_key(home)
    keys = [bad if number == wrong else server.host_key for number, server in enumerate(bed.servers)]
    lines = [f"{server.address} {key}\n" for server, key in zip(bed.servers, keys, strict=True)]
    (home / "envs" / "known_hosts").write_text("".join(lines))
    with pytest.raises(HostKeyError) as caught:
        finish(host, bulk)
    if not bulk:
        assert ("jump host" in caught.value.message) == (wrong == 0)


def test_ssh_config_names_users_ports_keys_and_jump_hosts(make: Make, bed: Testbed, home: Path) -> None:
    one, two = bed.servers
    config = home / "my config"
    config.write_text(
        f"Host front back\n  User deploy\n  IdentityFile {bed.key_path}\n"
        f"Host front\n  HostName {one.address}\n"
        f"Host back\n  HostName {two.address}\n  ProxyJump front\n"
    )
    host = make(two, address="back", user=None, identity_file=None, ssh_config="my config")
    with only_through_the_first(bed):
        assert host.run(Script.of("who", "hostname; id -un")).text.split() == ["server2", "deploy"]
        assert finish(host, bulk=True) == 0


# --- links that die


@contextlib.contextmanager
def once_it_sleeps(server: Server, act: Callable[[], None]) -> Iterator[str]:
    """Give a command that sleeps for long, and act once it runs on the server: not a moment sooner."""
    sleep = f"sleep 300.{secrets.randbelow(10**9):09}"

    def wait_and_act() -> None:
        wait_for(lambda: server.exec(["pgrep", "-fx", sleep], check=False).returncode == 0)
        act()

    acting = threading.Thread(target=wait_and_act)
    acting.start()
    try:
        yield sleep
    finally:
        acting.join()


def test_a_dropped_link_is_told_from_a_failed_command(make: Make, bed: Testbed) -> None:
    host = make()
    with once_it_sleeps(bed.servers[0], bed.servers[0].drop_ssh_connections) as sleep:
        start = time.monotonic()
        with pytest.raises(LinkDropped) as caught:
            host.run(Script.of("wait", sleep))
        assert time.monotonic() - start < 120
    assert caught.value.exit_code == 12
    # The next script connects anew, and its failure is its own.
    with pytest.raises(CommandFailed):
        host.run(Script.of("fail", "exit 5"))


def test_a_signal_on_the_host_is_no_dropped_link(make: Make) -> None:
    with pytest.raises(CommandFailed) as caught:
        make().run(Script.of("die", "kill -KILL $$", timeout=None))
    assert caught.value.code == -1


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_a_dropped_stream_is_told_from_its_end(make: Make, bed: Testbed, bulk: bool) -> None:
    with make().open(Command.of("sh", "-c", "echo go; sleep 30"), bulk=bulk) as process:
        assert process.stdout.read(3) == b"go\n"
        bed.servers[0].drop_ssh_connections()
        assert process.stdout.read(1) == b""
        with pytest.raises(LinkDropped):
            process.wait()


@pytest.mark.parametrize("how", ["script", "openssh", "channel"])
def test_a_link_that_goes_silent_is_noticed(make: Make, bed: Testbed, how: str) -> None:
    host, server = make(keepalive=1), bed.servers[0]
    start = time.monotonic()
    try:
        with once_it_sleeps(server, server.cut_network) as sleep, pytest.raises(LinkDropped):
            if how == "script":
                host.run(Script.of("wait", sleep))
            else:
                with host.open(Command.of(*sleep.split()), bulk=how == "openssh") as process:
                    process.wait()
        assert time.monotonic() - start < 120
    finally:
        server.heal_network()


def test_a_host_that_is_down_is_one_sentence(make: Make, bed: Testbed) -> None:
    host = make(bed.servers[1])
    bed.servers[1].stop_sshd()
    try:
        with pytest.raises(HostUnreachable) as caught:
            host.run(Script.of("look", "true"))
        with pytest.raises(HostUnreachable):
            finish(host, bulk=True)
    finally:
        bed.servers[1].start_sshd()
        wait_for(bed.servers[1].is_ready)
    address = bed.servers[1].address
    assert caught.value.message == f"server2 ({address}:22) refuses the connection or is down."


def test_a_name_that_does_not_exist_is_one_sentence(make: Make) -> None:
    with pytest.raises(HostUnreachable, match="the name cannot be resolved"):
        make(address="nowhere.invalid").run(Script.of("look", "true"))


def test_a_login_that_is_refused_is_one_sentence(make: Make) -> None:
    for bulk in (True, False):
        with pytest.raises(HostUnreachable, match="refuses the login"):
            finish(make(user="nobody"), bulk)


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_the_connect_timeout_is_honoured_when_nothing_answers(make: Make, bed: Testbed, bulk: bool) -> None:
    bed.servers[1].cut_network()
    try:
        start = time.monotonic()
        with pytest.raises(HostUnreachable):
            finish(make(bed.servers[1], connect_timeout=2), bulk)
        assert 1 < time.monotonic() - start < 13  # paramiko alone would wait 15 s, and ssh for minutes
    finally:
        bed.servers[1].heal_network()


@pytest.mark.parametrize("bulk", [True, False], ids=["openssh", "channel"])
def test_the_connect_timeout_is_honoured_by_what_only_listens(make: Make, bulk: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        host = make(address="127.0.0.1", port=silent.getsockname()[1], connect_timeout=2)
        with pytest.raises(HostUnreachable) as caught:
            finish(host, bulk)
        assert time.monotonic() - start < 13
    if not bulk:
        assert "did not answer as an SSH server within 2 s" in caught.value.message


# --- many at once


def test_hosts_in_parallel_each_with_its_own_result(make: Make, bed: Testbed) -> None:
    many = tuple(make(bed.servers[number % 2]) for number in range(8))
    together = threading.Barrier(len(many), timeout=60)

    def name(host: Host) -> str:
        said = host.run(Script.of("name", "hostname")).text.strip()
        together.wait()  # for all of them: one after the other, nobody would come
        return said

    assert [result.unwrap() for result in Hosts(many).map(name)] == ["server1", "server2"] * 4


def test_one_host_that_is_down_does_not_hide_the_others(make: Make, bed: Testbed) -> None:
    hosts = (make(bed.servers[0]), make(address="192.0.2.1", connect_timeout=1), make(bed.servers[1]))
    results = Hosts(hosts).map(lambda host: host.run(Script.of("name", "hostname")).text.strip())
    assert [result.ok for result in results] == [True, False, True]
    assert isinstance(results[1].error, HostUnreachable)


# --- what a server shows of it


def test_nothing_of_a_script_or_a_secret_shows_in_the_process_list(make: Make, bed: Testbed) -> None:
    secret, word, payload = (f"{kind}{secrets.token_hex(12)}" for kind in ("secret", "word", "payload"))
    # An odd time, so that no other test's sleep is taken for this one.
    sleep = "sleep 300.0625"
    script = Script.of(
        "use a secret",
        assign("password", Sensitive(secret)),
        f": {word}",
        'cat >/dev/null; printf %s "$password" | cat >/dev/null',
        f"{sleep} || true",  # until it is ended here
        'test "${#password}" -gt 10',
    )
    host = make()
    # An exported variable of this name in the login's own files must not carry the script to every program.
    bed.servers[0].exec(["sh", "-c", "echo 'export s=1 n=1' > /home/deploy/.bashrc"])
    running = threading.Thread(target=lambda: host.run(script, payload=payload.encode()))
    running.start()
    look = (
        'for p in /proc/[0-9]*; do cat $p/cmdline $p/environ | tr "\\0" " "; echo; done 2>/dev/null; ps axeww'
    )
    try:
        wait_for(lambda: bed.servers[0].exec(["pgrep", "-fx", sleep], check=False).returncode == 0)
        seen = bed.servers[0].exec(["bash", "-c", look], check=False).stdout
    finally:
        bed.servers[0].exec(["pkill", "-fx", sleep], check=False)
        running.join()
        bed.servers[0].exec(["rm", "-f", "/home/deploy/.bashrc"])
    assert sleep in seen
    for private in (secret, word, payload):
        assert private not in seen
        assert private not in bed.servers[0].sshd_log()


# --- dial


def test_dial_reaches_the_hosts_own_network(make: Make, bed: Testbed) -> None:
    host = make()
    with host.dial("127.0.0.1", 22, 30) as stream:
        stream.settimeout(30)
        assert stream.recv(7) == b"SSH-2.0"
    with pytest.raises(ConnectionRefusedError):
        host.dial("127.0.0.1", 9, 30)


def test_a_link_that_goes_first_makes_no_noise(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    for number in range(12):
        host = make()
        stream = host.dial("127.0.0.1", 22, 30)
        # Sometimes in the middle of an answer, sometimes before it.
        if number % 2:
            stream.recv(1)
        threading.Thread(target=stream.close).start()
        host.close()
    wait_for(lambda: not [each for each in threading.enumerate() if "_to_" in each.name])
    assert raised == []


# --- first contact, through the task


Inv = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def inv(bed: Testbed, home: Path) -> Inv:
    """Run `inv` in a project of its own, whose environment has server2 behind server1."""
    one, two = bed.servers
    (home / "envs" / "prod.toml").write_text(
        f"""
        app = "shop"
        [hosts.front]
        address = "{one.address}"
        user = "deploy"
        identity_file = "{bed.key_path}"
        [hosts.back]
        address = "{two.address}"
        user = "deploy"
        jump = "deploy@{one.address}"
        identity_file = "{bed.key_path}"
        """
    )

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        argv = [*invoke(home), *words]
        return subprocess.run(
            argv, cwd=home, input=stdin, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def invoke(home: Path) -> list[str]:
    """Return the argv of Invoke's own program with these tasks, as a user's repository has them."""
    # Not called tasks.py: that name is this checkout's package here, and `windlass.tasks` in a user's.
    (home / "project.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tasks import namespace as ns\n"
    )
    return [sys.executable, "-m", "invoke", "-c", "project"]


def known(home: Path) -> str:
    path = home / "envs" / "known_hosts"
    return path.read_text() if path.exists() else ""


def test_first_contact_needs_the_right_fingerprint(inv: Inv, bed: Testbed, home: Path) -> None:
    right = fingerprint(bed.servers[0])
    asked = inv("host.trust", "--host", "front")
    assert asked.returncode == 14
    assert f"ssh-ed25519 {right}" in asked.stdout
    assert "ssh-keygen -lf" in asked.stderr

    wrong = inv("host.trust", "--host", "front", "--fingerprint", fingerprint(bed.servers[1]))
    assert wrong.returncode == 11
    assert "Traceback" not in wrong.stderr
    assert known(home) == ""

    told = inv("host.trust", "--host", "front", "--fingerprint", right.removeprefix("SHA256:"))
    assert told.returncode == 0, told.stderr
    assert known(home) == f"{bed.servers[0].address} {bed.servers[0].host_key}\n"
    assert (home / "envs" / "known_hosts").stat().st_mode & 0o777 == 0o644

    again = inv("host.trust", "--host", "front")
    assert again.returncode == 0
    assert "trusted already" in again.stdout
    assert known(home).count("\n") == 1


def test_first_contact_through_a_jump_host_begins_with_the_jump_host(inv: Inv, bed: Testbed) -> None:
    one, two = (fingerprint(server) for server in bed.servers)
    with only_through_the_first(bed):
        untrusted = inv("host.trust", "--host", "back", "--fingerprint", two)
        assert untrusted.returncode == 11
        assert "back's jump host shows" in untrusted.stderr
        both = inv("host.trust", "--fingerprint", one, "--fingerprint", two)
        assert both.returncode == 0, both.stderr
        listed = inv("host.check")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    assert [line.split()[:2] for line in listed.stdout.splitlines()[2:]] == [["front", "ok"], ["back", "ok"]]


def test_a_changed_key_is_replaced_only_when_told(inv: Inv, bed: Testbed, home: Path) -> None:
    one, two = bed.servers
    bad = other_key(home)
    before = f"# ours\n{one.address},{two.address} {bad} old\nelsewhere {two.host_key}\n"
    (home / "envs" / "known_hosts").write_text(before)
    words = ("host.trust", "--host", "front", "--fingerprint", fingerprint(one))
    refused = inv(*words)
    assert refused.returncode == 11
    assert "--replace" in refused.stderr
    assert known(home) == before
    replaced = inv(*words, "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert known(home) == (
        f"# ours\n{two.address} {bad} old\nelsewhere {two.host_key}\n{one.address} {one.host_key}\n"
    )


def test_a_dry_first_contact_connects_to_nobody(inv: Inv, bed: Testbed, home: Path) -> None:
    mark = bed.servers[0].mark()
    dry = inv("--dry", "host.trust", "--host", "front", "--fingerprint", fingerprint(bed.servers[0]))
    assert dry.returncode == 0
    assert "would ask" in dry.stdout
    assert known(home) == ""
    assert "Connection from" not in bed.servers[0].sshd_log(mark)


def test_host_check_reports_every_host_and_fails_for_one(inv: Inv, bed: Testbed, home: Path) -> None:
    trust(home, *bed.servers)
    bed.servers[1].stop_sshd()
    try:
        done = inv("host.check", "--json")
    finally:
        bed.servers[1].start_sshd()
        wait_for(bed.servers[1].is_ready)
    assert done.returncode == 11
    front, back = json.loads(done.stdout)
    assert front["ok"]
    assert front["user"] == "deploy"
    assert front["engine"]
    assert front["compose"]
    assert abs(front["clock_difference"]) < 2
    assert not back["ok"]
    assert "error" in back
    assert "Traceback" not in done.stderr


def test_a_host_whose_user_may_not_use_docker_says_so(inv: Inv, bed: Testbed, home: Path) -> None:
    trust(home, *bed.servers)
    bed.servers[0].exec(["chmod", "600", "/var/run/docker.sock"])
    try:
        done = inv("host.check", "--host", "front")
    finally:
        bed.servers[0].exec(["chmod", "660", "/var/run/docker.sock"])
    assert done.returncode == 0
    assert "no Docker" in done.stdout
    assert "permission denied" in done.stdout


def test_asking_on_a_terminal_takes_only_yes(bed: Testbed, home: Path, inv: Inv) -> None:
    for answer, code in (("\n", 14), ("n\n", 14), ("y\n", 0)):
        assert on_a_terminal(home, answer, "host.trust", "--host", "front") == code
    assert known(home) == f"{bed.servers[0].address} {bed.servers[0].host_key}\n"


def on_a_terminal(home: Path, answer: str, *words: str) -> int:
    """Run the task with a pseudo-terminal as its stdin and return its exit code."""
    ours, theirs = pty.openpty()
    environ = {name: value for name, value in os.environ.items() if name != "CI"}
    try:
        os.write(ours, answer.encode())
        return subprocess.run(
            [*invoke(home), *words],
            cwd=home,
            stdin=theirs,
            capture_output=True,
            check=False,
            timeout=60,
            env=environ,
        ).returncode
    finally:
        os.close(ours)
        os.close(theirs)


def test_errors_are_windlass_errors(make: Make) -> None:
    """Whatever paramiko raises, a user sees one of ours."""
    with pytest.raises(WindlassError):
        make(identity_file="missing", user="nobody").run(Script.of("look", "true"))
    assert not isinstance(paramiko.SSHException(), WindlassError)
