"""Who hears of a training's progress. Given by `commands` to `finetune`, `distil` and `build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Hearers:
    """Lines of text, and training steps (done, of all)."""

    say: Callable[[str], None]
    advance: Advance
