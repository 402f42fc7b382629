"""The CRD: fresh, structural, and as strict as the file's parser, as far as a schema and CEL can say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import re2
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from scaler.kube import crd
from scaler.kube.policy_object import Accepted, Problem, parse
from scaler.policy import Spec
from tests.scaler.kube.admission import admitted

ROOT = Path(__file__).resolve().parents[3]
SPEC, STATUS = crd.spec_schema(), crd.status_schema()
DEFINITION = crd.custom_resource_definition()
(VERSION,) = DEFINITION["spec"]["versions"]
WHOLE = VERSION["schema"]["openAPIV3Schema"]


def policy(**spec: Any) -> dict[str, Any]:
    """The least that is accepted, with these fields of `spec`."""
    least = {
        "targetRef": {"name": "support-text"},
        "model": "support-text",
        "slo": {"latency": "50ms"},
        "replicas": {"max": 4},
    }
    return {
        "apiVersion": "minwatt.dev/v1alpha1",
        "kind": "PowerPolicy",
        "metadata": {"name": "support-text", "namespace": "inference"},
        "spec": {**least, **spec},
    }


def refusals(**spec: Any) -> list[str]:
    return admitted(policy(**spec), WHOLE)[1]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, one in schema.get("properties", {}).items():
        yield from nodes(one, f"{path}.{name}")
    for below in ("items", "additionalProperties"):
        if below in schema:
            yield from nodes(schema[below], f"{path}.{below}")


def test_the_file_is_fresh() -> None:
    written = (ROOT / "k8s" / "base" / "crd.yaml").read_text(encoding="utf-8")
    assert written == crd.page(), "python -m scaler.kube.crd > k8s/base/crd.yaml"


def test_the_file_reads_back_as_it_was_meant_also_by_yaml_1_1() -> None:
    assert yaml.safe_load(crd.page()) == json.loads(json.dumps(DEFINITION))


@pytest.mark.parametrize("version", ["1.31", "1.34", "1.36"])
def test_the_published_schema_of_a_crd_accepts_it(version: str) -> None:
    written = json.loads(json.dumps(DEFINITION))
    kubernetes_validate.validate(written, version, strict=True)
    written["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["typo"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="typo"):
        kubernetes_validate.validate(written, version, strict=True)


def test_structural() -> None:
    """The rules of apiextensions-apiserver's schema/validation.go, and what v1 forbids besides."""
    assert WHOLE["type"] == "object"
    assert "additionalProperties" not in WHOLE
    assert WHOLE["properties"]["metadata"] == {"type": "object"}
    for path, node in nodes(WHOLE):
        int_or_string = node.get("x-kubernetes-int-or-string", False)
        preserves = node.get("x-kubernetes-preserve-unknown-fields", False)
        assert ("type" in node) != (int_or_string or preserves), path
        assert node.get("type") in {None, "object", "array", "string", "integer", "number", "boolean"}, path
        assert not node.keys() & {"$ref", "$defs", "definitions", "title", "const", "allOf", "oneOf", "not"}
        assert not node.keys() & {"uniqueItems", "patternProperties", "dependencies", "id", "$id", "$schema"}
        assert ("anyOf" in node) == int_or_string, path
        if int_or_string:
            assert node["anyOf"] == [{"type": "integer"}, {"type": "string"}]
        assert not (node.get("properties") and "additionalProperties" in node), path
        if node.get("type") == "array":
            assert node["items"]
            assert node["x-kubernetes-list-type"] in {"atomic", "map"}
            for key in node.get("x-kubernetes-list-map-keys", ()):
                assert key in node["items"]["required"]
                assert node["items"]["properties"][key]["type"] == "string"
        if "pattern" in node:
            re2.compile(node["pattern"])


def test_status_has_a_schema_of_its_own_throughout() -> None:
    open_ones = [path for path, node in nodes(STATUS) if "x-kubernetes-preserve-unknown-fields" in node]
    assert open_ones == [".lastGood.spec.gpu.clocks"]  # as in the spec that it repeats: a word, or false
    loose = [path for path, node in nodes(SPEC) if "x-kubernetes-preserve-unknown-fields" in node]
    assert loose == [".gpu.clocks"]  # a word that kubectl's YAML makes a boolean


