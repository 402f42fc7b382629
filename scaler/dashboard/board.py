"""What the page shows of one policy: a watcher of its loop that remembers, and tells those who look.

Owns what a moment is made of, in JSON. Knows no HTTP: `server` hands its text on. Nothing is encoded while
nobody looks, and once a beat however many do.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from scaler.bus import FleetBus
from scaler.dashboard import roster
from scaler.dashboard.history import COLUMNS, History, Value
from scaler.dashboard.log import DecisionLog
from scaler.dashboard.roster import Roster, RosterBus
from scaler.dashboard.saving import Saving
from scaler.dashboard.words import Patience
from scaler.decision import Decision
from scaler.inputs import watts_basis
from scaler.record import FleetRow
from scaler.settings import Settings
from scaler.stabilise import break_even_s

_MOST_WAITING = 16  # messages to one page; who reads no more of them is let go, and begins anew
_LONGEST_S = 5.0  # between two rows that count as one after the other


class Board:
    """One policy's. `of` reads it, `look` follows it."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.roster = Roster()
        self._clock = clock
        self._history = History()
        self._log = DecisionLog()
        self._looking: set[asyncio.Queue[str | None]] = set()
        self._row: FleetRow | None = None
        self._answered = 0.0  # requests since the start
        self._read(settings)
        self._saving = Saving(self._idle_w - settings.profile.variants[0].power.parked_w)

    def follow(self, settings: Settings) -> None:
        """A policy that was edited: those who look begin anew."""
        if settings is not self._settings:
            self._read(settings)
            self.close()

    def _read(self, settings: Settings) -> None:
        self._settings = settings
        self._idle_w = settings.profile.variants[0].power.idle_w
        window_s = settings.policy.spec.behavior.scale_down.window_s
        self._patience = Patience(window_s, break_even_s(settings.profile))

    def read_along(self, bus: FleetBus) -> FleetBus:
        """The bus to give to the loop."""
        return RosterBus(bus, self.roster)

    # --- a watcher of the loop

    def observed(self, row: FleetRow) -> None:
        running = row.replicas_ready + row.replicas_starting + row.replicas_draining
        if self._row is not None:
            elapsed_s = min(_LONGEST_S, max(0.0, row.at_s - self._row.at_s))
            self._saving = self._saving.after(running, elapsed_s)
            self._answered += (row.completions_rps or 0.0) * elapsed_s
        self._row = row
        point = self._history.add({name: _short(value) for name, value in self._values(row).items()})
        if self._looking:
            self._send("beat", {"moment": self._moment(), "point": point})

    def decided(self, decision: Decision, at_s: float) -> None:
        entry = self._log.add(decision, at_s, self._patience)
        if entry is not None and self._looking:
            self._send("decision", asdict(entry))

    # --- for those who look

    def of(self, span_s: float) -> dict[str, Any]:
        """Everything, as the page needs it at first."""
        return {
            "policy": self._promises(),
            "columns": list(COLUMNS),
            "replica_columns": list(roster.COLUMNS),
            "history": self._history.of(span_s),
            "moment": self._moment(),
            "decisions": [asdict(entry) for entry in self._log.entries],
        }

    def look(self) -> asyncio.Queue[str | None]:
        """Server-sent events, as text; None: nothing more comes, begin anew. `leave` when done."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(_MOST_WAITING)
        self._looking.add(queue)
        return queue

    def leave(self, queue: asyncio.Queue[str | None]) -> None:
        self._looking.discard(queue)

    def close(self) -> None:
        for queue in list(self._looking):
            self._let_go(queue)

    def _send(self, kind: str, value: Mapping[str, Any]) -> None:
        text = f"event: {kind}\ndata: {json.dumps(value, allow_nan=False, separators=(',', ':'))}\n\n"
        for queue in list(self._looking):
            try:
                queue.put_nowait(text)
            except asyncio.QueueFull:
                self._let_go(queue)

    def _let_go(self, queue: asyncio.Queue[str | None]) -> None:
        self.leave(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    def _values(self, row: FleetRow) -> dict[str, Value]:
        """By column of the history."""
        goodput_rps = None
        if row.completions_rps is not None:
            goodput_rps = row.completions_rps * (1 - (row.late_fraction or 0.0))
        idle_w = None if row.watts is None else min(row.watts, self._idle_w * row.replicas_ready)
        return {
            "at_s": row.at_s,
            "offered_rps": row.arrivals_rps,
            "goodput_rps": goodput_rps,
            "forecast_rps": row.forecast_rps,
            "p50_s": row.p50_s,
            "p99_s": row.p99_s,
            "watts": row.watts,
            "idle_w": idle_w,
            "ready": row.replicas_ready,
            "starting": row.replicas_starting,
            "draining": row.replicas_draining,
            "desired": row.replicas_desired,
            "max_batch_texts": row.max_batch_texts,
            "max_delay_s": row.max_delay_s,
            "sm_clock_mhz": row.sm_clock_mhz,
            "reflex_fraction": row.reflex_fraction,
        }

    def _moment(self) -> dict[str, Any]:
        """What is now and was since the start, beside the curves."""
        row = self._row
        joules = row.joules_total if row else None
        per_request_j = joules / self._answered if joules is not None and self._answered > 0 else None
        return {
            "conditions": self._log.conditions,
            "watts_source": row.watts_source if row else "unknown",
            "joules": _short(joules),
            "joules_per_request": _short(per_request_j),
            "requests": round(self._answered),
            "saving": self._saved(joules),
            "queue": row.queue_depth if row else None,
            "batch": _short(row.batch_mean_texts) if row else None,
            "replicas": self.roster.rows(self._clock()),
            "replicas_all": self.roster.replicas,
        }

    def _saved(self, joules: float | None) -> dict[str, Any] | None:
        if joules is None or self._saving.seconds == 0:
            return None
        return {
            "share": _short(self._saving.share(joules)),
            "joules": _short(self._saving.joules),
            "fixed_replicas": self._saving.most,
            "idle_w": self._saving.idle_w,
        }

    def _promises(self) -> dict[str, Any]:
        """What the policy asks for, and what the profile's figures are."""
        policy, profile = self._settings.policy, self._settings.profile
        spec = policy.spec
        return {
            "name": policy.metadata.name,
            "model": spec.model,
            "slo_s": spec.slo.latency_s,
            "percentile": spec.slo.percentile,
            "error_budget": spec.slo.error_budget,
            "budget_w": spec.power.budget_w,
            "min_replicas": spec.replicas.min,
            "max_replicas": spec.replicas.max,
            "clocks": spec.gpu.clocks == "auto",
            "device": profile.device,
            "idle_w": self._idle_w,
            "idle_basis": watts_basis(profile),
            "break_even_s": _short(break_even_s(profile)),
        }


def _short(value: float | None) -> float | None:
    """Six digits: as many as a page can show, and no infinity, which JSON does not know."""
    if value is None or not abs(value) < float("inf"):
        return None
    return value if isinstance(value, int) or abs(value) >= 1e6 else float(f"{value:.6g}")
