"""NAMD itself under the contract of compared methods."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from scripts.comparators.contract import INPUTS, Condition
from scripts.diffusion.noise import Draw
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
from scripts.ehr.report import radiology_report


class NAMD:
    """The finished model as an :class:`~scripts.comparators.contract.ImageMethod`.

    Args:
        model: autoencoder, U-Net and conditioner.
        num_steps, guidance_scale: of :class:`scripts.diffusion.ProgressionInferer`.
    """

    reads = INPUTS
    stochastic = True

    def __init__(self, model: ProgressionModel, num_steps: int = 50, guidance_scale: float = 1.0) -> None:
        self.model = model
        self.inferer = ProgressionInferer(num_steps, num_runs=1, guidance_scale=guidance_scale)

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Draw) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        reports = [radiology_report(record, days) for record, days in condition]
        return self.inferer(baseline, self.model, reports, draw)
