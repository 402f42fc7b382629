"""Batch shapes that a device is prepared for: every batch is padded to the smallest that holds it.

A CUDA graph replays one shape, and TensorRT's context switches shapes at a cost: a few shapes, each used
often, are cheaper there than exact ones. Pure. Called by `onnx`, and by `server` for what to prepare.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

TOKEN_STEPS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # then multiples of the last


@dataclass(frozen=True, slots=True)
class Buckets:
    """Powers of two of texts, steps of tokens up to the model's `max_tokens`."""

    max_tokens: int

    def shape_for(self, texts: int, tokens: int) -> tuple[int, int]:
        """The smallest bucket that holds `texts` of `tokens`, the longest's; each at least 1."""
        return 1 << (texts - 1).bit_length(), self._tokens(tokens)

    def _tokens(self, tokens: int) -> int:
        last = TOKEN_STEPS[-1]
        step = TOKEN_STEPS[bisect_left(TOKEN_STEPS, tokens)] if tokens <= last else -(-tokens // last) * last
        return max(tokens, min(step, self.max_tokens))

    def all_within(self, max_texts: int, max_padded_tokens: int) -> list[tuple[int, int]]:
        """Each bucket that a batch of these bounds can fall into, largest first."""
        texts_of = {self.shape_for(texts, 1)[0]: texts for texts in range(max_texts, 0, -1)}
        tokens_of = {self._tokens(tokens): tokens for tokens in range(self.max_tokens, 0, -1)}
        reached = [
            (rows, width)
            for rows, fewest in texts_of.items()
            for width, shortest in tokens_of.items()
            if fewest * shortest <= max_padded_tokens or fewest == 1
        ]
        return sorted(reached, key=lambda shape: (shape[0] * shape[1], shape), reverse=True)
