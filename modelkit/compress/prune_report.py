"""What pruning came to: `report.json`, its tables, and what may be said of its speed.

Pure; imports no torch. Called by `prune`, `sensitivity` and `commands.prune`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from rich.table import Table

from modelkit.scoring.intervals import Spread
from modelkit.scoring.task_scores import TaskScore


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Sensitivity(_Frozen):
    """One part of one layer pruned alone. `pieces`: heads or steps of units gone, weights that became zero,
    or the rank."""

    part: str
    layer: int
    pieces: int
    share: float  # of the part's weights that is gone
    score_lost: float  # of the mean of the tasks' scores, on a part of dev
    loss_rise: float  # of the sum of the tasks' mean cross entropies, which a plan goes by


class Layer(_Frozen):
    """What is left of a layer; a rank is None where the matrix is whole."""

    heads: int
    width: int
    rank_in: int | None
    rank_out: int | None


class Size(_Frozen):
    """`parameters` and `bytes` of the fp32 graph; `products`: what the encoder multiplies a token by."""

    parameters: int
    bytes: int
    products: int
    zeros: float  # share of the products' weights that are zero


class Speed(_Frozen):
    """Against the unpruned graph, in interleaved rounds; `noise`: that graph against itself in the same."""

    texts: int  # of a batch, in their own lengths
    ratio: Spread  # 2: twice as fast
    noise: Spread

    @property
    def is_faster(self) -> bool:
        """Every round was faster than any in which the unpruned graph met itself."""
        return self.ratio.low > max(1.0, self.noise.high)


class Stage(_Frozen):
    """The scores of one state of the network, by metric."""

    stage: str  # unpruned, pruned, recovered
    dev: dict[str, float]


class PruneReport(_Frozen):
    model: str
    version: str
    pruned_from: str
    importance: str
    before: Size
    after: Size
    layers_before: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    stages: tuple[Stage, ...]
    unpruned_tasks: tuple[TaskScore, ...]
    tasks: tuple[TaskScore, ...]  # on test, or on dev where there is no test
    speed: tuple[Speed, ...]
    verdict: str
    sensitivity: tuple[Sensitivity, ...]
    notes: tuple[str, ...]  # on the data


def verdict(speed: Sequence[Speed], before: Size, after: Size) -> str:
    """What was measured, and no more: zeros alone are called a speed-up only where all loads ran faster."""
    told = "; ".join(
        f"{one.ratio.median:.2f} × ({one.ratio.low:.2f} to {one.ratio.high:.2f}) on batches of {one.texts}, "
        f"where the unpruned against itself gave {one.noise.low:.2f} to {one.noise.high:.2f}"
        for one in speed
    )
    faster = bool(speed) and all(one.is_faster for one in speed)
    shrunk = after.products < before.products
    if shrunk or not after.zeros:
        return f"{'faster' if faster else 'no speed-up beyond the noise'}: {told}"
    zeros = f"{100 * after.zeros:.0f}% of the matrices' weights are zero"
    if faster:
        return f"{zeros}, and this runtime ran faster: {told}"
    return f"{zeros}, which is no speed-up: dense kernels multiply by zeros too. Measured: {told}"


def sensitivity_table(found: Sequence[Sensitivity]) -> Table:
    """A row for each part of a layer; in each cell the share that was taken out and the points it cost."""
    rows: dict[tuple[str, int], list[Sensitivity]] = {}
    for one in found:
        rows.setdefault((one.part, one.layer), []).append(one)
    table = Table(
        title="What each part loses when it alone is pruned",
        title_justify="left",
        caption="share taken out, points lost of the mean score on a part of dev, rise of the loss",
        caption_justify="left",
    )
    table.add_column("part")
    table.add_column("layer", justify="right")
    for _ in range(max(map(len, rows.values()), default=0)):
        table.add_column("", justify="right", no_wrap=True)
    for (part, layer), trials in rows.items():
        cells = [f"{100 * one.share:.0f}% {100 * one.score_lost:.1f} {one.loss_rise:.2f}" for one in trials]
        table.add_row(part, str(layer), *cells)
    return table


def prune_table(report: PruneReport) -> Table:
    """Before and after, side by side."""
    table = Table(
        title=f"{report.model} {report.version}, pruned from {report.pruned_from}",
        title_justify="left",
        caption=report.verdict,
        caption_justify="left",
    )
    for number, column in enumerate(("", "unpruned", "pruned")):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    dev = {stage.stage: stage.dev for stage in report.stages}
    for metric, before in dev["unpruned"].items():
        for stage, scores in dev.items():
            if stage != "unpruned":
                when = "" if stage == "pruned" else ", after recovery"
                table.add_row(f"{metric} on dev{when}", f"{before:.4f}", f"{scores[metric]:.4f}")
    for one, other in zip(report.unpruned_tasks, report.tasks, strict=True):
        if other.split != "dev":
            table.add_row(f"{other.metric} on {other.split}", f"{one.score:.4f}", f"{other.score:.4f}")
    old, new = report.before, report.after
    table.add_row("parameters", f"{old.parameters:,}", f"{new.parameters:,}")
    table.add_row("products a token", f"{old.products:,}", f"{new.products:,}")
    table.add_row("zeros among them", f"{100 * old.zeros:.0f}%", f"{100 * new.zeros:.0f}%")
    table.add_row("MB of the graph", f"{old.bytes / 1e6:.1f}", f"{new.bytes / 1e6:.1f}")
    for name, told in (("heads", "heads"), ("width", "feed-forward units")):
        was, left = (
            sum(getattr(layer, name) for layer in layers) for layers in (report.layers_before, report.layers)
        )
        table.add_row(f"{told} of all layers", f"{was:,}", f"{left:,}")
    return table
