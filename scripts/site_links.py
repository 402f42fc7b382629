"""What the site's pages say of files beside them in the repository: there is no page to link to.

A hook of mkdocs (mkdocs.yml). The same pages are read in the repository, where such links work.
"""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^]\[]+)\]\((?:\.\./)+[^)]*\)")


def on_page_markdown(markdown: str, **_page: Any) -> str:
    """`[its words](../a/file)` becomes its words."""
    return _OUTSIDE.sub(r"\1", markdown)
