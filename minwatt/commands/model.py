"""The `minwatt model` commands: those of `modelkit.cli`, and the three that other components have a hand in.

The energy card's page looks as `loadtest`'s does, and a grid's intensity is read as `scaler`'s backtest reads
it; `modelkit` may import neither. A build ends with the card. Called by the `minwatt` command.
"""

from __future__ import annotations

from minwatt.commands.model_build import build_model
from minwatt.commands.model_card import card
from minwatt.commands.model_choose import choose
from modelkit.cli import app

app.command("build")(build_model)
app.command("card")(card)
app.command("choose")(choose)

__all__ = ["app"]
