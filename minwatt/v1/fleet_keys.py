"""What a fleet is called, and where its messages are in Redis: what both ends of that bus must agree on.

Names only; no client. Used by `scaler/redis_bus.py` and `service/fleet_redis.py`.

Everything of a fleet is in one slot of a Redis Cluster (the braces are a hash tag), so that a script may
touch it whole and a fleet never spans two nodes. Two keys and one channel:

- `minwatt:{FLEET}:reports`, a stream: each report is an entry of one field, `r`, or `l` where it is a
  replica's last. The value is a `minwatt.v1.ReplicaReport`. The server's clock numbers the entries, so that a
  report's age needs no clock of the replica's. Who adds an entry drops those older than `RETAINED_S`.
- `minwatt:{FLEET}:point`, a hash: `point` (a `minwatt.v1.OperatingPoint`), its `version`, and `fence`, which
  grows with each scaler that takes the fleet. Both numbers are written with 20 digits: a script compares them
  as words, as Lua's own numbers are exact only up to 2**53.
- `minwatt:{FLEET}:told`, a channel: each new operating point, as in `point`. Who listens is of the fleet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_FLEET = "default"
FLEET_ALLOWED = "NAME or NAMESPACE/NAME of letters, digits, '.', '_' and '-'"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}"
_FLEET = re.compile(rf"{_NAME}(/{_NAME})?", re.ASCII)

REPORT, LAST_REPORT = b"r", b"l"
RETAINED_S = 10.0  # a scaler that is away for longer loses the latencies in between; counters are cumulative
ABANDONED_S = 60.0  # the stream of a fleet that nobody reports to is gone then
POINT_KEPT_S = 7 * 86_400.0  # without a scaler; replicas that start meanwhile run at it
CHANNELS = "minwatt:{*}:told"  # of all fleets


def checked_fleet(name: str) -> str:
    """The name. Raises ValueError that says what is allowed: no brace may end the hash tag early."""
    if _FLEET.fullmatch(name) is None:
        raise ValueError(f"allowed: {FLEET_ALLOWED}")
    return name


def fleet_of_channel(channel: str) -> str:
    return channel.removeprefix("minwatt:{").removesuffix("}:told")


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """Of one fleet."""

    reports: str
    point: str
    told: str

    @classmethod
    def of(cls, fleet: str) -> FleetKeys:
        """Raises ValueError on what is no name of a fleet."""
        tag = f"minwatt:{{{checked_fleet(fleet)}}}"
        return cls(f"{tag}:reports", f"{tag}:point", f"{tag}:told")


def digits(number: int) -> str:
    """As the numbers of `point` are written; below 10**20, as every 64-bit one is."""
    return f"{number:020d}"
