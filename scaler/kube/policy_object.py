"""A PowerPolicy object of the API server as what the controller runs by (`Accepted`), or a `Problem`.

Pure. Owns the annotations, the wording of a `Problem`, and which policy is in force while the newest can't be
used. The schema is `scaler.policy`, the same as the file's; which profile fits is `profiles`. Called by the
controller for each object that it sees, and by `minwatt policy check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from minwatt.v1.errors import UsageError
from scaler.documents import validate_document
from scaler.policy import Policy
from scaler.policy_sections import TargetRef

PAUSED = "minwatt.dev/paused"
REPLICAS = "minwatt.dev/replicas"
PROFILE = "minwatt.dev/profile"
_OWN = "minwatt.dev/"
_WHERE = "PowerPolicy"  # of a line; whoever reads a condition knows of which object it is

ProblemReason = Literal["InvalidPolicy", "InvalidAnnotation", "NoProfile", "SeveralProfiles", "Infeasible"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """`policy` is as the loop plans with it: the target is beside it, as the fleet's matter, and not in it.

    external: replicas are scaled by another (KEDA); minwatt sets operating points and says a number.
    profile: a file's name; None: the one of the model. written: the spec as the API server has it.
    """

    namespace: str
    name: str
    uid: str
    generation: int
    policy: Policy
    target: TargetRef
    paused: bool = False
    external: bool = False
    profile: str | None = None
    written: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def fleet(self) -> str:
        """The name that replicas join with."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an object can't be used. `line` names field, value and what is allowed.

    paused: a fleet must be stoppable whatever else is wrong, so this is read from an unusable object too.
    """

    uid: str
    generation: int
    reason: ProblemReason
    line: str
    paused: bool = False

    @property
    def infeasible(self) -> bool:
        """Well written, but nothing that the controller knows meets it."""
        return self.reason in {"NoProfile", "SeveralProfiles", "Infeasible"}


def parse(obj: Mapping[str, Any]) -> Accepted | Problem:
    """Whether it can be met is for `profiles.settings_for`."""
    metadata = _mapping(obj.get("metadata"))
    uid, generation = str(metadata.get("uid", "")), _generation(metadata.get("generation"))
    annotations = _mapping(metadata.get("annotations"))
    paused = annotations.get(PAUSED, "false") != "false"
    wrong = annotation_problem(annotations)
    if wrong is not None:
        return Problem(uid, generation, "InvalidAnnotation", wrong, paused)
    try:
        policy = validate_document(_as_file(obj), Policy, _WHERE)
    except UsageError as error:
        return Problem(uid, generation, "InvalidPolicy", str(error).removeprefix(f"{_WHERE}: "), paused)
    target = policy.spec.target_ref
    if target is None:
        line = "spec.targetRef: Field required; allowed: apiVersion, kind and name of what has a scale"
        return Problem(uid, generation, "InvalidPolicy", line, paused)
    return Accepted(
        namespace=policy.metadata.namespace or "default",
        name=policy.metadata.name,
        uid=uid,
        generation=generation,
        policy=policy.without_target(),
        target=target,
        paused=paused,
        external=annotations.get(REPLICAS) == "external",
        profile=annotations.get(PROFILE),
        written=_mapping(obj.get("spec")),
    )


def remembered(obj: Mapping[str, Any]) -> Accepted | None:
    """The last good one, as an earlier controller wrote it into the status; None: there is none, or none that
    this controller can read. It is parsed as any other."""
    good = _mapping(_mapping(obj.get("status")).get("lastGood"))
    if not good:
        return None
    annotations = {REPLICAS: good.get("replicas"), PROFILE: good.get("profile")}
    metadata = {
        **_mapping(obj.get("metadata")),
        "generation": good.get("generation"),
        "annotations": {name: value for name, value in annotations.items() if value is not None},
    }
    found = parse({**obj, "metadata": metadata, "spec": good.get("spec")})
    return found if isinstance(found, Accepted) else None


def was_heard(obj: Mapping[str, Any], accepted: Accepted) -> bool:
    """Whether the status tells that replicas of this target have reported before: to a controller that starts
    their silence is a fault, though it never heard them itself."""
    last = remembered(obj)
    conditions = _mapping(obj.get("status")).get("conditions")
    stale = [
        one
        for one in (conditions if isinstance(conditions, list) else ())
        if isinstance(one, Mapping) and one.get("type") == "Stale"
    ]
    told = any(one.get("status") == "True" or one.get("reason") == "ReportsFresh" for one in stale)
    return told and last is not None and last.target == accepted.target


def in_force(found: Accepted | Problem, last: Accepted | None) -> Accepted | None:
    """What the fleet is run by: the newest if it can be used, else the last one that could, paused as the
    newest says. None: nothing can be.
    """
    if isinstance(found, Accepted):
        return found
    if last is None or last.uid != found.uid:  # another object of the same name
        return None
    return replace(last, paused=found.paused)


def annotation_problem(annotations: Mapping[str, Any]) -> str | None:
    """One line for the first annotation under minwatt.dev/ that is not as it must be."""
    for key in sorted(key for key in annotations if key.startswith(_OWN)):
        said, value = f"metadata.annotations[{key}]", annotations[key]
        if key not in _ALLOWED:
            return f"{said}: unknown annotation; allowed: {', '.join(_ALLOWED)}"
        if key == PROFILE:
            if not value or "/" in str(value):
                return f"{said} = {value!r}: allowed: the name of a file in the directory of --profiles"
        elif value not in _ALLOWED[key]:
            return f"{said} = {value!r}: allowed: {' or '.join(repr(one) for one in _ALLOWED[key])}"
    return None


def on_kubernetes(policy: Policy) -> str:
    """One line: what a policy that was read from a file would do as an object."""
    target, annotations = policy.spec.target_ref, policy.metadata.annotations
    if target is None:
        return "spec.targetRef is missing: an object must have it"
    namespace = policy.metadata.namespace or "the namespace it is created in"
    said = [f"scales {target.kind} {target.name} ({target.api_version}) in {namespace}"]
    if annotations.get(REPLICAS) == "external":
        said = [f"{said[0].replace('scales', 'tunes', 1)}; another autoscaler scales it"]
    if annotations.get(PAUSED) == "true":
        said.append("paused: moves nothing")
    if PROFILE in annotations:
        said.append(f"profile {annotations[PROFILE]}")
    return "; ".join(said)


_ALLOWED: Mapping[str, tuple[str, ...]] = {
    PAUSED: ("true", "false"),
    REPLICAS: ("external",),
    PROFILE: (),
}


def _as_file(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Without labels and annotations: a policy that is equal is planned with equally. What else there is of
    metadata is the server's, of whichever version.
    """
    metadata = _mapping(obj.get("metadata"))
    return {**obj, "metadata": {key: metadata[key] for key in ("name", "namespace") if key in metadata}}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _generation(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
