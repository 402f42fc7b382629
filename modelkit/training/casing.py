"""Gives a vocabulary of small letters its capitals: `Paris` and `PARIS` become tokens beside `paris`.

Capitals tell names from other words, and a BERT that reads small letters only does not see them. The new
tokens take no place in its table of words: each is looked up as the small-letter piece that it is a form of,
and the form goes where BERT has the number of a segment, which nothing else uses here. A text has as many
tokens as before, but for words with capitals in their midst.

Owns the rewriting of the tokenizer and how its tokens are read. Pure. Called by `base` and `network`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tokenizers import Tokenizer

from minwatt.v1.errors import UsageError

SMALL, CAPITAL, CAPITALS = 0, 1, 2  # forms: all small, the first letter large, all large
FORMS = 3
CONTINUING = "##"


def cased(document: str, base: str) -> str:
    """A tokenizer's JSON with the capital forms of every piece behind its other tokens; as it is where it has
    them, or tells capitals by itself.

    Raises UsageError where it is not of BERT's kind.
    """
    tokenizer = json.loads(document)
    normalizer, model = tokenizer["normalizer"] or {}, tokenizer["model"]
    if normalizer.get("type") != "BertNormalizer" or model["type"] != "WordPiece":
        raise UsageError(f"cased: base = {base!r} has another kind of tokenizer; allowed: BERT's WordPiece")
    if not normalizer["lowercase"]:
        return document
    if normalizer["strip_accents"] is None:
        normalizer["strip_accents"] = True  # what small letters bring with them
    normalizer["lowercase"] = False
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    vocabulary: dict[str, int] = model["vocab"] | special
    forms: dict[str, int] = dict(vocabulary)
    for form in (CAPITAL, CAPITALS):
        for token in vocabulary:
            if token not in special:
                forms.setdefault(_in(form, token), len(forms))
    model["vocab"] = forms
    return json.dumps(tokenizer, ensure_ascii=False, indent=2)


def readings(tokenizer: Tokenizer, words: int) -> tuple[list[int], list[int]] | None:
    """Of every token its row in a table of `words` words, and its form; None where all have rows."""
    vocabulary: Mapping[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    if len(vocabulary) <= words:
        return None
    rows, forms = list(range(words)), [SMALL] * words
    for token, number in sorted(vocabulary.items(), key=lambda item: item[1]):
        if number >= words:
            small = token.lower()
            rows.append(vocabulary[small])
            forms.append(CAPITAL if token == _in(CAPITAL, small) else CAPITALS)
    return rows, forms


def _in(form: int, token: str) -> str:
    """A small-letter piece in that form; itself where it has none of as many letters."""
    mark = CONTINUING if token.startswith(CONTINUING) and len(token) > len(CONTINUING) else ""
    piece = token[len(mark) :]
    changed = piece[0].upper() + piece[1:] if form == CAPITAL else piece.upper()
    return mark + changed if len(changed) == len(piece) and changed.lower() == piece else token
