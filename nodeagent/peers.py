"""Who is at the other end of a unix socket: what the kernel says of its process, and which pod that is.

What is checked: SO_PEERCRED and SO_PEERGROUPS are the kernel's word for user, group and further groups of the
process that called connect(), at that moment. The pod is read from that process's cgroup, whose path only the
kubelet and the container runtime choose; SO_PEERPIDFD (Linux 6.5) makes sure that the process is still the
same one. Its first pod counts, so that a container that makes cgroups of its own can't take another's name.

What is not: a process may hand its connection to another. Users are numbers: two pods of one user are told
apart by their pod alone, and only where this process sees the others' (hostPID: else the pid is 0).

Called by `server` and, for processes that compute on a card, by `keeper`.
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nodeagent.policy import Allow

_PEERPIDFD = getattr(socket, "SO_PEERPIDFD", 77)  # Python names them late
_PEERGROUPS = getattr(socket, "SO_PEERGROUPS", 59)
_CREDENTIALS = struct.Struct("iII")
_MOST_GROUPS = 256  # as much as Python asks for
_GROUP = struct.Struct("I")
_HEX = "[0-9a-f]"
# kubepods-burstable-pod1b2c…_….slice (systemd), kubepods/burstable/pod1b2c…-… (cgroupfs), 32 digits of a
# static pod. Of another cgroup namespace the path begins with /../..
_POD = re.compile(
    rf"(?:/|-)pod({_HEX}{{8}}[-_]?{_HEX}{{4}}[-_]?{_HEX}{{4}}[-_]?{_HEX}{{4}}[-_]?{_HEX}{{12}})(?:\.slice)?(?:/|$)"
)
PROC = Path("/proc")


class PeerSocket(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """pid 0: of a process that can't be seen from here. groups: its further groups."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    owner: str

    def allowed_by(self, allow: Allow) -> bool:
        return self.uid in allow.uids or not {self.gid, *self.groups}.isdisjoint(allow.gids)


def peer_of(connection: PeerSocket, proc: Path = PROC) -> Peer:
    """Raises OSError where the kernel can't say."""
    pid, uid, gid = _CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return Peer(pid, uid, gid, _groups(connection), _owner(connection, pid, uid, proc))


def owner_of(pid: int, proc: Path = PROC) -> str:
    """`pod:UID` or `pid:PID` of a process; empty where it can't be seen."""
    try:
        text = (proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    pod = pod_of(text)
    return f"pod:{pod}" if pod else f"pid:{pid}"


def pod_of(cgroups: str) -> str | None:
    """The pod's UID in what /proc/PID/cgroup says, of either version; None outside of a pod."""
    for line in cgroups.splitlines():
        path = line.split(":", 2)[-1]
        found = _POD.search(path)
        if found:
            digits = found[1].replace("-", "").replace("_", "")
            return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return None


def _groups(connection: PeerSocket) -> frozenset[int]:
    """None where there are more than can be told."""
    try:
        listed = connection.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _MOST_GROUPS * _GROUP.size)
    except OSError:
        return frozenset()
    return frozenset(group for (group,) in _GROUP.iter_unpack(listed))


def _owner(connection: PeerSocket, pid: int, uid: int, proc: Path) -> str:
    if pid <= 0:
        return f"uid:{uid}"
    try:
        (pidfd,) = struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, _PEERPIDFD, 4))
    except OSError:  # an older kernel, or the process has ended
        return owner_of(pid, proc) or f"uid:{uid}"
    try:
        owner = owner_of(pid, proc)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        # Ended meanwhile: what was read may be of another process with its number.
        return f"uid:{uid}" if ended.poll(0) or not owner else owner
    finally:
        os.close(pidfd)
