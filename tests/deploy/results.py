"""A case's result as inference leaves it, of a crop and known runs, so that no network has to be opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from data_prep.cutting import Centre
from data_prep.images import crops
from data_prep.single import cut_single, place_of


def spread(median: float) -> dict[str, Any]:
    """Of one number over the runs; each number has its own, so that none can stand for another."""
    middle, wide = [median - 0.75, median + 0.75], [median - 1.75, median + 2.5]
    return {"median": median, "interval50": middle, "interval90": wide}


CHANGES = {"long": spread(1.5), "perpendicular": spread(1.0), "mean": spread(1.25)}
VOLUME, DOUBLINGS = spread(415.0), spread(0.5)

RESULT = {
    "format": 1,
    "synthetic": "SYNTHETIC follow-up by NAMD, research use only",
    "warning": "Research use only, not for clinical decisions. Generated images are synthetic.",
    "case_id": "nodule",
    "interval_days": 365,
    "num_runs": 3,
    "best_method": "record_only",
    "methods": [
        {
            **{"method": "record_only", "title": "the record alone", "probability": 0.42049, "uncalibrated": 0.41},
            "held_out": {"auroc": 0.8166, "ci95": [0.7763, 0.8575], "n": 507, "on": "folds"},
        },
        {
            **{"method": "generated", "title": "generated follow-ups, read by the judge", "probability": None},
            **{"uncalibrated": 0.71631, "runs": {"mean": 0.71631, "sd": 0.027368}, "held_out": None},
        },
        {
            **{"method": "brock", "title": "the record, Brock model", "held_out": None},
            **{"not_computable": "lacks the number of nodules", "at_most": 0.66},
        },
    ],
    "growth": {
        "baseline_mm": {"long": 9.5, "perpendicular": 7.25, "mean": 8.4},
        "change_mm": CHANGES,
        "lung_rads": {
            **{"threshold_mm": 1.5, "change_in_12_months_mm": spread(1.125), "grows": False},
            **{"share_of_runs_that_grow": 0.45, "share_of_runs_that_shrink": 0.1},
        },
        "volume_mm3": {"from": "one slice, as an ellipsoid", "baseline": 310.0, "generated": VOLUME},
        "doublings_per_year": DOUBLINGS,
        **{"runs_not_found": 0, "runs_cut": 0, "held_out": {"error_mm": 1.52, "unchanged_error_mm": 1.46, "n": 68}},
    },
    "flags": ["The scan ends within the crop: 5 mm³ beyond its edge stand air."],
    "lacking": ["the calibration of a method"],
    "held_out_cases": {"dataset": "phantom", "simulated": "all of it", "compared": None},
    "made_from": {"sha256": "a" * 64, "prediction_sha256": "b" * 64, "version": "0", "solver": "dpmpp"},
}


def write_result(out: Path, series: Path, point: Centre, size: int = 64) -> Path:
    """``nodule.nii.gz`` and ``nodule`` with three runs, the crop's pixels and 3 and 12 HU more, in ``out``.

    Returns:
        The case's folder, ``out/nodule``.
    """
    from scripts.pictures import panel
    from scripts.results import write_page

    folder = out / "nodule"
    samples = write_samples(folder, series, point, size)
    crops.save(cut_single(series, point, 128, 0.5), out / "nodule.nii.gz")
    scaled = (samples.transpose(2, 0, 1) + 350) / 650.0
    panel(scaled[0], scaled, "nodule", 0.5, ("L", "P")).savefig(folder / "panel.png", dpi=150)
    write_page(folder, out / "nodule.nii.gz", place_of(point))
    return folder


def write_samples(folder: Path, series: Path, point: Centre, size: int) -> np.ndarray:
    """The case's folder without pictures; the runs (x, y, runs)."""
    folder.mkdir(parents=True)
    crop = cut_single(series, point, size, 0.5)
    hu = np.asarray(crop.dataobj)[..., 0]
    samples = np.stack([hu, hu + 3, hu + 12], axis=-1).astype(np.int16)
    nib.save(nib.Nifti1Image(samples[:, :, None], crop.affine), folder / "samples.nii.gz")
    (folder / "result.json").write_text(json.dumps(RESULT))
    (folder / "provenance.json").write_text(json.dumps({"weights": {"autoencoder": "c" * 64}}))
    return samples
