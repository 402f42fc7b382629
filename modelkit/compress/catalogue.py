"""The names of the quantization schemes, and what each is for. Pure; needs no onnx, so that `--help` doesn't.

Leaves what a scheme does to a graph to `schemes`. Called by `schemes`, `choice`, `package` and `commands`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minwatt.v1.errors import UsageError

INT8 = "int8"  # the variant that the chosen scheme becomes
QDQ = "qdq"


@dataclass(frozen=True)
class Scheme:
    """`what` is a line for people. Whatever is not `for_int8` becomes a variant only when it is kept by name;
    what is not `served` is compared, to show why it can't be."""

    what: str
    by_default: bool = False
    for_int8: bool = False
    served: bool = True
    trainable: bool = False
    divisible: bool = True  # parts can stay float32


CATALOGUE: dict[str, Scheme] = {
    "per_token": Scheme(
        "int8 products; a scale for each token's activations, found while it runs",
        by_default=True,
        for_int8=True,
        trainable=True,
    ),
    "static_minmax": Scheme(
        "int8 products; a scale a tensor, of the lowest and highest value on training texts",
        by_default=True,
        for_int8=True,
        trainable=True,
    ),
    "static_entropy": Scheme(
        "as static_minmax, with the range that loses the least information", for_int8=True
    ),
    "static_percentile": Scheme("as static_minmax, without the outermost 0.001%", for_int8=True),
    "weight_int8": Scheme("int8 weights in blocks of 64", by_default=True, for_int8=True, trainable=True),
    "weight_int4": Scheme("int4 weights in blocks of 32: the smallest file", trainable=True),
    "fp16": Scheme("half precision, for GPUs (a CPU computes it in float32, with casts)", divisible=False),
    QDQ: Scheme("explicit QDQ in standard operators, for TensorRT; weights stay float32 in the file"),
    "dynamic": Scheme(
        "int8 products; one scale over the whole batch. A text's answer depends on its neighbours",
        by_default=True,
        served=False,
    ),
}
# After a scheme's name: what was done to keep its scores.
TRAINED, LEFT = "+qat", "+fp32"
DEFAULT = tuple(name for name, scheme in CATALOGUE.items() if scheme.by_default)


def schemes_named(names: Sequence[str], kept: Sequence[str]) -> tuple[str, ...]:
    """Those to compare: the named or else the default, and the kept; once each, in the catalogue's order.

    Raises UsageError on a name that is not in it, or one to be kept that is never served.
    """
    for option, given in (("scheme", names), ("keep", kept)):
        for name in given:
            if name not in CATALOGUE:
                raise UsageError(f"{option} = {name!r}: allowed: {', '.join(CATALOGUE)}")
    for name in kept:
        if not CATALOGUE[name].served:
            raise UsageError(f"keep = {name!r}: never served: {CATALOGUE[name].what}")
    wanted = {*(names or DEFAULT), *kept}
    return tuple(name for name in CATALOGUE if name in wanted)


def scheme_of(candidate: str) -> str:
    """The scheme of a compared graph, whatever was done to keep its scores."""
    return candidate.partition("+")[0]
