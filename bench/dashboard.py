"""What the page costs the scaler: time of a beat and bytes a second, without and with open pages.

    python -m bench.dashboard

A board of 200 replicas is fed a minute of beats; each open page is a real HTTP connection that reads all that
comes. Prints milliseconds of one core for a beat, by open pages, and bytes a second to each page.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

import aiohttp
from rich.console import Console
from rich.table import Table

from scaler.bus import FleetView
from scaler.dashboard.board import Board
from scaler.dashboard.roster import MOST_ROWS
from scaler.dashboard.server import Dashboard
from scaler.inputs import read_inputs
from scaler.latency_sketch import encode
from scaler.record import FleetRow
from scaler.report import Metered, ReplicaState, Report

BEATS = 60
PAGES = (0, 1, 10)


def _view(second: int) -> FleetView:
    sketch = encode([0.02] * 60)
    reports = [
        Report(
            replica_id=f"support-text-6b8c5d7f9-{index:05d}",
            received_s=float(second),
            state=ReplicaState.READY,
            power=Metered("nvml", f"GPU-{index}", 90.0 * second, 90.0),
            arrivals_total=60 * second + index,
            batches_total=6 * second,
            batched_texts_total=60 * second,
            busy_s_total=0.4 * second,
            queue_depth=index % 7,
            in_flight=3,
            latency_sketch=sketch,
            variant="int8",
            sm_clock_mhz=1175,
        )
        for index in range(MOST_ROWS)
    ]
    return FleetView.of(frozenset(report.replica_id for report in reports), reports)


def _row(second: int) -> FleetRow:
    return FleetRow(
        at_s=1.7e9 + second,
        replicas_desired=MOST_ROWS,
        replicas_ready=MOST_ROWS,
        replicas_starting=0,
        replicas_draining=0,
        arrivals_rps=12_345.678,
        completions_rps=12_345.678,
        p50_s=0.012345,
        p99_s=0.034567,
        watts=18_000.5,
        watts_source="nvml",
        joules_total=18_000.5 * second,
    )


async def _read(url: str) -> int:
    count = 0
    async with aiohttp.ClientSession() as session, session.get(f"{url}api/events") as stream:
        async for part in stream.content.iter_any():
            count += len(part)
    return count


async def measure(pages: int) -> tuple[float, float]:
    """(milliseconds of a beat, bytes a second to each page)."""
    board = Board(read_inputs(None, None).settings, clock=lambda: float(BEATS))
    dashboard = Dashboard("127.0.0.1", 0, boards={"bench": board})
    url = await dashboard.listen()
    readers = [asyncio.create_task(_read(url)) for _ in range(pages)]
    await asyncio.sleep(0.5)
    beats_ms = []
    for second in range(1, BEATS + 1):
        view, row = _view(second), _row(second)
        began_s = time.process_time()
        board.roster.hear(view)
        board.observed(row)
        beats_ms.append((time.process_time() - began_s) * 1e3)
        await asyncio.sleep(0.02)
    await dashboard.close()
    read = await asyncio.gather(*readers)
    return median(beats_ms), sum(read) / max(1, pages) / BEATS


async def main() -> None:
    table = Table("open pages", "ms a beat", "kB/s to each", title=f"{MOST_ROWS} replicas, a beat a second")
    for pages in PAGES:
        beat_ms, rate = await measure(pages)
        table.add_row(str(pages), f"{beat_ms:.2f}", f"{rate / 1e3:.1f}" if pages else "–")
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main())
