"""A ModelInferRequest becomes the minwatt.v1 request it stands for, or a refusal that names the field."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.inference_pb2 import (
    LONG_TEXT_TRUNCATE,
    PRIORITY_BATCH,
    ClassifyOptions,
    ClassifyRequest,
    ExtractEntitiesOptions,
    ExtractEntitiesRequest,
)
from service.oip import open_inference_pb2 as pb
from service.oip.bytes_tensor import packed
from service.oip.infer_request import asked, in_own_words
from service.oip.models import Catalog, Model
from service.statuses import Refusal, Violation, invalid, queue_full
from tests.service.oip.residents import only

INTENT, ENTITY = "tiny-text.intent", "tiny-text.entity"


@pytest.fixture(scope="module")
def catalog(tiny_model: Path) -> Catalog:
    return Catalog(only(tiny_model))


@pytest.fixture(scope="module")
def intent(catalog: Catalog) -> Model:
    return catalog.get(INTENT, "")


def message(*texts: str, raw: bool = True, flat: bool = False, **fields: object) -> pb.ModelInferRequest:
    """As a client makes it."""
    elements = [text.encode() for text in texts]
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="TEXT", datatype="BYTES", shape=[len(texts)] if flat else [len(texts), 1]
    )
    request = pb.ModelInferRequest(inputs=[tensor], **fields)  # type: ignore[arg-type]
    if raw:
        request.raw_input_contents.append(packed(elements))
    else:
        request.inputs[0].contents.bytes_contents.extend(elements)
    return request


def parameters(**values: object) -> dict[str, pb.InferParameter]:
    field = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return {name: pb.InferParameter(**{field[type(value)]: value}) for name, value in values.items()}  # type: ignore[arg-type]


@given(st.lists(st.text(), max_size=6), st.booleans(), st.booleans())
def test_the_texts_are_those_sent(catalog: Catalog, texts: list[str], raw: bool, flat: bool) -> None:
    for name in (INTENT, ENTITY):
        question = asked(message(*texts, raw=raw, flat=flat, id="7"), catalog.get(name, "1"))
        assert question.request.texts == texts
        assert question.raw is raw
        assert question.id == "7"


def test_parameters_are_the_options_of_the_call(catalog: Catalog) -> None:
    told = parameters(min_score="0.25", long_text="truncate", priority=2, timeout=1500, no_cache=True)
    question = asked(message("a", parameters=told), catalog.get(ENTITY, ""))
    options = ExtractEntitiesOptions(
        min_score=0.25, long_text=LONG_TEXT_TRUNCATE, priority=PRIORITY_BATCH, no_cache=True
    )
    assert question.request.options == options
    assert isinstance(question.request, ExtractEntitiesRequest)
    assert question.timeout_s == 0.0015

    told = parameters(top_k=3, min_score=0.5, timeout=0, triton_enable_empty_final_response=True)
    question = asked(message("a", parameters=told), catalog.get(INTENT, ""))
    assert isinstance(question.request, ClassifyRequest)
    assert (question.request.options.top_k, question.request.options.min_score) == (3, 0.5)
    assert question.timeout_s is None

    none = asked(message("a"), catalog.get(INTENT, "")).request
    assert none.options == ClassifyOptions()


def test_outputs_come_in_the_order_asked_for(intent: Model) -> None:
    wanted = [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("SCORES", "LABELS")]
    assert asked(message("a", outputs=wanted), intent).outputs == ("SCORES", "LABELS")
    assert asked(message("a"), intent).outputs == ("LABELS", "SCORES", "TRUNCATED")


def bad(edit: str) -> pb.ModelInferRequest:
    """A good request with one thing wrong."""
    request = message("a", "b")
    tensor = request.inputs[0]
    match edit:
        case "no input":
            del request.inputs[:]
        case "two inputs":
            request.inputs.add(name="MORE")
        case "name":
            tensor.name = "text"
        case "datatype":
            tensor.datatype = "FP32"
        case "no shape":
            del tensor.shape[:]
        case "negative shape":
            tensor.shape[0] = -2
        case "wide shape":
            tensor.shape[1] = 2
        case "deep shape":
            tensor.shape.extend([1] * 50)
        case "huge shape":
            tensor.shape[0] = 2**62
        case "short raw":
            request.raw_input_contents[0] = request.raw_input_contents[0][:-1]
        case "two raw":
            request.raw_input_contents.append(b"")
        case "both":
            tensor.contents.bytes_contents.extend([b"a", b"b"])
        case "typed":
            del request.raw_input_contents[:]
            tensor.contents.int_contents.append(1)
        case "few typed":
            del request.raw_input_contents[:]
            tensor.contents.bytes_contents.append(b"a")
        case "not UTF-8":
            request.raw_input_contents[0] = packed([b"a", b"b\xff"])
        case "shared memory":
            tensor.parameters["shared_memory_region"].string_param = "region"
        case "output":
            request.outputs.add(name="LOGITS")
        case "output twice":
            request.outputs.add(name="LABELS")
            request.outputs.add(name="LABELS")
        case "classification":
            request.outputs.add(name="SCORES").parameters["classification"].int64_param = 3
    return request


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        ("no input", "inputs: has 0 tensors; allowed: one, TEXT"),
        ("two inputs", "inputs: has 2 tensors; allowed: one, TEXT"),
        ("name", "inputs[0].name: is 'text'; allowed: 'TEXT'"),
        ("datatype", "inputs[0].datatype: is 'FP32'; allowed: 'BYTES'"),
        ("no shape", "inputs[0].shape: is []; allowed: [n] or [n, 1] for n texts"),
        ("negative shape", "inputs[0].shape: is [-2, 1]; allowed: [n] or [n, 1] for n texts"),
        ("wide shape", "inputs[0].shape: is [2, 2]; allowed: [n] or [n, 1] for n texts"),
        ("deep shape", "inputs[0].shape: is [2, 1, 1, 1, …]; allowed: [n] or [n, 1] for n texts"),
        ("huge shape", f"raw_input_contents[0]: has 2 elements, the shape asks for {2**62}"),
        ("short raw", "raw_input_contents[0]: element 1 should have 1 bytes, 0 are there"),
        ("two raw", "raw_input_contents: has 2 elements; allowed: one, as inputs has"),
        ("both", "inputs[0].contents: is set beside raw_input_contents; allowed: one of the two"),
        ("typed", "inputs[0].contents.int_contents: is set; BYTES stand in bytes_contents"),
        ("few typed", "inputs[0].contents.bytes_contents: has 1 elements, the shape asks for 2"),
        ("not UTF-8", "TEXT[1]: not valid UTF-8 at byte 1"),
        (
            "shared memory",
            "inputs[0].parameters[shared_memory_region]: is unknown; allowed: binary_data_size, content_type",
        ),
        ("output", "outputs[0].name: 'LOGITS' is unknown; allowed: LABELS, SCORES, TRUNCATED"),
        ("output twice", "outputs[1].name: 'LABELS' is asked for twice"),
        (
            "classification",
            "outputs[0].parameters[classification]: is unknown; allowed: binary_data, content_type",
        ),
    ],
)
def test_what_is_wrong_is_named(intent: Model, edit: str, told: str) -> None:
    with pytest.raises(Refusal) as refused:
        asked(bad(edit), intent)
    assert (refused.value.code, refused.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, told)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("top_k", 6, "is 6; allowed: 0 to 5, the model's labels"),
        ("top_k", -1, "is -1; allowed: 0 to 5, the model's labels"),
        ("top_k", "1", "is '1'; allowed: 0 to 5, the model's labels"),
        ("top_k", True, "is True; allowed: 0 to 5, the model's labels"),
        ("min_score", 1.5, "is 1.5; allowed: 0 to 1"),
        ("min_score", float("nan"), "is nan; allowed: 0 to 1"),
        ("min_score", "high", "is 'high'; allowed: 0 to 1"),
        ("min_score", True, "is True; allowed: 0 to 1"),
        ("long_text", "cut", "is 'cut'; allowed: refuse, truncate"),
        ("long_text", 1, "is 1; allowed: refuse, truncate"),
        ("priority", 3, "is 3; allowed: 0 (the default), 1 (interactive) or 2 (batch)"),
        ("timeout", -1, "is -1; allowed: 0 (none) to 86400000000 microseconds"),
    ],
)
def test_a_wrong_parameter_is_named(intent: Model, name: str, value: object, told: str) -> None:
    with pytest.raises(Refusal) as refused:
        asked(message("a", parameters=parameters(**{name: value})), intent)
    assert refused.value.message == f"parameters[{name}]: {told}"


@pytest.mark.parametrize("model", [INTENT, ENTITY])
def test_a_parameter_that_is_unknown_or_empty(catalog: Catalog, model: str) -> None:
    with pytest.raises(Refusal, match=r"^parameters\[topk\]: is unknown; allowed: .*min_score"):
        asked(message("a", parameters=parameters(topk=3)), catalog.get(model, ""))
    with pytest.raises(Refusal, match=r"^parameters\[priority\]: is empty; allowed: "):
        asked(message("a", parameters={"priority": pb.InferParameter()}), catalog.get(model, ""))
    with pytest.raises(Refusal) as refused:
        asked(message("a", parameters={"x" * 5000: pb.InferParameter()}), catalog.get(model, ""))
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(("name", "version"), [("tiny-text", ""), ("", ""), (INTENT, "2"), ("x" * 9999, "")])
def test_a_model_that_is_not_there(catalog: Catalog, name: str, version: str) -> None:
    with pytest.raises(Refusal, match=r"tiny-text\.intent version 1, tiny-text\.entity version 1") as refused:
        catalog.get(name, version)
    assert refused.value.code is grpc.StatusCode.NOT_FOUND
    assert len(refused.value.message) < 300


def test_a_refusal_names_the_texts_as_they_are_called_here() -> None:
    refusal = in_own_words(invalid([Violation("texts[3]", "is empty"), Violation("options", "texts: x")]))
    assert refusal.message == "TEXT[3]: is empty (and 1 more)"
    bad_request = BadRequest()
    assert refusal.status().details[0].Unpack(bad_request)
    assert [violation.field for violation in bad_request.field_violations] == ["TEXT[3]", "options"]
    full = in_own_words(queue_full("textsome", 0.5))
    assert (full.message, full.code) == ("textsome", grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert full.status().details[0].Is(RetryInfo.DESCRIPTOR)
