"""How many tokens a request has before it is tokenised, from its bytes and what earlier ones had.

Pure. Used by `inference`: admission and token quotas must not wait for the tokenizer, nor pay for it.
"""

from __future__ import annotations

MEMORY = 0.98  # weight kept per request
SPECIAL_TOKENS = 2  # of each text, at least
FIRST_TOKENS_PER_BYTE = 0.3  # of English


class TokenGuess:
    """Tokens in proportion to bytes; languages differ, one replica's requests less so."""

    def __init__(self) -> None:
        self._tokens_per_byte = FIRST_TOKENS_PER_BYTE

    def tokens(self, texts: int, size_bytes: int) -> float:
        return max(float(SPECIAL_TOKENS * texts), self._tokens_per_byte * size_bytes)

    def learn(self, tokens: int, size_bytes: int) -> None:
        """From a request that has been tokenised."""
        self._tokens_per_byte = MEMORY * self._tokens_per_byte + (1 - MEMORY) * tokens / max(1, size_bytes)
