"""`minwatt model mask`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from minwatt.resources import default_model_dir
from minwatt.v1.errors import UsageError
from modelkit.commands.options import extra

if TYPE_CHECKING:
    from modelkit.mask.run import FileReport, Job, MaskReport

STREAM = "-"
NONE = "none"
DEFAULT_FIELDS = ("text",)
_FILES_HELP = f"Files, {STREAM} for standard input. One alone, without --out, goes to standard output."
_FORMAT_HELP = "jsonl, csv or conll. Default: the file's suffix; jsonl for standard input."
_ENTITIES_HELP = f"Entity types that are masked, e.g. PER,LOC,ORG; {NONE}: no model, no names."
_FIELD_HELP = "Field or column that holds text; repeat for more. Default: text."
_MODEL_HELP = "Model directory that finds names. Default: the shipped model."
_PSEUDONYMS_HELP = "none: [PERSON]; text: [PERSON_1], numbered in each text; run: alike in all files."
_KEEP_HELP = "A kind that stays as it is, e.g. URL; repeat for more."
_REGION_HELP = "Country whose phone numbers are found without +; repeat for more. Default: US, GB."
_SCORE_HELP = "Probability from which on a word is a name; less finds more."


def mask(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=_FILES_HELP)],
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the masked files.")] = None,
    form: Annotated[str | None, typer.Option("--format", help=_FORMAT_HELP)] = None,
    field: Annotated[
        list[str] | None, typer.Option(help="Field of text, repeat for more. Default: text.")
    ] = None,
    entities: Annotated[str, typer.Option(help=_ENTITIES_HELP)] = "PER",
    model: Annotated[
        Path | None, typer.Option(help="Model that finds names. Default: the shipped one.")
    ] = None,
    min_score: Annotated[float, typer.Option(min=0.001, max=1, help=_SCORE_HELP)] = 0.5,
    region: Annotated[list[str] | None, typer.Option(metavar="CC", help=_REGION_HELP)] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="KIND", help=_KEEP_HELP)] = None,
    pseudonyms: Annotated[str, typer.Option(help=_PSEUDONYMS_HELP)] = NONE,
    report: Annotated[Path | None, typer.Option(help="File for the counts, as JSON.")] = None,
) -> None:
    """Mask personal data in training data and captured texts: names, addresses, numbers.

    It finds much and not all: see docs/mask.md before relying on it.

    Example: minwatt model mask train.jsonl dev.jsonl test.jsonl --out masked
    """
    with extra("mask"):
        from modelkit.mask.masking import PSEUDONYMS, Masker, MaskOptions, check_kinds
        from modelkit.mask.names import NameFinder
        from modelkit.mask.phones import check_regions
        from modelkit.mask.run import Job, MaskReport
    regions = tuple(region or MaskOptions().regions)
    check_regions(regions)
    mode = next((one for one in PSEUDONYMS if one == pseudonyms), None)
    if mode is None:
        raise UsageError(f"--pseudonyms = {pseudonyms!r}: allowed: {', '.join(PSEUDONYMS)}")
    labels = () if entities == NONE else tuple(entities.split(","))
    if model is not None and not labels:
        raise UsageError(f"--model: goes without --entities {NONE}; give one of the two")
    options = MaskOptions(labels, regions, tuple(keep or ()), mode)
    check_kinds(options)
    names = NameFinder(model or default_model_dir(), labels, min_score) if labels else None
    told = Console(stderr=True)
    with told.status("masking") as status:
        job = Job(
            Masker(options), names, tuple(field or DEFAULT_FIELDS), lambda line: status.update(escape(line))
        )
        done = _run(job, files, out, form)
    result = MaskReport(
        model=names.described if names else None,
        min_score=min_score if names else None,
        entities=labels,
        regions=options.regions,
        kept=options.keep,
        pseudonyms=mode,
        files=done,
    )
    _tell(result, told)
    if report is not None:
        _write(report, result.model_dump_json(indent=2) + "\n")


def _run(job: Job, files: list[str], out: Path | None, form: str | None) -> tuple[FileReport, ...]:
    from modelkit.mask.run import checked_targets

    forms = [_format(file, form, job) for file in files]
    if out is not None:
        if STREAM in files:
            raise UsageError(f"{STREAM}: standard input goes to standard output, alone and without --out")
        targets = checked_targets([Path(file) for file in files], out)
        return tuple(job.file(file, to, one) for (file, to), one in zip(targets.items(), forms, strict=True))
    if len(files) != 1:
        raise UsageError(f"--out: not given, for {len(files)} files; one file goes to standard output")
    sink = sys.stdout.buffer
    if files[0] == STREAM:
        return (job.stream(sys.stdin.buffer, sink, "stdin", forms[0]),)
    return (job.printed(Path(files[0]), sink, forms[0]),)


def _format(file: str, stated: str | None, job: Job) -> str:
    from modelkit.mask.run import format_of

    form = format_of(Path(file), stated or ("jsonl" if file == STREAM else None))
    if form == "conll" and tuple(job.fields) != DEFAULT_FIELDS:
        raise UsageError(f"--field: {file} has no fields; it is for jsonl and csv")
    return form


def _tell(result: MaskReport, console: Console) -> None:
    """Counts of each file; on standard error, as the texts may be on standard output."""
    for file in result.files:
        counts = ", ".join(f"{kind} {count:,}" for kind, count in file.found.items()) or "nothing found"
        line = f"{file.file}: {file.changed:,} of {file.texts:,} texts masked: {counts}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        if file.fields_left:
            line = f"{file.file}: fields of text left as they are: {', '.join(file.fields_left)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True, style="yellow")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: can't be written ({error.strerror})") from error
