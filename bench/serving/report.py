"""The page and the JSON of a benchmark: what was measured, with the command and the machine.

Pure, but for reading its own prose from `method.md`. Called by the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.serving.figures import (
    AIMS,
    CPU,
    OVERHEAD,
    OVERHEAD_AIM,
    PADDING_AIM,
    RSS_AIM,
    SHAPES,
    SINGLE,
    TEXTS,
    Aim,
    Summary,
    ceiling_name,
    failures,
    load_name,
)
from bench.serving.modes import MODES
from bench.serving.rounds import Figure, Round, Spread, of_rounds, same_round_ratio
from bench.serving.run import Measured

FORMAT = 1
QUIET = 0.05  # of the cores: more than that, taken by others, moves what is measured
METHOD = Path(__file__).with_name("method.md")


def as_json(
    measured: Measured,
    summary: Summary,
    command: str,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The summary and the raw figures of each round."""
    return {
        "format": FORMAT,
        "command": command,
        "machine": dict(machine),
        "versions": dict(versions),
        "seconds": measured.plan.seconds,
        "texts_tokens": dict(measured.token_quantiles),
        "message_bytes": dict(measured.message_bytes),
        "ceiling": summary.best_mode,
        "ratios": {name: found.median for name, found in summary.ratios.items()},
        "spreads": {name: asdict(found) for name, found in summary.ratios.items()},
        "padding_fraction": summary.padding_fraction.median if summary.padding_fraction else None,
        "rss_mib": measured.rss_mib,
        "batcher_overhead_p99_us": summary.overhead_p99_us.median if summary.overhead_p99_us else None,
        "others_fraction": summary.others_fraction.median if summary.others_fraction else None,
        "failures": failures(measured.rounds),
        "rounds": [{name: dict(found) for name, found in one.items()} for one in measured.rounds],
    }


def as_markdown(
    measured: Measured,
    summary: Summary,
    command: str,
    machine: Mapping[str, str],
    versions: Mapping[str, str],
) -> str:
    rounds = measured.rounds
    blocks = [
        "# Benchmarks of the server",
        f"Written by `{command}` (`make bench`): {len(rounds)} rounds of {len(measured.plan.names)} "
        f"measurements of {measured.plan.seconds:g} s.",
        listed(machine) + "  \n" + listed(versions),
        *_disturbance(summary.others_fraction),
        "## What is aimed for",
        table(("", "median", "least … greatest", "aim", ""), _aims(measured, summary)),
        "## The ceiling",
        table(("in process", "texts/s", "CPU ms a text", ""), _ceilings(rounds, summary.best_mode)),
        "## Loads",
        "CPU is in ms a call; `to ceiling` divides texts/s, `to echo` the server's CPU, in the same rounds.",
        table(_LOAD_HEAD, _loads(measured, summary)),
        *(f"Left out, as calls failed: {name} ({count})." for name, count in failures(rounds).items()),
        METHOD.read_text(encoding="utf-8").format(
            count="2,048",
            lengths=", ".join(f"{name} {value:g}" for name, value in measured.token_quantiles.items()),
            sizes=", ".join(f"{name} {value:g}" for name, value in measured.message_bytes.items()),
        ),
    ]
    return "\n\n".join(blocks)


def _disturbance(others: Spread | None) -> list[str]:
    if others is None:
        return []
    spread = f"({others.least:.0%} … {others.most:.0%})"
    told = f"Other programs took {others.median:.0%} of the cores meanwhile {spread}"
    if others.median <= QUIET:
        return [told + "."]
    return [told + ": **this machine was not quiet, and rates and latencies say little.**"]


def _aims(measured: Measured, summary: Summary) -> list[Sequence[str]]:
    rows = [_aim_row(aim, summary.ratios.get(aim.ratio)) for aim in AIMS]
    rss = Spread(measured.rss_mib, measured.rss_mib, measured.rss_mib, len(measured.rounds))
    rows.append(_aim_row(PADDING_AIM, summary.padding_fraction))
    rows.append(_aim_row(OVERHEAD_AIM, summary.overhead_p99_us))
    rows.append(_aim_row(RSS_AIM, rss))
    return rows


