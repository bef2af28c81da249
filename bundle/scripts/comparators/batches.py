"""Batches of the compared methods, with each case's condition as it is (MONAI: prepare_batch)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.data.padding import without_padding


def plain(image: Any) -> Tensor:
    """A tensor without meta data."""
    return image.as_tensor() if hasattr(image, "as_tensor") else image


class ConditionBatch:
    """The batch of generation: baseline crops, and as the inferer's ``condition`` those of the cases.

    Records have gaps, so that they do not go through the data loader; the case's id stands for them.

    Args:
        cases: with ``case_id``, ``ehr`` and ``interval_days``, such as :func:`scripts.data.inference_items`.
    """

    def __init__(self, cases: Iterable[Mapping[str, Any]]) -> None:
        self.conditions = {case["case_id"]: Condition.of(case) for case in cases}

    def condition(self, batch: Mapping[str, Any]) -> list[Condition]:
        """The conditions of a batch, by its ``case_id``."""
        return [self.conditions[case_id] for case_id in batch["case_id"]]

    def __call__(
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, None, tuple, dict[str, Any]]:
        """Baselines (B, 1, H, W), no target, no positional arguments, and ``condition``."""
        image = batch["image"].to(device=device, non_blocking=non_blocking, **kwargs)
        return image, None, (), {"condition": self.condition(batch)}


class PairBatch(ConditionBatch):
    """The batch of training on pairs of crops, or of their latents: ``baseline``, ``follow_up`` and the conditions.

    Args:
        cases: of the datalist.
    """

    def __call__(  # type: ignore[override]
        self,
        batch: Mapping[str, Any],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor, tuple, dict[str, Any]]:
        """Baselines (B, C, H, W), follow-ups of that shape with NaN where they are padded, (), and ``condition``."""
        move: dict[str, Any] = {"device": device, "non_blocking": non_blocking, **kwargs}
        baseline, follow_up = (plain(batch[key]).to(**move) for key in ("baseline", "follow_up"))
        return baseline, without_padding(follow_up, batch, "follow_up"), (), {"condition": self.condition(batch)}
