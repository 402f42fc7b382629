"""Under which key an answer is kept: a keyed digest of all that an answer depends on.

A key holds no text and can't be guessed from one without the secret, so that whoever may look into a shared
cache can't ask it "was this text ever sent?". Pure but for `secret_of` and `fresh_secret`. Used by `known`.
"""

from __future__ import annotations

import secrets
from hashlib import blake2b
from pathlib import Path

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelSpec, Task

ANSWER_FORMAT = b"1"  # of the packed answers (`answers`): another one makes all older entries unknown
DIGEST_BYTES = 32
LEAST_SECRET_BYTES, MOST_SECRET_BYTES = 32, 64  # blake2b takes no longer key


def fresh_secret() -> bytes:
    """For a cache that no other process reads."""
    return secrets.token_bytes(MOST_SECRET_BYTES)


def secret_of(file: Path) -> bytes:
    """What replicas that share a cache have in common. Raises UsageError."""
    try:
        secret = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cache-key-file = {str(file)!r}: can't be read ({error.strerror})") from error
    if not LEAST_SECRET_BYTES <= len(secret) <= MOST_SECRET_BYTES:
        raise UsageError(
            f"cache-key-file = {str(file)!r}: has {len(secret)} bytes; allowed: {LEAST_SECRET_BYTES} to "
            f"{MOST_SECRET_BYTES}, e.g. of: head -c {MOST_SECRET_BYTES} /dev/urandom"
        )
    return secret


class ModelKeys:
    """The keys of one model's answers, as one variant on one kind of device computes them.

    The whole of `model.yaml` counts: name, version, labels in their order, and the digests of the tokenizer
    and of the graph, so that a model that was changed under the same version shares nothing with the old one.
    """

    def __init__(self, secret: bytes, spec: ModelSpec, variant: str, provider: str) -> None:
        self._secret = secret
        model = _joined([ANSWER_FORMAT, spec.model_dump_json().encode(), variant.encode(), provider.encode()])
        self._model = blake2b(model, key=secret, digest_size=DIGEST_BYTES).digest()

    def key(self, scope: str, task: Task, truncate: bool, text: str) -> bytes:
        """`scope`: whose answers these are; callers of another scope neither find them nor learn of them.

        Of the options only `truncate` counts: `top_k` and `min_score` choose from the same packed answer.
        """
        asked = _joined([self._model, scope.encode(), task.name.encode(), b"\1" if truncate else b"\0"])
        return blake2b(asked + text.encode(), key=self._secret, digest_size=DIGEST_BYTES).digest()


def _joined(parts: list[bytes]) -> bytes:
    """One string for one list: each part behind its length, so that no two lists give the same bytes."""
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)
