"""A profile as figures to read: each with where it comes from, in the units people use.

Pure. Owns the rows, their wording and units; no watt without its source. Called by `profile_show` and
`profile_document`.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaler.profile import Basis, Point, Profile, Variant

UNKNOWN = "–"
_MOST_TEXTS = 128  # of the batches that a table shows
_MS = 1000


@dataclass(frozen=True, slots=True)
class Figure:
    """`basis`: measured, published or assumed, and of watts the meter. `residual`: of a fit, or empty."""

    title: str
    value: str
    basis: str
    residual: str = ""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """What the lines say of full batches of `texts` at the full clock, one after the other."""

    texts: int
    service_s: float  # that a batch occupies the replica
    texts_per_s: float
    watts: float
    joules_per_text: float


def title(profile: Profile) -> str:
    return f"{profile.model} {profile.model_version} on {profile.device}"


def about(profile: Profile) -> str:
    """What the figures rest on, in a sentence or two."""
    notes = f" {profile.meter.notes}" if profile.meter.notes else ""
    if profile.is_reference:
        return f"Reference profile, not measured.{notes}"
    parameters = ", ".join(f"{name} {value:g}" for name, value in profile.meter.parameters.items())
    with_ = f" ({parameters})" if parameters else ""
    return (
        f"Measured {profile.measured_at:%Y-%m-%d %H:%M} UTC, {len(profile.points)} points;"
        f" watts: {profile.meter.source}{with_}.{notes}"
    )


def figures(profile: Profile) -> list[Figure]:
    """All but the points and the clocks."""
    several = len(profile.variants) > 1
    rows = []
    for variant in profile.variants:
        rows += _of_variant(profile, variant, f"{variant.name}: " if several else "")
    watts = watts_basis(profile, profile.start_up.basis)
    seconds, joules = profile.start_up.seconds, profile.start_up.joules
    rows.append(Figure("start-up", f"{seconds:.1f} s", profile.start_up.basis))
    rows.append(Figure("start-up, energy", f"{joules:.4g} J", watts))
    return rows


def _of_variant(profile: Profile, variant: Variant, prefix: str) -> list[Figure]:
    line, power = variant.service_time, variant.power
    watts = watts_basis(profile, power.basis)
    rows = [
        Figure(
            f"{prefix}a batch's fixed part",
            f"{_MS * line.alpha_s:.3g} ms",
            line.basis,
            percent(line.residual_fraction),
        ),
        Figure(f"{prefix}a padded token", f"{1e6 * line.beta_s_per_token:.4g} µs", line.basis),
    ]
    if line.saturation < 1:
        rows.append(Figure(f"{prefix}time computing, overloaded", f"{line.saturation:.0%}", line.basis))
    rows += [
        Figure(f"{prefix}idle", _watts(power.idle_w), watts, percent(power.residual_fraction)),
        Figure(f"{prefix}during a fixed part", _watts(power.batch_w), watts),
        Figure(f"{prefix}during tokens", _watts(power.token_w), watts),
        Figure(f"{prefix}parked", _watts(power.parked_w), watts),
    ]
    best = variant.max_rps_at_slo
    if best is not None:
        rps = "none held it" if best.rps is None else f"{best.rps:.0f} requests/s"
        rows.append(Figure(f"{prefix}most at p99 ≤ {_MS * best.latency_s:g} ms", rps, line.basis))
    if variant.accuracy is not None:
        rows.append(Figure(f"{prefix}accuracy", f"{variant.accuracy:.4f}", "model.yaml"))
    return rows


def watts_basis(profile: Profile, basis: Basis) -> str:
    """A modelled meter measures time, not watts: what is fitted to it is modelled."""
    if basis != "measured":
        return basis
    source = profile.meter.source
    return source if source == "modelled" else f"measured ({source})"


def clock_figures(profile: Profile) -> list[Figure]:
    """Each step of each clock set."""
    return [
        Figure(
            f"{clocks.name}: {step.sm_clock_mhz} MHz",
            f"time × {step.time_factor:.3g}, busy W × {step.power_factor:.3g}",
            clocks.basis,
        )
        for clocks in profile.clock_sets
        for step in clocks.steps
    ]


def batch_rows(profile: Profile, variant: str = "") -> list[BatchRow]:
    """Batches of 1, 2, 4, … texts of the profile's mean length, up to what was measured or may be held."""
    engine = profile.engine(profile.text_tokens, variant)
    held = int(profile.replica.max_batch_tokens / profile.text_tokens)
    most = max((point.max_batch_texts for point in profile.points), default=min(held, _MOST_TEXTS))
    sizes = [1 << power for power in range(most.bit_length())]
    return [
        BatchRow(
            texts=size,
            service_s=engine.service_s(size),
            texts_per_s=engine.capacity_tps(size),
            watts=engine.batch_j(size) / engine.service_s(size),
            joules_per_text=engine.batch_j(size) / size,
        )
        for size in sizes
    ]


def batch_note(profile: Profile) -> str:
    line, power = profile.variants[0].service_time, profile.variants[0].power
    return (
        f"Full batches of texts of {profile.text_tokens:.0f} tokens, one after the other, at the full clock."
        f" Time {line.basis}, watts {watts_basis(profile, power.basis)}."
    )


Sweeps = dict[str, dict[tuple[int, float], list[Point]]]


def sweeps(profile: Profile) -> Sweeps:
    """The loaded points: by variant, clock and text length, then by (max batch, max delay)."""
    found: Sweeps = {}
    for point in profile.points:
        if point.offered_rps > 0:
            settings = found.setdefault(_sweep(profile, point), {})
            settings.setdefault((point.max_batch_texts, point.max_delay_s), []).append(point)
    return found


def _sweep(profile: Profile, point: Point) -> str:
    """Variant and clock only where the profile has several."""
    parts = [point.variant] if len(profile.variants) > 1 else []
    parts += [f"{point.sm_clock_mhz} MHz"] if point.sm_clock_mhz else []
    return ", ".join([*parts, f"texts of {point.text_tokens:.0f} tokens"])


def percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.1%}"


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return f"{_MS * seconds:.3g}" if seconds < 0.1 else f"{_MS * seconds:.0f}"


def _watts(watts: float) -> str:
    return f"{watts:.2f} W"