def test_everything_is_bounded_so_that_rules_have_a_cost() -> None:
    for path, node in nodes({"properties": {"spec": SPEC, "status": STATUS}}):
        if node.get("type") == "string" or node.get("x-kubernetes-int-or-string"):
            assert "maxLength" in node or "enum" in node, path
        if node.get("type") == "array":
            assert node["maxItems"] <= 16, path
        if "additionalProperties" in node:
            assert node["maxProperties"] <= 16, path
        if node.get("type") == "integer":
            assert "minimum" in node, path
            assert "maximum" in node, path


def test_what_a_message_is_put_together_of_has_a_bound() -> None:
    """`+` costs as much as its result is long. The server knows how long `self` is where that is a string
    with a maxLength, and not how long a number becomes: it refuses the CRD then (kubernetes issue 124234)."""
    for path, node in nodes({"properties": {"spec": SPEC, "status": STATUS}}):
        for rule in node.get("x-kubernetes-validations", ()):
            said = rule.get("messageExpression", "")
            assert "string(" not in said, path
            if " + " in said:
                assert said.startswith("self + '"), path
                assert node["type"] == "string", path
                assert node["maxLength"] <= 64, path
            elif said:  # the arguments of `format` are measured by its text alone; lists are of one type
                assert re.fullmatch(r"'[^']*'\.format\(\[[a-zA-Z., ]+\]\)", said), path
                assert said.count("%") == said.count(",", said.rindex("format(")) + 1, path


def test_every_field_is_described_for_kubectl_explain() -> None:
    for path, node in nodes({"properties": {"spec": SPEC, "status": STATUS}}):
        if path and not path.endswith((".items", ".additionalProperties")):
            assert len(node.get("description", "")) > 3, path
            assert "\n" not in node["description"], path


def test_defaults_are_spelled_as_a_user_would_and_reach_every_field_that_has_one() -> None:
    stored, errors = admitted(policy(), WHOLE)
    assert errors == []
    assert stored["spec"] == {
        "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "support-text"},
        "model": "support-text",
        "slo": {"latency": "50ms", "percentile": 99, "errorBudget": "0.1%"},
        "replicas": {"min": 1, "max": 4},
        "batching": {"maxSize": 16, "maxDelay": "10ms"},
        "gpu": {"clocks": "off"},
        "behavior": {"tick": "5s", "scaleDown": {"stabilizationWindow": "auto"}},
        "telemetry": {"staleAfter": "15s"},
    }


def test_defaults_are_valid_and_have_no_unknown_field() -> None:
    for path, node in nodes(SPEC):
        if "default" in node:
            filled, errors = admitted({"it": node["default"]}, {"type": "object", "properties": {"it": node}})
            assert errors == [], path
            assert type(node["default"]) in (dict, str, int), path
            assert filled["it"] is not None
    assert not any("default" in node for _, node in nodes(STATUS))


def test_the_recorded_servers_defaults_are_filled_in_as_admission_does() -> None:
    """Admission here and the real server's agree on the sample CRD of the recordings."""
    recordings = ROOT.parent / "shared" / "kube-recordings" / "transcripts.json"
    if not recordings.exists():
        pytest.skip(
            f"{recordings} is not beside this checkout: the recordings of a real API server are not in it"
        )
    steps = {one["step"]: one for one in json.loads(recordings.read_text(encoding="utf-8"))}
    versions = steps["crd-create"]["request"]["body"]["spec"]["versions"]
    sample = versions[0]["schema"]["openAPIV3Schema"]
    created = steps["policy-create"]
    assert admitted(created["request"]["body"], _with_meta(sample))[0]["spec"] == created["response"]["spec"]
    for step in ("policy-invalid-schema", "policy-invalid-cel"):
        _, errors = admitted(steps[step]["request"]["body"], _with_meta(sample))
        assert errors
        assert steps[step]["status"] == 422


