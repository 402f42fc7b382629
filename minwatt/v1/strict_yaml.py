"""Reads YAML that people write: a field that is there twice is a mistake, not the last one's victory, and so
is a second document.

The one reader of YAML for all components. Leaves the schema and the wording of its errors to them: `scaler.
documents`, `service.tenants`, `minwatt.v1.model_dir`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

_MERGE = "tag:yaml.org,2002:merge"  # `<<: *anchor`; keys beside it are meant to be there too


class UnreadableYamlError(ValueError):
    """`str()` is one line and may quote the document; `line` counts from 1.

    twice: the field that is, where that is what is wrong.
    """

    def __init__(self, said: str, line: int | None, twice: str | None = None) -> None:
        super().__init__(said)
        self.line = line
        self.twice = twice


class SeveralDocumentsError(UnreadableYamlError):
    """`str()` quotes nothing of the text; `line` is where the second document begins."""

    def __init__(self, line: int) -> None:
        said = f"several YAML documents, the second begins at line {line}; allowed: one per file"
        super().__init__(said, line)


class _TwiceError(Exception):
    """A mapping's key, and where it is again."""

    def __init__(self, key: object, mark: yaml.Mark) -> None:
        super().__init__()
        self.field, self.line = str(key), mark.line + 1


class _Loader(yaml.SafeLoader):
    def get_single_node(self) -> yaml.Node | None:
        """PyYAML's own words for a second document are those for a text that is no YAML."""
        node = self.get_node() if self.check_node() else None
        if self.check_node():
            second: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise SeveralDocumentsError(second.start_mark.line + 1)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """PyYAML lets out whatever Python raises of a value."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # a date or number none can be
            raise ConstructorError(None, None, str(error), node.start_mark) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # `!!int ""`
            raise ConstructorError(None, None, "a value is not of its tag", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():  # `!!map []`
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise _TwiceError(key, key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)


def load(text: str) -> Any:
    """The text's one document; None where there is none. Raises UnreadableYamlError."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except SeveralDocumentsError:
        raise
    except _TwiceError as error:
        said = f"field {error.field!r} is there twice, again at line {error.line}"
        raise UnreadableYamlError(said, error.line, error.field) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # `"\UFFFFFFFF"`
        mark = getattr(error, "problem_mark", None)
        said = " ".join(str(error).split())
        raise UnreadableYamlError(f"not YAML: {said}", mark.line + 1 if mark else None) from error
