"""How much each layer gives up, so that all together lose least: from what each loses alone.

Pure; knows nothing of networks. Owns the arithmetic of the plan. Leaves measuring to `sensitivity`. Called by
`prune`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

EVENNESS = 1e-9  # loss for the square of a share: of equal plans, the even one


def plan_removal(curves: Sequence[Mapping[int, float]], present: Sequence[int], wanted: int) -> list[int]:
    """How many pieces each layer gives up, `wanted` in all, with the least sum of the layers' losses.

    A curve says of some counts of pieces taken out of a layer what the loss rises by; between them it is
    linear, and no layer gives up more than what was measured. That losses add up is an assumption: the plan
    is exact under it (dynamic programming over layers), and what it comes to is measured afterwards.

    Raises ValueError where the layers have not so much to give.
    """
    most = sum(max(curve, default=0) for curve in curves)
    if wanted > most:
        raise ValueError(f"{wanted} of {sum(present)} are to go; at most {most} can")
    # best[n]: least loss of the layers so far with n pieces gone from them.
    best = np.full(wanted + 1, np.inf)
    best[0] = 0.0
    choices = []
    for curve, pieces in zip(curves, present, strict=True):
        losses = [
            _loss_at(curve, count) + EVENNESS * (count / pieces) ** 2
            for count in range(min(max(curve, default=0), wanted) + 1)
        ]
        sums = np.full((len(losses), wanted + 1), np.inf)
        for count, loss in enumerate(losses):
            sums[count, count:] = best[: wanted + 1 - count] + loss
        choices.append(sums.argmin(axis=0))
        best = sums.min(axis=0)
    removed = []
    for choice in reversed(choices):
        removed.append(int(choice[wanted]))
        wanted -= removed[-1]
    return removed[::-1]


def scanned_counts(pieces: int, shares: Sequence[float]) -> list[int]:
    """Of that many pieces, those shares in whole pieces: at least one, and one stays."""
    return sorted({min(max(1, round(share * pieces)), pieces - 1) for share in shares if pieces > 1})


def _loss_at(curve: Mapping[int, float], count: int) -> float:
    """Linear between what was measured; less taken out never costs more than more does."""
    measured = sorted(curve)
    heights = np.maximum.accumulate([0.0, *(curve[one] for one in measured)])
    return float(np.interp(count, [0, *measured], heights))
