"""The four ways to patch an object.

JSON patch is the library's. Strategic merge knows the merge keys that Kubernetes' own types carry.
Server-side apply keeps, for each manager, which leaves it set: enough for conflicts, `force`, and fields that
a manager gives up; lists are whole values to it unless they merge by key.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import jsonpatch

from tests.kube_api.answers import Cause, Refusal, bad_request, invalid, required

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
ALL_TYPES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)

# By the field that holds the list: what tells its items apart.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "conditions": "type",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "tolerations": None,
    "topologySpreadConstraints": "topologyKey",
}
_SET_LISTS = {"finalizers"}


def merged(value: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(value) if isinstance(value, Mapping) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), item)
    return result


def json_patched(
    value: Any, operations: Sequence[Mapping[str, Any]], kind: str, group: str, name: str
) -> Any:
    try:
        return jsonpatch.apply_patch(copy.deepcopy(value), list(operations))
    except jsonpatch.JsonPatchTestFailed as failed:
        raise invalid(
            kind, group, name, [Cause("<nil>", "FieldValueInvalid", f"Invalid value: {failed}")]
        ) from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as failed:
        raise Refusal(
            422, "Invalid", f"the server rejected our request due to an error in our request: {failed}"
        ) from None


def strategically_merged(value: Any, patch: Any, field: str = "") -> Any:
    if isinstance(patch, Mapping):
        if patch.get("$patch") == "replace":
            return {key: copy.deepcopy(item) for key, item in patch.items() if key != "$patch"}
        result = dict(value) if isinstance(value, Mapping) else {}
        for key, item in patch.items():
            if key.startswith(("$setElementOrder/", "$retainKeys")):
                continue
            if key.startswith("$deleteFromPrimitiveList/"):
                name = key.partition("/")[2]
                result[name] = [each for each in result.get(name, []) if each not in item]
            elif item is None:
                result.pop(key, None)
            else:
                result[key] = strategically_merged(result.get(key), item, key)
        _set_orders(result, patch)
        return result
    if isinstance(patch, list) and isinstance(value, list):
        merge_key = _MERGE_KEYS.get(field)
        if merge_key is not None:
            return _merged_by(merge_key, value, patch)
        if field in _SET_LISTS:
            return value + [item for item in patch if item not in value]
    return copy.deepcopy(patch)


def _set_orders(value: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for key, order in patch.items():
        name = key.removeprefix("$setElementOrder/")
        if name == key or not isinstance(value.get(name), list):
            continue
        merge_key = _MERGE_KEYS.get(name)
        wanted = [each.get(merge_key) if merge_key else each for each in order]

        def place(item: Any, merge_key: str | None = merge_key, wanted: list[Any] = wanted) -> int:
            own = item.get(merge_key) if merge_key else item
            return wanted.index(own) if own in wanted else len(wanted)

        value[name] = sorted(value[name], key=place)


def _merged_by(key: str, value: list[Any], patch: list[Any]) -> list[Any]:
    result = list(value)
    for item in patch:
        at = next((at for at, held in enumerate(result) if held.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if at is not None:
                result.pop(at)
        elif at is None:
            result.append(copy.deepcopy(item))
        else:
            result[at] = strategically_merged(result[at], item)
    return result


Path = tuple[str, ...]
Owners = dict[str, dict[Path, Any]]
"""By manager: the leaves it applied, and what it set them to."""


def applied(value: dict[str, Any], config: dict[str, Any], owners: Owners, manager: str, force: bool) -> Any:
    """The object after `manager` applied `config`; `owners` is brought up to date."""
    wanted = _leaves({key: item for key, item in config.items() if key not in ("apiVersion", "kind")})
    wanted = {path: item for path, item in wanted.items() if path[:1] != ("metadata",) or path[1:2] in (("labels",), ("annotations",), ("finalizers",))}  # fmt: skip  # noqa: E501
    present = _leaves(value)
    contested = [
        (other, path)
        for other, theirs in owners.items()
        if other != manager
        for path in theirs
        if path in wanted and present.get(path) != wanted[path] and path in present
    ]
    if contested and not force:
        raise _conflict(contested)
    for other, path in contested:
        owners[other].pop(path, None)
    given_up = set(owners.get(manager, ())) - set(wanted)
    given_up -= {path for other, theirs in owners.items() if other != manager for path in theirs}
    result = strategically_merged(value, {key: item for key, item in config.items() if item is not None})
    for path in given_up:
        _drop(result, path)
    owners[manager] = wanted
    return result


def updated_by(before: Mapping[str, Any], after: Mapping[str, Any], owners: Owners, manager: str) -> None:
    """Who writes a leaf by PUT or another patch owns it from then on."""
    old, new = _leaves(before), _leaves(after)
    changed = {
        path: item for path, item in new.items() if old.get(path) != item and path[0] not in ("metadata",)
    }
    if not changed:
        return
    for theirs in owners.values():
        for path in changed:
            theirs.pop(path, None)
    owners.setdefault(manager, {}).update(changed)


def _conflict(contested: Sequence[tuple[str, Path]]) -> Refusal:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{other}"',
            "field": "." + ".".join(path),
        }
        for other, path in contested
    ]
    plural = "conflict" if len(causes) == 1 else "conflicts"
    said = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    message = f"Apply failed with {len(causes)} {plural}: {said}"
    return Refusal(409, "Conflict", message, {"causes": causes})


def _leaves(value: Any, path: Path = (), field: str = "") -> dict[Path, Any]:
    if isinstance(value, Mapping) and value:
        return {
            leaf: item
            for key, each in value.items()
            for leaf, item in _leaves(each, (*path, key), key).items()
        }
    merge_key = _MERGE_KEYS.get(field)
    if isinstance(value, list) and merge_key and all(isinstance(item, Mapping) for item in value):
        return {
            leaf: item
            for each in value
            for leaf, item in _leaves(each, (*path, f"[{merge_key}={each.get(merge_key)}]")).items()
        }
    return {path: value}


def _drop(value: Any, path: Path) -> None:
    for step in path[:-1]:
        if step.startswith("["):
            key, _, wanted = step[1:-1].partition("=")
            value = next((each for each in value if str(each.get(key)) == wanted), None)
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None:
            return
    if isinstance(value, dict):
        value.pop(path[-1], None)


def check_apply(config: Any, manager: str) -> None:
    if not manager:
        raise invalid(
            "PatchOptions", "meta.k8s.io", "", [required("fieldManager", "is required for apply patch")]
        )
    if not isinstance(config, Mapping) or "apiVersion" not in config or "kind" not in config:
        raise bad_request("invalid object type: apply configurations need apiVersion and kind")
