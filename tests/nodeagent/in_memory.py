"""A node in memory: cards that keep what was set, a disk, and a crash wherever it hurts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from energy.gpu import GpuError, Refused
from energy.reading import NO_TELEMETRY, Telemetry
from nodeagent.policy import API_VERSION, NodePolicy

CLOCKS_MHZ = (300, 600, 900, 1200, 1500)
LIMITS_W = (100.0, 400.0)
DEFAULT_LIMIT_W = 350.0
FIRST = "GPU-00000000-0000-0000-0000-000000000000"
SECOND = "GPU-00000000-0000-0000-0000-000000000001"


class Crashed(BaseException):
    """The agent's process is gone in this moment. No code of its own can catch that."""


@dataclass
class Slice:
    uuid: str
    gpu_instance: int
    sm_count: int


@dataclass
class Card:
    """clock_mhz None, limit_w found_w: as the card was. `opened` counts those that are not closed."""

    uuid: str
    name: str = "In memory"
    clock_mhz: int | None = None
    limit_w: float = 300.0
    error: GpuError | None = None
    failing: str = ""  # one kind of call alone: lock, reset or limit
    pids: frozenset[int] = frozenset()
    activity: dict[int, int] | None = None
    slices: tuple[Slice, ...] = ()
    busy: dict[int, float] = field(default_factory=dict)
    joules: float = 0.0
    opened: int = 0
    sets: int = 0
    about_to: Callable[[str], None] = lambda what: None

    def supported_clocks_mhz(self) -> tuple[int, ...]:
        self._may("read")
        return CLOCKS_MHZ

    def power_limit_range_w(self) -> tuple[float, float]:
        self._may("read")
        return LIMITS_W

    def power_limit_w(self) -> float:
        self._may("read")
        return self.limit_w

    def default_power_limit_w(self) -> float:
        self._may("read")
        return DEFAULT_LIMIT_W

    def clock_hz(self) -> float:
        """Of a card that computes."""
        self._may("read")
        return (self.clock_mhz or CLOCKS_MHZ[-1]) * 1e6

    def set_power_limit_w(self, limit_w: float) -> None:
        self._may("limit")
        assert LIMITS_W[0] <= limit_w <= LIMITS_W[1]
        self.limit_w = limit_w
        self._done()

    def lock_clocks_mhz(self, lowest_mhz: int, highest_mhz: int) -> None:
        self._may("lock")
        assert lowest_mhz == highest_mhz
        assert lowest_mhz in CLOCKS_MHZ
        self.clock_mhz = highest_mhz
        self._done()

    def reset_clocks(self) -> None:
        self._may("reset")
        self.clock_mhz = None
        self._done()

    def compute_pids(self) -> frozenset[int]:
        self._may("read")
        return self.pids

    def process_activity(self, since_us: int) -> tuple[dict[int, int], int]:
        self._may("read")
        if self.activity is None:
            raise Refused("Not Supported")
        return self.activity, since_us + 1

    def instances(self) -> tuple[Slice, ...]:
        self._may("read")
        return self.slices

    def instance_activity(self, gpu_instance: int) -> float | None:
        if gpu_instance not in self.busy:
            raise Refused("Not Supported")
        return self.busy[gpu_instance]

    def shares_card(self) -> bool:
        return bool(self.slices)

    def energy_mj(self) -> int:
        self._may("read")
        return round(self.joules * 1000)

    def instant_power_mw(self) -> int:
        self._may("read")
        return 50_000

    def average_power_mw(self) -> int:
        raise Refused("Not Supported")

    def telemetry(self) -> Telemetry:
        return NO_TELEMETRY

    def close(self) -> None:
        self.opened -= 1

    def _may(self, what: str) -> None:
        self.about_to(what)
        if self.error is not None:
            raise self.error
        if what == self.failing:
            raise GpuError("Timeout")

    def _done(self) -> None:
        self.sets += 1
        self.about_to("set")


class Machine:
    """Its cards by UUID, opened by them."""

    def __init__(self, *cards: Card) -> None:
        self.cards = {card.uuid: card for card in cards}

    def find(self) -> tuple[str, ...]:
        return tuple(self.cards)

    def open(self, uuid: str) -> Card:
        card = self.cards[uuid]
        if card.error is not None:
            raise card.error
        card.opened += 1
        return card


class Disk:
    """Keeps what was saved; `about_to` is called before and after."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.aside: bytes | None = None
        self.full = False
        self.about_to: Callable[[str], None] = lambda what: None

    def load(self) -> bytes | None:
        return self.content

    def keep_aside(self) -> str:
        self.aside = self.content
        return "aside"

    def save(self, content: bytes) -> None:
        self.about_to("save")
        if self.full:
            raise OSError(28, "No space left on device")
        self.content = content
        self.about_to("saved")


def policy(**fields: object) -> NodePolicy:
    """As in a file; `fields` by the file's names."""
    return NodePolicy.model_validate({"apiVersion": API_VERSION, "kind": "NodePolicy", **fields})


def owner_of(pid: int) -> str:
    return f"pid:{pid}"
