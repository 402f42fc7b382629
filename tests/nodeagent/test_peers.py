"""Who is at the other end: the kernel's word, and the pod in a cgroup's path."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from nodeagent.peers import Peer, owner_of, peer_of, pod_of
from nodeagent.policy import Allow

UID = "1b2c3d4e-0000-4111-8222-333344445555"
UNDERSCORED = UID.replace("-", "_")
OTHER = "99999999-9999-4999-8999-999999999999"


@pytest.mark.parametrize(
    "cgroups",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-ab.scope",
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/crio-ab.scope/container",
        f"0::/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/cri-containerd-ab.scope",
        f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UNDERSCORED}.slice/cri-containerd-ab.scope",
        f"12:cpu,cpuacct:/kubepods/burstable/pod{UID}/ab\n1:name=systemd:/kubepods/burstable/pod{UID}/ab\n0::/",
        f"4:memory:/kubepods/pod{UID.replace('-', '')}/ab",
        # A container that makes a cgroup of its own with another pod's name is still in its own.
        f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-ab.scope/kubepods-pod{OTHER}.slice",
    ],
)
def test_the_pod_of_a_process(cgroups: str) -> None:
    assert pod_of(cgroups) == UID


@pytest.mark.parametrize(
    "cgroups",
    [
        "",
        "0::/",
        "0::/user.slice/user-1000.slice/session-3.scope",
        f"0::/docker/{'ab' * 32}",
        f"0::/system.slice/not-a-podium{UID}.scope",
        "0::/kubepods.slice/kubepods-pod1b2c.slice/x.scope",
        "nonsense\nmore of it",
    ],
)
def test_outside_of_a_pod(cgroups: str) -> None:
    assert pod_of(cgroups) is None


def proc(folder: Path, pid: int, cgroups: str) -> Path:
    (folder / str(pid)).mkdir()
    (folder / str(pid) / "cgroup").write_text(cgroups)
    return folder


def test_the_owner_of_a_process(tmp_path: Path) -> None:
    proc(tmp_path, 7, f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/cri-ab.scope")
    proc(tmp_path, 8, "0::/init.scope")
    assert [owner_of(pid, tmp_path) for pid in (7, 8, 9)] == [f"pod:{UID}", "pid:8", ""]


def test_the_kernel_says_who_connected(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    with here, there:
        peer = peer_of(here, proc(tmp_path, os.getpid(), f"0::/kubepods/pod{UID}/ab"))
        assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.getuid(), os.getgid())
        assert peer.groups == frozenset(os.getgroups())
        assert peer.owner == f"pod:{UID}"
        assert peer_of(here).owner == owner_of(os.getpid()) != ""


class Ended:
    """A socket whose peer was of user 5; its process has ended, and another has its number perhaps."""

    def __init__(self, pid: int, pidfd: int | None) -> None:
        self.pid, self.pidfd = pid, pidfd

    def getsockopt(self, level: int, name: int, size: int, /) -> bytes:
        if name == socket.SO_PEERCRED:
            return b"".join(number.to_bytes(4, "little") for number in (self.pid, 5, 6))
        if name == 59:
            return (7).to_bytes(4, "little") + (8).to_bytes(4, "little")
        if self.pidfd is None:
            raise OSError(92, "Protocol not available")
        return os.dup(self.pidfd).to_bytes(4, "little")


def test_a_process_that_has_ended_is_known_by_its_user_alone(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    child, pidfd = process.pid, os.pidfd_open(process.pid)
    process.wait()
    proc(tmp_path, child, f"0::/kubepods/pod{UID}/ab")
    peer = peer_of(Ended(child, pidfd), tmp_path)
    assert (peer.owner, peer.groups) == ("uid:5", frozenset({7, 8}))
    assert peer_of(Ended(child, None), tmp_path).owner == f"pod:{UID}", "an older kernel can't tell"
    assert peer_of(Ended(0, None), tmp_path).owner == "uid:5", "of a process that can't be seen from here"
    os.close(pidfd)


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [
        (Allow(), False),
        (Allow(uids=(1000,)), True),
        (Allow(uids=(0, 1001)), False),
        (Allow(gids=(100,)), True),
        (Allow(gids=(44,)), True),
        (Allow(gids=(1000,)), False),
    ],
)
def test_user_group_or_further_group_is_allowed(allow: Allow, allowed: bool) -> None:
    assert Peer(1, 1000, 100, frozenset({44}), "pid:1").allowed_by(allow) is allowed
