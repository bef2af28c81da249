"""The condition as numbers without gaps, for networks that read the record as such and not as a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.comparators.regression import RecordRegression, record_columns
from scripts.ehr.encoding import record_encoder, records


class ConditionNumbers:
    """What a record and an interval say as numbers, scaled by the training cases.

    Args:
        columns: of :class:`~scripts.comparators.regression.RecordRegression`, without coefficients.
        interval: ``median``, ``mean`` and ``scale`` of the logarithm of the days, the last column.

    Example:
        >>> cases = [Condition({"age": age}, days) for age, days in ((60, 365), (70, 730))]
        >>> numbers = ConditionNumbers.of(cases)
        >>> numbers(cases)[:, -1]
        tensor([-1.,  1.])
        >>> numbers([Condition({"age": 65}, None)])[0, -1].abs() < 1e-6
        tensor(True)
    """

    def __init__(self, columns: Sequence[Mapping[str, Any]], interval: Mapping[str, float]) -> None:
        self.config: dict[str, Any] = {"columns": [dict(column) for column in columns], "interval": dict(interval)}
        self._record = RecordRegression(columns, 0.0)

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> ConditionNumbers:
        """Scaled by these cases; where none has an interval, it is as good as constant."""
        encoder = record_encoder().fit(records([{"ehr": each.record} for each in conditions]))
        days = [each.interval_days for each in conditions if each.interval_days]
        known = np.log(np.array(days or [365.0]))
        interval = {"median": float(np.median(known)), "mean": float(known.mean()), "scale": float(known.std() or 1.0)}
        return cls(record_columns(encoder), interval)

    @property
    def width(self) -> int:
        """F, how many numbers there are."""
        return len(self.config["columns"]) + 1

    def __call__(self, conditions: Sequence[Condition]) -> Tensor:
        """The numbers (B, F) of B conditions, float32 on the CPU."""
        interval = self.config["interval"]
        record = self._record.numbers(records([{"ehr": each.record} for each in conditions]))
        days = np.array(
            [np.log(each.interval_days) if each.interval_days else interval["median"] for each in conditions]
        )
        last = (days - interval["mean"]) / interval["scale"]
        return torch.from_numpy(np.column_stack([record, last])).float()
