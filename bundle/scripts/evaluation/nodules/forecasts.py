"""Generated follow-ups judged as forecasts of the measured diameters, against a copy, climatology and regression.

All diameters are measured in the images, in the same way, by :mod:`scripts.evaluation.nodules.growth`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.nodules.growth import Growth, measure_all
from scripts.evaluation.nodules.references import (
    FEWEST,
    Dressed,
    QuantileRegression,
    climatology,
    copy,
    predictors,
)
from scripts.evaluation.statistics.forecasts import Forecast, scores
from scripts.evaluation.statistics.metrics import similarity
from scripts.evaluation.study import Study

AXES = ("long", "perpendicular", "mean")
"""Diameters that are forecast, see :class:`scripts.evaluation.nodules.growth.Sizes`."""

REFERENCES = ("copy_baseline", "climatology", "quantile_regression")
"""What every method is held against."""

RECALIBRATED = "_recalibrated"
"""Suffix of a method's name for :class:`scripts.evaluation.nodules.references.Dressed`, fitted on validation."""

DEFINITIONS = {
    "forecasts": "diameters of the real follow-up, measured; each method's runs as a distribution. climatology: the "
    "baseline times every growth (ratio) measured in the training section. quantile_regression: boosted trees on the "
    "record, the interval and the measured baseline, fitted on the training section. _recalibrated: climatology moved "
    "by a share of the runs' mean growth, the share of the least CRPS on the validation section",
    "crps": "continuous ranked probability score in mm, in its fair form for draws: what infinitely many runs would "
    "have; of a single value the absolute error; less is better. crps_less: less the reference's, on the same cases; "
    "below 0 the method is better",
    "conformal": "intervals after conformalised quantile regression on the validation section's patients, with "
    "the rank that holds for so few of them; raw: quantiles of the runs at (R + 1) p. width in mm",
    "rank_histogram": "how often the truth has which rank among the runs, ties broken at random; even if the forecast "
    "is right. chi_square and p take cases as independent: too sure if patients have several",
}
"""What the keys of metrics.json mean."""


@dataclass(frozen=True)
class Section:
    """Another section of the dataset, on which references are fitted or intervals calibrated.

    Attributes:
        study: its cases and real crops, with spacing.
        generated: by method, images of its cases (R, V, 1, H, W), or why there are none.
    """

    study: Study
    generated: Mapping[str, Array | str] = field(default_factory=dict)

    def measured(self) -> Growth:
        """Its nodules, measured as the evaluated ones are."""
        assert self.study.spacing is not None
        real = {"real_baseline": self.study.baseline[None], "real_follow_up": self.study.follow_up[None]}
        images = real | {name: each for name, each in self.generated.items() if not isinstance(each, str)}
        return Growth(measure_all(images, self.study.spacing), self.study, None)


