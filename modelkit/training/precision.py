"""In which numbers the encoder computes while it trains; weights, heads and losses are float32 always.

Called by `train`. Needs torch (the `train` extra).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from minwatt.v1.errors import UsageError
from modelkit.recipe import PRECISIONS

_DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(asked: str, device: torch.device) -> torch.dtype | None:
    """The type of autocast, None for float32 throughout. Raises UsageError on another name.

    By itself bfloat16, whose range is float32's; on a card that computes it in software only, float16.
    """
    if asked == "auto":
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.float16
        return torch.bfloat16
    if asked not in _DTYPES:
        raise UsageError(f"precision = {asked!r}: allowed: {', '.join(PRECISIONS)}")
    return _DTYPES[asked]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Around the encoder's pass."""
    context: AbstractContextManager[object] = torch.autocast(
        device.type, dtype=dtype, enabled=dtype is not None
    )
    return context


def scaler_of(device: torch.device, dtype: torch.dtype | None) -> torch.amp.GradScaler:
    """Scales losses where float16 would round small gradients to zero; else it passes all through."""
    return torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
