"""A small float32 graph with what quantization rewrites: fused embeddings, two projections, two heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CONTRIB = "com.microsoft"
WORDS, WIDTH, INNER, INTENTS, TAGS = 50, 32, 48, 5, 7


def tiny_graph(seed: int, words: int = WORDS, places: int = 16) -> onnx.ModelProto:
    """Ids and mask [batch, tokens] to intent_logits [batch, 5] and entity_logits [batch, tokens, 7].

    `words` bounds an id, `places` the tokens of a text. Padding has a say in a text's intent.
    """
    generator = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        return generator.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)

    constants = {
        "words": generator.normal(0, 1, (words, WIDTH)).astype(np.float32),
        "places": generator.normal(0, 0.3, (places, WIDTH)).astype(np.float32),
        "types": weights(2, WIDTH),
        "gain": np.ones(WIDTH, np.float32),
        "shift": np.zeros(WIDTH, np.float32),
        "up": weights(WIDTH, INNER),
        "down": weights(INNER, WIDTH),
        "tags": weights(WIDTH, TAGS),
        "intents": weights(WIDTH, INTENTS),
        "tokens_axis": np.array([1], np.int64),
    }
    embedding = ["ids", "no_types", "words", "places", "types", "gain", "shift", "mask"]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT32),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.INT32),
        helper.make_node("Sub", ["ids", "ids"], ["no_types"]),
        helper.make_node(
            "EmbedLayerNormalization",
            embedding,
            ["embedded", "lengths"],
            domain=CONTRIB,
            epsilon=1e-12,
        ),
        helper.make_node("MatMul", ["embedded", "up"], ["inner"], name="up"),
        helper.make_node("Gelu", ["inner"], ["active"], domain=CONTRIB),
        helper.make_node("MatMul", ["active", "down"], ["states"], name="down"),
        helper.make_node("MatMul", ["states", "tags"], ["entity_logits"], name="/entity_head/MatMul"),
        helper.make_node("ReduceMax", ["states", "tokens_axis"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "intents"], ["intent_logits"], name="/intent_head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("intent_logits", TensorProto.FLOAT, ["batch", INTENTS]),
            helper.make_tensor_value_info("entity_logits", TensorProto.FLOAT, ["batch", "tokens", TAGS]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def saved(model: onnx.ModelProto, file: Path) -> Path:
    """Write the graph and return its path."""
    onnx.save(model, file)
    return file
