"""The contract of a compared method: its arguments, its result, and what it guarantees.

A method either generates follow-ups (:class:`ImageMethod`), which inference writes to a folder of predictions, or gives
probabilities (:class:`ProbabilityMethod`), which are written to a table (:mod:`scripts.comparators.tables`). A new
method is a module in this package and an overlay ``configs/compare_<method>.yaml``. The test
``tests/bundle/comparators/test_contract.py`` checks the guarantees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from scripts.diffusion.noise import Draw

INPUTS = frozenset({"image", "record", "interval"})
"""What a method may read of a case: the baseline crop, the record, the days from baseline to follow-up."""


class Condition(NamedTuple):
    """What is known of a case besides its image. It is not encoded, since each method has its own encoding.

    Attributes:
        record: the EHR, values by name of the feature; see :func:`scripts.ehr.validate`.
        interval_days: days from baseline to follow-up; None where unknown.

    Example:
        >>> Condition.of({"case_id": "case-1", "ehr": {"age": 62}, "interval_days": 365})
        Condition(record={'age': 62}, interval_days=365)
    """

    record: Mapping[str, Any]
    interval_days: float | None = None

    @classmethod
    def of(cls, case: Mapping[str, Any]) -> Condition:
        """The condition of a datalist's entry."""
        return cls(case["ehr"], case.get("interval_days"))


class Comparator(Protocol):
    """What all methods have in common. They guarantee that a case's result does not depend on the rest of its batch.

    Attributes:
        reads: those of :data:`INPUTS` that the result depends on.
        stochastic: whether the result depends on ``draw``, the only source of random numbers; global generators are
            not used.
    """

    reads: frozenset[str]
    stochastic: bool


@runtime_checkable
class ImageMethod(Comparator, Protocol):
    """A method that generates follow-ups."""

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """One follow-up for each case.

        Args:
            baseline: crops (B, 1, H, W) in [-1, 1].
            condition: B conditions.
            draw: gives noise of B rows, see :data:`scripts.diffusion.Draw`.

        Returns:
            Follow-ups (B, 1, H, W) in [-1, 1].
        """
        ...


@runtime_checkable
class ProbabilityMethod(Comparator, Protocol):
    """A method that predicts the outcome without generating an image."""

    def probability(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Probabilities of malignancy (B,); arguments as of :meth:`ImageMethod.sample`."""
        ...
