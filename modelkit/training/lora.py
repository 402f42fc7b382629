"""Low-rank adapters on the encoder's matrices: all that trains besides the heads, merged at the end.

Each matrix W of the layers becomes W + 2 B A with B and A of the rank given (Hu et al., "LoRA", 2021; all
linear layers and alpha = 2 × rank as in Dettmers et al., "QLoRA", 2023). Owns peft. Called by `train`.
Needs the `train` extra.
"""

from __future__ import annotations

import warnings

from peft import LoraConfig, get_peft_model
from torch import nn

from modelkit.training.network import MultiTaskEncoder

_LAYERS = "encoder.layer"


def add_adapters(network: MultiTaskEncoder, rank: int, frozen_layers: int, dropout: float) -> None:
    """In place: the encoder's own weights stay, the layers above the frozen ones get adapters."""
    # By their full names: of a pruned encoder a feed-forward matrix may be two.
    matrices = [
        f"{_LAYERS}.{layer}.{name}"
        for layer in range(frozen_layers, network.encoder.config.num_hidden_layers)
        for name, module in network.encoder.get_submodule(f"{_LAYERS}.{layer}").named_modules()
        if isinstance(module, nn.Linear)
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=dropout,
        target_modules=matrices,
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", FutureWarning
        )  # peft asks transformers for what it now calls otherwise
        network.encoder = get_peft_model(network.encoder, config)


def merge_adapters(network: MultiTaskEncoder) -> None:
    """In place: the encoder is a plain one again, with the adapters in its weights."""
    network.encoder = network.encoder.merge_and_unload()
