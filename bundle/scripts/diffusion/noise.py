"""Where the randomness of samples comes from: a function of the seed, the run and the case, and of nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

Draw = Callable[[Sequence[int]], Tensor]
"""``draw(shape)`` gives standard normal numbers (B, \\*shape), a row a case; each call goes on where the last ended."""


class CaseNoise:
    """A :data:`Draw` whose rows each have a generator of their own, seeded by seed, run and the crop's pixels.

    So a case's samples are the same in any batch and order. Pixels are rounded to 256 levels first, so that machines
    which differ in the last bits of a crop agree.

    Args:
        crops: (B, 1, H, W) in [-1, 1].
        seed: of the experiment.
        runs: the rows are all runs of the first crop, then of the second, and so on: B x len(runs) of them.

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
