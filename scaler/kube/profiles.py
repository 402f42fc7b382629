"""The profiles that the controller has, and which of them a policy gets.

Owns the choice and its wording; `read_library` and `read_again` alone touch the disk, when `profile_files`
says. Whether a policy can be met with its profile is `scaler.feasible`. Called by the controller for each
policy it accepts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minwatt.v1.errors import UsageError
from scaler.feasible import check_feasible
from scaler.inputs import planned_with
from scaler.kube.conditions import Obstacle
from scaler.kube.policy_object import PROFILE, Accepted, Problem, ProblemReason
from scaler.profile import Profile, load_profile
from scaler.settings import Settings

_SUFFIXES = (".yaml", ".yml")
_POLICY = "policy"  # in the lines of `feasible`: whoever reads a condition knows of which policy it is


@dataclass(frozen=True, slots=True)
class Library:
    """By file name. `unreadable`: why a file is no profile, one line each; one that was a profile before is
    still among the `profiles`, as it was then."""

    profiles: Mapping[str, Profile]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def of_model(self, model: str) -> list[str]:
        """Names of the files with that model's profiles."""
        return sorted(name for name, profile in self.profiles.items() if profile.model == model)

    @property
    def models(self) -> list[str]:
        return sorted({profile.model for profile in self.profiles.values()})

    @property
    def lines(self) -> tuple[str, ...]:
        """What to say of it before anything starts."""
        return self.news(Library({}))

    def news(self, before: Library) -> tuple[str, ...]:
        """What to say of it to who knows the one before."""
        found = {
            name: f"profile {name}: {one.model} on {one.device}"
            for name, one in sorted(self.profiles.items())
            if name not in self.unreadable and (one != before.profiles.get(name) or name in before.unreadable)
        }
        gone = [name for name in sorted(before.profiles) if name not in self.profiles]
        bad = {
            name: f"not used: {line}"
            + ("; as it was before it stays in use" if name in self.profiles else "")
            for name, line in sorted(self.unreadable.items())
            if line != before.unreadable.get(name)
        }
        return (*found.values(), *(f"profile {name}: gone" for name in gone), *bad.values())

    def complaint(self, settings: Settings | None) -> Obstacle | None:
        """Of a loop whose profile was changed to what can't be read."""
        for name, line in sorted(self.unreadable.items()):
            if settings is not None and name in self.profiles and self.profiles[name] == settings.profile:
                return Obstacle("ProfileUnreadable", f"{line}: as it was before it stays in force")
        return None


def files_in(directory: Path) -> list[Path]:
    """Raises UsageError.

    A mounted ConfigMap holds its files behind links that begin with a dot; they are passed over.
    """
    try:
        return sorted(
            one for one in directory.iterdir() if one.suffix in _SUFFIXES and not one.name.startswith(".")
        )
    except OSError as error:
        raise UsageError(f"--profiles = {str(directory)!r}: can't be read ({error.strerror})") from error


def read_library(directory: Path) -> Library:
    """Every YAML file of the directory. Raises UsageError where none is a profile."""
    library = read_again(directory, Library({}))
    if not library.profiles:
        why = next(iter(library.unreadable.values()), "there is no .yaml file")
        raise UsageError(f"--profiles = {str(directory)!r}: holds no profile: {why}")
    return library


def read_again(directory: Path, before: Library) -> Library:
    """As it is now; a file that was a profile and is none now leaves the one it was. Raises UsageError where
    the directory can't be read."""
    profiles: dict[str, Profile] = {}
    unreadable: dict[str, str] = {}
    for file in files_in(directory):
        try:
            profiles[file.name] = load_profile(file)
        except UsageError as error:
            unreadable[file.name] = str(error)
            if file.name in before.profiles:
                profiles[file.name] = before.profiles[file.name]
    return Library(profiles, unreadable)


def settings_for(accepted: Accepted, library: Library) -> Settings | Problem:
    """What the loop of that policy runs with; or why nothing that the controller knows meets it."""
    chosen = _choose(accepted, library)
    if isinstance(chosen, Problem):
        return chosen
    profile = library.profiles[chosen]
    try:
        check_feasible(accepted.policy, profile, _POLICY, chosen)
    except UsageError as error:
        return _problem(accepted, "Infeasible", str(error).removeprefix(f"{_POLICY}: "))
    return planned_with(accepted.policy, profile)


def _choose(accepted: Accepted, library: Library) -> str | Problem:
    """The name of a file."""
    model, asked = accepted.policy.spec.model, accepted.profile
    if asked is not None:
        if asked in library.profiles:
            return asked
        said = f"metadata.annotations[{PROFILE}] = {asked!r}"
        if asked in library.unreadable:
            return _problem(accepted, "NoProfile", f"{said}: {library.unreadable[asked]}")
        files = ", ".join(sorted(library.profiles))
        return _problem(accepted, "NoProfile", f"{said}: no such profile; allowed: {files}")
    files_of_model = library.of_model(model)
    if len(files_of_model) == 1:
        return files_of_model[0]
    if not files_of_model:
        models = ", ".join(library.models)
        line = f"spec.model = {model!r}: the controller has no profile of it; it has profiles of {models}"
        return _problem(accepted, "NoProfile", line)
    listed = ", ".join(f"{name} ({library.profiles[name].device})" for name in files_of_model)
    several = f"spec.model = {model!r}: the controller has {len(files_of_model)} profiles of it"
    line = f"{several}; set the annotation {PROFILE} to one of {listed}"
    return _problem(accepted, "SeveralProfiles", line)


def _problem(accepted: Accepted, reason: ProblemReason, line: str) -> Problem:
    return Problem(accepted.uid, accepted.generation, reason, line, accepted.paused)
