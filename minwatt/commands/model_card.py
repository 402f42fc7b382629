"""`minwatt model card`: a model directory's variants measured, as card.json, page, Markdown, and as a table.

Owns the options and what each meter and intensity stands for. Leaves measuring to `modelkit.card.run`, the
table to `model_card_rows`, the report to `model_card_document`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from energy import MeterUnavailable, open_meter
from minwatt.commands.grid_intensity import CARBON_HELP, STATED_HELP, intensity_of
from minwatt.commands.model_card_document import document
from minwatt.commands.model_card_rows import print_card
from minwatt.commands.profile_device import CPU, find_device
from minwatt.v1.errors import UsageError
from modelkit.card.measurements import CARD_FILE, Meter
from modelkit.card.run import CardOptions, Metering, measure_card
from modelkit.commands.options import FilesOption, FolderOption
from modelkit.data.examples import named_data
from modelkit.inference import PROVIDERS, Provider
from modelkit.scoring.evaluate import DEFAULT_SETS, SPLITS
from report.document import as_json
from report.markdown import as_markdown
from report.page import as_html
from report.provenance import provenance

PAGE_FILE, MARKDOWN_FILE = "card.html", "card.md"
FILES = (CARD_FILE, PAGE_FILE, MARKDOWN_FILE)
DEFAULTS = CardOptions(data=Path())
_NVML_ROUND_S = 5.0  # a card's counter is refreshed each 0.1 s: over 5 s it is off by 4% at the most
_LONGEST_ROUND_S = 3600.0
_MOST_BATTERY_WH = 1e9
_CPU_SOURCES = ("rapl", "modelled")
_METER_HELP = "auto, rapl, modelled[:idle_w=W,busy_w_per_core=W], nvml[:index-or-uuid]; auto: what reads it."
_VARIANT_HELP = "Variant to measure; repeat for more. Default: all on disk."


def card(
    model_dir: Annotated[Path, typer.Argument(help="Model directory (with model.yaml).")],
    out: Annotated[Path, typer.Option("--out", help=f"Folder for {', '.join(FILES)}.")],
    data: FolderOption = None,
    task: FilesOption = None,
    variant: Annotated[list[str] | None, typer.Option(metavar="NAME", help=_VARIANT_HELP)] = None,
    meter: Annotated[str, typer.Option(help=_METER_HELP)] = "auto",
    provider: Annotated[str, typer.Option(help=f"One of {', '.join(PROVIDERS)}.")] = "cpu",
    grid_intensity: Annotated[float | None, typer.Option(help=STATED_HELP)] = None,
    carbon: Annotated[Path | None, typer.Option(help=CARBON_HELP)] = None,
    battery_wh: Annotated[float | None, typer.Option(help="Capacity of a battery, in Wh.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Texts a batch, of the set's own.")] = DEFAULTS.batch,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of each variant, in turn.")] = DEFAULTS.rounds,
    round_s: Annotated[
        float | None,
        typer.Option(min=0.001, max=_LONGEST_ROUND_S, help="Seconds of a round. Default: 0.5; nvml: 5."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of texts and resamples.")] = DEFAULTS.seed,
    split: Annotated[str, typer.Option(help=f"One of {', '.join(SPLITS)}.")] = DEFAULTS.split,
    intent_set: Annotated[str, typer.Option(help="Folder of --data that feeds the intent task.")] = (
        DEFAULT_SETS["intent"]
    ),
    entity_set: Annotated[str, typer.Option(help="Folder of --data that feeds the entities task.")] = (
        DEFAULT_SETS["entities"]
    ),
    json: Annotated[bool, typer.Option("--json", help="Print card.json.")] = False,
) -> None:
    """Measure a model's variants in turn: size, scores with intervals, latency, joules, gCO2; their front.

    Example: minwatt model card models/support-text --data data --grid-intensity 400 --out out/card
    """
    chosen = _provider(provider)
    if battery_wh is not None and not 0 < battery_wh <= _MOST_BATTERY_WH:
        raise UsageError(f"--battery-wh = {battery_wh:g}: allowed: more than 0, up to {_MOST_BATTERY_WH:g}")
    intensity = intensity_of(grid_intensity, carbon)
    _make(out)
    metering = _metering(chosen, meter)
    options = CardOptions(
        data=named_data(data, task),
        sets={"intent": intent_set, "entities": entity_set},
        split=split,
        variants=variant or (),
        provider=chosen,
        batch=batch,
        rounds=rounds,
        round_s=round_s or (_NVML_ROUND_S if metering.note.source == "nvml" else DEFAULTS.round_s),
        seed=seed,
        intensity=intensity,
        battery_wh=battery_wh,
    )
    told = Console(stderr=True)
    try:
        # Lines, not a spinner: its thread would be metered too.
        result = measure_card(model_dir, options, metering, told.print)
    finally:
        metering.meter.close()
    found = document(result, provenance(result.meter.source))
    _write(out / CARD_FILE, as_json(found) + "\n")
    _write(out / PAGE_FILE, as_html(found))
    _write(out / MARKDOWN_FILE, as_markdown(found))
    if json:
        print(as_json(found))  # noqa: T201 - the command's own output
        return
    output = Console()
    print_card(result, output)
    written = ", ".join(str(out / name) for name in FILES)
    output.print(written, soft_wrap=True, highlight=False)


def _provider(asked: str) -> Provider:
    for name in PROVIDERS:
        if asked == name:
            return name
    raise UsageError(f"--provider = {asked!r}: allowed: {', '.join(PROVIDERS)}")


def _metering(provider: Provider, spec: str) -> Metering:
    """The meter of what computes: a card's joules are not a CPU's. Raises UsageError."""
    if provider == CPU and spec == "auto":
        spec = "rapl" if _rapl_is_readable() else "modelled"
    if provider != CPU and spec == "auto":
        spec = "nvml"
    device = find_device(provider, spec)
    if device.card is not None:
        device.card.close()
    if provider == CPU and device.meter.source not in _CPU_SOURCES:
        allowed = ", ".join(_CPU_SOURCES)
        raise UsageError(f"--meter = {spec!r}: not what --provider cpu draws in this run; allowed: {allowed}")
    note = Meter(source=device.meter.source, parameters=device.meter.parameters, note=device.meter.notes)
    return Metering(open_meter(spec), note, device.name)


def _rapl_is_readable() -> bool:
    try:
        found = open_meter("rapl")
    except MeterUnavailable:
        return False
    found.close()
    return found.opening_j is not None


def _make(out: Path) -> None:
    """Before the measurement, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out = {str(out)!r}: can't be made ({error.strerror})") from error


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror})") from error
