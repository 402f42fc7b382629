"""The model directory: what `model.yaml` says, and the check that the files are the ones it names.

    support-text/
      model.yaml        this schema
      tokenizer.json    Hugging Face tokenizers file, no padding, no truncation
      int8/model.onnx   one graph a variant: `input_ids`, `attention_mask` (int64 [batch, tokens])
                        -> one output a task

Written by `modelkit`, read by `service`. A listed variant may be absent on disk (fp32 is not shipped):
that is an error only for who asks for it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from minwatt.v1 import strict_yaml
from minwatt.v1.errors import UsageError, one_line

MODEL_FILE = "model.yaml"
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenizerFile(_Frozen):
    file: str = "tokenizer.json"
    sha256: Sha256


class Task(_Frozen):
    """One head. `labels[i]` is the name of the output's column i; of a `ner` task they are BIO tags."""

    name: Name
    kind: Literal["classification", "ner"]
    output: str  # classification: float32 [batch, labels]; ner: float32 [batch, tokens, labels]
    labels: tuple[str, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _bio(self) -> Task:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels of task {self.name} are not unique")
        if self.kind == "ner":
            types = {label[2:] for label in self.labels if label != "O"}
            allowed = {"O"} | {f"{prefix}-{kind}" for kind in types for prefix in "BI"}
            if set(self.labels) != allowed:
                raise ValueError(f"labels of ner task {self.name} must be O and B-X, I-X of each entity type")
        return self


class Variant(_Frozen):
    """One precision of the model; `metrics` are those of the test split, e.g. `intent.accuracy`.

    `scheme` names the quantization, `float32_parts` what of the graph it leaves alone.
    """

    file: str
    sha256: Sha256
    size_bytes: int = Field(gt=0)
    metrics: dict[str, float] = Field(default_factory=dict)
    scheme: str | None = None
    float32_parts: tuple[str, ...] | None = None


class Provenance(_Frozen):
    """Where a model comes from: what it was trained from and on, and how its graph was made."""

    base: str | None = None  # the pre-trained weights' name
    weights_sha256: Sha256 | None = None  # of the trained checkpoint
    data: dict[str, dict[str, Sha256]] = Field(default_factory=dict)  # task: split: digest of its file
    command: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)  # of the libraries that made it
    opset: int | None = None
    created: str | None = None  # UTC, as RFC 3339


class ModelSpec(_Frozen):
    format: Literal[1] = 1
    name: Name
    version: str = Field(min_length=1)
    description: str = ""
    licence: str | None = None  # SPDX, of the weights
    provenance: Provenance | None = None
    max_tokens: int = Field(ge=8, le=4096)  # special tokens included
    pad_token_id: int = Field(ge=0, default=0)
    tokenizer: TokenizerFile
    tasks: tuple[Task, ...] = Field(min_length=1)
    default_variant: str
    variants: dict[str, Variant] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if self.default_variant not in self.variants:
            raise ValueError(
                f"default_variant {self.default_variant!r} is not one of {sorted(self.variants)}"
            )
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError("task names are not unique")
        return self

    def task_of_kind(self, kind: str) -> Task | None:
        """The first task of that kind, or None: each RPC serves one kind."""
        for task in self.tasks:  # asked for each request: a generator would take twice as long
            if task.kind == kind:
                return task
        return None


class ModelDirectory:
    """A directory with its parsed `model.yaml`. Opening checks the schema; asking for a file checks it."""

    def __init__(self, path: Path, spec: ModelSpec) -> None:
        self.path = path
        self.spec = spec

    def unchanged(self) -> bool:
        """Whether `model.yaml` on disk still says what it said. Raises UsageError where it can't be read."""
        return ModelDirectory.open(self.path).spec == self.spec

    @classmethod
    def open(cls, path: Path) -> ModelDirectory:
        """Raises UsageError when `model.yaml` is missing or not of this schema."""
        file = path / MODEL_FILE
        try:
            document = strict_yaml.load(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"{file}: can't be read ({error.strerror}); a model directory has a {MODEL_FILE}"
            ) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{file}: not YAML: {error}") from error
        except strict_yaml.UnreadableYamlError as error:
            raise UsageError(f"{file}: {error}") from error
        try:
            return cls(path, ModelSpec.model_validate(document))
        except ValidationError as error:
            raise one_line(error, str(file)) from error

    def save(self) -> None:
        document = self.spec.model_dump(mode="json", exclude_none=True)
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
        (self.path / MODEL_FILE).write_text(text, encoding="utf-8")

    def present_variants(self) -> tuple[str, ...]:
        """Names of the variants whose file is on disk."""
        return tuple(
            name for name, variant in self.spec.variants.items() if (self.path / variant.file).is_file()
        )

    def tokenizer_file(self) -> Path:
        """The tokenizer's path, its sha256 checked."""
        return self._checked(self.spec.tokenizer.file, self.spec.tokenizer.sha256)

    def variant_file(self, name: str) -> Path:
        """The path of a variant's graph, its sha256 checked. Raises UsageError naming what there is."""
        variant = self.spec.variants.get(name)
        if variant is None or not (self.path / variant.file).is_file():
            there = ", ".join(self.present_variants()) or "none"
            raise UsageError(f"variant = {name!r}: not in model directory {self.path}; there: {there}")
        return self._checked(variant.file, variant.sha256)

    def _checked(self, file: str, sha256: str) -> Path:
        path = self.path / file
        try:
            actual = sha256_of(path)
        except OSError as error:
            raise UsageError(f"{path}: can't be read ({error.strerror}); {MODEL_FILE} names it") from error
        if actual != sha256:
            raise UsageError(
                f"{path}: sha256 is {actual[:12]}…, {MODEL_FILE} says {sha256[:12]}…: wrong or damaged file"
            )
        return path


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
