"""What has a form is found, what only looks like it is not, and after masking nothing is left to be found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.mask.findings import PATTERN_KINDS, Finding, placeholder_pattern
from modelkit.mask.masking import PSEUDONYMS, Masker, MaskOptions, replaced

PLAIN = Masker(MaskOptions())
FOUND = (
    ("EMAIL", "alice.smith+tag@mail.example.co.uk"),
    ("EMAIL", "o'brien@example.com"),
    ("EMAIL", "ünïcode@bücher.example"),
    ("EMAIL", "用户@例子.广告"),
    ("EMAIL", "carol@intranet"),
    ("EMAIL", "root@[192.168.0.1]"),
    ("URL", "https://shop.example/reset?token=eyJhbGciOi.J9&u=1"),
    ("URL", "http://bob:secret@10.0.0.1:8080/a_(b)"),
    ("URL", "www.example.org/~alice"),
    ("URL", "t.example.com/r/9f8e7d6c"),
    ("PHONE", "+44 20 7946 0958"),
    ("PHONE", "+49 (0)30 901820"),
    ("PHONE", "+33 1 70 18 99 00"),
    ("PHONE", "+91 98765 43210"),
    ("PHONE", "+86 138 0013 8000"),
    ("PHONE", "+55 11 91234-5678"),
    ("PHONE", "(415) 555-2671"),
    ("PHONE", "020 7946 0958"),
    ("IBAN", "GB29 NWBK 6016 1331 9268 19"),
    ("IBAN", "de89370400440532013000"),
    ("IBAN", "FR14 2004 1010 0505 0001 3M02 606"),
    ("CARD", "4111 1111 1111 1111"),
    ("CARD", "5500-0000-0000-0004"),
    ("CARD", "340000000000009"),
    ("IP", "192.168.0.1"),
    ("IP", "2001:db8::8a2e:370:7334"),
    ("ID", "536-90-4399"),
    ("ID", "943 476 5919"),
    ("ID", "2341 2341 2346"),
    ("ID", "390.533.447-05"),
    ("ID", "756.9217.0769.85"),
    ("ID", "2 95 10 99 126 111 93"),
    ("ID", "880320-0016"),
    ("ID", "131052-308T"),
    ("ID", "54362315K"),
    ("ID", "X-2482300W"),
    ("ID", "ACUPA7085R"),
    ("ID", "RCCMNL83S18D969H"),
    ("ID", "AB 12 34 56 C"),
    ("IBAN", "DE89\u00a03704\u00a00044\u00a00532\u00a00130\u00a000"),
    ("IBAN", "GB29\u202fNWBK\u202f6016\u202f1331\u202f9268\u202f19"),
    ("ID", "536\u201190\u20114399"),
    ("ID", "943\u00a0476\u00a05919"),
    ("CARD", "\uff14111 1111 1111 1111"),
    ("NUMBER", "12345678"),
    ("NUMBER", "4111 1111 1111 1112"),
)
# Amounts, dates, times, versions, sizes, words: a text of a bank is full of them.
NOT_FOUND = (
    "24 hours, 7-10 days, 50%, 3/4, 20:30, 10:30:45",
    "$1,234,567.89, £10,000, 1 000 000 EUR, 200.50",
    "3.14159265358, 0.00012345, 1e10",
    "2018-11-22 20:44:01, 12/05/2018, 22.11.2018, 2018-2019",
    "version 1.2.3, PIN 1234, order 123456, room 101-102",
    "thanks.it works, and/or, e.g./i.e., 5@10, meet @ 5",
    "sort code 20-40-60, iPhone 12, A4, 3rd, GB 12",
)
AROUND = st.sampled_from(
    ("{}", "call {}.", "({})", "“{}”", "it is {}, please", "{}\nthanks", "a: {}; b", "<{}>")
)


def kinds(text: str) -> dict[str, str]:
    return {text[one.start : one.end]: one.kind for one in PLAIN.find(text)}


@pytest.mark.parametrize(("kind", "value"), FOUND)
@given(around=AROUND)
def test_a_form_is_found_whole_and_alone(kind: str, value: str, around: str) -> None:
    assert kinds(around.format(value)) == {value: kind}


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert kinds(text) == {}


def test_what_stands_beside_one_another_is_all_found() -> None:
    text = " ".join(value for _, value in FOUND if not value[0].isdigit())
    masked = replaced(text, PLAIN.pieces(text, PLAIN.find(text), lambda _: ()))
    assert not any(value in masked for _, value in FOUND)


PARTS = st.one_of(
    st.text(max_size=8),
    st.text("0123456789 -.+@:/[]()", max_size=12),
    st.sampled_from([value for _, value in FOUND]),
    st.sampled_from(
        ["[EMAIL]", "[PHONE_2]", "[CARD", "_1]", "[[", "http://", "www.", "\ufeff", "\u2028", "é", "٣"]
    ),
)
TEXTS = st.lists(PARTS, max_size=8).map("".join)


@given(
    TEXTS,
    st.sampled_from(PSEUDONYMS),
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=3),
)
def test_nothing_that_is_found_is_left(text: str, mode: str, places: list[tuple[int, int]]) -> None:
    masker = Masker(MaskOptions(pseudonyms=mode))  # type: ignore[arg-type]
    names = [Finding(a, min(a + n, len(text)), "PERSON") for a, n in places if a < len(text)]
    findings = masker.find(text, names)
    pieces = masker.pieces(text, findings, lambda _: ())
    masked = replaced(text, pieces)
    assert masker.find(masked) == []
    # Findings are apart, and hold every name but for its placeholders and spaces.
    ends = [0, *(one.end for one in findings)]
    assert all(end <= one.start for end, one in zip(ends, findings, strict=False))
    covered = {at for one in findings for at in range(one.start, one.end)}
    for match in placeholder_pattern(masker.options.kinds).finditer(text):
        covered.update(range(*match.span()))
    assert all(at in covered or text[at].isspace() for one in names for at in range(one.start, one.end))


@given(st.text())
def test_a_text_of_any_characters_is_searched(text: str) -> None:
    assert all(0 <= one.start < one.end <= len(text) for one in PLAIN.find(text))


def test_the_same_value_has_the_same_pseudonym() -> None:
    text = "a@x.de, +44 20 7946 0958, b@x.de, A@X.DE, +44 2079460958"
    by_text = Masker(MaskOptions(pseudonyms="text"))
    masked = replaced(text, by_text.pieces(text, by_text.find(text), lambda _: ()))
    assert masked == "[EMAIL_1], [PHONE_1], [EMAIL_2], [EMAIL_1], [PHONE_1]"
    more = f"{masked} c@x.de"
    assert replaced(more, by_text.pieces(more, by_text.find(more), lambda _: ())) == f"{masked} [EMAIL_3]"


def test_a_runs_pseudonyms_are_alike_in_it_and_unlike_in_another() -> None:
    runs = [Masker(MaskOptions(pseudonyms="run")) for _ in range(2)]
    first, again, other = (
        masker.pieces(text, masker.find(text), lambda _: ())[0].placeholder
        for masker, text in ((runs[0], "a@x.de"), (runs[0], "to A@x.de!"), (runs[1], "a@x.de"))
    )
    assert first == again != other


@pytest.mark.parametrize("kind", PATTERN_KINDS)
def test_a_kept_kind_stays(kind: str) -> None:
    masker = Masker(MaskOptions(keep=(kind,)))
    assert not any(one.kind == kind for _, value in FOUND for one in masker.find(value))
