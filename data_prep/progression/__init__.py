"""Cohorts with a known answer: outcome, record, growth and follow-up simulated on given baseline crops."""

from enum import StrEnum


class Control(StrEnum):
    """Cohorts whose result is known beforehand: a record that tells nothing, and one that tells the outcome."""

    PERMUTED = "permuted"
    TOLD = "told"
