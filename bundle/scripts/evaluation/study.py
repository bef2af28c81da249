"""The cases of an evaluation: their records, outcomes and real crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.arrays import Array
from scripts.ehr.encoding import attributes
from scripts.ehr.features import validate
from scripts.ehr.report import radiology_report

DIAMETERS = ("sct_long_dia", "sct_perp_dia")
"""Features with the diameters in mm, the long one first."""


@dataclass(frozen=True)
class Cases:
    """What a datalist knows of N cases, as arrays; NaN where a number is unknown.

    Attributes:
        ids, patients: ids of cases and of their patients, N each.
        labels: outcomes (N,), 1 malignant, 0 benign.
        reports: N radiology reports of the records at baseline.
        diameters, follow_up_diameters: (N, 2) in mm, long and perpendicular, as recorded by radiologists.
        attributes: (N, F), of :func:`scripts.ehr.attributes`, standardised.
        days: (N,) from baseline to follow-up.
        records: N records at baseline, what is known of the 13 features, of :func:`scripts.ehr.validate`.
        oracle, informed: of simulated cases the true probability of malignancy (N,), given what may be known at
            baseline, and given growth too. No method reads them.

    Example:
        >>> entry = {"case_id": "a", "patient_id": "p", "malignant": 1, "ehr": {"sct_long_dia": 8}}
        >>> Cases.of([entry]).counts()
        {'n_cases': 1, 'n_patients': 1, 'n_malignant': 1, 'n_benign': 0}
    """

    ids: list[str]
    patients: list[str]
    labels: Array
    reports: list[str]
    diameters: Array
    follow_up_diameters: Array
    attributes: Array
    days: Array
    records: list[dict[str, float]]
    oracle: Array
    informed: Array

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> Cases:
        """The cases of a section, given its entries in the datalist.

        Raises:
            ValueError: a case id occurs twice, or an outcome is not 0, 1 or None; the message names the cases.
        """
        ids = [str(entry["case_id"]) for entry in entries]
        if twice := sorted({case_id for case_id in ids if ids.count(case_id) > 1}):
            raise ValueError(f"case ids must be unique, but {', '.join(twice)} occur more than once")
        labels = _numbers(entries, "malignant")
        if odd := [i for i, value in zip(ids, labels, strict=True) if value not in (0, 1) and not np.isnan(value)]:
            raise ValueError(f"malignant must be 0, 1 or null (unknown); it is neither in {', '.join(odd)}")
        records = [entry.get("ehr", {}) for entry in entries]
        later = [entry.get("follow_up_attributes", {}) for entry in entries]
        days = [entry.get("interval_days") for entry in entries]
        truths = [entry.get("truth", {}) for entry in entries]
        return cls(
            ids=ids,
            patients=[str(entry["patient_id"]) for entry in entries],
            labels=labels,
            reports=[radiology_report(record, interval) for record, interval in zip(records, days, strict=True)],
            diameters=np.stack([_numbers(records, name) for name in DIAMETERS], axis=1),
            follow_up_diameters=np.stack([_numbers(later, name) for name in DIAMETERS], axis=1),
            attributes=np.array([attributes(record) for record in records], dtype=np.float64),
            days=_numbers(entries, "interval_days"),
            records=[validate(record) for record in records],
            oracle=_numbers(truths, "oracle"),
            informed=_numbers(truths, "oracle_growth"),
        )

    def counts(self) -> dict[str, int]:
        """Numbers of cases, patients and outcomes, by their keys in metrics.json."""
        outcomes = {"n_malignant": int((self.labels == 1).sum()), "n_benign": int((self.labels == 0).sum())}
        return {"n_cases": len(self.ids), "n_patients": len(set(self.patients)), **outcomes}


@dataclass(frozen=True)
class Study:
    """A dataset's section as it is evaluated.

    Attributes:
        cases: the section's N cases.
        baseline, follow_up: real crops (N, 1, H, W) in [-1, 1].
        spacing: mm between pixels (N, 2) of ``baseline``, which generated images have too, and of ``follow_up``;
            without it growth is not measured.
        dataset: name of the dataset.
        simulated: whether any of its data are simulated, or a text that says which.
        training: the cases of the training section and their baselines (M, 1, H, W), on which the regression of
            diameters on latents is fitted.
        cohort: counts and quartiles of the dataset, of :func:`scripts.evaluation.report.cohort.describe`.
        unpadded: (N, 1, H, W), where ``follow_up`` is not padded (see :mod:`scripts.data.padding`); None:
            nowhere. Images are compared with it there alone, but for FID and KID, which see whole crops.
    """

    cases: Cases
    baseline: Array
    follow_up: Array
    spacing: Mapping[str, Array] | None = None
    dataset: str = "unnamed"
    simulated: bool | str = ""
    training: tuple[Cases, Array] | None = None
    cohort: Mapping[str, Any] | None = None
    unpadded: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count, shape = len(self.cases.ids), self.follow_up.shape
        if count == 0 or len(shape) != 4 or shape[:2] != (count, 1):
            raise ValueError(f"follow_up must be (cases, 1, H, W) of {count} cases, at least one; it is {shape}")

    def compared(self, images: Array) -> Array:
        """Images (.., N, 1, H, W), with the real follow-up where that is padded, so that nothing differs there."""
        return images if self.unpadded is None else np.where(self.unpadded, images, self.follow_up)

    @property
    def compared_share(self) -> Array:
        """The share (N,) of each follow-up's pixels that is not padded."""
        return np.ones(len(self.cases.ids)) if self.unpadded is None else self.unpadded.mean(axis=(1, 2, 3))

    @property
    def field_mm(self) -> Array:
        """The shortest side in mm of each case's two crops (N,), which limits what can be measured."""
        assert self.spacing is not None
        return np.min([each * self.follow_up.shape[2:] for each in self.spacing.values()], axis=(0, 2))


def _numbers(entries: Sequence[Mapping[str, Any]], name: str) -> Array:
    """A number of each entry (N,), NaN where it is absent or None."""
    values = [entry.get(name) for entry in entries]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
