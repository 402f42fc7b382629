"""Finds phone numbers: those with a country code, and those of the regions that are named.

The only file that `phonenumbers` (Google's libphonenumber) enters through. Called by `masking`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from phonenumbers import SUPPORTED_REGIONS, Leniency, PhoneNumberMatcher

from minwatt.v1.errors import UsageError
from modelkit.mask.findings import Finding

_CLOSING = {"(": ")", "\uff08": "\uff09"}
_FRACTION = re.compile(r"\d[.,]$")  # of what is no phone number, as 14159265358 is one in 3.14159265358
_FEWEST_DIGITS = 7  # some regions have valid numbers of two digits


def check_regions(regions: Sequence[str]) -> None:
    """Raises UsageError on a region that has no phone numbers."""
    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise UsageError(
                f"--region = {region!r}: allowed: two capital letters of a country, such as US, GB"
            )


def find_phones(text: str, regions: Sequence[str]) -> Iterator[Finding]:
    """+CODE numbers that are long enough anywhere, and numbers that are in use in one of `regions`."""
    if sum(character.isdigit() for character in text) < _FEWEST_DIGITS:
        return
    searches = [(None, Leniency.POSSIBLE), *((region, Leniency.VALID) for region in regions)]
    for region, leniency in searches:
        for match in PhoneNumberMatcher(text, region, leniency=leniency):
            written = match.raw_string
            if _FRACTION.search(text, max(0, match.start - 2), match.start):
                continue
            if sum(character.isdigit() for character in written) >= _FEWEST_DIGITS:
                # "(+44 20 7946 0958)": the bracket is the sentence's.
                opened = written[0] in "(\uff08" and written.count(written[0]) > written.count(
                    _CLOSING[written[0]]
                )
                yield Finding(match.start + opened, match.end, "PHONE")
