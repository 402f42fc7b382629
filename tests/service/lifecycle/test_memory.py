"""What a model is predicted to need, and where that is too much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minwatt.v1.errors import UsageError
from minwatt.v1.model_dir import ModelDirectory
from minwatt.v1.quantities import format_bytes, parse_bytes
from service.lifecycle.memory import Memory, Usage, container_limit_bytes, usage_now
from tests.tiny_model import write_tiny_model

MI = 2**20


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> ModelDirectory:
    return ModelDirectory.open(write_tiny_model(tmp_path_factory.mktemp("memory") / "tiny-text"))


class Process:
    def __init__(self, resident_bytes: int = 100 * MI, available_bytes: int = 1000 * MI) -> None:
        self.resident_bytes = resident_bytes
        self.available_bytes = available_bytes

    def __call__(self) -> Usage:
        return Usage(self.resident_bytes, self.available_bytes)


@given(
    limit=st.one_of(st.none(), st.integers(1, 2000)),
    container=st.one_of(st.none(), st.integers(1, 2000)),
    available=st.integers(0, 2000),
    resident=st.integers(1, 2000),
    more=st.integers(0, 2000),
)
def test_nothing_is_let_in_that_would_go_beyond_any_limit(
    limit: int | None, container: int | None, available: int, resident: int, more: int
) -> None:
    limit_bytes, container_bytes = (None if one is None else one * MI for one in (limit, container))
    process = Process(resident * MI, available * MI)
    memory = Memory(limit_bytes, container_bytes, process)
    limits = [one for one in (limit, container, resident + available) if one is not None]
    if resident + more <= min(limits):
        memory.check_room("model 'm'", more * MI)
    else:
        with pytest.raises(UsageError, match="model 'm' needs about") as refused:
            memory.check_room("model 'm'", more * MI)
        assert f"beside the {format_bytes(resident * MI)} in use" in str(refused.value)


def test_the_next_load_is_predicted_by_what_the_last_one_took(directory: ModelDirectory) -> None:
    process = Process()
    memory = Memory(None, None, process)
    by_files = memory.predicted_bytes(directory, None)
    process.resident_bytes += 5 * by_files
    memory.learn([(directory, "int8")], memory.before_bytes)
    assert memory.predicted_bytes(directory, None) == pytest.approx(5 * by_files, rel=0.01)
    process.resident_bytes -= by_files  # the one that was replaced has gone: nothing is learned from that
    memory.learn([(directory, "int8")], process.resident_bytes + by_files)
    assert memory.predicted_bytes(directory, None) == pytest.approx(5 * by_files, rel=0.01)


def test_a_model_that_was_never_loaded_is_taken_for_the_greediest(
    directory: ModelDirectory, tmp_path: Path
) -> None:
    other = ModelDirectory.open(write_tiny_model(tmp_path / "other", name="other"))
    process = Process()
    memory = Memory(None, None, process)
    by_files = memory.predicted_bytes(other, None)
    process.resident_bytes += 3 * memory.predicted_bytes(directory, None)
    memory.learn([(directory, "int8")], memory.before_bytes)
    assert memory.predicted_bytes(other, None) == pytest.approx(3 * by_files, rel=0.01)


def test_more_than_allowed_after_the_load_is_refused() -> None:
    process = Process(resident_bytes=300 * MI)
    Memory(300 * MI, None, process).check_kept("model 'm'")
    with pytest.raises(UsageError, match=r"memory-limit = 299Mi: with model 'm' 300Mi are in use"):
        Memory(299 * MI, None, process).check_kept("model 'm'")


def test_files_that_are_not_there_need_no_room(directory: ModelDirectory) -> None:
    memory = Memory(None, None, Process())
    assert memory.predicted_bytes(directory, "fp32") < memory.predicted_bytes(directory, "int8")
    assert memory.predicted_bytes(directory, "unheard-of") == memory.predicted_bytes(directory, "fp32")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("524288000\n", 500 * MI), ("max\n", None), ("9223372036854771712\n", None), ("", None), (None, None)],
)
def test_a_containers_limit(tmp_path: Path, content: str | None, expected: int | None) -> None:
    file = tmp_path / "memory.max"
    if content is not None:
        file.write_text(content)
    assert container_limit_bytes((file,)) == expected


def test_this_process_is_somewhere() -> None:
    usage = usage_now()
    assert usage.resident_bytes > 0
    assert usage.available_bytes > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("400Mi", 400 * MI), ("2Gi", 2048 * MI), ("1.5G", 1.5e9), ("1000000", 1e6), ("512 Ki", 512 * 1024)],
)
def test_bytes_as_kubernetes_has_them(text: str, expected: float) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "400MB", "-1", "1e9", "Mi", "٣", 5])
def test_other_bytes_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="allowed: bytes such as 400Mi"):
        parse_bytes(text)


ALLOCATIONS = """
import ctypes, os
from service.lifecycle.memory import map_large_blocks

if {mapping}:
    map_large_blocks()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def block(size):
    address = libc.malloc(size)
    ctypes.memset(address, 1, size)
    return address

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

libc.free(block(24 << 20))  # a model that was replaced
before = resident()
weights = block(16 << 20)  # the next one
small = block(100_000)
libc.free(weights)
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("mapping", [False, True])
def test_weights_go_back_to_the_machine_though_something_lies_behind_them(mapping: bool) -> None:
    code = ALLOCATIONS.format(mapping=mapping)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept = int(ran.stdout) > 8 << 20
    assert kept == (not mapping), "glibc's own way is another by now" if not mapping else "they were kept"
