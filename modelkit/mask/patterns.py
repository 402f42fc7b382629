"""Finds personal data by its form: addresses, links, and numbers whose check digits are right.

Owns the forms; `python-stdnum` checks the digits (the only file that it enters through). Where a form has no
check (e-mail, links, long numbers) the pattern is a generous one: what is masked in vain costs less than
what is not masked. Time is linear in the text: patterns are anchored or bounded. Leaves phone numbers to
`phones`, names to `names`. Called by `masking`.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from stdnum import iban, luhn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.dk import cpr
from stdnum.es import nie, nif
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.ie import pps
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn

from modelkit.mask.findings import Finding

Check = Callable[[str], Any]

LONG_NUMBER = 8  # digits in a row
_LOCAL_LIMIT, _DOMAIN_LIMIT = 128, 255  # code points left and right of an @
_LOCAL = re.compile(r"[\w!#$%&'*+/=?^`{|}~.-]*")
_DOMAIN = re.compile(r"\w(?:[\w.-]*\w)?|\[[0-9A-Fa-f:.]+\]")
_LINK = re.compile(r"(?<![^\W_])(?<!@)(?:[a-z][a-z0-9+.-]{0,15}://|www\.)[^\s<>\"]+", re.IGNORECASE)
# A domain without a scheme is a link where a path follows: "thanks.it works" is not one.
_BARE_LINK = re.compile(
    r"(?<![\w.@/-])(?:[^\W_][\w-]{0,62}\.){1,8}[^\W\d_]{2,24}(?::[0-9]{1,5})?[/?][^\s<>\"]+"
)
_LINK_TAIL = ".,;:!?'*}\u2019\u201d\u00bb"  # of the sentence, not of the link
_IPV4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![\w]|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f.]{0,4}:)[0-9A-Fa-f:.]{2,45}(?![\w:])")
_IBAN = re.compile(r"(?<![^\W_])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_IBAN_LENGTHS = range(34, 14, -1)
_GROUPS = re.compile(r"[0-9]+")
_SEPARATORS = frozenset(" -.")
# What pages and phones write for a space, a hyphen or a digit, one for one: places stay.
_PLAIN = str.maketrans(
    "\u00a0\u2007\u2009\u202f\u2010\u2011\u2012\u2013\u2212",
    "    -----",
)
_OTHER_DIGIT = re.compile(r"[^\D0-9]")
_CARD_DIGITS = range(12, 20)
_LONG = re.compile(rf"(?<![0-9][.,])(?<!\d)\d{{{LONG_NUMBER},}}")  # not a fraction
_LONG_IN_GROUPS = re.compile(r"(?<!\d)\d{3,}(?:[ -]\d{3,}){2,}(?!\d)")
_LONG_IN_GROUPS_DIGITS = 12

# National numbers of persons: how they are written, and who checks them. LONG_NUMBER digits in a row are a
# NUMBER without this table.
_NATIONAL: tuple[tuple[str, Check], ...] = (
    (r"[0-9]{3}-[0-9]{2}-[0-9]{4}", ssn.is_valid),
    (r"[0-9]{3}[ -][0-9]{3}[ -][0-9]{4}", nhs.is_valid),
    (r"[0-9]{3}[ -][0-9]{3}[ -][0-9]{3}", sin.is_valid),
    (r"[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}", aadhaar.is_valid),
    (r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}", cpf.is_valid),
    (r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}", nn.is_valid),
    (r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}", ahv.is_valid),
    (r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", personnummer.is_valid),
    (r"[0-9]{6}-[0-9]{4}", cpr.is_valid),
    (r"[0-9]{6}[-+A-FU-Y][0-9]{3}[0-9A-Y]", hetu.is_valid),
    (r"[0-9]{6}-[0-9]{7}", rrn.is_valid),
    (r"[0-9]{17}[0-9Xx]", ric.is_valid),
    (r"[0-9]{11}", pesel.is_valid),
    (r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}", nir.is_valid),
    (r"[0-9]{8}[ -]?[A-Za-z]", nif.is_valid),
    (r"[XYZxyz][ -]?[0-9]{7}[ -]?[A-Za-z]", nie.is_valid),
    (r"[0-9]{7}[A-Wa-w][A-IWa-iw]?", pps.is_valid),
    (r"[A-Za-z]{5}[0-9]{4}[A-Za-z]", pan.is_valid),
    (
        r"[A-Za-z]{6}[0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{3}[A-Za-z]",
        codicefiscale.is_valid,
    ),
    (r"[A-Za-z]{4}[0-9]{6}[HMXhmx][A-Za-z]{5}[0-9A-Za-z][0-9]", curp.is_valid),
    # A British national insurance number has no check digit.
    (r"[A-CEGHJ-PR-TW-Za-ceghj-pr-tw-z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]", lambda _: True),
)
_NATIONAL_FORMS = tuple(
    (re.compile(rf"(?<![^\W_])(?=({form})(?![^\W_]))"), check) for form, check in _NATIONAL
)


def find_patterns(text: str) -> Iterator[Finding]:
    """All that is found, in any order; findings may overlap."""
    if "@" in text:
        yield from _emails(text)
    if "/" in text or "." in text or "?" in text:
        yield from _links(text)
    if any(character.isdigit() for character in text):
        plain = _plain(text)
        yield from _ips(plain)
        yield from _ibans(plain)
        yield from _cards(plain)
        yield from _nationals(plain)
        yield from _long_numbers(plain)
    elif "::" in text:
        yield from _ips(text)


def _plain(text: str) -> str:
    if text.isascii():
        return text
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit.group())), text.translate(_PLAIN))


def _emails(text: str) -> Iterator[Finding]:
    """Both ways from each @: a pattern that begins to its left looks at long words again and again."""
    for at in re.finditer("@", text):
        before = text[max(0, at.start() - _LOCAL_LIMIT) : at.start()][::-1]
        after = text[at.end() : at.end() + _DOMAIN_LIMIT]
        local, domain = _LOCAL.match(before), _DOMAIN.match(after)
        name = local.group()[::-1].lstrip(".'`-/*") if local else ""
        if not name or not domain:
            continue
        # "2@3" is a price; one letter somewhere makes it an address.
        if any(character.isalpha() for character in name + domain.group()):
            yield Finding(at.start() - len(name), at.end() + domain.end(), "EMAIL")


def _links(text: str) -> Iterator[Finding]:
    for pattern in (_LINK, _BARE_LINK):
        for match in pattern.finditer(text):
            link = match.group().rstrip(_LINK_TAIL)
            for opening, closing in ("()", "[]"):  # of the sentence where the link has not opened them
                surplus = max(0, link.count(closing) - link.count(opening))
                link = link[: max(len(link.rstrip(closing)), len(link) - surplus)]
            link = link.rstrip(_LINK_TAIL)
            yield Finding(match.start(), match.start() + len(link), "URL")


def _ips(text: str) -> Iterator[Finding]:
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            address = match.group().rstrip(".")
            if address.endswith(":") and not address.endswith("::"):
                address = address[:-1]
            try:
                ipaddress.ip_address(address)
            except ValueError:
                continue
            if address != "::":
                yield Finding(match.start(), match.start() + len(address), "IP")


def _ibans(text: str) -> Iterator[Finding]:
    """The words that follow an IBAN look like more of it: the longest start that is valid counts."""
    at = 0
    while match := _IBAN.search(text, at):
        start, at = match.start(), match.start() + 1
        ends = [end for end in range(start + 1, match.end() + 1) if text[end - 1].isalnum()]
        for end in (ends[length - 1] for length in _IBAN_LENGTHS if length <= len(ends)):
            if not text[end : end + 1].isalnum() and iban.is_valid(text[start:end]):
                yield Finding(start, end, "IBAN")
                at = end
                break


def _cards(text: str) -> Iterator[Finding]:
    """Groups of digits, one character apart, that come to as many as a card has and pass Luhn's check."""
    groups = [match.span() for match in _GROUPS.finditer(text)]
    for first, (start, last) in enumerate(groups):
        digits = ""
        for begin, end in groups[first : first + _CARD_DIGITS[-1]]:
            if digits and not (begin - last == 1 and text[last] in _SEPARATORS):
                break
            digits, last = digits + text[begin:end], end
            if len(digits) in _CARD_DIGITS and digits[0] != "0" and luhn.is_valid(digits):
                yield Finding(start, end, "CARD")


def _nationals(text: str) -> Iterator[Finding]:
    for pattern, is_valid in _NATIONAL_FORMS:
        for match in pattern.finditer(text):
            if is_valid(match.group(1)):
                yield Finding(*match.span(1), "ID")


def _long_numbers(text: str) -> Iterator[Finding]:
    for match in _LONG.finditer(text):
        yield Finding(*match.span(), "NUMBER")
    for match in _LONG_IN_GROUPS.finditer(text):
        if sum(character.isdigit() for character in match.group()) >= _LONG_IN_GROUPS_DIGITS:
            yield Finding(*match.span(), "NUMBER")
