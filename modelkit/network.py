"""The network that is fine-tuned: one BERT encoder with an intent head and an entity head.

Owns the architecture and the loading of base weights. Leaves the training loop to `train` and the graph
to `export`. Needs torch and transformers (the `train` extra).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from minwatt.v1.errors import UsageError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HeadSizes:
    """How many intents and how many BIO tags the heads tell apart."""

    intents: int
    tags: int


class TwoHeadEncoder(nn.Module):
    """Mean-pooled intent logits and per-token entity logits from one pass through one encoder."""

    def __init__(self, encoder: BertModel, sizes: HeadSizes, head_dropout: float = 0.1) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.dropout = nn.Dropout(head_dropout)
        self.intent_head = nn.Linear(width, sizes.intents)
        self.entity_head = nn.Linear(width, sizes.tags)

    def hidden(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token states [batch, tokens, width] in float32, for ids and mask [batch, tokens]."""
        states: torch.Tensor = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return self.dropout(states.float())

    def intent_logits(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """[batch, intents] from the mean over the tokens that the mask keeps."""
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        return self.intent_head(pooled)

    def entity_logits(self, states: torch.Tensor) -> torch.Tensor:
        """[batch, tokens, tags]."""
        return self.entity_head(states)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both heads: ([batch, intents], [batch, tokens, tags])."""
        states = self.hidden(input_ids, attention_mask)
        return self.intent_logits(states, attention_mask), self.entity_logits(states)


def load_base(directory: Path, sizes: HeadSizes, dropout: float) -> TwoHeadEncoder:
    """Base weights (`config.json`, `model.safetensors`) with two fresh heads.

    Attention is the plain one: on short texts on a CPU it trains faster than the fused kernel, and its
    exported graph is the one that ONNX Runtime's optimizer recognises.

    Raises UsageError when a file can't be read or weights are missing, which would start at random.
    """
    transformers_logging.set_verbosity_error()  # it reports the unused pooler of the base weights
    transformers_logging.disable_progress_bar()
    try:
        config = BertConfig.from_pretrained(directory)
        config.hidden_dropout_prob = dropout
        config.attention_probs_dropout_prob = dropout
        encoder, loading = BertModel.from_pretrained(
            directory,
            config=config,
            add_pooling_layer=False,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # OSError, SafetensorError, ValueError and more: of several libraries
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"base = {str(directory)!r}: not a BERT that can be read: {reason}") from error
    if missing := sorted(loading["missing_keys"]):
        raise UsageError(
            f"base = {str(directory)!r}: {len(missing)} weights are missing, {missing[0]} the first"
        )
    return TwoHeadEncoder(encoder, sizes)


class NetworkRunner:
    """Runs a network on padded numpy batches, for scoring between epochs (a `modelkit.inference.Runner`)."""

    def __init__(self, network: TwoHeadEncoder) -> None:
        self._network = network

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Logits ([batch, intents], [batch, tokens, tags]) for ids and mask [batch, tokens]."""
        with torch.inference_mode():
            intents, tags = self._network(torch.from_numpy(ids), torch.from_numpy(mask))
        return intents.numpy(), tags.numpy()
