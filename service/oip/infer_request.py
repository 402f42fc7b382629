"""From a ModelInferRequest to the minwatt.v1 request it stands for, without trusting it.

Pure. Called by `infer`. What texts and options must be in themselves is `service.validation`'s matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.rpc.error_details_pb2 import BadRequest

from minwatt.v1.inference_pb2 import (
    LONG_TEXT_REFUSE,
    LONG_TEXT_TRUNCATE,
    PRIORITY_BATCH,
    PRIORITY_INTERACTIVE,
    PRIORITY_UNSPECIFIED,
    ClassifyRequest,
    ExtractEntitiesRequest,
    LongText,
    Priority,
)
from service.oip import open_inference_pb2 as pb
from service.oip.bytes_tensor import unpacked
from service.oip.models import TEXT, Model
from service.statuses import Refusal, Violation, invalid, shortened

PRIORITIES: Mapping[int, Priority.ValueType] = {
    0: PRIORITY_UNSPECIFIED,
    1: PRIORITY_INTERACTIVE,
    2: PRIORITY_BATCH,
}
LONG_TEXTS: Mapping[str, LongText.ValueType] = {"refuse": LONG_TEXT_REFUSE, "truncate": LONG_TEXT_TRUNCATE}
MAX_TIMEOUT_US = 86_400 * 10**6
WITHOUT_EFFECT = {"triton_enable_empty_final_response", "binary_data_output"}  # of requests
INPUT_WITHOUT_EFFECT = {"content_type", "binary_data_size"}
OUTPUT_WITHOUT_EFFECT = {"content_type", "binary_data"}

T = TypeVar("T")
AnyRequest = ClassifyRequest | ExtractEntitiesRequest
Parameters = Mapping[str, pb.InferParameter]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for."""

    id: str
    model: Model
    request: AnyRequest
    outputs: tuple[str, ...]  # in the order asked for
    raw: bool  # the contents came raw; then they go raw
    timeout_s: float | None  # its own, beside the call's deadline


def asked(message: pb.ModelInferRequest, model: Model) -> Asked:
    """Raises Refusal: INVALID_ARGUMENT that names the field."""
    texts = _texts(message)
    outputs = _outputs(message, model)
    kind = ClassifyRequest if model.task.kind == "classification" else ExtractEntitiesRequest
    request = kind(model=model.of, texts=texts)
    timeout_s = _apply(message.parameters, model, request) if message.parameters else None
    return Asked(message.id, model, request, outputs, bool(message.raw_input_contents), timeout_s)


def in_own_words(refusal: Refusal) -> Refusal:
    """A refusal of the minwatt.v1 request, with the field as it is called here: `texts[3]` is `TEXT[3]`."""
    details = []
    for detail in refusal.details:
        if isinstance(detail, BadRequest):
            own = BadRequest()
            own.CopyFrom(detail)
            for violation in own.field_violations:
                violation.field = _own_name(violation.field)
            details.append(own)
        else:
            details.append(detail)
    return Refusal(refusal.code, refusal.reason, _own_name(refusal.message), details)


def _own_name(text: str) -> str:
    of_texts = text == "texts" or text.startswith(("texts:", "texts["))
    return TEXT + text.removeprefix("texts") if of_texts else text


def _refused(field: str, description: str) -> Refusal:
    return invalid([Violation(field, description)])


def _texts(message: pb.ModelInferRequest) -> list[str]:
    if len(message.inputs) != 1:
        raise _refused("inputs", f"has {len(message.inputs)} tensors; allowed: one, {TEXT}")
    tensor = message.inputs[0]
    if tensor.name != TEXT:
        raise _refused("inputs[0].name", f"is {shortened(tensor.name)!r}; allowed: {TEXT!r}")
    if tensor.datatype != "BYTES":
        raise _refused("inputs[0].datatype", f"is {shortened(tensor.datatype)!r}; allowed: 'BYTES'")
    if tensor.parameters:
        _check_known("inputs[0].parameters", tensor.parameters, INPUT_WITHOUT_EFFECT)
    elements = _elements(message, tensor, _count(tensor.shape))
    texts = []
    for index, element in enumerate(elements):
        try:
            texts.append(element.decode())
        except UnicodeDecodeError as error:
            raise _refused(f"{TEXT}[{index}]", f"not valid UTF-8 at byte {error.start}") from None
    return texts


def _count(shape: Sequence[int]) -> int:
    """Texts: of [n] or [n, 1]."""
    if len(shape) not in {1, 2} or shape[0] < 0 or (len(shape) == 2 and shape[1] != 1):
        sizes = ", ".join(map(str, shape[:4])) + (", …" if len(shape) > 4 else "")
        raise _refused("inputs[0].shape", f"is [{sizes}]; allowed: [n] or [n, 1] for n texts")
    return shape[0]