class Forecasts:
    """The forecasts of all methods.

    Args:
        growth: the evaluated cases, measured.
        names: methods that generate images.
        training, validation: nodules of other sections of the same dataset, measured, or why there are none.
        absent: by method, why it has no images of the validation section.
    """

    def __init__(
        self,
        growth: Growth,
        names: Sequence[str],
        training: Growth | str,
        validation: Growth | str,
        absent: Mapping[str, str] | None = None,
    ) -> None:
        self.growth, self.names, self.training, self.validation = growth, names, training, validation
        self.absent = absent or {}
        self.shares: dict[tuple[str, str], float] = {}
        self.forecasts = {axis: self._made(axis) for axis in AXES}

    @classmethod
    def of(cls, growth: Growth, names: Sequence[str], sections: Mapping[str, Section | str]) -> Forecasts:
        """The forecasts, given ``training`` and ``validation`` with their images, or why there are none."""
        found = [sections.get(name, f"the {name} section was not given") for name in ("training", "validation")]
        generated = {} if isinstance(found[1], str) else found[1].generated
        absent = {name: each for name, each in generated.items() if isinstance(each, str)}
        training, validation = (each if isinstance(each, str) else each.measured() for each in found)
        return cls(growth, names, training, validation, absent)

    def score(self) -> dict[str, Any]:
        """The entry `forecasts` of metrics.json."""
        return {
            **_counts(self.growth),
            "not_measurable": _named(self.growth),
            "training": _counts(self.training),
            "validation": _counts(self.validation),
            **{axis: self._scored(axis) for axis in AXES},
        }

    def truth(self, axis: str) -> Array:
        """The diameters of the real follow-ups that can be measured (n,)."""
        return _sizes(self.growth, axis)[1]

    def _made(self, axis: str) -> dict[str, tuple[Forecast | str, Forecast | str]]:
        """By method, its forecast of the evaluated cases, and of the validation cases; or why there is none."""
        found: dict[str, tuple[Forecast | str, Forecast | str]] = {}
        for name in self.names:
            runs = self._runs(self.growth, name, axis)
            found[name] = runs, self._runs(self.validation, name, axis)
            found[name + RECALIBRATED] = self._recalibrated(name, *found[name], axis)
        for name, make in _references(self.training, axis).items():
            others = self.validation
            if isinstance(make, str):
                found[name] = make, make
            else:
                found[name] = make(self.growth), others if isinstance(others, str) else make(others)
        return found

    def _runs(self, growth: Growth | str, name: str, axis: str) -> Forecast | str:
        """The runs of a method as a forecast."""
        if isinstance(growth, str):
            return growth
        if name not in growth.measured:
            return self.absent.get(name, "it has no images of the validation section")
        runs = getattr(growth.measured[name], axis)[:, growth.measurable]
        return Forecast(runs) if len(runs) > 1 else "not given for fewer than 2 runs a case"

    def _recalibrated(
        self, name: str, runs: Forecast | str, others: Forecast | str, axis: str
    ) -> tuple[Forecast | str, str]:
        """A method's mean growth with training's spread; nothing is left to calibrate intervals on."""
        lacking = [each for each in (self.training, self.validation, runs, others) if isinstance(each, str)]
        if lacking or isinstance(self.training, str) or isinstance(self.validation, str):
            return lacking[0], ""
        assert isinstance(runs, Forecast) and isinstance(others, Forecast)
        for section, growth in (("training", self.training), ("validation", self.validation)):
            if reason := _too_few(growth, section):
                return reason, ""
        (start, end), fitted_on = _sizes(self.training, axis), _sizes(self.validation, axis)
        fitted = Dressed(others.members, *fitted_on, end / start)
        self.shares[axis, name + RECALIBRATED] = fitted.share
        reason = "not given for a share fitted on the cases that intervals are calibrated on"
        return fitted.forecast(runs.members, _sizes(self.growth, axis)[0]), reason

    def _scored(self, axis: str) -> dict[str, Any]:
        """Scores by method, each with the differences of its CRPS from the references'."""
        use, truth = np.flatnonzero(self.growth.measurable), self.truth(axis)
        if len(truth) == 0:
            return {}
        weights = None if self.growth.weights is None else self.growth.weights[:, use]
        losses = {
            name: forecast.crps(truth)
            for name, (forecast, _) in self.forecasts[axis].items()
            if isinstance(forecast, Forecast)
        }
        found: dict[str, Any] = {}
        for name, (forecast, other) in self.forecasts[axis].items():
            if isinstance(forecast, str):
                found[name] = {"reason": forecast}
                continue
            less = {
                reference: similarity((losses[name] - losses[reference])[None], weights)
                for reference in REFERENCES
                if reference != name and reference in losses
            }
            calibration: Any = other
            if isinstance(other, Forecast):
                assert isinstance(self.validation, Growth)
                calibration = other, _sizes(self.validation, axis)[1], self.validation.patients
            found[name] = scores(forecast, truth, weights, calibration) | {"crps_less": less}
            if (share := self.shares.get((axis, name))) is not None:
                found[name]["share"] = share
        return found


def _references(training: Growth | str, axis: str) -> dict[str, Any]:
    """By name of :data:`REFERENCES`, a function from measured cases to a forecast of them, or why there is none."""
    found: dict[str, Any] = {"copy_baseline": lambda growth: copy(_sizes(growth, axis)[0])}
    if isinstance(training, str):
        return found | dict.fromkeys(REFERENCES[1:], training)
    if reason := _too_few(training, "training"):
        return found | dict.fromkeys(REFERENCES[1:], reason)
    before, after = _sizes(training, axis)
    regression = QuantileRegression(_known(training, axis), after / before)
    return found | {
        "climatology": lambda growth: climatology(_sizes(growth, axis)[0], after / before),
        "quantile_regression": lambda growth: regression.forecast(_known(growth, axis), _sizes(growth, axis)[0]),
    }


def _too_few(growth: Growth, section: str) -> str | None:
    """Why nothing is fitted on a section; None where it has nodules enough."""
    count = int(growth.measurable.sum())
    return None if count >= FEWEST else f"fewer than {FEWEST} {section} nodules can be measured ({count})"


def _known(growth: Growth, axis: str) -> Array:
    """What the regression knows of the cases that can be measured."""
    records = [record for record, use in zip(growth.cases.records, growth.measurable, strict=True) if use]
    return predictors(records, _sizes(growth, axis)[0], growth.days[growth.measurable])


def _sizes(growth: Growth, axis: str) -> tuple[Array, Array]:
    """Diameters (n,) of the real baselines and follow-ups that can be measured."""
    before, after = (getattr(each["measured"], axis)[0, growth.measurable] for each in (growth.before, growth.after))
    return before, after


def _counts(growth: Growth | str) -> dict[str, Any]:
    """How many nodules of a section can be measured, and how many not, or why there is no section."""
    if isinstance(growth, str):
        return {"reason": growth}
    counts = {"n_cases": growth.measurable, "n_larger_than_crop": growth.cut, "n_not_found": growth.lost}
    return {name: int(mask.sum()) for name, mask in counts.items()} | {"n_patients": len(set(growth.patients))}


def _named(growth: Growth) -> dict[str, list[str]]:
    """By reason the case ids that cannot be measured."""
    masks = {"larger_than_crop": growth.cut, "not_found": growth.lost}
    return {name: [growth.cases.ids[index] for index in np.flatnonzero(mask)] for name, mask in masks.items()}
