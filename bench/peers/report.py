"""The page and the JSON of a comparison: this server over each peer, same rounds.

Pure. Called by the command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.peers.run import LOADS, OWN, Compared
from bench.peers.sizing import MAX_BATCH, WAIT_MS, WORKERS
from bench.serving.figures import CPU, TEXTS, failures, load_name
from bench.serving.report import cell, listed, ratio, short, table
from bench.serving.rounds import Figure, Spread, same_round_ratio

FORMAT = 1


def ratios(compared: Compared) -> dict[str, dict[str, Spread]]:
    """Of texts/s, this server's to the peer's: by peer, then by load."""
    found: dict[str, dict[str, Spread]] = {}
    for peer in compared.versions:
        for load in LOADS:
            own, other = (Figure(load_name(name, *load), TEXTS) for name in (OWN, peer))
            spread = same_round_ratio(compared.rounds, own, other)
            if spread is not None:
                found.setdefault(peer, {})[f"{load[0]}_c{load[1]}"] = spread
    return found


def as_json(
    compared: Compared, command: str, machine: Mapping[str, str], versions: Mapping[str, str]
) -> dict[str, Any]:
    """The ratios and the raw figures of each round."""
    by_peer = ratios(compared)
    return {
        "format": FORMAT,
        "command": command,
        "machine": dict(machine),
        "versions": {**versions, **compared.versions},
        "seconds": compared.seconds,
        "ratios": {peer: {load: one.median for load, one in of.items()} for peer, of in by_peer.items()},
        "spreads": {peer: {load: asdict(one) for load, one in of.items()} for peer, of in by_peer.items()},
        "rss_mib": compared.rss_mib,
        "missing": compared.missing,
        "failures": failures(compared.rounds),
        "rounds": [{name: dict(found) for name, found in one.items()} for one in compared.rounds],
    }


def as_markdown(
    compared: Compared, command: str, machine: Mapping[str, str], versions: Mapping[str, str]
) -> str:
    blocks = [
        "# The server beside its peers",
        f"Written by `{command}` (`make bench-peers`): {len(compared.rounds)} rounds of measurements of "
        f"{compared.seconds:g} s, in an order drawn anew each round. Ratios divide figures of the same "
        "round: median (least … greatest). Texts and load generator are those of "
        "[benchmarks.md](benchmarks.md).",
        " · ".join([listed(machine) + "  \n" + listed(versions), *compared.versions.values()]),
        f"Each peer has the same graph and tokenizer, {WORKERS} workers of one thread, batches of up to "
        f"{MAX_BATCH} texts and, where it can't do without waiting for company, waits {WAIT_MS} ms. mosec is "
        "called over HTTP/1.1 with JSON, the others over gRPC. Replies carry the best label and its score.",
        _table(compared),
    ]
    blocks += [f"Not measured: {name}: {why}" for name, why in compared.missing.items()]
    left_out = failures(compared.rounds).items()
    blocks += [f"Left out, as calls failed: {name} ({count})." for name, count in left_out]
    return "\n\n".join(blocks) + "\n"


_HEAD = (
    *("server", "shape", "in flight", "calls/s", "texts/s", "p50 ms", "p99 ms"),
    *("server CPU ms a call", "MiB resident", "minwatt's texts/s to its"),
)


def _table(compared: Compared) -> str:
    rounds = compared.rounds
    rows: list[Sequence[str]] = []
    for server in (OWN, *compared.versions):
        for load in LOADS:
            name = load_name(server, *load)
            figures = ("calls_per_s", TEXTS, "p50_ms", "p99_ms", CPU)
            own = Figure(load_name(OWN, *load), TEXTS)
            rows.append(
                (
                    *(server, load[0], str(load[1])),
                    *(cell(rounds, name, figure) for figure in figures),
                    short(compared.rss_mib[server]),
                    ratio(rounds, own, Figure(name, TEXTS)) if server != OWN else "",
                )
            )
    return table(_HEAD, rows)