def _elements(
    message: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor, count: int
) -> Sequence[bytes]:
    typed = tensor.contents.ListFields() if tensor.HasField("contents") else []
    raw = message.raw_input_contents
    if not raw:
        for field, _ in typed:
            if field.name != "bytes_contents":
                raise _refused(f"inputs[0].contents.{field.name}", "is set; BYTES stand in bytes_contents")
        elements = tensor.contents.bytes_contents
        if len(elements) != count:
            raise _refused(
                "inputs[0].contents.bytes_contents",
                f"has {len(elements)} elements, the shape asks for {count}",
            )
        return elements
    if typed:
        raise _refused("inputs[0].contents", "is set beside raw_input_contents; allowed: one of the two")
    if len(raw) != 1:
        raise _refused("raw_input_contents", f"has {len(raw)} elements; allowed: one, as inputs has")
    try:
        return unpacked(raw[0], count)
    except ValueError as why:
        raise _refused("raw_input_contents[0]", str(why)) from None


def _outputs(message: pb.ModelInferRequest, model: Model) -> tuple[str, ...]:
    known = model.outputs
    if not message.outputs:
        return tuple(known)
    wanted: dict[str, None] = {}
    for index, output in enumerate(message.outputs):
        if output.name not in known or output.name in wanted:
            told = (
                "is asked for twice" if output.name in wanted else f"is unknown; allowed: {', '.join(known)}"
            )
            raise _refused(f"outputs[{index}].name", f"{shortened(output.name)!r} {told}")
        if output.parameters:
            _check_known(f"outputs[{index}].parameters", output.parameters, OUTPUT_WITHOUT_EFFECT)
        wanted[output.name] = None
    return tuple(wanted)


def _apply(parameters: Parameters, model: Model, request: AnyRequest) -> float | None:
    """Sets the request's options; returns its timeout in seconds, None if it has none."""
    known = {"min_score", "long_text", "priority", "timeout", "no_cache"}
    if isinstance(request, ClassifyRequest):
        known.add("top_k")
    _check_known("parameters", parameters, WITHOUT_EFFECT | known)

    def read(name: str, parse: Callable[[pb.InferParameter], T], default: T) -> T:
        if name not in parameters:
            return default
        try:
            return parse(parameters[name])
        except ValueError as why:
            raise _refused(f"parameters[{name}]", str(why)) from None

    if isinstance(request, ClassifyRequest):
        labels = len(model.task.labels)
        allowed = f"0 to {labels}, the model's labels"
        request.options.top_k = read("top_k", lambda value: _integer(value, labels, allowed), 0)
    request.options.min_score = read("min_score", _score, 0.0)
    request.options.long_text = read("long_text", _long_text, LONG_TEXT_REFUSE)
    request.options.priority = read("priority", _priority, PRIORITY_UNSPECIFIED)
    request.options.no_cache = read("no_cache", _flag, False)
    return read("timeout", _timeout_s, None)


def _check_known(field: str, parameters: Parameters, known: set[str]) -> None:
    for name in sorted(parameters.keys() - known):
        allowed = ", ".join(sorted(known))
        raise _refused(f"{field}[{shortened(name)}]", f"is unknown; allowed: {allowed}")


def _value(parameter: pb.InferParameter) -> object:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _told(value: object) -> str:
    return "empty" if value is None else shortened(repr(value))


def _integer(parameter: pb.InferParameter, most: int, allowed: str) -> int:
    value = _value(parameter)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"is {_told(value)}; allowed: {allowed}")
    return value


def _score(parameter: pb.InferParameter) -> float:
    """A number, or its digits: the protocol's core has no parameter of type double."""
    value = _value(parameter)
    try:
        number = (
            float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        )
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"is {_told(value)}; allowed: 0 to 1")
    return number


def _long_text(parameter: pb.InferParameter) -> LongText.ValueType:
    value = _value(parameter)
    if not isinstance(value, str) or value not in LONG_TEXTS:
        raise ValueError(f"is {_told(value)}; allowed: {', '.join(LONG_TEXTS)}")
    return LONG_TEXTS[value]


def _priority(parameter: pb.InferParameter) -> Priority.ValueType:
    level = _integer(parameter, max(PRIORITIES), "0 (the default), 1 (interactive) or 2 (batch)")
    return PRIORITIES[level]


def _flag(parameter: pb.InferParameter) -> bool:
    value = _value(parameter)
    if not isinstance(value, bool):
        raise ValueError(f"is {_told(value)}; allowed: true, false")
    return value


def _timeout_s(parameter: pb.InferParameter) -> float | None:
    timeout_us = _integer(parameter, MAX_TIMEOUT_US, f"0 (none) to {MAX_TIMEOUT_US} microseconds")
    return timeout_us / 1e6 or None
