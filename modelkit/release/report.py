"""What the checks of an export found, as data and as lines. Called by `release.run` and `commands`."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict


class ProviderCheck(BaseModel):
    """How many nodes of which operator a provider can't run; ONNX Runtime gives those to the CPU."""

    model_config = ConfigDict(frozen=True)

    provider: str
    checked_by: str
    without_kernel: dict[str, int]


class ExportReport(BaseModel):
    """`parity`: texts, largest difference of a logit and of a probability, texts whose answers differ.

    `stale`: variants of the model before, whose graphs were moved away.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    texts: str
    parity: dict[str, float]
    tolerance: float  # of a logit
    passed: bool
    heads: dict[str, str]
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, tuple[str, ...]]
    opset: int
    size_bytes: int
    sha256: str
    providers: tuple[ProviderCheck, ...]
    stale: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """In words."""
        sides = (*self.inputs.items(), *self.outputs.items())
        shapes = ", ".join(f"{name} [{', '.join(shape)}]" for name, shape in sides)
        yield f"graph: {self.size_bytes / 1e6:.1f} MB, opset {self.opset}; {shapes}"
        verdict = "within" if self.parity["logit"] <= self.tolerance else "more than"
        yield (
            f"parity with torch on {self.texts}: logits differ by up to {self.parity['logit']:.1e} "
            f"({verdict} {self.tolerance:g}), probabilities by {self.parity['probability']:.1e}; "
            f"{self.parity['changed_texts']:.0f} texts are answered otherwise"
        )
        for check in self.providers:
            lacking = ", ".join(f"{name} × {count}" for name, count in check.without_kernel.items())
            told = f"has no kernel for {lacking}" if lacking else "runs every node"
            yield f"{check.provider} ({check.checked_by}): {told}"
