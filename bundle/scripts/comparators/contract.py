"""The contract of a compared method: what every method takes, gives and promises.

A method either generates follow-ups (:class:`ImageMethod`), which inference leaves in a folder of predictions, or gives
probabilities (:class:`ProbabilityMethod`), which stand in a table (:mod:`scripts.comparators.tables`). A new method
is a module here and an overlay ``compare_<method>.yaml``; ``tests/bundle/comparators/test_contract.py`` holds it to
what is promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from scripts.diffusion.noise import Draw

INPUTS = frozenset({"image", "record", "interval"})
"""What a method may read of a case: its baseline crop, its record, the days to the follow-up."""


class Condition(NamedTuple):
    """What is known of a case beside its image, never encoded: each method reads it in its own way.

    Attributes:
        record: feature to value, see :func:`scripts.ehr.validate`.
        interval_days: from baseline to follow-up; None where unknown.
    """

    record: Mapping[str, Any]
    interval_days: float | None = None

    @classmethod
    def of(cls, case: Mapping[str, Any]) -> Condition:
        """From a datalist's entry."""
        return cls(case["ehr"], case.get("interval_days"))


class Comparator(Protocol):
    """What all methods promise: a case's result does not depend on the others in the batch.

    Attributes:
        reads: of :data:`INPUTS`; nothing else has any effect.
        stochastic: whether ``draw`` has any. All randomness comes in through it, none from a global generator.
    """

    reads: frozenset[str]
    stochastic: bool


@runtime_checkable
class ImageMethod(Comparator, Protocol):
    """Generates follow-ups."""

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W) of baselines (B, 1, H, W), both in [-1, 1]; a row of each a case."""
        ...


@runtime_checkable
class ProbabilityMethod(Comparator, Protocol):
    """Tells the outcome without an image."""

    def probability(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Probabilities (B,) of malignancy; arguments as of :meth:`ImageMethod.sample`."""
        ...
