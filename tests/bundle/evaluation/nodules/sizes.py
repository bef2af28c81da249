"""Measured sizes and cases that are made up."""

from __future__ import annotations

import numpy as np

from scripts.evaluation.nodules import growth
from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.evaluation.study import Cases, Study
from tests.bundle.evaluation.nodules.discs import SIZE


def sizes_of(long, perpendicular):
    long, perpendicular = np.atleast_2d(long).astype(float), np.atleast_2d(perpendicular).astype(float)
    shape = np.broadcast_shapes(long.shape, perpendicular.shape)
    return growth.Sizes(
        *(np.broadcast_to(values, shape) for values in (long, perpendicular, long * perpendicular)),
        np.ones(shape, dtype=bool),
        np.zeros(shape, dtype=bool),
    )


def resampled(count: int) -> np.ndarray:
    """Bootstrap weights of so many cases, of a patient each."""
    return patient_resamples(range(count), np.full(count, np.nan), resamples=20, seed=0)


def entries(before, after, **more):
    return [
        {
            "case_id": str(index),
            "patient_id": str(index),
            "ehr": {"sct_long_dia": first, "sct_perp_dia": first},
            "follow_up_attributes": {"sct_long_dia": last, "sct_perp_dia": last},
            **more,
        }
        for index, (first, last) in enumerate(zip(before, after, strict=True))
    ]


def study_of(cases, field_mm):
    images, spacing = np.zeros((len(cases), 1, SIZE, SIZE)), np.full((len(cases), 2), field_mm / SIZE)
    return Study(Cases.of(cases), images, images, {"baseline": spacing, "follow_up": spacing})