def _with_meta(schema: dict[str, Any]) -> dict[str, Any]:
    own = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {**schema, "properties": {**own, **schema["properties"]}}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (
            {"replicas": {"min": 5, "max": 2}},
            "spec.replicas.max: replicas.max = 2: allowed: replicas.min (5) or",
        ),
        (
            {"telemetry": {"fallbackReplicas": 9}},
            "fallbackReplicas = 9: allowed: 1 to 4 (replicas.min to max)",
        ),
        ({"power": {"whenOverBudget": ["lowerClocks", "lowerClocks"]}}, "allowed: each step once"),
        ({"power": {"budget": "1200"}}, "spec.power.budget: '1200' does not match"),
        ({"power": {"budget": "2GW"}}, "spec.power.budget: '2GW' does not match"),
        ({"power": {"budget": "1001MW"}}, "1001MW: allowed: 1mW to 1000MW, such as 20W or 1.2kW"),
        (
            {"slo": {"latency": "61s"}},
            "spec.slo.latency: 61s: allowed: 1ms to 60s, such as 50ms, 5s, 2m or 1h",
        ),
        ({"slo": {"latency": "0.9ms"}}, "spec.slo.latency: 0.9ms: allowed: 1ms to 60s"),
        ({"slo": {"latency": "50ms", "percentile": 100}}, "spec.slo.percentile: 100"),
        ({"slo": {"latency": 0}}, "spec.slo.latency: 0 is not of type 'string'"),
        ({"batching": {"maxDelay": 1}}, "spec.batching.maxDelay: 1 is greater than the maximum of 0"),
        ({"batching": {"maxDelay": "11s"}}, "spec.batching.maxDelay: 11s: allowed: 0s to 10s"),
        ({"behavior": {"scaleDown": {"stabilizationWindow": "25h"}}}, "allowed: auto or 0s to 24h"),
        ({"gpu": {"clocks": True}}, "True is not one of ['auto', 'off', False]"),
        ({"targetRef": {"kind": "Deployment"}}, "'name' is a required property"),
        ({"targetRef": None}, "'targetRef' is a required property"),
        ({"targetRef": {"name": ".."}}, "'..' does not match"),
        ({"targetRef": {"name": "a/b"}}, "'a/b' does not match"),
        ({"targetRef": {"name": "a..b"}}, "'a..b' does not match"),
        ({"modell": "x"}, ".spec.modell: unknown field"),
    ],
)
def test_what_the_server_refuses_and_what_it_says(spec: dict[str, Any], said: str) -> None:
    assert any(said in error for error in refusals(**spec)), refusals(**spec)
    assert isinstance(parse(policy(**spec)), Problem)


@pytest.mark.parametrize("clocks", [False, "off", "auto"])
def test_a_bare_off_is_false_to_kubectl_and_means_off(clocks: str | bool) -> None:
    assert yaml.safe_load("off") is False
    found = parse(policy(gpu={"clocks": clocks}))
    assert refusals(gpu={"clocks": clocks}) == []
    assert isinstance(found, Accepted)
    assert found.policy.spec.gpu.clocks == (clocks or "off")


