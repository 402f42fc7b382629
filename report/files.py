"""Where a report goes: the page and the Markdown as files that a user names. Called by the commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minwatt.v1.errors import UsageError
from report.document import Document
from report.markdown import as_markdown
from report.page import as_html

HTML_HELP = "Write a page: one file that opens from disk."
MARKDOWN_HELP = "Write Markdown."


@dataclass(frozen=True, slots=True)
class Destinations:
    """`--html FILE` and `--markdown FILE`; None: not asked for."""

    html: Path | None
    markdown: Path | None

    def check(self) -> None:
        """Before a long job, not after it. Raises UsageError where a file can't be written."""
        for flag, file in (("--html", self.html), ("--markdown", self.markdown)):
            if file is not None:
                try:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.open("a", encoding="utf-8").close()
                except OSError as error:
                    raise UsageError(
                        f"{flag} = {str(file)!r}: can't be written ({error.strerror})"
                    ) from error

    def write(self, document: Document) -> None:
        """What was asked for. Raises UsageError where it can't be written."""
        self.check()
        if self.html is not None:
            self.html.write_text(as_html(document), encoding="utf-8")
        if self.markdown is not None:
            self.markdown.write_text(as_markdown(document), encoding="utf-8")
