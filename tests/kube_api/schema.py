"""Structural schemas of custom resources: prune, default, validate, and the CEL rules.

As the real server orders it: unknown fields out, defaults in, the schema, then the rules, which are left out
while the schema is broken so that they can't be read. Messages are those of kube-openapi's validation.
CEL is cel-python's; of Kubernetes' own functions `find` and `findAll` are there. What a rule may cost is not
estimated.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel

from tests.kube_api.answers import Cause, required, shown, wrong

_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_OF_OBJECTS = {"apiVersion", "kind", "metadata"}


def pruned(value: Any, schema: Mapping[str, Any], path: str = "") -> tuple[Any, list[str]]:
    """The value without fields that the schema doesn't know, and their paths."""
    unknown: list[str] = []
    if isinstance(value, list):
        kept_items = []
        for at, item in enumerate(value):
            kept_item, lost = pruned(item, schema.get("items", {}), f"{path}[{at}]")
            kept_items.append(kept_item)
            unknown += lost
        return kept_items, unknown
    if not isinstance(value, dict):
        return value, unknown
    properties: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    kept: dict[str, Any] = {}
    for key, item in value.items():
        where = f"{path}.{key}" if path else key
        if not path and key in _OF_OBJECTS:
            kept[key] = item
        elif key in properties:
            kept[key], lost = pruned(item, properties[key], where)
            unknown += lost
        elif isinstance(others, Mapping):
            kept[key], lost = pruned(item, others, where)
            unknown += lost
        elif others or schema.get("x-kubernetes-preserve-unknown-fields"):
            kept[key] = item
        else:
            unknown.append(where)
    return kept, unknown


def defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [defaulted(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    filled = dict(value)
    properties: Mapping[str, Any] = schema.get("properties", {})
    for key, sub in properties.items():
        if filled.get(key) is None and "default" in sub and not (key in filled and sub.get("nullable")):
            filled[key] = copy.deepcopy(sub["default"])
    others = schema.get("additionalProperties")
    for key, item in filled.items():
        sub = properties.get(key, others if isinstance(others, Mapping) else {})
        filled[key] = defaulted(item, sub)
    return filled


def problems(new: Any, schema: Mapping[str, Any], old: Any = None) -> list[Cause]:
    """What is wrong. Fields that were as wrong before (`old`) are let through, as ratcheting does."""
    found = list(_broken(new, schema, ""))
    if old is not None:
        found = [cause for cause in found if _at(new, cause.field) != _at(old, cause.field)]
    if any(cause.blocking for cause in found):
        found.append(Cause("<nil>", "FieldValueInvalid", f"Invalid value: null: {_NOT_CHECKED}"))
        return found
    return found + list(_rules_broken(new, schema, old, ""))


def _broken(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if value is None and (schema.get("nullable") or not schema):
        return
    type_ = schema.get("type")
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield _of_type(path, value, "integer,string")
            return
    elif type_ is not None and not _is(value, type_):
        yield _of_type(path, value, type_)
        return
    if isinstance(value, dict):
        yield from _broken_object(value, schema, path)
    elif isinstance(value, list):
        yield from _broken_list(value, schema, path)
    elif isinstance(value, str):
        yield from _broken_string(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _broken_number(value, schema, path)
    if "enum" in schema and value not in schema["enum"]:
        listed = ", ".join(shown(allowed) for allowed in schema["enum"])
        message = f"Unsupported value: {shown(value)}: supported values: {listed}"
        yield Cause(path, "FieldValueNotSupported", message)
    for sub in schema.get("allOf", ()):
        yield from _broken(value, sub, path)
    for key, several in (("anyOf", "at least one schema"), ("oneOf", "one and only one schema")):
        if key in schema:
            fitting = sum(not any(_broken(value, sub, path)) for sub in schema[key])
            if fitting == 0 or (key == "oneOf" and fitting > 1):
                yield wrong(path, value, f'"{path}" must validate {several} ({key})')
    if "not" in schema and not any(_broken(value, schema["not"], path)):
        yield wrong(path, value, f'"{path}" must not validate the schema (not)')


def _broken_object(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    for name in schema.get("required", ()):
        if name not in value:
            yield required(f"{path}.{name}" if path else name)
    properties: Mapping[str, Any] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for key, item in value.items():
        sub = properties.get(key, others if isinstance(others, Mapping) else None)
        if sub is not None:
            yield from _broken(item, sub, f"{path}.{key}" if path else key)
    if len(value) > schema.get("maxProperties", len(value)):
        yield _too_many(path, len(value), schema["maxProperties"])
    if len(value) < schema.get("minProperties", 0):
        yield wrong(path, value, f"{path} in body should have at least {schema['minProperties']} properties")


def _broken_list(value: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxItems", len(value)):
        yield _too_many(path, len(value), schema["maxItems"])
    if len(value) < schema.get("minItems", 0):
        yield wrong(path, len(value), f"{path} in body should have at least {schema['minItems']} items")
    keys = schema.get("x-kubernetes-list-map-keys")
    is_set = schema.get("x-kubernetes-list-type") == "set"
    seen: list[Any] = []
    for at, item in enumerate(value):
        yield from _broken(item, schema.get("items", {}), f"{path}[{at}]")
        if keys or is_set:
            own = {key: item.get(key) for key in keys} if keys else item
            if own in seen:
                yield Cause(f"{path}[{at}]", "FieldValueDuplicate", f"Duplicate value: {shown(own)}")
            seen.append(own)


def _broken_string(value: str, schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", len(value)):
        message = f"Too long: may not be more than {schema['maxLength']} bytes"
        yield Cause(path, "FieldValueTooLong", message)
    if len(value) < schema.get("minLength", 0):
        yield wrong(path, value, f"{path} in body should be at least {schema['minLength']} chars long")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield wrong(path, value, f"{path} in body should match '{schema['pattern']}'")
    if schema.get("format") == "date-time" and not re.fullmatch(
        r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", value
    ):
        yield _of_type(path, value, "date-time")


def _broken_number(value: float, schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value <= low if schema.get("exclusiveMinimum") else value < low):
        than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield wrong(path, value, f"{path} in body should be {than} {shown(low)}")
    if high is not None and (value >= high if schema.get("exclusiveMaximum") else value > high):
        than = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield wrong(path, value, f"{path} in body should be {than} {shown(high)}")
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield wrong(path, value, f"{path} in body should be a multiple of {shown(schema['multipleOf'])}")


def _is(value: Any, type_: str) -> bool:
    if isinstance(value, bool):
        return type_ == "boolean"
    if type_ == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[type_])


def _of_type(path: str, value: Any, type_: str) -> Cause:
    given = next(
        (name for name, types in _TYPES.items() if isinstance(value, types) and _is(value, name)), "null"
    )
    message = f'Invalid value: {shown(given)}: {path} in body must be of type {type_}: "{given}"'
    return Cause(path, "FieldValueTypeInvalid", message)


def _too_many(path: str, count: int, allowed: int) -> Cause:
    return Cause(path, "FieldValueTooMany", f"Too many: {count}: must have at most {allowed} items")


def _at(value: Any, path: str) -> Any:
    for key in re.findall(r"[^.\[\]]+", path):
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _rules_broken(value: Any, schema: Mapping[str, Any], old: Any, path: str) -> Iterator[Cause]:
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations", ()):
        yield from _rule_broken(rule, value, schema, old, path)
    if isinstance(value, dict):
        properties: Mapping[str, Any] = schema.get("properties", {})
        others = schema.get("additionalProperties")
        for key, item in value.items():
            sub = properties.get(key, others if isinstance(others, Mapping) else None)
            if sub is not None:
                before = old.get(key) if isinstance(old, dict) else None
                yield from _rules_broken(item, sub, before, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            before = old[at] if isinstance(old, list) and at < len(old) else None
            yield from _rules_broken(item, schema.get("items", {}), before, f"{path}[{at}]")


def _rule_broken(
    rule: Mapping[str, str], value: Any, schema: Mapping[str, Any], old: Any, path: str
) -> Iterator[Cause]:
    if "oldSelf" in rule["rule"] and old is None:
        return  # a transition rule says nothing of a new object
    if old is not None and old == value:
        return  # ratcheting
    names = {"self": _typed(value, schema)} | ({"oldSelf": _typed(old, schema)} if old is not None else {})
    where = path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "").removeprefix(".")
    reason = rule.get("reason", "FieldValueInvalid")
    try:
        holds = bool(_program(rule["rule"]).evaluate(names))
    except celpy.CELEvalError as problem:
        said = str(problem.args[0])[:200]
        yield Cause(where, reason, f"Invalid value: rule evaluation error: {said}")
        return
    if holds:
        return
    said = rule.get("message") or f"failed rule: {rule['rule'].strip()}"
    if "messageExpression" in rule:
        said = str(_program(rule["messageExpression"]).evaluate(names))
    prefix = {
        "FieldValueForbidden": "Forbidden: ",
        "FieldValueRequired": "Required value: ",
        "FieldValueDuplicate": "Duplicate value: ",
    }.get(reason, "Invalid value: ")
    yield Cause(where, reason, prefix + said)


def compile_rules(schema: Mapping[str, Any], path: str) -> Iterator[Cause]:
    """Rules of a CRD that are no CEL."""
    for at, rule in enumerate(schema.get("x-kubernetes-validations", ())):
        for key in ("rule", "messageExpression"):
            if key not in rule:
                continue
            try:
                _program(rule[key])
            except celpy.CELParseError as problem:
                where = f"{path}.x-kubernetes-validations[{at}].{key}"
                yield Cause(
                    where, "FieldValueInvalid", f"Invalid value: compilation failed: {problem.args[0]}"
                )
        if _UNBOUNDED.search(rule.get("messageExpression", "")):
            where = f"{path}.x-kubernetes-validations[{at}].messageExpression"
            yield Cause(where, "FieldValueForbidden", f"Forbidden: {_TOO_DEAR}")
    for name, sub in schema.get("properties", {}).items():
        yield from compile_rules(sub, f"{path}.properties[{name}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from compile_rules(schema[key], f"{path}.{key}")


# The server's estimate has no bound for the text that `string(...)` makes, so none for a sum it is part of
# (kubernetes/kubernetes issue 124234).
_UNBOUNDED = re.compile(r"\+\s*string\(|string\([^()]*\)\s*\+")
_TOO_DEAR = (
    "estimated messageExpression cost exceeds budget by factor of more than 100x (try simplifying the rule, "
    "or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
)


@lru_cache(maxsize=256)
def _program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    functions = {"find": _find, "findAll": _find_all, "format": _format}
    return environment.program(environment.compile(rule), functions=functions)


def _find(text: celtypes.StringType, pattern: celtypes.StringType) -> celtypes.StringType:
    found = re.search(pattern, text)
    return celtypes.StringType(found.group(0) if found else "")


def _find_all(text: celtypes.StringType, pattern: celtypes.StringType) -> celtypes.ListType:
    return celtypes.ListType(celtypes.StringType(found.group(0)) for found in re.finditer(pattern, text))


def _typed(value: Any, schema: Mapping[str, Any]) -> celtypes.Value:
    """A number of type `number` is a double to CEL, though JSON writes 99."""
    return json_to_cel(_doubled(value, schema))


def _doubled(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        properties: Mapping[str, Any] = schema.get("properties", {})
        others = schema.get("additionalProperties")
        rest = others if isinstance(others, Mapping) else {}
        return {key: _doubled(item, properties.get(key, rest)) for key, item in value.items()}
    if isinstance(value, list):
        return [_doubled(item, schema.get("items", {})) for item in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _format(text: celtypes.StringType, values: celtypes.ListType) -> celtypes.StringType:
    return celtypes.StringType(str(text) % tuple(values))
