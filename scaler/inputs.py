"""Policy and profile, read and checked against one another. Called by the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minwatt.resources import default_policy, default_profile
from minwatt.v1.errors import UsageError
from scaler.control import Settings
from scaler.policy import load_policy
from scaler.profile import load_profile


@dataclass(frozen=True, slots=True)
class Inputs:
    """`profile_line` says which profile is planned with, and where its figures are from."""

    settings: Settings
    profile_line: str

    @property
    def lines(self) -> tuple[str, ...]:
        """What to say before anything starts: the profile, and what of the policy has no effect."""
        idle = self.settings.policy.not_acted_on()
        return (self.profile_line, *(f"not acted on: {sentence}" for sentence in idle))


def read_inputs(policy: Path | None, profile: Path | None, replicas: int | None = None) -> Inputs:
    """The shipped file for each that is None; a fixed fleet where `replicas` is given. Raises UsageError."""
    policy_file, profile_file = policy or default_policy(), profile or default_profile()
    wanted, measured = load_policy(policy_file), load_profile(profile_file)
    if replicas is not None:
        if not 1 <= replicas <= 10_000:
            raise UsageError(f"--replicas = {replicas}: allowed: 1 to 10000")
        wanted = wanted.with_fixed_replicas(replicas)
    if measured.model != wanted.spec.model:
        asked = f"{policy_file} asks for {wanted.spec.model!r}"
        raise UsageError(f"{profile_file}: model = {measured.model!r}: {asked}")
    allowed = wanted.spec.variants.allow
    if allowed and measured.variant not in allowed:
        there = f"the profile {profile_file} is of {measured.variant!r}"
        raise UsageError(f"{policy_file}: spec.variants.allow = {list(allowed)}: {there}")
    what = f"{measured.model} {measured.model_version} {measured.variant}"
    where = f"measured {measured.measured_at:%Y-%m-%d} on {measured.device}, watts {measured.meter.source}"
    line = f"profile {profile_file.name}: {what}, {where}"
    if profile is None:
        line = f"shipped {line} (for this machine's own: minwatt profile)"
    return Inputs(Settings(wanted, measured), line)
