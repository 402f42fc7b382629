"""The bus of large fleets: reports and operating points through a Redis that scalers and replicas share.

Owns what is asked of Redis and what is made of it when it is away, empty, slow or another one. `redis_line`
connects and waits, `minwatt.v1.fleet_keys` says where everything is. Called by the control loops.

**Reports** come as a stream a fleet: nothing overwrites a report that has not been read, so no latency sample
is lost while a scaler looks at least every RETAINED_S; a look reads what came since the last, and of a large
fleet most was read before it; a scaler that restarts finds the last reports at once. Their age is by Redis'
own clock on both ends, so that rates are taken over the time between reports and not between looks.

**Members** are those who reported within MEMBER_TTL_S and did not say that it was their last report. The
scaler counts that time itself, and none in which it could not hear: a Redis that is away or came back empty
empties no fleet. It says `problem` instead, and the silence of all becomes Missing.

**Operating points** are kept in Redis by the scaler, which writes its own again wherever it is missing, and
are published once. Each scaler that takes a fleet takes the next fence with it: one that was taken over is
refused, says so and hears nothing more, until the fleet is closed and asked for anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from minwatt.v1.fleet_keys import (
    CHANNELS,
    LAST_REPORT,
    POINT_KEPT_S,
    REPORT,
    FleetKeys,
    digits,
    fleet_of_channel,
)
from minwatt.v1.fleet_pb2 import ReplicaReport
from minwatt.v1.redis_address import RedisAddress
from scaler.bus import FleetView
from scaler.operating_point import OperatingPoint
from scaler.pages import PAGE, Unread
from scaler.redis_line import AwayError, Line
from scaler.wire import point_to_proto, report_from_proto

log = logging.getLogger(__name__)

MEMBER_TTL_S = 10.0  # above the longest pause between a replica's tries
FIRST_LOOK_S = 2.5  # of what was reported before a scaler began: two reports of each replica
LONGEST_REPORT = 65_536  # bytes
_APART_MS = (
    1000  # Redis' time is known to within an answer's way, and servers' clocks are some milliseconds apart
)
_ASTRAY_MS = 60_000
_LAST_VERSION = 2**64 - 1  # none that comes after it fits the message
_MOST_AHEAD = 100  # pages between two looks
SAY_AGAIN_S = 60.0  # malformed reports are told of once, then no oftener

# Takes the fleet, or says who has. ARGV: own fence or nothing yet, version, point, its life in ms, channel.
HOLD = """
local fence, version = unpack(redis.call('HMGET', KEYS[1], 'fence', 'version'))
fence, version = fence or string.rep('0', 20), version or string.rep('0', 20)
local now = redis.call('TIME')
local mine = ARGV[1]
if mine == '' then mine = string.format('%020.0f', tonumber(fence) + 1) end
if mine < fence then return {0, fence, version, now[1], now[2]} end
if mine > fence then redis.call('HSET', KEYS[1], 'fence', mine) end
if ARGV[2] > version then
  version = ARGV[2]
  redis.call('HSET', KEYS[1], 'version', version, 'point', ARGV[3])
  redis.call('PUBLISH', ARGV[5], ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {1, mine, version, now[1], now[2]}
"""

_Entry = tuple[bytes, list[bytes]]


class RedisHub:
    """A Hub. Connects when first asked; an error of Redis is never raised."""

    def __init__(self, address: RedisAddress, clock: Callable[[], float] = time.monotonic) -> None:
        self._line = Line(address, clock)
        self._clock = clock
        self._fleets: dict[str, RedisBus] = {}

    @property
    def address(self) -> str:
        return str(self._line.address)

    def fleet(self, name: str) -> RedisBus:
        if name not in self._fleets:
            self._fleets[name] = RedisBus(name, self._line, self._clock, self._forget)
        return self._fleets[name]

    async def strays(self) -> Mapping[str, int]:
        """By who listens for operating points. Of a Redis that is away none are known."""
        try:
            streams = await self._line.ask(_listeners)
        except AwayError:
            return {}
        return {name: replicas for name, replicas in streams.items() if name not in self._fleets}

    async def close(self) -> None:
        for bus in list(self._fleets.values()):
            await bus.close()
        await self._line.close()

    def _forget(self, bus: RedisBus) -> None:
        if self._fleets.get(bus.name) is bus:
            del self._fleets[bus.name]


@dataclass(frozen=True, slots=True)
class _Heard:
    """A replica's newest report; `entry` is its number in the stream."""

    at_s: float
    entry: tuple[int, int]
    sequence: int
    left: bool


class RedisBus:
    """A FleetBus of one fleet. Made by the hub."""

    def __init__(
        self, name: str, line: Line, clock: Callable[[], float], closed: Callable[[RedisBus], None]
    ) -> None:
        self.name = name
        self._line = line
        self._clock = clock
        self._closed = closed
        self._keys = FleetKeys.of(name)
        self._complaints = _Complaints(name, clock)
        self._point: OperatingPoint | None = None
        self._fence = b""
        self._taken_over = False
        self._told_version = 0
        self._server_ahead_s = 0.0  # of the clock here
        self._next = ""  # where the stream is read from
        self._one_reads = asyncio.Lock()
        self._unread = Unread()
        self._reads_due_s = deque[float]()  # before the next look
        self._reading_ahead: asyncio.Task[None] | None = None
        self._looked_s = -math.inf
        self._heard: dict[str, _Heard] = {}
        self._oldest_s = math.inf  # no replica was heard last before that
        self._joined: frozenset[str] | None = frozenset()  # None: to be counted anew
        self._hearing_since_s = -math.inf

    async def publish(self, point: OperatingPoint) -> None:
        if self._point is None or point.version >= self._point.version:
            self._point = point
        try:
            await self._hold()
        except AwayError:
            return  # the next look brings it

    async def collect(self) -> FleetView:
        problem, began_s = "", time.monotonic()
        try:
            await self._hold()
            await self._catch_up()
            if self._hearing_since_s == math.inf:
                self._hearing_since_s = self._clock()
        except AwayError as away:
            self._hearing_since_s = math.inf
            problem = f"{self._line.address}: {away}"
        pages = self._unread.taken()
        self._read_ahead(sum(len(page.names) for page in pages), began_s)
        return FleetView(self._members(), pages, problem, self._told_version)

    async def close(self) -> None:
        self._closed(self)
        if self._reading_ahead is not None:
            self._reading_ahead.cancel()
            await asyncio.wait({self._reading_ahead})

    async def _hold(self) -> None:
        """Keeps the fleet and the operating point, and takes Redis' time. Raises AwayError."""
        if self._taken_over:  # also where Redis has lost the fence of who took over
            raise AwayError(f"another scaler has taken fleet {self.name}")
        version, payload = digits(0), b""
        if self._point is not None:
            version, payload = digits(self._point.version), point_to_proto(self._point).SerializeToString()
        words = (self._fence, version, payload, round(POINT_KEPT_S * 1e3), self._keys.told)
        answer = await self._line.command("EVAL", HOLD, 1, self._keys.point, *words)
        try:
            own, fence, told, seconds, microseconds = answer
            if int(told) >= _LAST_VERSION:
                raise ValueError("version")
            self._told_version = int(told)
            self._server_ahead_s = int(seconds) + int(microseconds) / 1e6 - self._clock()
        except ValueError:
            raise AwayError(f"{self._keys.point} is not what a scaler wrote") from None
        if not own:
            self._taken_over = True
            raise AwayError(f"another scaler has taken fleet {self.name}")
        self._fence = fence

    def _read_ahead(self, reports: int, began_s: float) -> None:
        """A large fleet's reports are read as they come, so that the next look finds few that are left."""
        between_s, self._looked_s = min(1.0, began_s - self._looked_s), began_s
        pages = min(reports // PAGE, _MOST_AHEAD)
        self._reads_due_s = deque(began_s + between_s * page / (pages + 1) for page in range(1, pages + 1))
        if pages and (self._reading_ahead is None or self._reading_ahead.done()):
            self._reading_ahead = asyncio.create_task(self._read_when_due())

    async def _read_when_due(self) -> None:
        with contextlib.suppress(AwayError):  # the next look finds it away too, and says so
            while self._reads_due_s:
                await asyncio.sleep(self._reads_due_s.popleft() - time.monotonic())
                await self._catch_up()

    async def _catch_up(self) -> None:
        """Raises AwayError; what was read until then stays read."""
        async with self._one_reads:
            server_ms = round((self._clock() + self._server_ahead_s) * 1e3)
            ahead_ms = int(self._next.strip("(").partition("-")[0] or 0) - server_ms
            begin, again = self._next, False
            if not begin or ahead_ms > _APART_MS:
                # Nothing read yet; or another server's clock is behind the one that numbered what was read.
                begin, again = str(max(0, server_ms - round(FIRST_LOOK_S * 1e3))), True
            while True:
                page: list[_Entry] = await self._line.command(
                    "XRANGE", self._keys.reports, begin, "+", "COUNT", PAGE
                )
                for entry in page:
                    self._take(entry, again)
                if page:
                    begin = self._next = "(" + page[-1][0].decode()
                if len(page) < PAGE:
                    break
            if ahead_ms > _ASTRAY_MS:
                # No entry grows old by these numbers: none would ever go, and all be read at each look.
                log.warning(
                    "fleet %s: Redis' clock was %d s ahead: numbered anew", self.name, ahead_ms // 1000
                )
                await self._line.command("DEL", self._keys.reports)
                self._next = ""

    def _take(self, entry: _Entry, again: bool) -> None:
        """Leaves out what is malformed or was taken before."""
        number, fields = entry
        try:
            kind, payload = fields
            if kind not in (REPORT, LAST_REPORT) or len(payload) > LONGEST_REPORT:
                raise ValueError("no report")
            message = ReplicaReport.FromString(payload)
            if (message.fleet or self.name) != self.name:
                raise ValueError(f"fleet = {message.fleet!r}")
            milliseconds, _, count = number.partition(b"-")
            place = (int(milliseconds), int(count))
            at_s = min(self._clock(), place[0] / 1e3 - self._server_ahead_s)
            report = report_from_proto(message, at_s)
        except (ValueError, DecodeError) as error:
            self._complaints.add(str(error))
            return
        name, sequence, leaves = report.replica_id, message.sequence, kind == LAST_REPORT
        before = self._heard.get(name)
        if again and before is not None and place <= before.entry and sequence <= before.sequence:
            return
        self._heard[name] = _Heard(at_s, place, sequence, leaves)
        if at_s < self._oldest_s:
            self._oldest_s = at_s
        if before is None or before.left != leaves:
            self._joined = None
        self._unread.add(report)

    def _members(self) -> frozenset[str]:
        """Made anew only where somebody came, left or was not heard: of a large fleet that takes long."""
        since_s = self._hearing_since_s
        if since_s < math.inf:
            oldest_s = self._clock() - MEMBER_TTL_S
            if oldest_s >= since_s and self._oldest_s < oldest_s:
                self._heard = {name: one for name, one in self._heard.items() if one.at_s >= oldest_s}
                self._oldest_s = min((one.at_s for one in self._heard.values()), default=math.inf)
                self._joined = None
        if self._joined is None:
            self._joined = frozenset(name for name, one in self._heard.items() if not one.left)
        return self._joined


class _Complaints:
    """Tells of malformed reports, and not of each."""

    def __init__(self, fleet: str, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._clock = clock
        self._untold = 0
        self._told_s = -math.inf

    def add(self, why: str) -> None:
        self._untold += 1
        if self._clock() - self._told_s >= SAY_AGAIN_S:
            log.warning("fleet %s: %d malformed reports dropped: %s", self._fleet, self._untold, why[:200])
            self._told_s = self._clock()
            self._untold = 0


async def _listeners(redis: Any) -> Mapping[str, int]:
    """Replicas by fleet."""
    channels = await redis.pubsub_channels(CHANNELS)
    if not channels:
        return {}
    counted = await redis.pubsub_numsub(*channels)
    return {fleet_of_channel(channel.decode()): int(count) for channel, count in counted if count}
