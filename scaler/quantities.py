"""The quantities of a policy: their ranges, and how each is written, for parser and schema alike.

Called by `policy`; how a number and its unit are read is `minwatt.v1`'s matter. A schema carries the quantity
itself (`SCHEMA_KEY`), for those who make another schema, or a page, of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from minwatt.v1.quantities import (
    DURATIONS,
    FRACTIONS,
    POWERS,
    format_duration,
    format_power,
    parse_duration_s,
    parse_fraction,
    parse_power_w,
)

SCHEMA_KEY = "x-minwatt-quantity"
LONGEST = 64  # characters


@dataclass(frozen=True, slots=True, eq=False)
class Dimension:
    """`units` in SI; `zero`: a bare 0 needs no unit."""

    parse: Callable[[object], float]
    spell: Callable[[float], str]
    units: Mapping[str, float]
    example: str
    zero: bool = False


def _spell_fraction(fraction: float) -> str:
    return f"{fraction * 100:.4g}%"


DURATION = Dimension(parse_duration_s, format_duration, DURATIONS, "50ms, 5s, 2m or 1h", zero=True)
POWER = Dimension(parse_power_w, format_power, POWERS, "20W or 1.2kW")
FRACTION = Dimension(parse_fraction, _spell_fraction, FRACTIONS, "0.1%")


@dataclass(frozen=True, slots=True)
class Between:
    """A pydantic annotation: a quantity within [low, high], or one of `words`. `shown` is the range in the
    user's units. A word means None.
    """

    dimension: Dimension
    low: float
    high: float
    shown: str
    words: tuple[str, ...] = ()

    @property
    def zero(self) -> bool:
        """Whether a bare 0 is allowed."""
        return self.dimension.zero and self.low <= 0

    def read(self, value: Any) -> float | None:
        """None for a word. Raises ValueError that says what is allowed."""
        if self.words and (value is None or value in self.words):
            return None
        quantity = self.dimension.parse(value)
        if not self.low <= quantity <= self.high:
            raise ValueError(f"allowed: {self.shown}")
        if isinstance(value, str) and len(value) > LONGEST:
            raise ValueError(f"allowed: {LONGEST} characters")
        return quantity

    def spell(self, quantity: float | None) -> str:
        """As a user would write it."""
        return self.words[0] if quantity is None else self.dimension.spell(quantity)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "maxLength": LONGEST, SCHEMA_KEY: self}


Latency = Annotated[float, Between(DURATION, 1e-3, 60.0, "1ms to 60s")]
BatchDelay = Annotated[float, Between(DURATION, 0.0, 10.0, "0s to 10s")]
Tick = Annotated[float, Between(DURATION, 0.1, 600.0, "100ms to 10m")]
WindowOrAuto = Annotated[float | None, Between(DURATION, 0.0, 86_400.0, "0s to 24h", words=("auto",))]
Staleness = Annotated[float, Between(DURATION, 1.0, 86_400.0, "1s to 24h")]
Budget = Annotated[float, Between(POWER, 1e-3, 1e9, "1mW to 1000MW")]
ErrorBudget = Annotated[float, Between(FRACTION, 0.0, 0.5, "0% to 50%")]
