"""The regression on the record as numbers, which stand in a JSON file: applied without scikit-learn, and no pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from scripts.arrays import Array
from scripts.comparators.tables import ComparatorError
from scripts.ehr.features import EHR_FEATURES, FEATURES
from scripts.files import read_mapping, write_json

if TYPE_CHECKING:
    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline

MISSING = "missing"
"""In place of a code: the column of a feature that is not known."""


@dataclass(frozen=True)
class RecordRegression:
    """A logistic regression of the outcome on the record, a column a number that the record becomes.

    Attributes:
        columns: of each column ``feature``, ``coefficient``, ``mean`` and ``scale`` (it is standardised with them), and
            either ``median``, which stands for a gap, and ``logarithm`` of a continuous feature, or ``is``: the column
            is 1 where the feature has this code, or where it is ``missing``, else 0.
        intercept: of the log odds.

    Example:
        >>> column = {"feature": "sct_margins", "is": 1, "mean": 0.0, "scale": 1.0, "coefficient": 2.0}
        >>> regression = RecordRegression([column], -1.0)
        >>> records = np.full((2, 13), np.nan)
        >>> records[0, EHR_FEATURES.index("sct_margins")] = 1
        >>> regression.probability(records).round(3)
        array([0.731, 0.269])
    """

    columns: Sequence[Mapping[str, Any]]
    intercept: float

    @classmethod
    def of(cls, search: GridSearchCV) -> RecordRegression:
        """The numbers of a fitted :func:`scripts.comparators.record_regression`."""
        encoder, fitted = (search.best_estimator_[name] for name in ("record", "regression"))
        columns = record_columns(encoder)
        coefficients = fitted.coef_[0].tolist()
        return cls(
            [column | {"coefficient": value} for column, value in zip(columns, coefficients, strict=True)],
            float(fitted.intercept_[0]),
        )

    @classmethod
    def read(cls, path: str | Path) -> RecordRegression:
        """The regression that :meth:`write` wrote.

        Raises:
            ComparatorError: the file is absent, damaged, or holds something else.
        """
        content = read_mapping(path, ComparatorError)
        try:
            regression = cls(content["columns"], float(content["intercept"]))
            regression.numbers(np.full((1, len(EHR_FEATURES)), np.nan))
        except (KeyError, TypeError, ValueError) as error:
            raise ComparatorError(
                f"{path}: no regression on the record ({type(error).__name__}: {error}). Publish it again."
            ) from error
        return regression

    def write(self, path: str | Path, **facts: Any) -> None:
        """Writes the regression as JSON, with further facts about it."""
        write_json(Path(path), {**facts, "intercept": self.intercept, "columns": list(self.columns)}, indent=1)

    @property
    def coefficients(self) -> Array:
        """Of the columns (F,)."""
        return np.array([column["coefficient"] for column in self.columns])

    def numbers(self, records: Array) -> Array:
        """What the columns say of :func:`scripts.ehr.records` (N, 13), as (N, F) without gaps."""
        return np.stack([self._column(column, records) for column in self.columns], axis=1)

    def log_odds(self, records: Array) -> Array:
        """Log odds of malignancy (N,) of :func:`scripts.ehr.records` (N, 13)."""
        return self.numbers(records) @ self.coefficients + self.intercept

    def probability(self, records: Array) -> Array:
        """Probabilities of malignancy (N,) of :func:`scripts.ehr.records` (N, 13)."""
        return expit(self.log_odds(records))

    @staticmethod
    def _column(column: Mapping[str, Any], records: Array) -> Array:
        values = records[:, EHR_FEATURES.index(column["feature"])]
        if "is" in column:
            values = np.isnan(values) if column["is"] == MISSING else values == column["is"]
        else:
            values = np.log(values) if column["logarithm"] else values
            values = np.where(np.isnan(values), column["median"], values)
        return (values - column["mean"]) / column["scale"]


def record_columns(encoder: ColumnTransformer) -> list[dict[str, Any]]:
    """The columns of a fitted :func:`scripts.ehr.record_encoder`, without coefficients."""
    columns: list[dict[str, Any]] = []
    for _, part, indices in encoder.transformers_:
        names = [EHR_FEATURES[index] for index in indices]
        if hasattr(part, "categories_"):
            for name in names:
                codes = [*FEATURES[name].codes, MISSING]
                columns += [{"feature": name, "is": code, "mean": 0.0, "scale": 1.0} for code in codes]
        else:
            columns += _scaled_columns(part, names)
    return columns


def _scaled_columns(pipeline: Pipeline, names: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of continuous features and, behind them, those of features with gaps in training."""
    function, gaps, scaler = (step for _, step in pipeline.steps)
    logarithm = function.func is np.log
    columns: list[dict[str, Any]] = [
        {"feature": name, "median": float(median), "logarithm": logarithm}
        for name, median in zip(names, gaps.statistics_, strict=True)
    ]
    columns += [{"feature": names[index], "is": MISSING} for index in gaps.indicator_.features_]
    scales = zip(columns, scaler.mean_.tolist(), scaler.scale_.tolist(), strict=True)
    return [column | {"mean": mean, "scale": scale} for column, mean, scale in scales]
