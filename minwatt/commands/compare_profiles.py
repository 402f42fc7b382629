"""Two profiles compared: the fitted lines, what they say of batches, and the operating points that both have.

Owns what of two profiles can be compared. The spread of a line is how far it moves when the points that it
was fitted to are drawn anew (pairs bootstrap: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
section 9.5); that of a single point is its line's residual. Pure. Called by `report`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from minwatt.commands.profile_rows import watts_basis
from minwatt.v1.errors import UsageError
from report.comparison import Bounds, Change, Comparison, Part, change
from scaler.fit import Subject, fit
from scaler.profile import Point, Profile, Variant

DRAWS = 300
_OUTER = (2.5, 97.5)  # percentiles of the differences
_Z = 1.96  # of the normal distribution's 97.5%
_MS, _US = 1e3, 1e6
_BATCHES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class _Figure:
    """Read off a profile's lines."""

    part: str
    name: str
    unit: str
    value: Callable[[Profile], float]
    less_is_better: bool | None = True


def comparison(names: tuple[str, str], a: Profile, b: Profile, seed: int, draws: int = DRAWS) -> Comparison:
    """Raises UsageError where they have no variant in common."""
    ours = [one.name for one in a.variants]
    shared = [name for name in ours if name in {one.name for one in b.variants}]
    if not shared:
        raise UsageError(f"{names[1]}: has no variant of {names[0]}; allowed: one of {', '.join(ours)}")
    first, second = np.random.default_rng(seed).spawn(2)
    drawn = list(zip(_drawn(a, first, draws), _drawn(b, second, draws), strict=False))  # as many as both have
    parts: dict[str, list[Change]] = defaultdict(list)
    for figure in _figures(a, b, shared):
        parts[figure.part].append(_change(figure, a, b, drawn))
    for name in shared:
        parts[f"{name}: fitted"] += _residuals(a.variant(name), b.variant(name))
    for name, changes in _points(a, b, shared):
        parts[name] += changes
    parts["start-up"] += [
        Change("start-up", "s", a.start_up.seconds, b.start_up.seconds, less_is_better=True),
        Change("start-up, energy", "J", a.start_up.joules, b.start_up.joules, less_is_better=True),
    ]
    watts, notes = _sources(a, b), list(_notes(a, b, len(drawn)))
    if a.meter.source != b.meter.source or a.meter.parameters != b.meter.parameters:
        notes.append("not compared: watts and joules: of other meters or other parameters")
        parts = {
            name: [one for one in changes if one.unit not in {"W", "J"}] for name, changes in parts.items()
        }
    title = f"Profiles: {names[0]} (A) and {names[1]} (B)"
    kept = [Part(name, changes) for name, changes in parts.items() if changes]
    return Comparison(title, names, kept, notes, watts)


def _figures(a: Profile, b: Profile, shared: Iterable[str]) -> Iterable[_Figure]:
    for name in shared:
        fitted, batches = f"{name}: fitted", f"{name}: full batches of texts of {a.text_tokens:.0f} tokens"
        yield _Figure(fitted, "a batch's fixed part", "ms", _of_line(name, "alpha_s", _MS))
        yield _Figure(fitted, "a padded token", "µs", _of_line(name, "beta_s_per_token", _US))
        yield _Figure(fitted, "time computing, overloaded", "of time", _of_line(name, "saturation"), None)
        yield _Figure(fitted, "idle", "W", _of_power(name, "idle_w"))
        yield _Figure(fitted, "during a fixed part", "W", _of_power(name, "batch_w"))
        yield _Figure(fitted, "during tokens", "W", _of_power(name, "token_w"))
        most = min(one.replica.max_batch_tokens for one in (a, b)) / a.text_tokens
        for texts in (texts for texts in _BATCHES if texts <= most):
            yield _Figure(batches, f"{texts}: time", "ms", _batch_ms(name, a.text_tokens, texts))
            yield _Figure(batches, f"{texts}: energy a text", "J", _text_j(name, a.text_tokens, texts))


def _of_line(variant: str, field: str, scale: float = 1.0) -> Callable[[Profile], float]:
    return lambda profile: scale * float(getattr(profile.variant(variant).service_time, field))


def _of_power(variant: str, field: str) -> Callable[[Profile], float]:
    return lambda profile: float(getattr(profile.variant(variant).power, field))


def _batch_ms(variant: str, tokens: float, texts: int) -> Callable[[Profile], float]:
    return lambda profile: _MS * profile.engine(tokens, variant).service_s(texts)


def _text_j(variant: str, tokens: float, texts: int) -> Callable[[Profile], float]:
    return lambda profile: profile.engine(tokens, variant).batch_j(texts) / texts


def _change(figure: _Figure, a: Profile, b: Profile, drawn: Sequence[tuple[Profile, Profile]]) -> Change:
    low = high = None
    if drawn:
        differences = [figure.value(other) - figure.value(one) for one, other in drawn]
        low, high = np.percentile(differences, _OUTER).tolist()
    return Change(
        figure.name, figure.unit, figure.value(a), figure.value(b), low, high, figure.less_is_better
    )


