"""CustomResourceDefinitions: what the server fills in, what it refuses, and when one is established."""

from __future__ import annotations

from tests.kube_api import schema
from tests.kube_api.answers import Cause, required
from tests.kube_api.store import Object, stamp


def crd_filled(given: Object) -> Object:
    spec = given.get("spec", {})
    names = spec.get("names", {})
    kind = names.get("kind", "")
    filled = {
        **spec,
        "names": {"singular": kind.lower(), "listKind": f"{kind}List", **names},
        "conversion": spec.get("conversion", {"strategy": "None"}),
    }
    blank = {
        "conditions": None,
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": [version["name"] for version in spec.get("versions", ()) if version.get("storage")],
    }
    return {"status": blank, **given, "spec": filled}


def crd_problems(given: Object) -> list[Cause]:
    spec = given["spec"]
    found: list[Cause] = []
    expected = f"{spec['names'].get('plural')}.{spec.get('group')}"
    if given["metadata"]["name"] != expected:
        message = f'Invalid value: "{given["metadata"]["name"]}": must be spec.names.plural+"."+spec.group'
        found.append(Cause("metadata.name", "FieldValueInvalid", message))
    for at, version in enumerate(spec.get("versions", ())):
        body = version.get("schema", {}).get("openAPIV3Schema")
        where = f"spec.versions[{at}].schema.openAPIV3Schema"
        if not body:
            found.append(required(where, "schemas are required"))
        else:
            found += schema.compile_rules(body, where)
    return found


def crd_established(item: Object, now_s: float) -> Object:
    old = item["status"].get("conditions") or []
    since = {each["type"]: each["lastTransitionTime"] for each in old}
    conditions = [
        {
            "type": type_,
            "status": "True",
            "lastTransitionTime": since.get(type_, stamp(now_s)),
            "reason": reason,
            "message": message,
        }
        for type_, reason, message in (
            ("NamesAccepted", "NoConflicts", "no conflicts found"),
            ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        )
    ]
    status = {**item["status"], "conditions": conditions, "acceptedNames": item["spec"]["names"]}
    meta = {key: value for key, value in item["metadata"].items() if key != "resourceVersion"}
    return {**item, "metadata": meta, "status": status}
