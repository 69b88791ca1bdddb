import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from windlass.errors import CommandFailed, Locked, OperationFailed
from windlass.hosts.local import LocalHost
from windlass.release.layout import Layout
from windlass.release.lock import LOST, DeployLock, acquire_all, guard_lines, unlock
from windlass.shell import Script

HERE = LocalHost("here")


@pytest.fixture
def place(tmp_path):
    return Layout(str(tmp_path / "it's a $HOME"))


def take(place, host=HERE, **changes):
    options = {"who": "me@here", "action": "deploy", "release": "r1", "since": "now"} | changes
    return DeployLock(host, place, **options)


def is_free(place) -> bool:
    done = subprocess.run(["flock", "--nonblock", place.path("lock"), "true"], check=False)
    return done.returncode == 0 and not Path(place.owner).exists()


def eventually(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def guarded(place, token, *lines, timeout=30):
    return Script.of("change something", *guard_lines(place, token), *lines, timeout=timeout)


def test_the_owner_is_written_down_and_gone_at_the_end(place):
    with take(place) as lock:
        owner = json.loads(Path(place.owner).read_text())
        assert (owner["who"], owner["action"], owner["release"]) == ("me@here", "deploy", "r1")
        assert owner["token"] == lock.token
        assert Path(f"/proc/{owner['holder']}").exists() or sys.platform != "linux"
        assert oct(Path(place.owner).stat().st_mode & 0o777) == "0o600"
        assert oct(Path(place.directory).stat().st_mode & 0o777) == "0o700"
    assert is_free(place)


def test_a_second_is_refused_and_told_who(place):
    with take(place, who="ann@laptop", since="2026-03-01T12:00:00+00:00"):
        with pytest.raises(Locked) as caught:
            take(place)
        assert caught.value.exit_code == 13
        assert caught.value.message == (
            "here is locked: ann@laptop, deploy of r1, since 2026-03-01T12:00:00+00:00."
        )
        assert "inv deploy.unlock" in caught.value.hint
    take(place).release()


def test_hostile_names_are_kept_as_they_are(place):
    name = "a'b\"c\\d $HOME `id` HOLDER é"
    with take(place, who=name):
        with pytest.raises(Locked) as caught:
            take(place)
        assert name in caught.value.message


def test_every_hold_has_a_token_of_its_own(place):
    with take(place) as first:
        token = first.token
    with take(place) as second:
        assert second.token != token


def test_kill_of_the_client_frees_it(place):
    code = (
        "import sys, time\n"
        "from windlass.hosts.local import LocalHost\n"
        "from windlass.release.layout import Layout\n"
        "from windlass.release.lock import DeployLock\n"
        "names = {'who': 'me', 'action': 'deploy', 'release': 'r1', 'since': 'now'}\n"
        "DeployLock(LocalHost('here'), Layout(sys.argv[1]), **names)\n"
        "print('locked', flush=True)\n"
        "time.sleep(120)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, place.directory], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"locked\n"
        assert not is_free(place)
        client.send_signal(signal.SIGKILL)
    eventually(lambda: is_free(place), 50)


def test_silence_beyond_the_limit_frees_it(place):
    with take(place, limit=0.5, heartbeat=60):
        eventually(lambda: is_free(place), 50)
        take(place, release="r2").release()


def test_a_heartbeat_keeps_it(place):
    # The limit is long enough for a machine that is slow to write one, and the watch is longer.
    with take(place, limit=4, heartbeat=0.2):
        end = time.monotonic() + 5
        while time.monotonic() < end:
            assert not is_free(place)
            time.sleep(0.05)
    assert is_free(place)


def test_kill_of_the_holder_frees_it_though_the_owner_stays_written(place):
    with take(place):
        os.kill(json.loads(Path(place.owner).read_text())["holder"], signal.SIGKILL)
        eventually(
            lambda: subprocess.run(["flock", "-n", place.path("lock"), "true"], check=False).returncode == 0
        )
        assert Path(place.owner).exists()
        with take(place, who="ann@laptop"):
            assert json.loads(Path(place.owner).read_text())["who"] == "ann@laptop"


def test_unlock_says_whose_it_was_and_frees_it(place):
    with take(place, who="ann@laptop"):
        owner = unlock(HERE, place)
        assert owner is not None
        assert owner.who == "ann@laptop"
        assert is_free(place)
        take(place).release()


def test_unlock_of_what_nobody_holds(place):
    assert unlock(HERE, place) is None
    take(place).release()
    assert unlock(HERE, place) is None


def test_unlock_clears_what_a_killed_holder_left(place):
    with take(place):
        os.kill(json.loads(Path(place.owner).read_text())["holder"], signal.SIGKILL)
        assert unlock(HERE, place) is not None
        assert is_free(place)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OperationFailed, match=r"here: the lock cannot be taken: .*file"):
        take(Layout(str(tmp_path / "file" / "shop")))


def test_a_script_runs_while_its_deploy_holds_the_lock(place):
    with take(place) as lock:
        assert HERE.run(guarded(place, lock.token, "echo done")).text == "done\n"


def test_a_script_of_a_deploy_that_lost_the_lock_does_nothing(place, tmp_path):
    touch = f"touch {shlex.quote(str(tmp_path / 'touched'))}"
    with take(place) as old:
        unlock(HERE, place)
        with take(place, release="r2"), pytest.raises(CommandFailed) as caught:
            HERE.run(guarded(place, old.token, touch))
    assert caught.value.code == LOST
    assert "the lock of this deploy was lost or taken away" in caught.value.message
    with pytest.raises(CommandFailed):
        HERE.run(guarded(place, old.token, touch))
    assert not (tmp_path / "touched").exists()


def test_a_script_that_outlives_its_client_is_waited_for(place, tmp_path):
    order = shlex.quote(str(tmp_path / "order"))
    with take(place) as old:
        slow = guarded(place, old.token, f"echo old begins >>{order}; sleep 1; echo old ends >>{order}")
        argv = ["bash", "-c", "set -euo pipefail\n" + slow.text()]
        process = subprocess.Popen(argv)
        eventually((tmp_path / "order").exists)
    with take(place, release="r2") as new:
        HERE.run(guarded(place, new.token, f"echo new >>{order}"))
    assert process.wait(60) == 0
    assert (tmp_path / "order").read_text().splitlines() == ["old begins", "old ends", "new"]


def test_all_hosts_or_none(tmp_path):
    pairs = [(LocalHost(name), Layout(str(tmp_path / name))) for name in ("c", "a", "b")]
    options = {"who": "me@here", "action": "deploy", "release": "r1", "since": "now"}
    locks = acquire_all(pairs, **options)
    assert list(locks) == ["a", "b", "c"], "in one order, whatever the file says"
    for lock in locks.values():
        lock.release()
    with take(pairs[2][1], host=pairs[2][0]), pytest.raises(Locked, match="b is locked"):
        acquire_all(pairs, **options)
    assert is_free(pairs[0][1])
    assert is_free(pairs[1][1])
    assert is_free(pairs[2][1])


def test_two_at_once_one_wins(tmp_path):
    """Each is given the hosts in another order."""
    names = ["a", "b", "c", "d"]
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from windlass.errors import Locked\n"
        "from windlass.hosts.local import LocalHost\n"
        "from windlass.release.layout import Layout\n"
        "from windlass.release.lock import acquire_all\n"
        "pairs = [(LocalHost(Path(each).name), Layout(each)) for each in sys.argv[1:]]\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try:\n"
        "    acquire_all(pairs, who='me', action='deploy', release='r1', since='now')\n"
        "except Locked: print('refused', flush=True)\n"
        "else: print('locked', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    orders = (names, names[::-1])
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", code, *(str(tmp_path / name) for name in order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for order in orders
    ]
    for word in ("ready", None):
        said = []
        for client in clients:
            assert client.stdout is not None
            said.append(client.stdout.readline().strip())
        if word:
            assert said == [word, word]
            for client in clients:
                assert client.stdin is not None
                client.stdin.write("\n")
                client.stdin.flush()
    assert sorted(said) == ["locked", "refused"]
    for client in clients:
        client.communicate("\n", timeout=60)
