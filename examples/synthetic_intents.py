"""Writes a made-up classification set: 150 intents, 15 actions on each of 10 things, 100 texts of each.

    python examples/synthetic_intents.py DIR [--texts 15000] [--seed 1]

DIR/train.jsonl, dev.jsonl and test.jsonl hold 80%, 10% and 10% of each intent's texts; no text stands twice.
The wording of action and thing varies, every fifth text has a slip of the keyboard. It stands in for own
texts in docs/finetune.md: what a model scores on it says nothing of any other.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

ACTIONS = {
    "order": ("order", "buy", "purchase", "get myself"),
    "cancel": ("cancel", "call off", "stop", "withdraw from"),
    "return": ("send back", "return", "give back", "hand back"),
    "repair": ("repair", "fix", "mend", "get working again"),
    "track": ("track", "find out where it is with", "follow the delivery of", "locate"),
    "insure": ("insure", "take out cover for", "get insurance on", "protect against damage"),
    "upgrade": (
        "upgrade",
        "move to a better version of",
        "swap for a newer model",
        "get the premium kind of",
    ),
    "clean": ("clean", "wash", "get the stains off", "polish"),
    "sell": ("sell", "find a buyer for", "trade in", "auction"),
    "rent": ("rent", "hire", "lease", "borrow for a fee"),
    "register": ("register", "sign up", "put my name on", "enrol"),
    "compare": (
        "compare prices for",
        "see alternatives to",
        "weigh up offers for",
        "look at other makers of",
    ),
    "rate": ("review", "rate", "leave feedback on", "write what I think of"),
    "store": ("store", "put into storage", "keep somewhere safe", "leave in a depot"),
    "gift": ("give as a present", "gift", "wrap for a birthday", "send to a friend"),
}
THINGS = {
    "phone": ("phone", "mobile", "handset"),
    "car": ("car", "vehicle", "automobile"),
    "sofa": ("sofa", "couch", "settee"),
    "ticket": ("concert ticket", "seat at the show", "theatre pass"),
    "course": ("language course", "evening class", "lessons"),
    "bike": ("bike", "bicycle", "two-wheeler"),
    "fridge": ("fridge", "refrigerator", "cooler"),
    "guitar": ("guitar", "acoustic guitar", "six-string"),
    "laptop": ("laptop", "notebook computer", "portable computer"),
    "tent": ("tent", "camping shelter", "canvas tent"),
}
OPENINGS = (
    "",
    "hello, ",
    "hi there, ",
    "please help, ",
    "quick question: ",
    "good morning, ",
    "ok so ",
    "sorry, ",
)
FRAMES = (
    "I want to {action}: my {thing}",
    "how do I {action} when it comes to the {thing}?",
    "my {thing}: can you {action} for me",
    "is it possible to {action}, I mean the {thing}",
    "what does it take to {action} if it is a {thing}",
    "about the {thing}, I need to {action}",
    "could somebody {action}, it is the {thing} I asked about",
    "we would like to {action}; it is a {thing}",
)
ENDINGS = ("", " today", " before Friday", ", thanks", " as soon as you can", " for my mother", " next month")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SHARES = {"train": 0.8, "dev": 0.1, "test": 0.1}


def text_of(action: str, thing: str, generator: random.Random) -> str:
    frame = generator.choice(FRAMES)
    text = frame.format(action=generator.choice(ACTIONS[action]), thing=generator.choice(THINGS[thing]))
    text = generator.choice(OPENINGS) + text + generator.choice(ENDINGS)
    if generator.random() < 0.2:
        at = generator.randrange(len(text))
        text = text[:at] + generator.choice(LETTERS) + text[at + 1 :]
    return text


def texts_of(texts: int, seed: int) -> dict[str, list[dict[str, str]]]:
    """Rows of each split, shuffled; as many of each intent."""
    generator = random.Random(seed)
    each = texts // (len(ACTIONS) * len(THINGS))
    splits: dict[str, list[dict[str, str]]] = {split: [] for split in SHARES}
    seen: set[str] = set()
    for action in ACTIONS:
        for thing in THINGS:
            rows: list[dict[str, str]] = []
            while len(rows) < each:
                text = text_of(action, thing, generator)
                if text not in seen:
                    seen.add(text)
                    rows.append({"text": text, "label": f"{action}_{thing}"})
            dev, test = (max(1, round(each * SHARES[split])) for split in ("dev", "test"))
            splits["dev"] += rows[:dev]
            splits["test"] += rows[dev : dev + test]
            splits["train"] += rows[dev + test :]
    for rows in splits.values():
        generator.shuffle(rows)
    return splits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=15_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for split, rows in texts_of(options.texts, options.seed).items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (options.folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
