"""Files that are whole up to their last line whenever their writer dies, and that keep to their room."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.capture_file import DONE, OPEN, Header, Row, line, parse
from minwatt.v1.errors import UsageError
from service.capture.rotation import Bounds
from service.capture.sampling import Sampling, Seen
from service.capture.writer import Writer

BOUNDS = Bounds(16 * 2000, 3600.0)


def seen(number: int, tenant: str = "acme", words: tuple[str, ...] | None = None) -> Seen:
    return Seen(float(number), "extract", tenant, 2, 31, 80, 0.5, True, "OK", 0.0123, words=words)


rows = st.builds(
    Row,
    at_s=st.floats(-100, 1e6),
    task=st.sampled_from(["classify", "extract"]),
    tenant=st.text(max_size=8),
    texts=st.integers(1, 9),
    tokens=st.none() | st.integers(0, 999),
    size_bytes=st.integers(0, 9999),
    deadline_s=st.floats(0, 1e4),
    priority=st.sampled_from(["interactive", "batch"]),
    outcome=st.sampled_from(["OK", "RESOURCE_EXHAUSTED"]),
    latency_s=st.floats(0, 10),
    model=st.sampled_from(["", "intents-fr"]),
    no_cache=st.booleans(),
    truncate=st.booleans(),
    masked=st.none() | st.lists(st.text(max_size=9), max_size=2).map(tuple),
)


@given(st.lists(rows, max_size=6), st.integers(0, 5000))
def test_a_file_that_was_cut_anywhere_gives_all_its_whole_rows(written: list[Row], cut: int) -> None:
    header = line(Header(started_unix_s=1.5, share=0.5, replica="r"))
    lines = [line(row) for row in written]
    data = (header + b"".join(lines))[: len(header) + cut]
    captured = parse(data, "f")
    whole, left = 0, len(data) - len(header)
    while whole < len(lines) and left >= len(lines[whole]):
        left -= len(lines[whole])
        whole += 1
    assert captured.rows == written[:whole]
    assert captured.cut == (left > 0)
    assert captured.header.share == 0.5


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no capture"),
        (b"t_s,count\n", "f:1: "),
        (line(Header(started_unix_s=0, share=1, replica="r")) + b'{"at_s": 1}\n', "f:2: task"),
    ],
)
def test_what_is_no_capture_is_one_line(data: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(data, "f")


def writer_of(folder: Path, sampling: Sampling, **more: object) -> Writer:
    return Writer(folder, "replica-1", BOUNDS, sampling, **more)  # type: ignore[arg-type]


def test_rows_are_there_before_the_file_is_ended_and_it_gets_its_name_at_the_end(tmp_path: Path) -> None:
    sampling = Sampling(1.0)
    writer = writer_of(tmp_path, sampling)
    for number in range(5):
        sampling.add(seen(number))
    writer.write()
    (path,) = tmp_path.iterdir()  # as it would be found were the process killed now
    assert path.name.endswith(OPEN)
    found = parse(path.read_bytes(), path.name)
    assert not found.cut
    assert [row.tokens for row in found.rows] == [31] * 5
    assert (path.stat().st_mode & 0o777) == 0o600
    writer.start()
    writer.close()
    (path,) = tmp_path.iterdir()
    assert path.name.endswith(DONE)


def test_the_folder_never_outgrows_its_room(tmp_path: Path) -> None:
    sampling = Sampling(1.0)
    writer = writer_of(tmp_path, sampling)
    for number in range(1500):
        sampling.add(seen(number))
        if number % 7 == 0:
            writer.write()
            assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= BOUNDS.total_bytes
    files = sorted(tmp_path.iterdir())
    assert len(files) > 5
    for path in files:  # each is whole by itself
        assert parse(path.read_bytes(), path.name).rows


def test_a_tenant_is_told_apart_in_a_file_and_not_between_files(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        sampling = Sampling(1.0)
        writer = writer_of(folder, sampling)
        for tenant in ("acme", "acme", "globex"):
            sampling.add(seen(1, tenant))
        writer.write()
        (path,) = folder.iterdir()
        assert b"acme" not in path.read_bytes()
        digests.append([row.tenant for row in parse(path.read_bytes(), "f").rows])
    (first, again, other), (elsewhere, _, _) = digests
    assert first == again != other
    assert first != elsewhere


def test_no_text_is_written_that_was_not_masked(tmp_path: Path) -> None:
    sampling = Sampling(1.0, keeps_texts=True)
    masked = writer_of(tmp_path, sampling, mask=lambda text: text.replace("Ann", "[PERSON]"))
    sampling.add(seen(1, words=("hello Ann", "bye")))
    masked.write()
    (path,) = tmp_path.iterdir()
    assert parse(path.read_bytes(), "f").rows[0].masked == ("hello [PERSON]", "bye")
    assert b"Ann" not in path.read_bytes()
    path.unlink()

    unmasked = writer_of(tmp_path, sampling)
    sampling.add(seen(1, words=("hello Ann",)))
    unmasked.write()
    (path,) = tmp_path.iterdir()
    assert b"hello" not in path.read_bytes()


def test_a_masker_that_fails_ends_the_capture_and_writes_nothing(tmp_path: Path) -> None:
    def mask(text: str) -> str:
        raise ValueError(text)

    sampling = Sampling(1.0, keeps_texts=True)
    writer = writer_of(tmp_path, sampling, mask=mask)
    writer.start()
    sampling.add(seen(1, words=("hello Ann",)))
    writer.close()
    assert writer.failed
    assert not sampling.wanted()
    assert all(b"Ann" not in path.read_bytes() for path in tmp_path.iterdir())
