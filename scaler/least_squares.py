"""Linear least squares with coefficients of 0 or more and residuals relative to what was measured.

Pure. Minimises the sum of ((fitted - measured) / measured)², so that a point under light load counts as much
as one under heavy load. Called by `fit`.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SAME_DIRECTION = 1e-6  # of unit columns: below, what tells two coefficients apart is rounding
_LEAST_SCALE = 1e-6  # of the largest measurement: a measurement of 0 must not weigh more than all others


def independent(design: Floats) -> bool:
    """Whether every column says something that the others don't."""
    lengths = np.linalg.norm(design, axis=0)
    if not lengths.all():
        return False
    return bool(np.linalg.matrix_rank(design / lengths, tol=_SAME_DIRECTION) == design.shape[1])


def least_squares(
    design: Floats, measured: Floats, relative_to: Floats | None = None
) -> tuple[list[float], float]:
    """Coefficients of 0 or more, and the root mean square of the residuals relative to the measured.

    Exact: tries each set of coefficients that may be above 0. That is 2^n small problems: for a few columns.
    """
    scale = measured if relative_to is None else relative_to
    weights = 1.0 / np.maximum(scale, _LEAST_SCALE * scale.max())
    weighted, target = design * weights[:, None], measured * weights
    # Columns of one size: seconds beside tokens would look as if they said nothing.
    sizes = np.abs(weighted).max(axis=0)
    columns = [index for index, size in enumerate(sizes) if size > 0]
    best, best_error = np.zeros(design.shape[1]), float(target @ target)
    sets = (itertools.combinations(columns, count) for count in range(1, len(columns) + 1))
    for used in map(list, itertools.chain.from_iterable(sets)):
        even = weighted[:, used] / sizes[used]
        solved = np.linalg.lstsq(even, target, rcond=None)[0]
        error = float(np.sum((even @ solved - target) ** 2))
        if (solved >= 0).all() and error < best_error:
            best, best_error = np.zeros(design.shape[1]), error
            best[used] = solved / sizes[used]
    return [float(value) for value in best], float(np.sqrt(best_error / len(target)))
