"""`minwatt serve`: the server, given what it may not import: the masking of captured texts."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from minwatt.resources import default_model_dir
from service import cli
from service.settings import ServeSettings

if TYPE_CHECKING:
    from service.capture.writer import Mask


@functools.wraps(cli.serve)
def serve(**flags: Any) -> None:  # its options and its help are those of `service.cli`
    cli.start(ServeSettings.of_flags(**flags), masking)


def masking() -> Mask:
    """As `minwatt model mask` does by itself: what has a form, and the names that the shipped model finds.

    Raises UsageError where the extra `mask` is not installed.
    """
    from modelkit.commands.options import extra

    with extra("mask"):
        from modelkit.mask.masking import Masker, MaskOptions, replaced
        from modelkit.mask.names import NameFinder
        from modelkit.mask.phones import check_regions
    options = MaskOptions()
    check_regions(options.regions)
    masker, names = Masker(options), NameFinder(default_model_dir(), options.labels, min_score=0.5)

    def masked(text: str) -> str:
        (found,) = names.find([text])
        pieces = masker.pieces(text, masker.find(text, found), lambda _: ())
        return replaced(text, pieces)

    return masked
