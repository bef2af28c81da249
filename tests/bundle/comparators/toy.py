"""A toy progression, on which what learns beats the copy of the baseline: discs that grow by a known factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scripts.comparators.contract import Condition, ImageMethod
from scripts.comparators.generation import MethodInferer

GROWTH = 1.3
"""Of a disc's radius in a year."""


class Pairs(NamedTuple):
    """Discs at two times, (N, 1, H, W) each in [-1, 1], and their conditions."""

    baseline: Tensor
    follow_up: Tensor
    conditions: list[Condition]

    def batch(self, indices: Sequence[int] | slice = slice(None)) -> dict[str, Any]:
        """As a data loader gives it to :class:`scripts.comparators.PairBatch`."""
        ids = [f"c{index}" for index in range(len(self.baseline))]
        chosen = ids[indices] if isinstance(indices, slice) else [ids[index] for index in indices]
        return {"case_id": chosen, "baseline": self.baseline[indices], "follow_up": self.follow_up[indices]}

    def cases(self) -> list[dict[str, Any]]:
        """As the datalist names them."""
        known = enumerate(self.conditions)
        return [{"case_id": f"c{i}", "ehr": each.record, "interval_days": each.interval_days} for i, each in known]


def discs(count: int, size: int = 16, growth: float = GROWTH, seed: int = 0, days: Sequence[float] = (365.0,)) -> Pairs:
    """Bright discs (0.4) in the dark (-0.8), with soft edges, a quarter to a half of the image wide, near its middle.

    Args:
        size: side of the images in pixels.
        growth: factor of the radius in 365 days; of another interval, its power.
        days: intervals, in turn.
    """
    generator = torch.Generator().manual_seed(seed)
    radius = size / 8 * (1.0 + torch.rand(count, 1, 1, generator=generator))
    middle = size / 2 - 0.5 + size / 8 * (torch.rand(2, count, 1, 1, generator=generator) - 0.5)
    axis = torch.arange(size, dtype=torch.float32)
    distance = torch.hypot(axis[None, :, None] - middle[0], axis[None, None, :] - middle[1])
    intervals = torch.tensor([days[index % len(days)] for index in range(count)])
    grown = radius * growth ** (intervals / 365.0)[:, None, None]

    def drawn(r: Tensor) -> Tensor:
        return (1.2 * torch.sigmoid(2.0 * (r - distance)) - 0.8)[:, None]

    conditions = [
        Condition({"age": 60, "sct_long_dia": 2.0 * float(r)}, float(days[index % len(days)]))
        for index, r in enumerate(radius.flatten())
    ]
    return Pairs(drawn(radius), drawn(grown), conditions)


def batches(pairs: Pairs, batch_size: int, steps: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Random batches of pairs, which come several times where there are fewer than a batch has."""
    generator, count = torch.Generator().manual_seed(seed), len(pairs.baseline)
    for _ in range(steps):
        turns = [torch.randperm(count, generator=generator) for _ in range(-(-batch_size // count))]
        yield pairs.batch(torch.cat(turns)[:batch_size].tolist())


def fit(
    network: nn.Module, loss: Callable[[dict[str, Any]], Tensor], data: Iterator[dict[str, Any]], rate: float
) -> float:
    """Trains a network by Adam on batches, with a rate that falls linearly to a tenth; gives the last loss."""
    optimizer = torch.optim.Adam([each for each in network.parameters() if each.requires_grad], lr=rate)
    every = list(data)
    value = torch.zeros(())
    for step, batch in enumerate(every):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1.0 - 0.9 * step / len(every))
        optimizer.zero_grad()
        value = loss(batch)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return float(value.detach())


def errors(method: ImageMethod, pairs: Pairs, runs: int = 4) -> tuple[float, float]:
    """Mean absolute error of the mean over a method's samples, and that of the copy of the baseline."""
    samples = MethodInferer(num_runs=runs)(pairs.baseline, method, pairs.conditions)
    mean = samples.mean(dim=1, keepdim=True)
    copy = (pairs.baseline - pairs.follow_up).abs().mean()
    return float((mean - pairs.follow_up).abs().mean()), float(copy)
