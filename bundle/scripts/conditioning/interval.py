"""The interval to the follow-up as a number beside the text: one more vector of the context."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from scripts.conditioning.language_models import ConditionerError
from scripts.conditioning.settings import OPTION

STATISTICS = ("interval_mean", "interval_std")
"""Names of the tensors beside the context's statistics."""

STATED = re.compile(r"Follow-up after ([0-9]+) (months|days)\.$")
"""A report's last sentence, as ``scripts.ehr.radiology_report`` writes it."""
DAYS = {"months": 30.4375, "days": 1.0}


def interval_days_of(report: str) -> float | None:
    """The interval that a report states, in days, as exact as it is written; None where it states none.

    >>> interval_days_of("CT shows a nodule. Follow-up after 12 months."), interval_days_of("CT shows a nodule.")
    (365.25, None)
    """
    found = STATED.search(report)
    return float(found[1]) * DAYS[found[2]] if found else None


class IntervalNumber(nn.Module):
    """Gives the interval that each report states as a context vector (B, 1, D): half of it ones, half u.

    u is the logarithm of the days, standardised over the training reports, so that a U-Net's cross-attention can learn
    any course over it, whatever a language model makes of the words. The number is read from the report's own last
    sentence, so that text and number cannot differ; it is the months, or below 60 days the days, that stand there. The
    ones tell an interval of average length from the null context's zeros.

    Args:
        width: D.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.zeros(()))

    @torch.no_grad()
    def fit(self, reports: Sequence[str]) -> None:
        """Measures mean and standard deviation of the logarithm over the training reports.

        Raises:
            ConditionerError: a report states no interval, or all state the same.
        """
        logarithms = self._logarithms(reports).double()
        if len(logarithms.unique()) < 2:
            raise ConditionerError(
                "interval_number: all training reports state the same interval, so nothing can be learned of others. "
                "Leave interval_number out, or train on pairs of several intervals."
            )
        self.mean.copy_(logarithms.mean())
        self.std.copy_(logarithms.std())

    def forward(self, reports: Sequence[str]) -> Tensor:
        """The vectors (B, 1, D) of B reports.

        Raises:
            ConditionerError: a report states no interval, or :meth:`fit` was never called.
        """
        if not bool(self.std):
            raise ConditionerError(
                "interval_number: the training's intervals are unknown. Call fit_statistics(reports) with the training "
                "reports, or load prompts that carry them."
            )
        number = (self._logarithms(reports) - self.mean) / self.std
        vectors = number[:, None].repeat(1, self.width)
        vectors[:, : self.width // 2] = 1.0
        return vectors[:, None]

    def _logarithms(self, reports: Sequence[str]) -> Tensor:
        """Of the days that each report states, (B,)."""
        days = [interval_days_of(report) for report in reports]
        if None in days:
            raise ConditionerError(
                f"interval_number: {days.count(None)} of {len(days)} reports state no interval, which these weights "
                "are told as a number. Give interval_days, and train with report_interval."
            )
        return torch.tensor(days, dtype=torch.float32, device=self.mean.device).log()

    def statistics(self) -> dict[str, Tensor]:
        """What :meth:`load` takes."""
        return dict(zip(STATISTICS, (self.mean, self.std), strict=True))

    def load(self, statistics: Mapping[str, Tensor]) -> None:
        """Takes over what :meth:`statistics` gave."""
        for own, name in zip((self.mean, self.std), STATISTICS, strict=True):
            own.copy_(statistics[name])


def check_interval(interval: IntervalNumber | None, statistics: Mapping[str, Tensor], folder: Path) -> None:
    """Refuses weights with a vector of the interval where there is none, and the other way round.

    Args:
        statistics: of the weights.
        folder: theirs, for the message.

    Raises:
        ConditionerError: says which it is.
    """
    was = STATISTICS[0] in statistics
    if was != (interval is not None):
        raise ConditionerError(
            f"{folder}: its context has {'a' if was else 'no'} vector of the interval. Give {OPTION}interval_number "
            f"{was}, or train again."
        )


def null_vectors(state: Tensor, batch_size: int, num_prompt_sets: int, interval_number: bool) -> Tensor:
    """The null context (B, M, D) of one state (1, 1, D); with the interval's number one vector more, which is zero."""
    context = state.expand(batch_size, num_prompt_sets, -1)
    return nn.functional.pad(context, (0, 0, 0, 1)) if interval_number else context
