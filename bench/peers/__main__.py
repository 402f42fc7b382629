"""`make bench-peers`: this server beside Triton's Python backend, mosec and MLServer, with the same model.

    python -m bench.peers [--rounds 5] [--seconds 1] [flag=value …]

Each peer gets an environment of its own under .venv-peers/ (a gigabyte in all, from PyPI). All are measured
once a round, with the same texts and the same load generator. Writes out/bench/peers.json and
docs/benchmarks-peers.md. `flag=value` are flags of `minwatt serve`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench.peers.report import as_json, as_markdown
from bench.peers.run import compare
from bench.serving.machine import machine, versions
from bench.serving.processes import BenchError
from minwatt.resources import default_model_dir
from minwatt.v1.errors import UsageError

COMMAND = "python -m bench.peers"


def main() -> int:
    options = _options()
    console = Console()
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            compared = compare(
                default_model_dir(),
                options.rounds,
                options.seconds,
                options.flags,
                Path(scratch),
                options.out,
                console,
            )
    except (BenchError, UsageError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    command = " ".join([COMMAND, *sys.argv[1:]])
    data = as_json(compared, command, machine(), versions())
    (options.out / "peers.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    page = as_markdown(compared, command, machine(), versions())
    options.docs.write_text(page, encoding="utf-8")
    console.print(page, markup=False, highlight=False, soft_wrap=True)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="counted in each measurement")
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--docs", type=Path, default=Path("docs/benchmarks-peers.md"))
    parser.add_argument("flags", nargs="*", metavar="flag=value", help="of `minwatt serve`")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
