"""From the policies that there are to the loops that should run: what to start, stop and edit. Pure.

Level-triggered: the same from scratch each time, whatever was missed in between. Owns which policy is in
force (the newest that can be used) and which of two has a target. Called by `controller` after each change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from scaler.kube.conditions import Obstacle
from scaler.kube.policy_object import Accepted, Problem, in_force, remembered
from scaler.kube.rivals import Claim, TargetKey, refused_claims
from scaler.kube.store import Key, Object, key_of
from scaler.settings import Settings


@dataclass(frozen=True, slots=True)
class Wanted:
    """One policy as it stands. `accepted` is in force, maybe of an earlier generation than the object's,
    which has a `problem` then; None: nothing can be run by. `complaint`: what is wrong while it runs."""

    obj: Object
    generation: int
    accepted: Accepted | None = None
    settings: Settings | None = None
    problem: Problem | None = None
    obstacle: Obstacle | None = None
    complaint: Obstacle | None = None

    @property
    def key(self) -> Key:
        return key_of(self.obj)

    @property
    def target(self) -> TargetKey | None:
        if self.accepted is None:
            return None
        aimed = self.accepted.target
        return TargetKey.of(self.accepted.namespace, aimed.api_version, aimed.kind, aimed.name)


Read = Callable[[Object], Accepted | Problem]
Fit = Callable[[Accepted], Settings | Problem]


def wanted_of(obj: Object, before: Wanted | None, read: Read, fit: Fit) -> Wanted:
    """`before`: the same name's, when last looked; what was in force stays while the newest can't be used. A
    controller that has not looked before has it from the status."""
    found = read(obj)
    generation = int((obj.get("metadata") or {}).get("generation") or 0)
    if isinstance(found, Accepted):
        fits = fit(found)
        if isinstance(fits, Settings):
            return Wanted(obj, generation, found, _kept(before, fits))
        found = fits
    stays = _stays(obj, generation, found, before)
    if stays.accepted is not None:
        return stays
    last = in_force(found, remembered(obj))
    fits_last = None if last is None else fit(last)
    return Wanted(obj, generation, last, fits_last, found) if isinstance(fits_last, Settings) else stays


def unread(obj: Object, before: Wanted | None, error: Exception) -> Wanted:
    """Of an object that could not even be judged: what was in force stays."""
    metadata = obj.get("metadata") or {}
    uid, generation = str(metadata.get("uid") or ""), int(metadata.get("generation") or 0)
    line = f"the controller failed to read it ({type(error).__name__}: {error})"
    return _stays(obj, generation, Problem(uid, generation, "InvalidPolicy", line), before)


def _stays(obj: Object, generation: int, problem: Problem, before: Wanted | None) -> Wanted:
    accepted = in_force(problem, None if before is None else before.accepted)
    settings = before.settings if before is not None and accepted is not None else None
    return Wanted(obj, generation, accepted, settings, problem)


def _kept(before: Wanted | None, fits: Settings) -> Settings:
    """The same settings stay the same object: a loop is not edited by a label, or a pause."""
    last = None if before is None else before.settings
    if last is None or (last.policy.spec, last.profile) != (fits.policy.spec, fits.profile):
        return fits
    return last


def with_claims(wanted: Iterable[Wanted]) -> Mapping[Key, Wanted]:
    """Each with what keeps it from its target: an older policy that has it."""
    all_wanted = {one.key: one for one in wanted}
    claims = [
        Claim(key, str((one.obj.get("metadata") or {}).get("creationTimestamp") or ""), one.target)
        for key, one in all_wanted.items()
        if one.target is not None
    ]
    refused = refused_claims(claims)
    return {
        key: replace(one, obstacle=_claimed(one, refused[key]) if key in refused else None)
        for key, one in all_wanted.items()
    }


def _claimed(one: Wanted, holder: Key) -> Obstacle:
    return Obstacle("TargetClaimed", f"the older PowerPolicy {holder[1]} has {one.target} already")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a loop can't be edited out of: another object of the name, or another target, is another loop."""

    uid: str
    target: TargetKey
    api_version: str


def identity_of(wanted: Wanted) -> Identity | None:
    if wanted.accepted is None or wanted.target is None:
        return None
    return Identity(wanted.accepted.uid, wanted.target, wanted.accepted.target.api_version)


@dataclass(frozen=True, slots=True)
class Changes:
    """In this order: a loop that is stopped lets go of what another may need."""

    stop: tuple[Key, ...] = ()
    start: tuple[Key, ...] = ()
    edit: tuple[Key, ...] = ()


def reconcile(wanted: Mapping[Key, Wanted], running: Mapping[Key, Wanted]) -> Changes:
    """A policy that may not have its target runs no loop."""
    runnable = {
        key: one for key, one in wanted.items() if identity_of(one) is not None and one.obstacle is None
    }
    stay = {
        key
        for key, one in running.items()
        if key in runnable and identity_of(one) == identity_of(runnable[key])
    }
    return Changes(
        stop=tuple(key for key in running if key not in stay),
        start=tuple(key for key in runnable if key not in stay),
        edit=tuple(key for key in runnable if key in stay and _edited(running[key], runnable[key])),
    )


def _edited(running: Wanted, wanted: Wanted) -> bool:
    """A status that was written changes the object, and nothing that a loop runs by."""
    shown = (running.accepted, running.problem, running.complaint)
    return shown != (wanted.accepted, wanted.problem, wanted.complaint) or (
        running.settings is not wanted.settings
    )
