"""A report as one page to read."""

from __future__ import annotations

from html import escape

from hansa.audit.document import Report


def render(report: Report, sha256: str) -> str:
    """The page of a report whose file has this hash."""
    claim = escape(report.statement.guarantee.claim)
    return f"<!DOCTYPE html><title>Audit report</title><p>{claim}</p><p>{sha256}</p>\n"
