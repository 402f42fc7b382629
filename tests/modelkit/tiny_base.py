"""Base weights to train from in tests. Needs torch and transformers."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from tests.tiny_model import write_tiny_model


def write_base(path: Path) -> Path:
    """Random BERT weights of two small layers, with a tokenizer that pads as the real base's does."""
    import torch
    import transformers

    write_tiny_model(path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.add_special_tokens(["[MASK]"])
    tokenizer.enable_padding(length=32)
    tokenizer.enable_truncation(32)
    tokenizer.save(str(path / "tokenizer.json"))
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=64,
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(path)
    return path
