"""Writes a trained network as one ONNX graph and fuses it for ONNX Runtime.

Owns torch → ONNX and the fusions. Leaves precision to `quantize`. Called by `publish`. Needs torch (the
`train` extra).

The fused attention reads the mask as a length: padding is on the right, as every caller here pads.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_model

from modelkit.inference import INPUTS
from modelkit.training.lean_encoder import head_size
from modelkit.training.network import MultiTaskEncoder

OPSET = 17
OF_TEXT, OF_TOKENS = {0: "batch"}, {0: "batch", 1: "tokens"}


def export(network: MultiTaskEncoder, file: Path) -> None:
    """Write `network` to `file`, float32 and fused.

    The graph has `MultiHeadAttention` with three separate projections and not `Attention` with one packed
    matrix: equally fast in float32, and its weights are plain `MatMul`s that can be quantized.
    """
    network.eval()
    config = network.encoder.config
    axes = dict.fromkeys(INPUTS, OF_TOKENS)
    axes |= {task.output: OF_TOKENS if task.kind == "ner" else OF_TEXT for task in network.tasks}
    ids = torch.ones(2, 8, dtype=torch.long)
    mask = torch.ones(2, 8, dtype=torch.long)
    mask[1, 4:] = 0
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns of each Python branch it follows
        traced = str(Path(folder) / "traced.onnx")
        torch.onnx.export(
            network,
            (ids, mask),
            traced,
            input_names=list(INPUTS),
            output_names=[task.output for task in network.tasks],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,  # the graph of the newer exporter is not fused
        )
        options = FusionOptions("bert")
        options.use_multi_head_attention = True
        fused = optimize_model(
            traced,
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            opt_level=0,
            optimization_options=options,
        )
        _count_heads(fused.model, head_size(config))
        file.parent.mkdir(parents=True, exist_ok=True)
        fused.save_model_to_file(str(file))


def _count_heads(model: onnx.ModelProto, size: int) -> None:
    """Tell each fused attention how many heads of that size it has.

    The fusion takes the config's number for every layer; with it, a pruned layer would compute with heads of
    another size, and say nothing.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MultiHeadAttention":
            of_three = constants[node.input[3]].dims[0]  # the biases of queries, keys and values, in a row
            [heads] = [attribute for attribute in node.attribute if attribute.name == "num_heads"]
            heads.i = of_three // (3 * size)
