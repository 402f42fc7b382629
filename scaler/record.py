"""What the scaler saw and decided, as JSON lines that a report is computed from later.

`fleet.jsonl`: one row a second. `decisions.jsonl`: one row a tick. Times are unix seconds; what is not
known is null. Owns the rows and the files. Called by `loop`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from minwatt.v1.errors import UsageError
from scaler.decision import Decision
from scaler.fleet_joules import FleetJoules
from scaler.latency_sketch import Latencies
from scaler.operating_point import OperatingPoint
from scaler.signals import Missing, Signals


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One second of the fleet. `joules_total` is of all replicas since the start, those that are gone too."""

    at_s: float
    replicas_desired: int
    replicas_ready: int
    replicas_starting: int
    replicas_draining: int
    arrivals_rps: float | None = None
    completions_rps: float | None = None
    refusals_rps: float | None = None
    p50_s: float | None = None
    p99_s: float | None = None
    late_fraction: float | None = None  # of the answers, slower than the SLO
    queue_depth: int | None = None  # texts
    batch_mean_texts: float | None = None
    padding_fraction: float | None = None
    watts: float | None = None
    watts_source: str = "unknown"
    joules_total: float | None = None
    max_batch_texts: int | None = None
    max_delay_s: float | None = None
    sm_clock_mhz: int | None = None  # of the operating point; 0: the cards are left alone
    reflex_fraction: float | None = None  # of the replicas' time in which slack was short
    forecast_rps: float | None = None


@dataclass(frozen=True, slots=True)
class FleetMoment:
    """What a row is made from. `running`: replicas that run or start, as the fleet itself counts them."""

    at_s: float  # unix
    seen: Signals | Missing
    running: int
    desired: int
    joules: FleetJoules
    point: OperatingPoint | None
    forecast_rps: float | None
    slo_latency_s: float


def fleet_row(moment: FleetMoment) -> FleetRow:
    seen, point, slo_s = moment.seen, moment.point, moment.slo_latency_s
    counts: dict[str, Any] = {
        "at_s": moment.at_s,
        "replicas_desired": moment.desired,
        "replicas_ready": seen.ready,
        "replicas_starting": max(0, moment.running - seen.ready),
        "replicas_draining": seen.draining,
        "joules_total": moment.joules.total_j,
        "watts_source": moment.joules.source,
        "max_batch_texts": point.max_batch_texts if point else None,
        "max_delay_s": point.max_delay_s if point else None,
        "sm_clock_mhz": point.sm_clock_mhz if point else None,
        "forecast_rps": moment.forecast_rps,
    }
    if isinstance(seen, Missing):
        return FleetRow(**counts)
    return FleetRow(
        **counts,
        arrivals_rps=seen.arrivals_rps,
        completions_rps=seen.completions_rps,
        refusals_rps=seen.refusals_rps,
        p50_s=_quantile_s(seen.recent_latencies, 50),
        p99_s=_quantile_s(seen.recent_latencies, 99),
        late_fraction=None if seen.recent_latencies is None else seen.recent_latencies.share_over(slo_s),
        queue_depth=seen.queue_depth,
        batch_mean_texts=seen.batch_mean_texts,
        padding_fraction=seen.padding_fraction,
        watts=seen.power.watts,
        reflex_fraction=seen.reflex_fraction,
    )


def _quantile_s(latencies: Latencies | None, percentile: float) -> float | None:
    return None if latencies is None else latencies.quantile_s(percentile)


def decision_row(decision: Decision, at_s: float) -> dict[str, Any]:
    """`at_s` in unix seconds: a decision's own time is of the loop's clock."""
    return {
        "at_s": at_s,
        "action": decision.action.value,
        "current_replicas": decision.current_replicas,
        "desired_replicas": decision.desired_replicas,
        "operating_point": asdict(decision.operating_point) if decision.operating_point else None,
        "forecast_rps": decision.forecast_rps,
        "predicted_p99_s": decision.predicted_p99_s,
        "predicted_watts": decision.predicted_watts,
        "watts_basis": decision.watts_basis,
        "reasons": [
            {"code": reason.code.value, "message": reason.message, "values": dict(reason.values)}
            for reason in decision.reasons
        ],
    }


class Record:
    """The two files of one run, written anew; a reader sees each row once it is written.

    A disk that fills up ends the record, not the fleet: said once, to `say`.
    """

    def __init__(self, fleet: TextIO, decisions: TextIO, say: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._decisions = decisions
        self._say = say
        self._broken = False

    @classmethod
    def into(cls, directory: Path, say: Callable[[str], None]) -> Record:
        """Raises UsageError when the directory can't be written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            return cls(
                (directory / "fleet.jsonl").open("w", encoding="utf-8"),
                (directory / "decisions.jsonl").open("w", encoding="utf-8"),
                say,
            )
        except OSError as error:
            raise UsageError(f"--record = {str(directory)!r}: can't be written ({error.strerror})") from error

    def observed(self, row: FleetRow) -> None:
        self._write(self._fleet, asdict(row))

    def decided(self, decision: Decision, at_s: float) -> None:
        self._write(self._decisions, decision_row(decision, at_s))

    def close(self) -> None:
        for stream in (self._fleet, self._decisions):
            with contextlib.suppress(OSError):  # what a full disk did not take is still in the buffer
                stream.close()

    def _write(self, stream: TextIO, row: Mapping[str, Any]) -> None:
        if self._broken:
            return
        try:
            stream.write(json.dumps(row, allow_nan=False) + "\n")
            stream.flush()
        except OSError as error:
            self._broken = True
            self._say(f"--record: can't be written any more ({error.strerror}); the fleet goes on without")
