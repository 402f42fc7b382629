"""How often a scaler's process looks for garbage that counting references does not find.

A large fleet's reports are ten thousands of new objects each second, and none of them is part of a cycle: at
Python's own pace its collector visits all that is alive several times a beat, to find nothing. Called once by
what runs control loops over a bus.
"""

from __future__ import annotations

import gc

_YOUNG = 100_000  # objects; Python's own: 700


def collect_seldom() -> None:
    """What was made until now, modules for the most part, is not visited again at all."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 20)
