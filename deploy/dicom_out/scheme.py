"""Codes that no standard has, by which this program is asked and by which it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from highdicom.sr.coding import CodedConcept

SCHEME = "99NAMD"
"""Of these codes."""

INTERVAL = ("interval_days", "Days to the follow-up")
"""Value and meaning of the code of the time from the scan to the follow-up."""


def own_code(value: str, meaning: str) -> CodedConcept:
    """A code of this program's own."""
    from highdicom.sr.coding import CodedConcept  # which readers of requests do without

    return CodedConcept(value, SCHEME, meaning)
