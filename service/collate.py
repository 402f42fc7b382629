"""Texts of different lengths to the rectangle the encoder reads.

Pure. Called by `engine` on its thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.decode import EncodedText

Ints = NDArray[np.int64]
Shape = tuple[int, int]  # texts, tokens


def collate(texts: Sequence[EncodedText], pad_token_id: int, shape: Shape | None = None) -> tuple[Ints, Ints]:
    """`input_ids` and `attention_mask`, both int64 of `shape`; by default, and at least, [texts, longest].

    Rows beyond the texts read one padding token: a row that attends to nothing has no softmax.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    rows, width = shape or (len(texts), int(lengths.max()))
    ids = np.full((rows, width), pad_token_id, dtype=np.int64)
    mask = np.zeros((rows, width), dtype=np.int64)
    read = np.arange(width) < lengths[:, None]
    ids[: len(texts)][read] = np.fromiter(chain.from_iterable(text.ids for text in texts), np.int64)
    mask[: len(texts)] = read
    mask[len(texts) :, 0] = 1
    return ids, mask
