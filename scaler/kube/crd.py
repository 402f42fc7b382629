"""The CustomResourceDefinition of PowerPolicy, made of the schema that a policy file has.

Pure. Owns what the API server must know beyond that schema: how a quantity is checked there, rules of fields
together, columns, names. `python -m scaler.kube.crd > k8s/base/crd.yaml`; a test fails when that is stale.

The API server takes structural schemas only: no references, a type for every field, no types or defaults
under anyOf. A default is filled in only where its parent is there: a parent of such fields has one, too.
Rules are CEL, and every string, list and map is bounded: the server refuses rules whose cost it can't bound.
It knows no bound for what `string(number)` gives, so a message that names a number is `format`ted (from
Kubernetes 1.29 on) and never put together with `+`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from scaler.kube.status_fields import Status
from scaler.policy import Policy, Spec
from scaler.quantities import SCHEMA_KEY, Between

GROUP, VERSION, KIND, PLURAL = "minwatt.dev", "v1alpha1", "PowerPolicy", "powerpolicies"

Schema = dict[str, Any]
_HEAD = "# Made of scaler/policy.py: python -m scaler.kube.crd > k8s/base/crd.yaml\n"

# What must hold of fields together. Each is a validator of scaler/policy.py, in the server's words.
_RULES: Mapping[tuple[str, ...], list[Schema]] = {
    ("replicas",): [
        {
            "rule": "self.min <= self.max",
            "message": "allowed: replicas.min or more",
            "messageExpression": "'replicas.max = %d: allowed: replicas.min (%d) or more'"
            ".format([self.max, self.min])",
            "fieldPath": ".max",
        }
    ],
    ("power", "whenOverBudget"): [
        {
            "rule": "self.all(step, self.exists_one(other, other == step))",
            "message": "allowed: each step once",
        }
    ],
    (): [
        {
            "rule": "!has(self.telemetry.fallbackReplicas)"
            " || self.replicas.min > self.replicas.max"  # said there
            " || (self.telemetry.fallbackReplicas >= self.replicas.min"
            " && self.telemetry.fallbackReplicas <= self.replicas.max)",
            "message": "fallbackReplicas: allowed: replicas.min to max",
            "messageExpression": "'fallbackReplicas = %d: allowed: %d to %d (replicas.min to max)'"
            ".format([self.telemetry.fallbackReplicas, self.replicas.min, self.replicas.max])",
            "fieldPath": ".telemetry.fallbackReplicas",
        }
    ],
}

# In a file the target may be left out: replicas are then local processes, or join by themselves.
_REQUIRED_HERE = ("targetRef",)

_READY = '.status.conditions[?(@.type=="Ready")]'
COLUMNS = (
    ("SLO", "string", ".spec.slo.latency", "Latency that the SLO asks for.", 0),
    ("P99", "string", ".status.columns.p99", "Latency at the server, over the last seconds.", 0),
    ("Watts", "string", ".status.columns.watts", "Drawn, by which meter, of which budget.", 0),
    ("Replicas", "string", ".status.columns.replicas", "Ready, of the desired ones.", 0),
    ("Point", "string", ".status.columns.point", "Texts in a batch, delay, variant, clock.", 0),
    ("Reason", "string", f"{_READY}.reason", "Why the policy is Ready, or why not.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Since when the policy is there.", 0),
    ("Ready", "string", f"{_READY}.status", "Whether the newest policy is in force and kept.", 1),
    ("Target", "string", ".spec.targetRef.name", "What is scaled.", 1),
    ("Model", "string", ".spec.model", "What it serves.", 1),
    ("Arrivals", "string", ".status.traffic.arrivals", "Requests a second.", 1),
    ("Forecast", "string", ".status.traffic.forecast", "Requests a second that are planned for.", 1),
    ("Joules", "integer", ".status.power.joules", "Since the controller began to look.", 1),
    ("Last scaling", "date", ".status.lastScaling.at", "When replicas were last added or removed.", 1),
    ("Decision", "string", ".status.decision.message", "What was decided last, and why.", 1),
)


def custom_resource_definition() -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": PLURAL,
                "singular": KIND.lower(),
                "kind": KIND,
                "listKind": f"{KIND}List",
                "shortNames": ["pp"],
                "categories": ["minwatt"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "type": kind,
                            "jsonPath": path,
                            "description": says,
                            **({"priority": priority} if priority else {}),
                        }
                        for name, kind, path, says, priority in COLUMNS
                    ],
                    "schema": {"openAPIV3Schema": _object()},
                }
            ],
        },
    }


def page() -> str:
    """The file."""
    document = yaml.safe_dump(custom_resource_definition(), sort_keys=False, allow_unicode=True, width=110)
    return _HEAD + document


def spec_schema() -> Schema:
    """Of `spec`."""
    schema = _structural(_inlined(Spec), defaults=True)
    schema["required"] = [*_REQUIRED_HERE, *schema["required"]]
    for path, rules in _RULES.items():
        _at(schema, path)["x-kubernetes-validations"] = rules
    return schema


def status_schema() -> Schema:
    """Of `status`."""
    schema = _structural(_inlined(Status), defaults=False)
    conditions = schema["properties"]["conditions"]
    conditions.update({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]})
    kept = schema["properties"]["lastGood"]["properties"]
    kept["spec"] = {"description": kept["spec"]["description"], **_bounds(spec_schema())}
    return schema


_BOUNDS = (
    *("description", "type", "format", "maxLength", "maxItems", "maxProperties", "x-kubernetes-list-type"),
    *("anyOf", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
)
_LONGEST_WORD = 64


def _bounds(schema: Schema) -> Schema:
    """The form and the size of a copy, without what makes it right: a status is never to be refused for a
    rule that is newer than what it tells of."""
    made = {key: schema[key] for key in _BOUNDS if key in schema}
    if "enum" in schema:  # of values that are not all words, they themselves are the bound
        made.update({"maxLength": _LONGEST_WORD} if "type" in schema else {"enum": schema["enum"]})
    if made.get("type") == "integer":
        made.update({"minimum": 0, "maximum": 2**31 - 1 if made["format"] == "int32" else 2**53})
    if "properties" in schema:
        made["properties"] = {name: _bounds(one) for name, one in schema["properties"].items()}
    for below in ("items", "additionalProperties"):
        if below in schema:
            made[below] = _bounds(schema[below])
    return made


def _object() -> Schema:
    about = (Policy.__doc__ or "").strip()
    return {
        "description": _one_line(about),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec_schema(),
            "status": status_schema(),
        },
    }


def _inlined(model: type[BaseModel]) -> Schema:
    """pydantic's schema without references."""
    schema = model.model_json_schema(by_alias=True)
    shared = schema.pop("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(one) for one in part]
        if not isinstance(part, dict):
            return part
        beside = {key: inline(value) for key, value in part.items() if key != "$ref"}
        if "$ref" not in part:
            return beside
        return {**inline(shared[part["$ref"].rsplit("/", 1)[-1]]), **beside}

    inlined: Schema = inline(schema)
    return inlined


def _structural(schema: Schema, *, defaults: bool) -> Schema:
    """One node, and all below it. Without `defaults` the server fills in nothing."""
    schema = _present(schema)
    made: Schema = {}
    if "description" in schema:
        made["description"] = _one_line(schema["description"])
    if SCHEMA_KEY in schema:
        made.update(_quantity(schema[SCHEMA_KEY]))
    elif "properties" in schema:
        made.update(_fields(schema, defaults=defaults))
    elif "additionalProperties" in schema and schema.get("type") == "object":
        made["type"] = "object"
        made["additionalProperties"] = _structural(schema["additionalProperties"], defaults=defaults)
        made["maxProperties"] = schema["maxProperties"]
    elif schema.get("type") == "array":
        made.update({"type": "array", "x-kubernetes-list-type": "atomic", "maxItems": schema["maxItems"]})
        made["items"] = _structural(schema["items"], defaults=defaults)
    else:
        made.update(_value(schema))
    default = _default(schema, made) if defaults else None
    return made if default is None else {**made, "default": default}


def _present(schema: Schema) -> Schema:
    """Of `X or null` X alone: the server drops nulls before it looks."""
    options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if not options:
        return schema
    (only,) = options
    beside = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**only, **beside}


