"""The two files of a report, and the published schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hansa.audit.document import Report
from hansa.audit.making import Material, make_report
from hansa.audit.page import render
from hansa.audit.signing import open_report, report_hash
from hansa.errors import UsageError

JSON, HTML = "audit-report.json", "audit-report.html"


@dataclass(frozen=True)
class Written:
    """Where a report lies, and its name where parties speak about it."""

    json: Path
    html: Path
    sha256: str


def write_report(material: Material, folder: Path) -> Written:
    """Make a report and write both files into a folder.

    Raises:
        UsageError: No honest report can be made, or the folder cannot be written to.
    """
    content = make_report(material)
    summed = report_hash(content)
    page = render(open_report(content, JSON), summed)
    written = Written(folder / JSON, folder / HTML, summed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written.json.write_bytes(content)
        written.html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {folder}: {error.strerror}; name a folder that you may write") from error
    return written


def schema_text() -> str:
    """The JSON Schema of a report, as it is published."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Hansa audit report",
        **Report.model_json_schema(),
    }
    return json.dumps(schema, indent=2, sort_keys=True) + "\n"
