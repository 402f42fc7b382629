"""Two ends of a channel on one loop: all arrives in order, and each learns of the end of the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import Mock, patch

import pytest

from service.fronts import channel
from service.fronts.channel import Channel, Ends, Side, new_channel
from service.fronts.ring import SMALLEST_BYTES


class End:
    """Keeps what comes."""

    def __init__(self, ends: Ends, side: Side) -> None:
        self.records: list[bytes] = []
        self.messages: list[bytes] = []
        self.lost = asyncio.Event()
        self.channel = Channel(ends, side, self.records.append, self.messages.append, self.lost.set)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[End, End]]:
    with patch.object(channel, "RING_BYTES", SMALLEST_BYTES), new_channel() as both:
        copies = [Ends(*map(os.dup, ends.all())) for ends in both]
        engine, front = End(copies[0], Side.ENGINE), End(copies[1], Side.FRONT)
    yield engine, front
    engine.channel.close()
    front.channel.close()


async def until_there(found: list[bytes], count: int) -> None:
    async with asyncio.timeout(30):
        while len(found) < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def test_more_than_a_ring_holds_arrives_in_order(pair: tuple[End, End]) -> None:
    engine, front = pair
    sent = [number.to_bytes(4) * (1 + number % 60) for number in range(500)]
    for record in sent:
        front.channel.send(record)
        engine.channel.send(record)
    await until_there(engine.records, 500)
    await until_there(front.records, 500)
    assert engine.records == front.records == sent


async def test_what_is_offered_is_taken_or_refused(pair: tuple[End, End]) -> None:
    engine, front = pair
    taken = [number.to_bytes(4) for number in range(500) if front.channel.offer(number.to_bytes(4))]
    assert 0 < len(taken) < 500
    await until_there(engine.records, len(taken))
    assert engine.records == taken
    assert front.channel.offer(b"there is room again")


async def test_messages_of_any_size(pair: tuple[End, End]) -> None:
    engine, front = pair
    sent = [bytes(size) for size in (0, 1, 5_000_000, 70_000)]
    for message in sent:
        engine.channel.send_message(message[:10], message[10:])
    await until_there(front.messages, len(sent))
    assert front.messages == sent


async def test_the_end_of_one_is_told_to_the_other_behind_what_it_said(pair: tuple[End, End]) -> None:
    engine, front = pair
    engine.channel.send(b"last words")
    engine.channel.close()
    await asyncio.wait_for(front.lost.wait(), 30)
    assert front.records == [b"last words"]
    assert engine.lost.is_set()
    front.channel.send(b"to nobody")
    assert not front.channel.offer(b"to nobody")
    front.channel.send_message(b"to nobody")


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError])
async def test_who_writes_no_records_is_left(pair: tuple[End, End], error: type[Exception]) -> None:
    engine, front = pair
    with patch.object(engine.channel, "_on_record", Mock(side_effect=error)):
        front.channel.send(b"?")
        await asyncio.wait_for(engine.lost.wait(), 30)
    await asyncio.wait_for(front.lost.wait(), 30)


async def test_whose_last_words_are_none_is_left(pair: tuple[End, End]) -> None:
    engine, front = pair
    with patch.object(engine.channel, "_on_record", Mock(side_effect=KeyError)):
        front.channel.send(b"?")
        front.channel.close()
        await asyncio.wait_for(engine.lost.wait(), 30)


async def test_who_sends_no_messages_is_left(pair: tuple[End, End]) -> None:
    engine, front = pair
    refused = Mock(side_effect=RuntimeError)
    with patch.object(engine.channel, "_on_message", refused):
        front.channel.send_message(b"?")
        front.channel.send_message(b"not heard any more")
        await asyncio.wait_for(engine.lost.wait(), 30)
    refused.assert_called_once_with(b"?")
    await asyncio.wait_for(front.lost.wait(), 30)


def shared_memory_bytes() -> int:
    """Of this process, as far as it is resident."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "RssShmem" in line)
    return 1024 * int(line.split()[1])


async def test_a_channel_takes_its_memory_when_it_is_made() -> None:
    before = shared_memory_bytes()
    with new_channel() as both:
        one = End(Ends(*map(os.dup, both[0].all())), Side.ENGINE)
    assert shared_memory_bytes() - before >= 2 * channel.RING_BYTES
    one.channel.close()
