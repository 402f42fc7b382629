"""`make bench`: the server beside its ceiling and its floor, interleaved round by round.

    python -m bench.serving [--rounds 5] [--seconds 1] [--quick] [flag=value …]

Writes out/bench/bench.json after each round and docs/benchmarks.md in the end, and prints what stands there.
The machine should do nothing else meanwhile; what it does all the same shows in the spread. `flag=value` are
flags of `minwatt serve`. Ends with 1 where calls failed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench.serving.figures import summarise
from bench.serving.machine import machine, versions
from bench.serving.processes import BenchError
from bench.serving.report import as_json, as_markdown
from bench.serving.run import Plan, measure
from minwatt.resources import default_model_dir
from minwatt.v1.errors import UsageError

COMMAND = "python -m bench.serving"


def main() -> int:
    options = _options()
    console = Console()
    plan = Plan.quick(options.model) if options.quick else Plan(options.model)
    plan = plan.with_counts(options.rounds, options.seconds).with_flags(options.flags)
    options.out.mkdir(parents=True, exist_ok=True)
    command = " ".join([COMMAND, *sys.argv[1:]])
    page, failed = "", False
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for measured in measure(plan, Path(scratch), options.out, console):
                facts = (measured, summarise(measured.rounds), command, machine(), versions())
                data = as_json(*facts)
                (options.out / "bench.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
                page, failed = as_markdown(*facts), bool(data["failures"])
    except (BenchError, UsageError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    if not options.quick:
        options.docs.write_text(page, encoding="utf-8")
    console.print(page, markup=False, highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("--rounds", type=int, help="default: 5")
    parser.add_argument("--seconds", type=float, help="counted in each measurement; default: 1")
    parser.add_argument("--quick", action="store_true", help="a smoke run: two short rounds, writes no page")
    parser.add_argument("--model", type=Path, default=default_model_dir())
    parser.add_argument("--out", type=Path, default=Path("out/bench"))
    parser.add_argument("--docs", type=Path, default=Path("docs/benchmarks.md"))
    parser.add_argument("flags", nargs="*", metavar="flag=value", help="of `minwatt serve`")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
