"""What the server fills in and refuses for the built-in kinds that minwatt touches.

Other kinds are stored as they are given. Decoding comes first (400), then validation (422).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.kube_api.answers import Cause, cannot_be_handled, required, shown, wrong
from tests.kube_api.kinds import Kind

Object = dict[str, Any]

_MICRO = "2006-01-02T15:04:05.000000Z07:00"
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SUBDOMAIN_SAYS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_SERIES_FIXED = (
    "regarding", "reason", "type", "note", "reportingController", "reportingInstance", "action", "related",
    "eventTime",
)  # fmt: skip


def decoded(kind: Kind, given: Object) -> Object:
    """With the fields that the server's own types add, or 400 where a value has no such type."""
    if kind.plural == "leases":
        for key in ("acquireTime", "renewTime"):
            _check_micro_time(kind, given.get("spec", {}).get(key))
    if kind.group == "events.k8s.io":
        _check_micro_time(kind, given.get("eventTime"))
        _check_micro_time(kind, (given.get("series") or {}).get("lastObservedTime"))
    spec = given.get("spec", {})
    if kind.group == "apps" and not _is_count(spec.get("replicas", 1)):
        raise cannot_be_handled(kind.kind, kind.version, _not_int32(kind.kind, spec["replicas"]))
    fill = _FILLED.get((kind.group, kind.plural))
    return fill(given) if fill is not None else given


def problems(kind: Kind, new: Object, old: Object | None) -> list[Cause]:
    check = _CHECKED.get((kind.group, kind.plural))
    found = list(_name_problems(new)) if old is None else []
    return found + (list(check(new, old)) if check is not None else [])


def _name_problems(new: Object) -> Iterator[Cause]:
    meta = new["metadata"]
    if meta.get("generateName"):
        prefix = meta["generateName"]
        if not _SUBDOMAIN.fullmatch(prefix.removesuffix("-") if prefix.endswith("-") else prefix):
            yield wrong("metadata.generateName", prefix, _SUBDOMAIN_SAYS)
            return
    if not _SUBDOMAIN.fullmatch(meta["name"]) and ":" not in meta["name"]:
        yield wrong("metadata.name", meta["name"], _SUBDOMAIN_SAYS)


def _check_micro_time(kind: Kind, value: str | None) -> None:
    if value is None or re.fullmatch(r"\d{4}(-\d\d){2}T(\d\d:){2}\d\d\.\d{6}(Z|[+-]\d\d:\d\d)", value):
        return
    rest = re.sub(r"^\d{4}(-\d\d){2}T(\d\d:){2}\d\d", "", value)
    why = f'parsing time "{value}" as "{_MICRO}": cannot parse "{rest}" as ".000000"'
    raise cannot_be_handled(kind.kind, kind.version, why)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _not_int32(kind: str, value: object) -> str:
    given = "string" if isinstance(value, str) else "number" if isinstance(value, float) else "bool"
    return f"json: cannot unmarshal {given} into Go struct field {kind}Spec.spec.replicas of type int32"


# Leases