def _drawn(profile: Profile, draw: np.random.Generator, draws: int) -> list[Profile]:
    """The profile fitted anew to points drawn with return, within each variant, clock, and load or none.

    Of a profile without points nothing: its lines have no spread that is known.
    """
    groups: dict[tuple[str, int, bool], list[Point]] = defaultdict(list)
    for point in profile.points:
        groups[point.variant, point.sm_clock_mhz, point.offered_rps > 0].append(point)
    if not groups:
        return []
    subject = Subject(
        model=profile.model,
        model_version=profile.model_version,
        device=profile.device,
        measured_at=profile.measured_at,
        meter=profile.meter,
        replica=profile.replica,
    )
    slo_s = _slo_s(profile) or 1.0  # of no interest to the lines
    found = []
    for _ in range(draws):
        points = [
            group[place] for group in groups.values() for place in draw.integers(0, len(group), len(group))
        ]
        try:
            found.append(fit(subject, points, profile.start_up, slo_latency_s=slo_s))
        except ValueError:
            continue  # too few different points were drawn
    return found if 2 * len(found) > draws else []


def _residuals(a: Variant, b: Variant) -> list[Change]:
    pairs = (
        ("fit of time off by", a.service_time.residual_fraction, b.service_time.residual_fraction),
        ("fit of watts off by", a.power.residual_fraction, b.power.residual_fraction),
    )
    return [
        Change(name, "of the measured", ours, theirs, less_is_better=True)
        for name, ours, theirs in pairs
        if (ours, theirs) != (None, None)
    ]


_Setting = tuple[int, float]


def _points(a: Profile, b: Profile, shared: Iterable[str]) -> Iterable[tuple[str, list[Change]]]:
    """Operating points that both were measured at, by variant, clock and length of texts."""
    ours, theirs = _operating_points(a), _operating_points(b)
    for (variant, mhz, tokens), settings in ours.items():
        others = theirs.get((variant, mhz, tokens), {})
        if variant not in shared or not others:
            continue
        clock = f", {mhz} MHz" if mhz else ""
        changes = [
            one
            for setting, points in settings.items()
            if setting in others
            for one in _at(setting, (a, points), (b, others[setting]))
        ]
        yield f"{variant}{clock}, texts of {tokens} tokens: measured", changes


def _operating_points(profile: Profile) -> dict[tuple[str, int, int], dict[_Setting, list[Point]]]:
    found: dict[tuple[str, int, int], dict[_Setting, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in profile.points:
        if point.offered_rps > 0:
            place = point.variant, point.sm_clock_mhz, round(point.text_tokens)
            found[place][point.max_batch_texts, point.max_delay_s].append(point)
    return found


_Measured = tuple[Profile, Sequence[Point]]


def _at(setting: _Setting, a: _Measured, b: _Measured) -> Iterable[Change]:
    """The most that was completed and its joules, where both were overloaded; and the most within the SLO."""
    texts, delay_s = setting
    where = f"batch ≤ {texts}, {_MS * delay_s:g} ms"
    most = [max(points, key=lambda point: point.completed_rps) for _, points in (a, b)]
    if not any(point.sustained for point in most):
        pairs = list(zip((a[0], b[0]), most, strict=True))
        rates = [_rate(profile, point) for profile, point in pairs]
        yield change(f"{where}: most", "/s", rates[0], rates[1], False)
        joules = [_joules(profile, point) for profile, point in pairs]
        yield change(f"{where}: energy a request", "J", joules[0], joules[1], True)
    slos_s = {_slo_s(profile) for profile, _ in (a, b)}
    if len(slos_s) == 1 and (slo_s := slos_s.pop()) is not None:
        within = [_most_within(points, slo_s) for _, points in (a, b)]
        if within != [None, None]:
            name = f"{where}: most at p99 ≤ {_MS * slo_s:g} ms"
            yield Change(name, "/s", within[0], within[1], less_is_better=False)


def _rate(profile: Profile, point: Point) -> Bounds:
    """The line's residual, and that of counting: 100 ± 10 of a Poisson process."""
    counted = 1 / math.sqrt(max(1.0, point.completed_rps * point.duration_s))
    off = profile.variant(point.variant).service_time.residual_fraction or 0.0
    return _around(point.completed_rps, math.hypot(off, counted))


def _joules(profile: Profile, point: Point) -> Bounds | None:
    if point.watts is None or point.completed_rps <= 0:
        return None
    variant = profile.variant(point.variant)
    residuals = variant.service_time.residual_fraction or 0.0, variant.power.residual_fraction or 0.0
    return _around(point.watts / point.completed_rps, math.hypot(*residuals))


def _around(value: float, relative: float) -> Bounds:
    return value * (1 - _Z * relative), value, value * (1 + _Z * relative)


def _slo_s(profile: Profile) -> float | None:
    best = profile.variants[0].max_rps_at_slo
    return None if best is None else best.latency_s


def _most_within(points: Iterable[Point], slo_s: float) -> float | None:
    held = [one for one in points if one.p99_s is not None and one.p99_s <= slo_s and one.sustained]
    return max((one.completed_rps for one in held), default=None)


def _sources(a: Profile, b: Profile) -> str:
    return " and ".join(dict.fromkeys(watts_basis(one, one.variants[0].power.basis) for one in (a, b)))


def _notes(a: Profile, b: Profile, drawn: int) -> Iterable[str]:
    if drawn:
        yield (
            f"fitted lines and batches: fitted anew to points drawn with return, {drawn} times; "
            "measured points: the residual of their line, and counting"
        )
        yield "the most within the SLO steps from load to load: it has no spread"
    else:
        yield "a reference profile has no points: no spread is known"
    differ = [
        f"{field}: {ours} and {theirs}"
        for field, ours, theirs in (
            ("model", a.model, b.model),
            ("model_version", a.model_version, b.model_version),
            ("device", a.device, b.device),
            ("replica", _replica(a), _replica(b)),
        )
        if ours != theirs
    ]
    if differ:
        yield "of different inputs: " + "; ".join(differ)


def _replica(profile: Profile) -> str:
    return ", ".join(f"{name} {value}" for name, value in profile.replica.model_dump().items())