def _aim_row(aim: Aim, found: Spread | None) -> Sequence[str]:
    title = f"`{aim.ratio}`: {aim.meaning}"
    if found is None:
        return title, "–", "", aim.text, "not measured"
    values = [short(value) for value in (found.median, found.least, found.most)]
    return (
        title,
        values[0],
        f"{values[1]} … {values[2]}",
        aim.text,
        "met" if aim.met(found.median) else "missed",
    )


def _ceilings(rounds: Sequence[Round], best: str) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for mode in MODES:
        name = ceiling_name(mode.name)
        mark = "← the ceiling" if name == best else ""
        figures = (cell(rounds, name, figure) for figure in (TEXTS, "cpu_ms_per_text"))
        rows.append((mode.name, *figures, mark))
    rows.append(("engine alone, one text, ms (p50)", cell(rounds, SINGLE, "engine_p50_ms"), "", ""))
    for concurrency in (1, 8):
        spent = (cell(rounds, OVERHEAD, f"c{concurrency}_{q}_us") for q in ("p50", "p99"))
        rows.append((f"batcher overhead, {concurrency} in flight, µs (p50, p99)", *spent, ""))
    hop = (cell(rounds, OVERHEAD, f"hop_{q}_us") for q in ("p50", "p99"))
    rows.append(("to a thread and back, no work, µs (p50, p99)", *hop, ""))
    return rows


_LOAD_HEAD = (
    *("server", "shape", "in flight", "calls/s", "texts/s", "p50 ms", "p99 ms", "CPU", "engine", "tokenizer"),
    *("RPC", "rest", "client CPU", "padding", "to ceiling", "to echo"),
)


def _loads(measured: Measured, summary: Summary) -> list[Sequence[str]]:
    rounds, names = measured.rounds, set(measured.plan.names)
    ceiling = Figure(summary.best_mode, TEXTS)
    rows: list[Sequence[str]] = []
    for server in ("model", "stock", "null", "front", "echo"):
        for shape in SHAPES:
            for concurrency in measured.plan.concurrencies:
                name = load_name(server, shape, concurrency)
                if name not in names:
                    continue
                echo = Figure(load_name("echo", shape, concurrency), CPU)
                with_model = server in ("model", "stock")
                figures = ("calls_per_s", TEXTS, "p50_ms", "p99_ms", CPU, "engine_cpu_ms", "tokenizer_cpu_ms")
                parts = ("rpc_cpu_ms", "rest_cpu_ms", "client_cpu_ms")
                rows.append(
                    (
                        *(server, shape, str(concurrency)),
                        *(cell(rounds, name, figure) for figure in (*figures, *parts)),
                        _padding(rounds, name) if with_model else "",
                        ratio(rounds, Figure(name, TEXTS), ceiling) if with_model else "",
                        ratio(rounds, Figure(name, CPU), echo) if server in ("null", "front") else "",
                    )
                )
    return rows


def _padding(rounds: Sequence[Round], name: str) -> str:
    found = same_round_ratio(rounds, Figure(name, "tokens"), Figure(name, "padded_tokens"))
    return f"{1 - found.median:.1%}" if found else ""


def ratio(rounds: Sequence[Round], over: Figure, under: Figure) -> str:
    found = same_round_ratio(rounds, over, under)
    return f"{found.median:.2f} ({found.least:.2f} … {found.most:.2f})" if found else ""


def cell(rounds: Sequence[Round], measured: str, name: str) -> str:
    found = of_rounds(rounds, Figure(measured, name))
    return short(found.median) if found else ""


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"


def listed(values: Mapping[str, str]) -> str:
    return " · ".join(f"{name} {value}" for name, value in values.items())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
