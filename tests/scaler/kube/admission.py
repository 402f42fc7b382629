"""What an API server does with a custom resource before it stores it: fills in defaults, drops nulls, checks
the schema, evaluates the rules. For tests, with a JSON Schema and a CEL implementation written by others.

The order and the algorithm of defaulting are those of apiextensions-apiserver (`schema/defaulting`).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import celpy
import re2
from celpy import celtypes
from jsonschema import Draft4Validator  # OpenAPI 3.0's `exclusiveMaximum: true` is JSON Schema draft 4's

Schema = Mapping[str, Any]

_ENVIRONMENT = (
    celpy.Environment()
)  # it sets the recursion limit, which hypothesis wants to be left alone in a test


def admitted(obj: Any, schema: Schema) -> tuple[Any, list[str]]:
    """The object as it would be stored, and what the server has against it: none, and it is stored."""
    sent = json.loads(json.dumps(obj))  # nothing of it is there twice, as a deep copy would keep it
    stored = _without_nulls(_defaulted(sent, schema), schema)
    errors = [
        f"{'.'.join(str(part) for part in error.absolute_path)}: {error.message}"
        for error in Draft4Validator(dict(schema)).iter_errors(stored)
    ]
    errors += [f"{path}: unknown field" for path in _unknown(stored, schema, "")]
    if not errors:  # a wrong type would only make rules stumble
        errors += list(_broken_rules(stored, schema, ""))
    return stored, errors


def _defaulted(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        for name, one in schema.get("properties", {}).items():
            if "default" in one and value.get(name) is None:
                value[name] = copy.deepcopy(one["default"])
            if name in value:
                value[name] = _defaulted(value[name], one)
    elif isinstance(value, list) and "items" in schema:
        return [_defaulted(one, schema["items"]) for one in value]
    return value


def _without_nulls(value: Any, schema: Schema) -> Any:
    if not isinstance(value, dict):
        return value
    known = schema.get("properties", {})
    return {
        name: _without_nulls(one, known.get(name, {}))
        for name, one in value.items()
        if one is not None or known.get(name, {}).get("nullable")
    }


def _unknown(value: Any, schema: Schema, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _unknown(one, schema.get("items", {}), path)
    if not isinstance(value, dict) or "additionalProperties" in schema or path == ".metadata":
        return
    for name, one in value.items():
        if name not in schema.get("properties", {}):
            yield f"{path}.{name}"
        else:
            yield from _unknown(one, schema["properties"][name], f"{path}.{name}")


def _broken_rules(value: Any, schema: Schema, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not evaluated(rule["rule"], value):
            said = rule.get("messageExpression")
            message = rule["message"] if said is None else evaluated(said, value)
            yield f"{path}{rule.get('fieldPath', '')}: {message}".removeprefix(".")
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _broken_rules(one, schema.get("properties", {}).get(name, {}), f"{path}.{name}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _broken_rules(one, schema.get("items", {}), f"{path}[{index}]")


def evaluated(expression: str, value: Any) -> Any:
    """CEL, with the two functions that the rules use besides. An error of the rule is raised."""
    return _program(expression).evaluate({"self": celpy.json_to_cel(value)})


@cache
def _program(expression: str) -> celpy.Runner:
    functions = {"find": _find, "format": _format}
    return _ENVIRONMENT.program(_ENVIRONMENT.compile(expression), functions=functions)


def _find(text: celtypes.StringType, pattern: celtypes.StringType) -> celtypes.StringType:
    found = re2.search(str(pattern), str(text))
    return celtypes.StringType(found.group(0) if found else "")


def _format(text: celtypes.StringType, values: celtypes.ListType) -> celtypes.StringType:
    return celtypes.StringType(str(text) % tuple(values))
