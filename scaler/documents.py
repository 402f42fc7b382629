"""A YAML document read into a schema, every mistake as one line: file, field, value, what is allowed.

Owns the wording; the schemas are in `policy` and `profile`. Objects of the API server are worded the same.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from minwatt.v1 import strict_yaml
from minwatt.v1.errors import UsageError, one_line

Model = TypeVar("Model", bound=BaseModel)


def read_document(path: Path, schema: type[Model]) -> Model:
    """The file's one YAML document as `schema`. Raises UsageError, one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text") from error
    return parse_document(text, schema, str(path))


def parse_document(text: str, schema: type[Model], where: str) -> Model:
    """As `read_document`, from text; `where` begins the error's line."""
    try:
        document = strict_yaml.load(text)
    except strict_yaml.UnreadableYamlError as error:
        raise UsageError(f"{where}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{where}: a YAML mapping with {', '.join(_field_names(schema))} is expected")
    return validate_document(document, schema, where)


def validate_document(document: Mapping[str, Any], schema: type[Model], where: str) -> Model:
    """As `parse_document`, from what was read already."""
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise _with_allowed(error, schema, where) from error


def _with_allowed(error: ValidationError, schema: type[BaseModel], where: str) -> UsageError:
    """An unknown field comes first, with the fields there are: one that is missing is often it, misspelt."""
    unknown = [one["loc"] for one in error.errors(include_url=False) if one["type"] == "extra_forbidden"]
    parent = _schema_at(schema, unknown[0][:-1]) if unknown else None
    if parent is None:
        return one_line(error, where)
    field = ".".join(str(part) for part in unknown[0])
    return UsageError(f"{where}: {field}: unknown field; allowed: {', '.join(_field_names(parent))}")


def _schema_at(schema: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = schema
    for part in location:
        if current is None or isinstance(part, int):
            return None
        fields = {field.alias or name: field for name, field in current.model_fields.items()}
        current = _model_in(fields[part].annotation) if part in fields else None
    return current


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return next((found for part in typing.get_args(annotation) if (found := _model_in(part))), None)
    return None


def _field_names(schema: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in schema.model_fields.items()]
