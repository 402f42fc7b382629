"""A one-layer encoder with every fused operator that an exported graph has; random weights, no torch."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.modelkit.tiny_graph import CONTRIB, INTENTS, TAGS, WORDS

WIDTH, INNER, HEADS = 32, 64, 4


def tiny_encoder(seed: int, words: int = WORDS, places: int = 16, forms: bool = False) -> onnx.ModelProto:
    """Ids and mask [batch, tokens] to intent_logits [batch, 5] and entity_logits [batch, tokens, 7].

    With `forms`, every other word is of token type 1, else all are 0.
    """
    generator = np.random.default_rng(seed)

    def weights(*shape: int) -> NDArray[np.float32]:
        return generator.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32)

    constants: dict[str, NDArray[np.generic]] = {
        "words": generator.normal(0, 1, (words, WIDTH)).astype(np.float32),
        "places": generator.normal(0, 0.3, (places, WIDTH)).astype(np.float32),
        "types": weights(2, WIDTH),
        **{f"gain_{i}": generator.normal(1, 0.1, WIDTH).astype(np.float32) for i in range(3)},
        **{f"shift_{i}": generator.normal(0, 0.1, WIDTH).astype(np.float32) for i in range(3)},
        **{name: weights(WIDTH, WIDTH) for name in ("query", "key", "value", "output")},
        "packed": generator.normal(0, 0.1, 3 * WIDTH).astype(np.float32),
        "output_bias": generator.normal(0, 0.1, WIDTH).astype(np.float32),
        "up": weights(WIDTH, INNER),
        "up_bias": generator.normal(0, 0.1, INNER).astype(np.float32),
        "down": weights(INNER, WIDTH),
        "down_bias": generator.normal(0, 0.1, WIDTH).astype(np.float32),
        "tags": weights(WIDTH, TAGS),
        "intents": weights(WIDTH, INTENTS),
        "forms": (np.arange(words) % 2).astype(np.int32),
        "tokens_axis": np.array([1], np.int64),
        "last_axis": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.INT32),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.INT32),
        helper.make_node("Gather", ["forms", "ids"], ["segments"])
        if forms
        else helper.make_node("Sub", ["ids", "ids"], ["segments"]),
        _fused(
            "EmbedLayerNormalization",
            ["ids", "segments", "words", "places", "types", "gain_0", "shift_0", "mask"],
            ["embedded", "lengths"],
            epsilon=1e-12,
        ),
        *(
            helper.make_node("MatMul", ["embedded", name], [f"{name}s"], name=name)
            for name in ("query", "key", "value")
        ),
        _fused(
            "MultiHeadAttention",
            ["querys", "keys", "values", "packed", "lengths"],
            ["attended"],
            num_heads=HEADS,
        ),
        helper.make_node("MatMul", ["attended", "output"], ["mixed"], name="output"),
        _fused(
            "SkipLayerNormalization",
            ["mixed", "embedded", "gain_1", "shift_1", "output_bias"],
            ["between"],
            epsilon=1e-12,
        ),
        helper.make_node("MatMul", ["between", "up"], ["inner"], name="up"),
        _fused("BiasGelu", ["inner", "up_bias"], ["active"]),
        helper.make_node("MatMul", ["active", "down"], ["outer"], name="down"),
        _fused(
            "SkipLayerNormalization",
            ["outer", "between", "gain_2", "shift_2", "down_bias"],
            ["states"],
            epsilon=1e-12,
        ),
        helper.make_node("MatMul", ["states", "tags"], ["entity_logits"], name="/entity_head/MatMul"),
        helper.make_node("Cast", ["attention_mask"], ["present"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["present", "last_axis"], ["wide"]),
        helper.make_node("Mul", ["states", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens_axis"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["present", "tokens_axis"], ["count"], keepdims=1),
        helper.make_node("Div", ["total", "count"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "intents"], ["intent_logits"], name="/intent_head/MatMul"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny encoder",
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
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _fused(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, inputs, outputs, name=outputs[0], domain=CONTRIB, **attributes)
