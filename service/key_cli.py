"""`minwatt key`: makes API keys. Stores nothing."""

from __future__ import annotations

import typer

from service.keys import new_key

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="API keys for the tenants of a server.\n\nExample: minwatt key new",
)


@app.callback()
def _group() -> None:
    """With it typer keeps `new` a subcommand of its own."""


@app.command()
def new() -> None:
    """Prints a new key, and what the server stores of it.

    Example: minwatt key new
    """
    key, stored = new_key()
    lines = (
        "key, shown this once; its client sends it as `authorization: Bearer KEY` or `x-api-key: KEY`:",
        f"  {key}",
        "entry for `keys` of its tenant in the file of `minwatt serve --tenants FILE`:",
        f'  - {{id: "{stored.id}", sha256: "{stored.sha256.hex()}"}}',
    )
    print(*lines, sep="\n")  # noqa: T201 - the command's output