NUMBERS = st.one_of(
    st.integers(0, 100_000).map(str),
    st.floats(0, 100_000).map(lambda x: f"{x:.6f}"),
    st.sampled_from(
        ["0", "1", "60", "10", "24", "0.1", "1000", "50", "600", "86400", "0.001", "1e3", "-1", "."]
    ),
)
UNITS = st.sampled_from(["us", "ms", "s", "m", "h", "mW", "W", "kW", "MW", "%", "", "S", "d", "µs", "GW"])
BLANKS = st.sampled_from(["", "", "", " ", "\t", "\n"])
QUANTITIES = st.one_of(
    st.builds("".join, st.tuples(BLANKS, NUMBERS, BLANKS, UNITS, BLANKS)),
    st.sampled_from(["auto", "0", "", "5 s s", "1.s", ".5s", "5s" + " " * 64, "off"]),
    st.integers(-1, 2),
    st.booleans(),
)
WHOLE_NUMBERS = st.one_of(
    st.integers(-1, 12), st.sampled_from([9_999, 10_000, 10_001, 1024, 1025, 1.5, "4", True, 2**40])
)
REALS = st.one_of(st.floats(-1, 101), st.sampled_from([0, 1, 50, 99, 100, 49.9, "99", True]))
WORDS = st.one_of(
    st.sampled_from(
        ["support-text", "", "a" * 63, "a" * 64, "a" * 253, "a" * 254, "Deployment", "v1", "apps/v1"]
    ),
    st.sampled_from(["Apps/V1", "lower", "batch/v1beta1", 7, True, ["x"]]),
)
STEPS = st.sampled_from(["lowerClocks", "cheaperVariant", "shedLowPriority"])
ANY = st.one_of(st.just("x"), st.just(3), st.just([]), st.just({}), st.just({"unknown": 1}))


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


def mostly(other: st.SearchStrategy[Any], *good: Any) -> st.SearchStrategy[Any]:
    """One in eight is of the others: about half of the policies have nothing wrong."""
    return st.integers(0, 7).flatmap(lambda dice: other if dice == 7 else st.sampled_from(good))


def part(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 15).flatmap(lambda dice: ANY if dice == 15 else some(**fields))


SPECS = some(
    targetRef=st.builds(
        lambda name, more: {"name": name, **more},
        mostly(WORDS, "support-text"),
        some(apiVersion=mostly(WORDS, "apps/v1", "v1"), kind=mostly(WORDS, "StatefulSet")),
    ),
    model=mostly(WORDS, "support-text"),
    slo=st.builds(
        lambda latency, more: {"latency": latency, **more},
        mostly(QUANTITIES, "50ms", "0.05s", "1ms", "1m", "60s", " 50 ms "),
        some(percentile=mostly(REALS, 99, 99.9, 50), errorBudget=mostly(QUANTITIES, "0%", "0.1%", "50%")),
    ),
    power=part(
        budget=mostly(QUANTITIES, "20W", "1.2kW", "1mW", "1000MW"),
        whenOverBudget=mostly(st.one_of(st.lists(STEPS, max_size=4), ANY), [], ["shedLowPriority"]),
    ),
    replicas=part(min=mostly(WHOLE_NUMBERS, 1, 2, 4), max=mostly(WHOLE_NUMBERS, 4, 8)),
    batching=part(maxSize=mostly(WHOLE_NUMBERS, 1, 1024), maxDelay=mostly(QUANTITIES, 0, "0", "0s", "10s")),
    variants=part(
        allow=mostly(st.one_of(st.lists(WORDS, max_size=18), ANY), [], ["int8", "fp16"]),
        minAccuracy=mostly(REALS, 0, 0.92, 1),
    ),
    gpu=part(clocks=mostly(st.sampled_from([True, "on", 1, 0]), "auto", "off", False)),
    behavior=part(
        tick=mostly(QUANTITIES, "0.1s", "5s", "10m"),
        scaleDown=part(stabilizationWindow=mostly(QUANTITIES, "auto", 0, "0", "24h", "5m")),
    ),
    telemetry=part(
        staleAfter=mostly(QUANTITIES, "1s", "15s", "24h"),
        fallbackReplicas=mostly(WHOLE_NUMBERS, 1, 2, 4),
    ),
    carbon=part(intensityFile=mostly(WORDS, "grid.csv")),
)


@given(SPECS)
def test_the_server_accepts_what_the_file_does_and_nothing_else(spec: dict[str, Any]) -> None:
    obj = policy(**spec)
    stored, errors = admitted(obj, WHOLE)
    found = parse(obj)
    assert isinstance(found, Accepted) == (not errors), (found, errors)
    if isinstance(found, Accepted):
        again = parse(stored)
        assert isinstance(again, Accepted)
        assert again.policy == found.policy
        assert again.target == found.target


