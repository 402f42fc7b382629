"""Where and in which numbers training computes, on machines with a card and without: torch plays the card."""

from __future__ import annotations

import pytest

from minwatt.v1.errors import UsageError

torch = pytest.importorskip("torch", reason="training needs the train extra")


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """As many cards as the test asks for, none of which knows bfloat16."""
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    return count


@pytest.mark.parametrize(("cards", "found"), [(0, "cpu"), (2, "cuda")], indirect=["cards"])
def test_a_card_is_taken_where_there_is_one(cards: int, found: str) -> None:
    from modelkit.training.processes import device_of

    assert device_of("auto") == torch.device(found)
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize("cards", [1], indirect=True)
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("cuda:1", "torch finds 1 cards here"),
        ("tpu", "allowed: auto, cpu, cuda or cuda:NUMBER"),
        ("cuda:x", "allowed: auto"),
    ],
)
def test_a_device_that_is_not_there_is_named(cards: int, asked: str, message: str) -> None:
    from modelkit.training.processes import device_of

    with pytest.raises(UsageError, match=f"device = '{asked}': .*{message}"):
        device_of(asked)


@pytest.mark.parametrize("cards", [1], indirect=True)
def test_a_card_without_bfloat16_scales_its_losses(cards: int) -> None:
    from modelkit.training.precision import dtype_of

    card, cpu = torch.device("cuda"), torch.device("cpu")
    assert (dtype_of("auto", card), dtype_of("auto", cpu)) == (torch.float16, torch.bfloat16)
    assert (dtype_of("fp32", card), dtype_of("bf16", card)) == (None, torch.bfloat16)
    with pytest.raises(UsageError, match=r"precision = 'int8': allowed: auto, fp32, bf16, fp16"):
        dtype_of("int8", cpu)


def test_losses_are_scaled_in_float16_alone() -> None:
    from modelkit.training.precision import scaler_of

    cpu = torch.device("cpu")
    assert [scaler_of(cpu, dtype).is_enabled() for dtype in (torch.float16, torch.bfloat16, None)] == [
        True,
        False,
        False,
    ]
