"""The errors that Hansa raises on purpose; each knows the exit code of the command line.

Anything else that escapes is a defect and ends with exit code 1.
"""

from __future__ import annotations

from collections.abc import Sequence


class HansaError(Exception):
    """Base of all expected errors: one line for a person, and an exit code."""

    exit_code = 1


class UsageError(HansaError):
    """Wrong usage, configuration or data: names what is wrong, where, and the fix."""

    exit_code = 2


class RefusalError(HansaError):
    """A privacy budget or an approval policy said no.

    Args:
        detail: What happened, with numbers and paths: for the eyes of whoever runs this process.
        reason: What others may be told. It must not tell how much of a budget is spent.
    """

    exit_code = 3

    def __init__(self, detail: str, *, reason: str = "refused") -> None:
        super().__init__(detail)
        self.reason = reason


class AbortError(RefusalError):
    """A round of secure aggregation cannot be finished: what is masked stays masked."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="round aborted")


class VerificationError(HansaError):
    """A check of somebody's statement failed."""

    exit_code = 4


def one_of(what: str, given: str, allowed: Sequence[str]) -> UsageError:
    """The error for a name that is not among the known ones."""
    return UsageError(f"{what}: unknown value {given!r}; use one of: {', '.join(allowed)}")
