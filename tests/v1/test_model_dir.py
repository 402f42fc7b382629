"""The model directory: round trip, exact errors, and files that are not the ones named."""

from pathlib import Path

import pytest

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory, ModelSpec, Task, TokenizerFile, Variant, sha256_of


@pytest.fixture
def directory(tmp_path: Path) -> ModelDirectory:
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "int8").mkdir()
    (tmp_path / "int8/model.onnx").write_bytes(b"graph")
    spec = ModelSpec(
        name="tiny",
        version="1",
        max_tokens=16,
        tokenizer=TokenizerFile(sha256=sha256_of(tmp_path / "tokenizer.json")),
        tasks=(
            Task(name="intent", kind="classification", output="intent_logits", labels=("a", "b")),
            Task(name="entities", kind="ner", output="entity_logits", labels=("O", "B-PER", "I-PER")),
        ),
        default_variant="int8",
        variants={
            "fp32": Variant(file="fp32/model.onnx", sha256="0" * 64, size_bytes=9),
            "int8": Variant(
                file="int8/model.onnx", sha256=sha256_of(tmp_path / "int8/model.onnx"), size_bytes=5
            ),
        },
    )
    made = ModelDirectory(tmp_path, spec)
    made.save()
    return made


def test_what_was_saved_is_what_is_opened(directory: ModelDirectory) -> None:
    opened = ModelDirectory.open(directory.path)
    assert opened.spec == directory.spec
    assert opened.present_variants() == ("int8",)
    assert opened.variant_file("int8") == directory.path / "int8/model.onnx"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_tokens: 16", "max_tokens: -1", "max_tokens = -1: Input should be greater than or equal to 8"),
        (
            "default_variant: int8",
            "default_variant: int4",
            "default_variant 'int4' is not one of ['fp32', 'int8']",
        ),
        ("  - I-PER", "  - I-LOC", "must be O and B-X, I-X of each entity type"),
        ("name: tiny", "nam: tiny", "name: Field required"),
        ("name: tiny", "name: [", "not YAML"),
        ("name: tiny", "---\nname: tiny", "several YAML documents, the second begins at line 2"),
        ("name: tiny", "name: tiny\nname: other", "field 'name' is there twice, again at line 3"),
    ],
)
def test_a_wrong_model_yaml_is_one_precise_line(
    directory: ModelDirectory, old: str, new: str, message: str
) -> None:
    file = directory.path / "model.yaml"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(UsageError) as caught:
        ModelDirectory.open(directory.path)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_graph_is_refused(directory: ModelDirectory) -> None:
    (directory.path / "int8/model.onnx").write_bytes(b"grapf")
    with pytest.raises(UsageError, match="wrong or damaged file"):
        directory.variant_file("int8")


def test_a_variant_that_is_not_there_names_those_that_are(directory: ModelDirectory) -> None:
    with pytest.raises(UsageError, match=r"variant = 'fp32': not in model directory .*; there: int8"):
        directory.variant_file("fp32")


def test_no_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.yaml: can't be read \(No such file or directory\)"):
        ModelDirectory.open(tmp_path / "nowhere")
