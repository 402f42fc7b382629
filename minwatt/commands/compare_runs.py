"""Two load tests compared. Leaves the differences to `loadtest.compare`. Pure. Called by `report`."""

from __future__ import annotations

from loadtest.compare import compare
from loadtest.runs import RunData
from loadtest.summary import energy
from report.comparison import Comparison, Part

__all__ = ["RunData", "comparison"]


def comparison(names: tuple[str, str], a: RunData, b: RunData, seed: int) -> Comparison:
    """Joules only where both are of one kind."""
    changes = compare(a, b, seed)
    sources = [f"{source} ({basis})" for _, source, basis in map(energy, (a, b))]
    notes, watts = [], sources[0]
    if sources[0] != sources[1]:
        changes = [change for change in changes if change.unit not in {"W", "J"}]
        watts = " and ".join(sources)
        notes.append(f"joules are not compared: A's and B's are of other kinds: {watts}")
    alike = a.record.load == b.record.load
    notes.append(
        "same load: blocks drawn in pairs" if alike else "different loads: the load's own noise counts, too"
    )
    if not alike:
        keys = sorted(a.record.load.keys() | b.record.load.keys())
        differ = [key for key in keys if a.record.load.get(key) != b.record.load.get(key)]
        notes.append("loads differ in: " + ", ".join(differ))
    title = f"Load tests: {names[0]} (A) and {names[1]} (B)"
    return Comparison(title, names, (Part("", changes),), tuple(notes), watts)
