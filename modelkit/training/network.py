"""The network that is fine-tuned: one BERT encoder with a head for each task.

Owns the architecture and the loading of base weights. Leaves the training loop to `train` and the graph
to `export`. Needs torch and transformers (the `train` extra).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import Task
from modelkit.inference import read_tokenizer
from modelkit.training.casing import FORMS, readings
from modelkit.training.lean_encoder import LeanBert

Floats = NDArray[np.float32]
MODEL_TYPE = "bert"


class MultiTaskEncoder(nn.Module):
    """The logits of all tasks, of a text's mean or of each token, from one pass through one encoder."""

    def __init__(
        self,
        encoder: BertModel,
        tasks: Sequence[Task],
        readings: tuple[torch.Tensor, torch.Tensor] | None = None,
        head_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder = encoder
        self.tasks = tuple(tasks)
        # Of every token its row in the table of words, and its form (`casing`); None: each has its own.
        rows, forms = readings or (None, None)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("forms", forms, persistent=False)
        self.dropout = nn.Dropout(head_dropout)
        self.task_heads = nn.ModuleList(nn.Linear(width, len(task.labels)) for task in tasks)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.task_heads.parameters()).device

    def hidden(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Token states [batch, tokens, width] in float32, for ids and mask [batch, tokens]."""
        return self.dropout(self.states(input_ids, attention_mask)[-1].float())

    def states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Token states behind the embeddings and behind each layer, without dropout."""
        forms = None
        if self.rows is not None and self.forms is not None:
            input_ids, forms = self.rows[input_ids], self.forms[input_ids]
        result: tuple[torch.Tensor, ...] = self.encoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=forms,
            output_hidden_states=True,
        ).hidden_states
        return result

    def forms_of_tokens(self) -> tuple[nn.Parameter, ...]:
        """The vectors that tell capitals, where tokens have forms: as new as the heads are."""
        return () if self.forms is None else (self.encoder.embeddings.token_type_embeddings.weight,)

    def like(self, encoder: BertModel, tasks: Sequence[Task]) -> MultiTaskEncoder:
        """A network of another encoder with this one's vocabulary; its heads are fresh."""
        readings = None if self.rows is None or self.forms is None else (self.rows, self.forms)
        return MultiTaskEncoder(encoder, tasks, readings)

    def first(self, heads: int) -> MultiTaskEncoder:
        """The same encoder with the first heads alone, in evaluation mode."""
        network = self.like(self.encoder, self.tasks[:heads])
        network.task_heads.load_state_dict(self.task_heads[:heads].state_dict())
        network.eval()
        return network

    def logits(self, head: int, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Of the task with that number: [batch, tokens, tags], or [batch, labels] from the mean over the
        tokens that the mask keeps."""
        if self.tasks[head].kind == "classification":
            weights = attention_mask.unsqueeze(-1).to(states.dtype)
            states = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        result: torch.Tensor = self.task_heads[head](states)
        return result

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """All heads' logits, in the tasks' order."""
        states = self.hidden(input_ids, attention_mask)
        return tuple(self.logits(head, states, attention_mask) for head in range(len(self.tasks)))


def load_base(
    directory: Path, tasks: Sequence[Task], dropout: float, tokenizer_file: Path
) -> MultiTaskEncoder:
    """Base weights (`config.json`, `model.safetensors`) with a fresh head for each task.

    A tokenizer with more tokens than the weights know tells capitals (`casing`).

    Attention is the plain one: on short texts on a CPU it trains faster than the fused kernel, and its
    exported graph is the one that ONNX Runtime's optimizer recognises. A pruned encoder's layers are as its
    config says (`lean_encoder`).

    Raises UsageError when a file can't be read or is of another architecture, or weights are missing, which
    would start at random.
    """
    _refuse_other_types(directory)
    transformers_logging.set_verbosity_error()  # it reports the unused pooler of the base weights
    transformers_logging.disable_progress_bar()
    try:
        config = BertConfig.from_pretrained(directory)
        config.hidden_dropout_prob = dropout
        config.attention_probs_dropout_prob = dropout
        encoder, loading = LeanBert.from_pretrained(
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
    tokenizer = read_tokenizer(tokenizer_file)
    found = readings(tokenizer, encoder.config.vocab_size)
    if found is None:
        return MultiTaskEncoder(encoder, tasks)
    _with_forms(encoder)
    rows, forms = (torch.tensor(numbers, dtype=torch.int32) for numbers in found)
    return MultiTaskEncoder(encoder, tasks, (rows, forms))


def _with_forms(encoder: BertModel) -> None:
    """A vector for each form where BERT has one for each segment; at first all are the first segment's."""
    there = encoder.embeddings.token_type_embeddings
    if there.num_embeddings == FORMS:  # a checkpoint of ours
        return
    vectors = nn.Embedding(FORMS, there.embedding_dim)
    vectors.weight.data.copy_(there.weight.data[:1].expand(FORMS, -1))
    encoder.embeddings.token_type_embeddings = vectors
    encoder.config.type_vocab_size = FORMS


def _refuse_other_types(directory: Path) -> None:
    """Weights of another architecture would be read as a BERT's: most would be missing, or, as RoBERTa's have
    the same names, its positions counted otherwise."""
    file = directory / "config.json"
    try:
        model_type = json.loads(file.read_bytes()).get("model_type", MODEL_TYPE)
    except (OSError, ValueError, AttributeError):
        return  # whoever loads it says what is wrong with it
    if model_type != MODEL_TYPE:
        raise UsageError(
            f"base = {str(directory)!r}: model_type = {model_type!r} in {file.name}; "
            f"allowed: {MODEL_TYPE!r}, which MiniLM is too"
        )