def _fields(schema: Schema, *, defaults: bool) -> Schema:
    properties = {name: _structural(one, defaults=defaults) for name, one in schema["properties"].items()}
    made: Schema = {"type": "object", "properties": properties}
    if schema.get("required"):
        made["required"] = list(schema["required"])
    return made


_KEPT = ("type", "format", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum")


def _value(schema: Schema) -> Schema:
    made = {key: _plain(schema[key]) for key in _KEPT if key in schema}
    if "const" in schema:
        made["enum"] = [schema["const"]]
    if "exclusiveMaximum" in schema:  # a number in JSON Schema, a flag beside `maximum` in OpenAPI 3.0
        made.update({"maximum": _plain(schema["exclusiveMaximum"]), "exclusiveMaximum": True})
    if made.get("type") == "integer":
        made["format"] = "int32" if made.get("maximum", 2**63) < 2**31 else "int64"
    if "type" not in made:  # a word that YAML 1.1 takes for a boolean, as kubectl does: it may be either
        made["x-kubernetes-preserve-unknown-fields"] = True
    return made


def _quantity(quantity: Between) -> Schema:
    """A string that the server checks as the file's parser does: a pattern for its form, which editors and
    other tools read too; CEL for the range, in words.
    """
    units = "|".join(quantity.dimension.units)
    number = rf"\s*\d+(\.\d+)?\s*({units})\s*"
    words = [*quantity.words, *(["0"] if quantity.zero else [])]
    pattern = f"^({'|'.join([*words, number])})$" if words else f"^{number}$"
    allowed = " or ".join([*quantity.words, f"{quantity.shown}, such as {quantity.dimension.example}"])
    made: Schema = {"type": "string", "pattern": pattern, "maxLength": 64}
    if quantity.zero:  # a bare 0 is a number
        del made["type"]
        made.update({"x-kubernetes-int-or-string": True, "minimum": 0, "maximum": 0})
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    # The server itself names the field alone.
    said = f"'%s: allowed: {allowed}'.format([self])" if quantity.zero else f"self + ': allowed: {allowed}'"
    made["x-kubernetes-validations"] = [
        {
            "rule": _in_range(quantity, number, words),
            "message": f"allowed: {allowed}",
            "messageExpression": said,
        }
    ]
    return made


def _in_range(quantity: Between, number: str, words: list[str]) -> str:
    """CEL. A list of one is how CEL names a value; the arithmetic is that of the file's parser."""
    units = ", ".join(f"'{unit}': {float(in_si)!r}" for unit, in_si in quantity.dimension.units.items())
    value = f"double(self.find('[0-9.]+')) * {{{units}}}[self.find('[a-zA-Z%]+')]"
    bounds = f"[{value}].all(q, q >= {float(quantity.low)!r} && q <= {float(quantity.high)!r})"
    checked = f"(self.matches(r'^{number}$') && {bounds})"
    alternatives = [*(f"self == '{word}'" for word in words), checked]
    rule = " || ".join(alternatives)
    return f"type(self) == int ? self == 0 : ({rule})" if quantity.zero else rule


def _default(schema: Schema, made: Schema) -> Any:
    """As a user would write it; None: none."""
    if "properties" in made:
        filled = any("default" in one for one in made["properties"].values())
        return {} if filled and schema.get("default") is not None else None
    if SCHEMA_KEY in schema:
        quantity: Between = schema[SCHEMA_KEY]
        set_by_default = "default" in schema and (schema["default"] is not None or quantity.words)
        return quantity.spell(schema["default"]) if set_by_default else None
    default = schema.get("default")
    return None if default in (None, []) else _plain(default)


def _plain(value: Any) -> Any:
    """99, where Python has 99.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _at(schema: Schema, path: tuple[str, ...]) -> Schema:
    for part in path:
        schema = schema["properties"][part]
    return schema


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(page())
