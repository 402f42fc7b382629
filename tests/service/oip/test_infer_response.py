"""A reply holds exactly what the minwatt.v1 answer says, in either form of contents."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import InferResult, service_pb2

from minwatt.v1.inference_pb2 import (
    Classification,
    ClassifyOptions,
    ClassifyRequest,
    ClassifyResponse,
    Entity,
    EntityList,
    ExtractEntitiesRequest,
    ExtractEntitiesResponse,
    Label,
    ModelIdentity,
    Usage,
)
from service.oip import open_inference_pb2 as pb
from service.oip.infer_request import AnyRequest, Asked
from service.oip.infer_response import response
from service.oip.models import Catalog, Model
from tests.service.oip.residents import only

WHO = ModelIdentity(name="tiny-text", version="1", variant="int8")
scores = st.floats(0, 1, width=32)
labels = st.lists(st.builds(Label, name=st.text(), score=scores), max_size=3)
entity = st.builds(Entity, label=st.text(), score=scores, text=st.text(), start=st.integers(0, 9))


@pytest.fixture(scope="module")
def catalog(tiny_model: Path) -> Catalog:
    return Catalog(only(tiny_model))


def ask(model: Model, request: AnyRequest, raw: bool, *outputs: str) -> Asked:
    return Asked("7", model, request, outputs or tuple(model.outputs), raw, None)


def seen(reply: pb.ModelInferResponse) -> InferResult:
    """As Triton's client has it."""
    return InferResult(service_pb2.ModelInferResponse.FromString(reply.SerializeToString()))


@given(st.lists(st.builds(Classification, labels=labels, truncated=st.booleans()), max_size=4))
def test_labels_and_scores_stand_in_rows(catalog: Catalog, results: list[Classification]) -> None:
    request = ClassifyRequest(options=ClassifyOptions(top_k=3))
    question = ask(catalog.get("tiny-text.intent", ""), request, True)
    reply = seen(response(question, ClassifyResponse(results=results, model=WHO)))
    rows = [list(result.labels) + [Label()] * (3 - len(result.labels)) for result in results]
    assert reply.as_numpy("LABELS").tolist() == [[label.name.encode() for label in row] for row in rows]
    assert reply.as_numpy("SCORES").tolist() == [[label.score for label in row] for row in rows]
    assert reply.as_numpy("TRUNCATED").tolist() == [[result.truncated] for result in results]
    assert reply.as_numpy("LABELS").shape == (len(results), 3)


@given(st.lists(st.builds(EntityList, entities=st.lists(entity, max_size=3)), max_size=4))
def test_entities_are_json(catalog: Catalog, results: list[EntityList]) -> None:
    question = ask(catalog.get("tiny-text.entity", ""), ExtractEntitiesRequest(), True, "ENTITIES")
    reply = seen(response(question, ExtractEntitiesResponse(results=results, model=WHO)))
    assert reply.as_numpy("TRUNCATED") is None, "it was not asked for"
    for (told,), result in zip(reply.as_numpy("ENTITIES"), results, strict=True):
        assert json.loads(told) == [
            {name: getattr(found, name) for name in ("label", "score", "text", "start", "end")}
            for found in result.entities
        ]


@given(st.lists(st.builds(Classification, labels=labels.filter(len), truncated=st.booleans()), min_size=1))
def test_typed_contents_say_the_same_as_raw_ones(catalog: Catalog, results: list[Classification]) -> None:
    model, answer = catalog.get("tiny-text.intent", ""), ClassifyResponse(results=results, model=WHO)
    request = ClassifyRequest(options=ClassifyOptions(top_k=3))
    raw = seen(response(ask(model, request, True, "SCORES", "LABELS"), answer))
    typed = response(ask(model, request, False, "SCORES", "LABELS"), answer)
    assert not typed.raw_output_contents
    assert [output.name for output in typed.outputs] == ["SCORES", "LABELS"]
    assert typed.outputs[0].contents.fp32_contents == raw.as_numpy("SCORES").ravel().tolist()
    assert typed.outputs[1].contents.bytes_contents == raw.as_numpy("LABELS").ravel().tolist()


def test_usage_is_told_as_parameters_and_unknown_joules_are_not(catalog: Catalog) -> None:
    usage = Usage(
        tokens=7, queue_seconds=0.5, compute_seconds=0.25, batch_size=3, energy_joules=2, energy_source="rapl"
    )
    question = ask(catalog.get("tiny-text.intent", ""), ClassifyRequest(), True)
    reply = response(question, ClassifyResponse(usage=usage, model=WHO))
    assert {name: value.WhichOneof("parameter_choice") for name, value in reply.parameters.items()} == {
        "tokens": "int64_param",
        "queue_seconds": "double_param",
        "compute_seconds": "double_param",
        "batch_size": "int64_param",
        "energy_joules": "double_param",
        "energy_source": "string_param",
        "variant": "string_param",
    }
    assert reply.parameters["tokens"].int64_param == 7
    assert reply.parameters["energy_joules"].double_param == 2
    assert reply.parameters["energy_source"].string_param == "rapl"
    assert (reply.id, reply.model_name, reply.model_version) == ("7", "tiny-text.intent", "1")
    usage.ClearField("energy_joules")
    usage.cached_texts = 4
    reply = response(question, ClassifyResponse(usage=usage, model=WHO))
    assert "energy_joules" not in reply.parameters
    assert reply.parameters["cached_texts"].int64_param == 4
