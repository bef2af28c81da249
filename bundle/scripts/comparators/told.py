"""McWGAN and CorrFlowNet, told the record and the interval too, which the published methods are not [R].

Where the record tells more than the image, methods that read the image alone are no weaker, they were told less. These
have the same networks, losses and settings, and each one layer that reads the record's numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.networks.layers.simplelayers import SkipConnection
from torch import Tensor, nn

from scripts.comparators.batches import PairBatch
from scripts.comparators.contract import INPUTS, Condition
from scripts.comparators.corrflownet import BridgeBatch, CorrFlowNet
from scripts.comparators.mcwgan import McWGAN
from scripts.comparators.numbers import ConditionNumbers

TOLD = ", told the record"
"""Ends the title of a method that was not published so."""

Numbers = ConditionNumbers | Mapping[str, Any]
"""Of conditions, or their arguments."""


def _numbers(numbers: Numbers) -> ConditionNumbers:
    return numbers if isinstance(numbers, ConditionNumbers) else ConditionNumbers(**numbers)


class RecordScale(nn.Module):
    """A layer whose output (B, C, h, w) the record scales and shifts (Perez et al. 2018, FiLM), by 1 and 0 at first.

    Constant planes beside the input would not do: instance normalisation takes them away in all but the residual paths.

    Attributes:
        numbers: the record's (B, F), set before each call.
    """

    def __init__(self, layer: nn.Module, features: int, channels: int) -> None:
        super().__init__()
        self.layer, self.read = layer, nn.Linear(features, 2 * channels)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)
        self.numbers = torch.zeros(1, features)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.read(self.numbers)[:, :, None, None].chunk(2, dim=1)
        return (1.0 + scale) * self.layer(x) + shift


class ToldMcWGAN(McWGAN):
    """The predictor, whose lowest level the record scales and shifts; the critic is not told.

    Args:
        numbers: of conditions.
        channels, num_res_units: as of :class:`McWGAN`.
    """

    title = McWGAN.title + TOLD
    reads = INPUTS

    def __init__(self, numbers: Numbers, channels: Sequence[int] = (64, 128, 256, 512), num_res_units: int = 1) -> None:
        super().__init__(channels, num_res_units)
        self.numbers = _numbers(numbers)
        self.config |= {"numbers": self.numbers.config}
        lowest = [each for each in self.unet.modules() if isinstance(each, SkipConnection)][-1]
        lowest.submodule = RecordScale(lowest.submodule, self.numbers.width, channels[-1])

    def forward(self, baseline: Tensor, condition: Sequence[Condition]) -> Tensor:  # type: ignore[override]
        """Follow-ups (B, 1, H, W) in [-1, 1] of baselines."""
        scale = next(each for each in self.unet.modules() if isinstance(each, RecordScale))
        scale.numbers = self.numbers(condition).to(baseline)
        return super().forward(baseline)

    def sample(self, baseline: Tensor, condition: Sequence[Condition], draw: Any) -> Tensor:
        """Follow-ups (B, 1, H, W), see :class:`~scripts.comparators.contract.ImageMethod`."""
        return self(baseline, condition)


class ToldCorrFlowNet(CorrFlowNet):
    """The flow, whose U-Net reads the record by cross-attention to one token; the autoencoder is not told.

    Args:
        autoencoder, unet, others: as of :class:`CorrFlowNet`.
        numbers: of conditions.
    """

    reads = INPUTS

    def __init__(
        self, autoencoder: Mapping[str, Any], unet: Mapping[str, Any], *, numbers: Numbers, **others: Any
    ) -> None:
        numbers = _numbers(numbers)
        super().__init__(autoencoder, {**unet, "features": numbers.width}, **others)
        self.numbers = numbers
        self.config |= {"numbers": numbers.config}
        self.title += TOLD

    def context(self, condition: Sequence[Condition]) -> Tensor:
        return self.numbers(condition)[:, None]


class ToldBridgeBatch(BridgeBatch):
    """The batch of :class:`~scripts.comparators.BridgeBatch`, and the record as one token (B, 1, F) behind z0 and t.

    Args:
        cases: entries of the datalist.
        numbers: of their conditions.
        sigma, fixed: as of the base class.
    """

    def __init__(
        self, cases: Iterable[Mapping[str, Any]], numbers: ConditionNumbers, sigma: float = 0.0, fixed: bool = False
    ) -> None:
        super().__init__(sigma, fixed)
        self.pairs, self.numbers = PairBatch(cases), numbers

    def __call__(  # type: ignore[override]
        self, batchdata: Mapping[str, Any], *arguments: Any, **keywords: Any
    ) -> tuple[Tensor, Tensor, tuple, dict]:
        """As of the base class, with a third argument."""
        latents, target, passed, named = super().__call__(batchdata, *arguments, **keywords)
        token = self.numbers(self.pairs.condition(batchdata))[:, None].to(latents)
        return latents, target, (*passed, token), named
