"""Policy and profile, read and checked against one another. Called by the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minwatt.resources import default_policy, default_profile
from minwatt.v1.errors import UsageError
from scaler.feasible import check_feasible
from scaler.levers import PlanRules
from scaler.policy import Policy, load_policy
from scaler.profile import Profile, load_profile
from scaler.settings import Settings

# A connection stays with the replica that accepted it until it is opened anew: of replicas that share a port
# one is always fuller than the others.
_IMBALANCE = 1.25


@dataclass(frozen=True, slots=True)
class Inputs:
    """`profile_line` says which profile is planned with, and where its figures are from."""

    settings: Settings
    profile_line: str

    @property
    def lines(self) -> tuple[str, ...]:
        """What to say before anything starts: the profile, and what of the policy has no effect."""
        policy, profile = self.settings.policy, self.settings.profile
        idle = list(policy.not_acted_on())
        if policy.spec.gpu.clocks == "auto" and not profile.clock_sets:
            idle.append("gpu.clocks = auto: the profile knows no clock but the full one")
        return (self.profile_line, *(f"not acted on: {sentence}" for sentence in idle))


def read_inputs(policy: Path | None, profile: Path | None, replicas: int | None = None) -> Inputs:
    """The shipped file for each that is None; a fixed fleet where `replicas` is given. Raises UsageError."""
    policy_file, profile_file = policy or default_policy(), profile or default_profile()
    if replicas is not None and not 1 <= replicas <= 10_000:
        raise UsageError(f"--replicas = {replicas}: allowed: 1 to 10000")
    wanted, measured = read_pair(policy_file, profile_file, replicas)
    line = f"profile {profile_file.name}: {origin(measured)}"
    if profile is None:
        line = f"shipped {line} (for this machine's own: minwatt profile)"
    return Inputs(planned_with(wanted, measured), line)


def planned_with(policy: Policy, profile: Profile) -> Settings:
    """How replicas that answer real requests are planned for."""
    return Settings(policy, profile, PlanRules(imbalance=_IMBALANCE))


def read_pair(policy: Path, profile: Path, replicas: int | None = None) -> tuple[Policy, Profile]:
    """Both files, where the profile can meet the policy. Raises UsageError."""
    wanted, measured = load_policy(policy), load_profile(profile)
    if replicas is not None:
        wanted = wanted.with_fixed_replicas(replicas)
    check_feasible(wanted, measured, str(policy), str(profile))
    return wanted, measured


def check_clock_set(name: str, policy: Policy, profile: Profile, profile_file: Path) -> None:
    """Of `--clock-set`; empty is the profile's default. Raises UsageError."""
    there = [one.name for one in profile.clock_sets]
    if name and name not in there:
        allowed = ", ".join(there) or f"none: {profile_file} has no clock sets"
        raise UsageError(f"--clock-set = {name!r}: allowed: {allowed}")
    if name and policy.spec.gpu.clocks == "off":
        raise UsageError(f"--clock-set = {name!r}: allowed: where the policy's spec.gpu.clocks is auto")


def origin(profile: Profile) -> str:
    """Of what the profile is, and what its figures rest on: no watt is named without it."""
    variants = ", ".join(variant.name for variant in profile.variants)
    what = f"{profile.model} {profile.model_version} {variants} on {profile.device}"
    when = f"{profile.measured_at:%Y-%m-%d}"
    if profile.is_reference:
        return f"{what}, reference of {when}: {bases(profile)}"
    return f"{what}, measured {when}: {bases(profile)}"


def bases(profile: Profile) -> str:
    """`latency measured, watts modelled, start-up measured`: of the default variant."""
    variant = profile.variant()
    return (
        f"latency {variant.service_time.basis}, watts {watts_basis(profile)},"
        f" start-up {profile.start_up.basis}"
    )


def watts_basis(profile: Profile) -> str:
    """`modelled` where the meter that was read is one; else as the profile says."""
    basis = profile.variant().power.basis
    return "modelled" if basis == "measured" and profile.meter.source == "modelled" else basis