@given(
    QUANTITIES, st.sampled_from([path for path, node in nodes(SPEC) if "x-kubernetes-validations" in node])
)
def test_a_quantity_alone(value: Any, path: str) -> None:
    """The same law, where each draw is one of a quantity's edges."""
    spec: Any = value
    for name in reversed(path.split(".")[1:]):
        spec = {name: spec}
    if not isinstance(spec, dict):
        return
    ((field, given_value),) = spec.items()
    least = policy()["spec"]
    merged = {**least.get(field, {}), **given_value} if isinstance(given_value, dict) else given_value
    assert (not refusals(**{field: merged})) == isinstance(parse(policy(**{field: merged})), Accepted)


def test_a_null_is_as_if_it_were_not_there() -> None:
    """The server drops nulls; the file takes them where a value may be left out."""
    optional = {
        "power": {"budget": None},
        "variants": {"minAccuracy": None},
        "telemetry": {"fallbackReplicas": None},
        "behavior": {"scaleDown": {"stabilizationWindow": None}},
        "carbon": None,
    }
    assert refusals(**optional) == []
    found, plain = parse(policy(**optional)), parse(policy())
    assert isinstance(found, Accepted)
    assert isinstance(plain, Accepted)
    assert found.policy == plain.policy


def test_every_column_shows_a_field_that_there_is() -> None:
    for column in VERSION["additionalPrinterColumns"]:
        node = WHOLE
        path = re.sub(r"\[\?\(@\.type==\"[A-Za-z]+\"\)\]", ".items", column["jsonPath"])
        if path == ".metadata.creationTimestamp":
            continue
        for part in path.split(".")[1:]:
            node = node["items"] if part == "items" else node["properties"][part]
        assert column["type"] in {node["type"], "date"}
        assert node["type"] == "string" or column["type"] == "integer"
    shown = [one["name"] for one in VERSION["additionalPrinterColumns"] if "priority" not in one]
    assert shown == ["SLO", "P99", "Watts", "Replicas", "Point", "Reason", "Age"]


def test_every_field_of_the_file_is_in_the_crd() -> None:
    assert set(SPEC["properties"]) == {one.alias or name for name, one in Spec.model_fields.items()}
    assert SPEC["required"] == ["targetRef", "model", "slo", "replicas"]
    assert VERSION["subresources"] == {"status": {}}


def test_every_policy_of_the_project_is_accepted() -> None:
    files = [*(ROOT / "examples").rglob("*.yaml"), *(ROOT / "k8s").rglob("*.yaml")]
    found = [
        (file, obj)
        for file in files
        for obj in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if isinstance(obj, dict) and obj.get("kind") == "PowerPolicy"
    ]
    assert len(found) >= 4
    for file, obj in found:
        obj["spec"].setdefault("targetRef", {"name": "x"})
        assert admitted(obj, WHOLE)[1] == [], file


def test_the_schemas_are_schemas() -> None:
    Draft4Validator.check_schema(WHOLE)


def test_rules_cost_little_even_where_a_server_ignores_how_long_a_string_may_be() -> None:
    """By what the server counts for `matches` and `find`: (length of the text · 0.1) × (length of the
    pattern · 0.25). It refuses a CRD with a rule above 10,000,000, or above 100,000,000 in all; older servers
    take a string that may be an integer for as long as a request may be.
    """
    costs = []
    for _, node in nodes(SPEC):
        for rule in node.get("x-kubernetes-validations", ()):
            longest = 3 * 2**20 if "x-kubernetes-int-or-string" in node else 4 * node.get("maxLength", 0)
            patterns = re.findall(r"\.(?:matches|find)\(r?'([^']*)'\)", rule["rule"])
            texts = math.ceil((longest + 1) * 0.1)
            costs.append(sum(texts * math.ceil(len(pattern) * 0.25) for pattern in patterns))
    assert max(costs) < 10_000_000
    assert sum(costs) < 100_000_000
    assert sum(cost > 0 for cost in costs) == 7  # one a quantity
