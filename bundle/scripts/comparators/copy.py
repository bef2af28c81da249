"""The copy of the baseline, which predicts that nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.diffusion.noise import Draw


class CopyBaseline:
    """The baseline crop as the prediction of its follow-up."""

    reads = frozenset({"image"})
    stochastic = False

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """A copy of the baselines, see :class:`~scripts.comparators.contract.ImageMethod`."""
        return baseline.clone()
