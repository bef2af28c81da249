"""What a site asks of the probabilities: are they right here, do they help to decide, for whom, and what do images add?

Each part stands in metrics.json under the key that :func:`clinical_scores` gives it (bundle/docs/evaluation.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.arrays import Array
from scripts.ehr.encoding import records
from scripts.evaluation.judge import Judge
from scripts.evaluation.report.columns import ENSEMBLE
from scripts.evaluation.statistics.added_value import added_by_images
from scripts.evaluation.statistics.decision_curve import decision_curves
from scripts.evaluation.statistics.recalibration import recalibration_scores
from scripts.evaluation.statistics.subgroups import events_warning, members_of, subgroup
from scripts.evaluation.statistics.thresholds import operating_points

DEFINITIONS = {
    "recalibration": "of probabilities corrected on the other folds of these cases, patients kept together: as_given; "
    "intercept, the log odds moved; intercept_and_slope, also stretched. coefficients: of all cases, to use elsewhere",
    "ici": "integrated calibration index: mean distance of a smooth calibration curve from the probabilities",
    "observed_expected": "malignant cases over the sum of probabilities; below 1, probabilities are too high",
    "net_benefit": "share of malignant cases acted on, less the share of benign ones times the threshold's odds; "
    "treating none has 0. It takes the share of malignant cases here as that where one would act",
    "added_value": "logistic models of record and baseline's score, and with the generated images' score, judged on "
    "patients that they were not fitted on",
    "likelihood_ratio": "of the two models on all cases; takes cases as independent, too sure if patients have several",
    "operating_points": "sensitivity and specificity at thresholds fixed on the validation section, or given; "
    "published_: on the weights' own held-out cases, others than these (record: published_thresholds)",
}
"""What the keys of metrics.json mean."""

NO_IMAGES = "no method generates images"
FITTED_HERE = "fitted on these cases, out of fold"
RECORD = "RecordOnly"  # the method that a table of the record alone names beside it


def clinical_scores(
    judge: Judge,
    probabilities: Mapping[str, Array],
    main: str | None,
    thresholds: Mapping[str, Mapping[str, float] | str],
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The entries of metrics.json that this module is about.

    Args:
        judge: has the cases and the bootstrap.
        probabilities: of `one_probability_per_case`, (N,) by name.
        main: the method whose images are judged; None if no method generates any.
        thresholds: by method, without the suffix of averages, its thresholds by rule, or why it has none; see
            :func:`scripts.evaluation.validation.validation_thresholds`.
        record: of `evaluation_record`; says which table, or published method, is of the record alone.
    """
    cases, plain = judge.study.cases, judge.plain_weights
    labels, patients = cases.labels, cases.patients
    generated = _row(main, probabilities)
    spacing = None if judge.study.spacing is None else judge.study.spacing["baseline"].max(axis=1)
    groups = members_of(cases.records, spacing)
    return {
        "events_warning": events_warning(labels),
        "recalibration": {
            name: recalibration_scores(values, labels, patients, plain) for name, values in probabilities.items()
        },
        "decision_curves": decision_curves(probabilities, labels, plain, generated),
        "added_value": _added(judge, probabilities, generated, _record_alone(probabilities, record)),
        "operating_points": {
            name: _points(values, labels, thresholds[name.removesuffix(ENSEMBLE)], plain)
            for name, values in probabilities.items()
            if name.removesuffix(ENSEMBLE) in thresholds
        },
        "subgroups": {
            title: {
                name: subgroup(mask, probabilities, labels, patients, judge.weights) for name, mask in masks.items()
            }
            for title, masks in groups.items()
        },
    }


def _row(method: str | None, probabilities: Mapping[str, Array]) -> str | None:
    """The row with one probability a case of a method: averaged over its runs, or of its only run."""
    return next((name for name in (f"{method}{ENSEMBLE}", method) if name in probabilities), None)


def _record_alone(probabilities: Mapping[str, Array], record: Mapping[str, Any] | None) -> str | None:
    """The row of the first table, or published method, that is the regression on the record alone."""
    tables = (record or {}).get("tables", {}) | (record or {}).get("published", {})
    return next((_row(title, probabilities) for title, made in tables.items() if made.get("method") == RECORD), None)


def _added(
    judge: Judge, probabilities: Mapping[str, Array], generated: str | None, record_alone: str | None
) -> dict[str, Any]:
    """What the generated images add, and by which regression the record speaks."""
    if generated is None:
        return {"reason": NO_IMAGES}
    cases = judge.study.cases
    found = added_by_images(
        records([{"ehr": record} for record in cases.records]),
        [probabilities["real_baseline"], probabilities[generated]],
        cases.labels,
        cases.patients,
        (judge.weights, judge.plain_weights),
        None if record_alone is None else probabilities[record_alone],
    )
    return {"record": record_alone or FITTED_HERE, **found}


def _points(
    values: Array, labels: Array, thresholds: Mapping[str, float] | str, weights: Array | None
) -> dict[str, Any]:
    """A method's sensitivity and specificity by rule, or the reason why it has no threshold."""
    if isinstance(thresholds, str):
        return {"reason": thresholds}
    return operating_points(values, labels, thresholds, weights)
