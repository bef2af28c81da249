"""Baselines to simulate on: round nodules in noise, as crops with masks, and a table that names them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tests.data_prep.helpers import EHR

RATINGS = {"A": (5, 1), "B": (3,), "C": (4, 2, 2), "D": (1,)}
"""Of the nodules of each patient."""
SPACING = 0.6


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(pixels.astype(np.int16)[..., None], np.diag([-SPACING, -SPACING, 1.0, 1.0])), path)


@pytest.fixture(scope="session")
def baselines(tmp_path_factory) -> Path:
    """A table of seven baselines, two follow-ups among them, and records that are to be replaced."""
    folder, rng, rows = tmp_path_factory.mktemp("baselines"), np.random.default_rng(0), []
    for patient, ratings in RATINGS.items():
        for number, rating in enumerate(ratings, start=1):
            shape, long = (60 + number, 70), 7.0 + 2.0 * rating
            centre = np.array(shape)[:, None, None] / 2 + rng.normal(0, 1, (2, 1, 1))
            mask = np.hypot(*(np.indices(shape) - centre)) * SPACING <= long / 2
            write(folder / "images" / f"{patient}{number}.nii.gz", np.where(mask, 30, -850) + rng.normal(0, 20, shape))
            write(folder / "masks" / f"{patient}{number}.nii.gz", mask)
            row = {
                "patient_id": patient,
                "nodule_id": number,
                "study_yr": 0,
                "image": f"images/{patient}{number}.nii.gz",
            }
            row |= {"mask": f"masks/{patient}{number}.nii.gz", "split": "training", **EHR, "sct_long_dia": long}
            rows.append(row | {"malignant": 0, "lidc_malignancy_rating": rating, "licence": "CC0"})
    later = [{**row, "study_yr": 1, "image": "images/D1.nii.gz", "mask": None} for row in rows[:2]]
    pd.DataFrame([*later, *rows]).to_csv(folder / "baselines.csv", index=False)
    return folder / "baselines.csv"
