"""Texts of different lengths to the rectangle the encoder reads.

Pure. Called by `engine` on its thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.decode import EncodedText

Ints = NDArray[np.int64]


def collate(texts: Sequence[EncodedText], pad_token_id: int) -> tuple[Ints, Ints]:
    """`input_ids` and `attention_mask`, both int64 [texts, longest]; padded to the batch's own longest."""
    shape = (len(texts), max(len(text) for text in texts))
    ids = np.full(shape, pad_token_id, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = text.ids
        mask[row, : len(text)] = 1
    return ids, mask