def _lease_problems(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new.get("spec", {})
    if spec.get("leaseDurationSeconds", 1) <= 0:
        yield wrong("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], "must be greater than 0")
    if spec.get("leaseTransitions", 0) < 0:
        why = "must be greater than or equal to 0"
        yield wrong("spec.leaseTransitions", spec["leaseTransitions"], why)


# Events


def _event_filled(given: Object) -> Object:
    deprecated = {
        "deprecatedSource": {},
        "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None,
    }
    return {**deprecated, **given}


def _event_problems(new: Object, old: Object | None) -> Iterator[Cause]:
    if old is not None:
        for key in _SERIES_FIXED:
            if new.get(key) != old.get(key):
                yield Cause(
                    key, "FieldValueInvalid", f"Invalid value: {shown(new.get(key))}: field is immutable"
                )
    regarding = new.get("regarding", {})
    namespace = new["metadata"].get("namespace")
    if regarding.get("namespace", "default") != namespace:
        given = regarding.get("namespace", "")
        yield wrong("involvedObject.namespace", given, "does not match event.namespace")
    if not new.get("eventTime"):
        yield required("eventTime")
    for key, longest in (
        ("reportingController", 0),
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
    ):
        value = new.get(key) or ""
        if not value:
            yield required(key)
        elif longest and len(value) > longest:
            yield wrong(key, value, f"can have at most {longest} characters")
    if new.get("type") not in ("Normal", "Warning"):
        yield wrong("type", new.get("type", ""), 'has to be "Normal" or "Warning"')
    if len(new.get("note") or "") > 1024:
        yield wrong("note", new["note"], "can have at most 1024 characters")
    series = new.get("series")
    if series is not None:
        if series.get("count", 0) < 2:
            yield wrong("series.count", str(series.get("count", 0)), "should be at least 2")
        if not series.get("lastObservedTime"):
            yield required("series.lastObservedTime")
    if old is None:
        for key in ("deprecatedCount", "deprecatedFirstTimestamp", "deprecatedLastTimestamp"):
            if new.get(key):
                yield wrong(key, new[key], "needs to be unset")


# Workloads


def _pod_spec_filled(spec: Mapping[str, Any]) -> Object:
    containers = [
        {
            "resources": {},
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "imagePullPolicy": "IfNotPresent" if ":" in container.get("image", "") else "Always",
            **container,
        }
        for container in spec.get("containers", ())
    ]
    return {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        **spec,
        "containers": containers,
    }


def _template_filled(spec: Mapping[str, Any]) -> Object:
    template = spec.get("template", {})
    return {**template, "spec": _pod_spec_filled(template.get("spec", {}))}


def _deployment_filled(given: Object) -> Object:
    spec = given.get("spec", {})
    strategy = dict(spec.get("strategy", {}))
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
        strategy["rollingUpdate"] = rolling | (strategy.get("rollingUpdate") or {})
    filled = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        **spec,
        "strategy": strategy,
        "template": _template_filled(spec),
    }
    return {"status": {}, **given, "spec": filled}


def _stateful_set_filled(given: Object) -> Object:
    spec = given.get("spec", {})
    filled = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        **spec,
        "template": _template_filled(spec),
    }
    return {"status": {"replicas": 0, "availableReplicas": 0}, **given, "spec": filled}


def _workload_problems(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new["spec"]
    if spec["replicas"] < 0:
        yield wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    if not spec.get("selector"):
        yield required("spec.selector")
        return
    labels = spec["template"].get("metadata", {}).get("labels", {})
    wanted = spec["selector"].get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        message = "Invalid value: {}: `selector` does not match template `labels`"
        yield Cause("spec.template.metadata.labels", "FieldValueInvalid", message.format(shown(labels)))
    if old is not None and spec["selector"] != old["spec"]["selector"]:
        yield Cause("spec.selector", "FieldValueInvalid", 'Invalid value: "object": field is immutable')
    if not spec["template"]["spec"]["containers"]:
        yield required("spec.template.spec.containers")


# Others


def _namespace_filled(given: Object) -> Object:
    labels = {"kubernetes.io/metadata.name": given["metadata"]["name"], **given["metadata"].get("labels", {})}
    return {
        **given,
        "metadata": {**given["metadata"], "labels": labels},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _hpa_filled(given: Object) -> Object:
    return {"status": {"desiredReplicas": 0, "currentMetrics": None}, **given}


def _hpa_problems(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new.get("spec", {})
    if not spec.get("scaleTargetRef", {}).get("name"):
        yield required("spec.scaleTargetRef.name")
    if spec.get("maxReplicas", 0) < 1:
        yield wrong("spec.maxReplicas", spec.get("maxReplicas", 0), "must be greater than 0")


def _pdb_filled(given: Object) -> Object:
    counts = {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
    return {"status": counts, **given}


def _pdb_problems(new: Object, old: Object | None) -> Iterator[Cause]:
    spec = new.get("spec", {})
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield wrong("spec", spec, "minAvailable and maxUnavailable cannot be both set")


_FILLED: dict[tuple[str, str], Callable[[Object], Object]] = {
    ("", "namespaces"): _namespace_filled,
    ("events.k8s.io", "events"): _event_filled,
    ("apps", "deployments"): _deployment_filled,
    ("apps", "statefulsets"): _stateful_set_filled,
    ("autoscaling", "horizontalpodautoscalers"): _hpa_filled,
    ("policy", "poddisruptionbudgets"): _pdb_filled,
}
_CHECKED: dict[tuple[str, str], Callable[[Object, Object | None], Iterator[Cause]]] = {
    ("coordination.k8s.io", "leases"): _lease_problems,
    ("events.k8s.io", "events"): _event_problems,
    ("apps", "deployments"): _workload_problems,
    ("apps", "statefulsets"): _workload_problems,
    ("autoscaling", "horizontalpodautoscalers"): _hpa_problems,
    ("policy", "poddisruptionbudgets"): _pdb_problems,
}
