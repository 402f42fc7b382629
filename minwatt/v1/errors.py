"""The error of a user's mistake: one line that names the field, the value and what is allowed.

Raised by every part for bad files, options and flags; the `minwatt` command prints it and exits with 2.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError


class UsageError(Exception):
    """A mistake of the user. `str(error)` is the whole line to print; there is never a traceback."""


def one_line(error: ValidationError, where: str) -> UsageError:
    """The first violation of a schema as one line; `where` is the file or flag the data came from."""
    violations = error.errors(include_url=False)
    first = violations[0]
    message = first["msg"].removeprefix("Value error, ")
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    if not first["loc"] and first["type"] == "value_error":  # of fields together: the message names them
        return UsageError(f"{where}: {message}{more}")
    field = ".".join(str(part) for part in first["loc"]) or "(document)"
    value = "" if first["type"] in {"missing", "extra_forbidden"} else f" = {_shorten(first['input'])}"
    return UsageError(f"{where}: {field}{value}: {message}{more}")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
