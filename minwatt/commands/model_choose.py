"""`minwatt model choose`: the measured variant that takes the fewest joules within limits, and why.

Owns which cards count and the words of the answer. Leaves the choice to `modelkit.card.pareto`.
"""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import MODEL_FILE, ModelDirectory
from minwatt.v1.quantities import parse_duration_s
from modelkit.card.measurements import CARD_FILE, Card, read_card
from modelkit.card.pareto import Limits, Pick, pick, relaxed

_CARDS_HELP = f"{CARD_FILE}, or a folder with one; several: of several devices."
_LATENCY_HELP = "p99 of a batch of the set's texts, e.g. 20ms."


def choose(
    cards: Annotated[list[Path], typer.Argument(metavar="DIR|CARD...", help=_CARDS_HELP)],
    min_accuracy: Annotated[float | None, typer.Option(min=0, max=1, help="Least intent accuracy.")] = None,
    min_f1: Annotated[float | None, typer.Option(min=0, max=1, help="Least entity F1.")] = None,
    max_latency: Annotated[str | None, typer.Option(metavar="DURATION", help=_LATENCY_HELP)] = None,
    device: Annotated[str | None, typer.Option(help="Part of the device's name, as the card has it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the choice as JSON.")] = False,
) -> None:
    """Choose a variant from its energy card: of those within the limits, the one with the fewest joules.

    Exit code 1: none is within the limits; what would be is said.

    Example: minwatt model choose out/card --min-accuracy 0.93 --max-latency 20ms
    """
    limits = Limits(min_accuracy, min_f1, _latency_s(max_latency))
    card = _of_device([_read(path) for path in cards], device)
    found = pick(card.candidates(), limits)
    if json:
        _print_json(card, found, limits)
    else:
        _print(card, found, limits)
    if found.chosen is None:
        raise typer.Exit(1)


def _latency_s(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise UsageError(f"--max-latency = {text!r}: {error}") from error


def _read(path: Path) -> Card:
    """A card; one that lies in a model directory must be of the files that it lists now."""
    card = read_card(path / CARD_FILE if path.is_dir() else path)
    if path.is_dir() and (path / MODEL_FILE).is_file():
        listed = ModelDirectory.open(path).spec.variants
        for one in card.variants:
            if one.variant not in listed or listed[one.variant].sha256 != one.sha256:
                raise UsageError(
                    f"{path / CARD_FILE}: variant = {one.variant!r}: measured with another file than"
                    f" {MODEL_FILE} lists; measure anew with `minwatt model card`"
                )
    return card


def _of_device(cards: list[Card], device: str | None) -> Card:
    fit = [card for card in cards if device is None or device.lower() in card.machine.device.lower()]
    there = "; ".join(dict.fromkeys(card.machine.device for card in cards))
    if not fit:
        raise UsageError(f"--device = {device!r}: measured were {there}")
    if len(fit) > 1:
        raise UsageError(f"--device: {len(fit)} cards fit; allowed: a part of the name of one of {there}")
    return fit[0]


def _print(card: Card, found: Pick, limits: Limits) -> None:
    def say(line: str) -> None:
        Console(soft_wrap=True).print(line, markup=False, highlight=False)

    say(f"{found.chosen or 'none'}  ({card.model} {card.version} on {card.machine.device})")
    for name, reason in found.reasons.items():
        doubt = _untold(card, name, found.chosen)
        say(f"  {name}: {reason}{doubt}")
    if found.chosen is None:
        for name, other in _would_do(card, limits).items():
            say(f"{name} would fit with {_shown(other)}")


def _print_json(card: Card, found: Pick, limits: Limits) -> None:
    would = {} if found.chosen else _would_do(card, limits)
    document = {
        "chosen": found.chosen,
        "model": card.model,
        "version": card.version,
        "device": card.machine.device,
        "reasons": found.reasons,
        "would_fit": {
            name: {"min_accuracy": one.min_accuracy, "min_f1": one.min_f1, "max_latency_s": one.max_p99_s}
            for name, one in would.items()
        },
    }
    print(dumps(document, indent=2))  # noqa: T201 - the command's own output


def _would_do(card: Card, limits: Limits) -> dict[str, Limits]:
    moved = {one.name: relaxed(one, limits) for one in card.candidates()}
    return {name: one for name, one in moved.items() if one is not None}


def _shown(limits: Limits) -> str:
    parts = []
    if limits.min_accuracy is not None:
        parts.append(f"--min-accuracy {limits.min_accuracy:g}")
    if limits.min_f1 is not None:
        parts.append(f"--min-f1 {limits.min_f1:g}")
    if limits.max_p99_s is not None:
        parts.append(f"--max-latency {1000 * limits.max_p99_s:.2f}ms")
    return " ".join(parts)


def _untold(card: Card, name: str, chosen: str | None) -> str:
    """Where the rounds do not tell the two apart."""
    pair = None if chosen in (None, name) else card.compared(name, chosen or "")
    if pair is None or pair.joules is None or not pair.joules.low <= 1 <= pair.joules.high:
        return ""
    return " (in some rounds fewer, in some more: not told apart)"
