"""What the agent is told on its command line. Parsed once, frozen afterwards. Read by `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from minwatt.v1.errors import one_line
from minwatt.v1.node_agent import SOCKET

STATE_DIR = "/var/lib/minwatt/node-agent"


def _flag(field: str) -> str:
    """The command's spelling of a field, so that errors name what was typed."""
    return field.replace("_", "-")


class AgentSettings(BaseModel):
    """All flags of `minwatt node-agent`."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_flag)

    socket: Path = Path(SOCKET)
    state_dir: Path = Path(STATE_DIR)
    policy: Path | None = None  # None: root and the agent's own user, within what the cards can
    host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | None = None  # None: no metrics; 0: a free one
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def of_flags(cls, **flags: Any) -> AgentSettings:
        """From the command line's values; None means the default. Raises UsageError."""
        given = {_flag(name): value for name, value in flags.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise one_line(error, "options") from error
