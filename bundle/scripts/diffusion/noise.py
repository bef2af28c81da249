"""The noise that sampling starts from, a function of seed, run and crop alone, so that samples can be made again."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

Draw = Callable[[Sequence[int]], Tensor]
"""``draw(shape)`` gives standard normal numbers (B, \\*shape), one row per sample; further calls give new numbers."""


class CaseNoise:
    """A :data:`Draw` in which every row has its own random generator, seeded by seed, run and the crop's pixels.

    A case's noise is therefore the same in any batch and in any order. Pixels are rounded to 256 levels before they are
    hashed, so that another machine's rounding errors seldom change it; they may where a crop has pixels midway between
    two levels, such as -860 HU.

    Args:
        crops: (B, 1, H, W) in [-1, 1].
        seed: of the experiment.
        runs: numbers of the runs. There are B x len(runs) rows: all runs of the first crop, then of the second, ...

    Example:
        >>> draw = CaseNoise(torch.zeros(2, 1, 8, 8), seed=23, runs=[0, 1])
        >>> draw((4, 1, 1)).shape
        torch.Size([4, 4, 1, 1])
    """

    def __init__(self, crops: Tensor, seed: int, runs: Iterable[int] = (0,)) -> None:
        levels = ((crops.cpu() + 1.0) * 127.5).round().to(torch.uint8).numpy()
        digests = [zlib.crc32(pixels.tobytes()) for pixels in levels]
        runs = list(runs)
        seeds = [np.random.SeedSequence([seed, run, pixels]) for pixels in digests for run in runs]
        self.generators = [torch.Generator().manual_seed(int(each.generate_state(1)[0])) for each in seeds]

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """(B x runs, \\*shape) on the CPU."""
        return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self.generators])
