"""Texts of different lengths to the rectangle the encoder reads.

Pure. Called by `engine` on its thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minwatt.v1.decode import EncodedText

Ints = NDArray[np.int64]
Shape = tuple[int, int]  # texts, tokens


def collate(texts: Sequence[EncodedText], pad_token_id: int, shape: Shape | None = None) -> tuple[Ints, Ints]:
    """`input_ids` and `attention_mask`, both int64 of `shape`; by default, and at least, [texts, longest].

    Rows beyond the texts read one padding token: a row that attends to nothing has no softmax.
    """
    lengths = [len(text.ids) for text in texts]
    rows, width = shape or (len(texts), max(lengths))
    padding = [pad_token_id] * width
    flat: list[int] = []  # a batch is small: one array of a list is made faster than several are filled
    for text, length in zip(texts, lengths, strict=True):
        flat += text.ids
        flat += padding[length:]
    for _ in range(rows - len(texts)):
        flat += padding
        lengths.append(1)
    ids = np.array(flat, np.int64).reshape(rows, width)
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    return ids, mask
