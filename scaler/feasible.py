"""Whether a policy can be met at all with a profile, before anything runs.

Pure. Owns the checks and their wording; whether a fleet is large enough for its load is the planner's matter.
Called by `inputs`, for every command that plans with a policy and a profile.
"""

from __future__ import annotations

import math
from dataclasses import replace

from minwatt.v1.errors import UsageError
from minwatt.v1.quantities import format_duration, format_power
from scaler.levers import LeverTables, TableKey
from scaler.policy import Policy
from scaler.profile import Profile, Variant
from scaler.settings import Settings


def check_feasible(policy: Policy, profile: Profile, policy_file: str, profile_file: str) -> None:
    """Raises UsageError, one line, for the first demand of the policy that nothing in the profile meets:

    another model; no variant that is allowed and accurate enough; an SLO that the planner finds out of reach
    at the lightest load; a budget below the idle watts of the fewest replicas.
    """
    if profile.model != policy.spec.model:
        asked = f"{policy_file} asks for {policy.spec.model!r}"
        raise UsageError(f"{profile_file}: model = {profile.model!r}: {asked}")
    variants = _eligible(policy, profile, policy_file, profile_file)
    _check_slo(policy, profile, variants, policy_file)
    _check_budget(policy, profile, variants, policy_file)


def _eligible(policy: Policy, profile: Profile, policy_file: str, profile_file: str) -> list[Variant]:
    """Allowed, and known to be as accurate as asked."""
    asked = policy.spec.variants
    there = ", ".join(_with_accuracy(variant) for variant in profile.variants)
    allowed = profile.allowed_variants(asked.allow)
    if not allowed:
        raise UsageError(
            f"{policy_file}: spec.variants.allow = {list(asked.allow)}: {profile_file} has {there}"
        )
    enough = profile.allowed_variants(asked.allow, asked.min_accuracy)
    if not enough:
        of_allowed = ", ".join(_with_accuracy(variant) for variant in allowed)
        raise UsageError(
            f"{policy_file}: spec.variants.minAccuracy = {asked.min_accuracy:g}: {profile_file} allows"
            f" {of_allowed}"
        )
    return enough


def _with_accuracy(variant: Variant) -> str:
    accuracy = "unknown" if variant.accuracy is None else f"{variant.accuracy:g}"
    return f"{variant.name} (accuracy {accuracy})"


def _check_slo(policy: Policy, profile: Profile, variants: list[Variant], policy_file: str) -> None:
    slo_s = policy.spec.slo.latency_s
    if _meets(policy, profile, slo_s):
        return
    alone_s = min(profile.engine(profile.text_tokens, one.name).service_s(1) for one in variants)
    least_s = _least_slo_s(policy, profile, max(slo_s, alone_s))
    raise UsageError(
        f"{policy_file}: spec.slo.latency = {format_duration(slo_s)}: no operating point meets it on"
        f" {profile.device} even at the lightest load (a text alone computes for {format_duration(alone_s)});"
        f" allowed: {format_duration(least_s)} or more"
    )


def _meets(policy: Policy, profile: Profile, slo_s: float) -> bool:
    """As the planner predicts it for the lever that is fastest at the lightest load: texts one by one, at
    once, at the full clock.
    """
    settings = Settings(policy, profile)
    fastest = replace(settings.limits, slo_latency_s=slo_s, max_batch_texts=1, max_delay_s=0.0, clocks=False)
    table = LeverTables(profile, fastest, settings.plan_rules).at(TableKey(profile.text_tokens, 1.0, 1.0))
    return bool(table.cap_tps.max() > 0)


def _least_slo_s(policy: Policy, profile: Profile, missed_s: float) -> float:
    """Above `missed_s`, to three figures, rounded up."""
    high_s = 2 * missed_s
    while not _meets(policy, profile, high_s):
        high_s *= 2
    low_s = high_s / 2
    while high_s > 1.001 * low_s:
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle_s) if _meets(policy, profile, middle_s) else (middle_s, high_s)
    digit = 10.0 ** (math.floor(math.log10(high_s)) - 2)
    return math.ceil(high_s / digit) * digit


def _check_budget(policy: Policy, profile: Profile, variants: list[Variant], policy_file: str) -> None:
    budget_w, fewest = policy.spec.power.budget_w, policy.spec.replicas.min
    least_w = fewest * min(one.power.idle_w for one in variants)
    if budget_w is not None and budget_w < least_w:
        idle = "one replica draws" if fewest == 1 else f"{fewest} replicas draw"
        raise UsageError(
            f"{policy_file}: spec.power.budget = {format_power(budget_w)}: {idle} {format_power(least_w)}"
            f" idle on {profile.device} (spec.replicas.min); allowed: {format_power(least_w)} or more"
        )
