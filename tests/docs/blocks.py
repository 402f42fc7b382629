"""The fenced blocks of README and docs/, and the commands that stand in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))  # docs/reference/ is generated
_FENCE = re.compile(r"^```[ ]*(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROGRAMS = ("minwatt", "make", "python", "python3", "kubectl", "docker", "torchrun", "accelerate")
_OPERATORS = {"|", ">", "<", ";", "&&"}


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    line: int
    language: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Of a block without a language: the words of each line that calls a program, with its comment gone.

        In a block with a prompt the lines without one are what was printed.
        """
        if self.language not in {"", "console", "sh"}:
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [words for line in lines if _calls(words := _words(line))]


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in _FENCE.finditer(text):
            line = text[: found.start()].count("\n") + 1
            yield Block(page, line, found[1], found[2])


def _calls(words: list[str]) -> bool:
    """`minwatt model: …` is what a command said."""
    return len(words) > 1 and words[0] in _PROGRAMS and not any(word.endswith(":") for word in words)


def _words(line: str) -> list[str]:
    try:
        lexer = shlex.shlex(line.strip(), posix=True, punctuation_chars="|;<>&")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:
        return []  # an unfinished quote: something that was printed
    ends = [place for place, word in enumerate(words) if word in _OPERATORS]
    return words[: ends[0]] if ends else words
