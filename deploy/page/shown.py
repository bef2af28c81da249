"""What the page shows: the record as a form, and of a case its numbers in words and its images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from deploy.case import CASE, RESULT
from deploy.page.sessions import Case
from scripts.ehr.features import FEATURES, NODULE_ATTRIBUTES, RELATIVES, Feature
from scripts.ehr.report import radiology_report
from scripts.files import read_mapping

GROUPS = {
    "Nodule": NODULE_ATTRIBUTES,
    "Patient": ("age", "gender", "diagemph"),
    "Lung cancer in the family": tuple(RELATIVES),
}
"""The 13 features as they stand in the form."""


def form() -> list[dict[str, Any]]:
    """The record as controls, by group: ``title`` and ``features``."""
    return [
        {"title": title, "features": [control(FEATURES[name]) for name in names]} for title, names in GROUPS.items()
    ]


def control(feature: Feature) -> dict[str, Any]:
    """``name`` and ``label``, and either ``choices``, codes with words, or ``minimum``, ``maximum`` and ``unit``."""
    told: dict[str, Any] = {"name": feature.name, "label": RELATIVES.get(feature.name, feature.description)}
    if feature.codes:
        return {**told, "choices": [[code, words] for code, words in feature.codes.items()]}
    return {**told, "minimum": feature.minimum, "maximum": feature.maximum, "unit": feature.unit}


def summary(case: Case) -> dict[str, Any]:
    """A case without its result, as in lists."""
    return {
        **{"id": case.id, "number": case.number, "scan": case.scan.id, "point": list(case.point)},
        **{"interval_days": case.interval_days, "record": dict(case.record)},
        "report": radiology_report(case.record, case.interval_days),
        "dicom": case.scan.told["dicom"],
        "simulated": case.scan.simulated,
    }


def content(case: Case) -> dict[str, Any]:
    """A finished case: its summary, its numbers as in result.json, and in words."""
    from scripts.results.page import growth_in_words, held_out_in_words, method_in_words
    from scripts.results.table import headline

    result = read_mapping(case.out / RESULT)
    samples = _samples(case)
    return {
        **summary(case),
        "headline": headline(result),
        "warning": result["warning"],
        "num_runs": result["num_runs"],
        "methods": [_method(each, method_in_words(each), result["best_method"]) for each in result["methods"]],
        "held_out": held_out_in_words(result),
        "growth": growth_in_words(result),
        "flags": result["flags"],
        "lacking": result["lacking"],
        "baseline_mm": result["growth"].get("baseline_mm"),
        "side": int(samples.shape[0]),
        "pixel_mm": float(samples.header.get_zooms()[0]),
        "course": case.course,
    }


def _method(method: Mapping[str, Any], cells: list[str], best: str | None) -> dict[str, Any]:
    """A row of the table of probabilities."""
    told = {"title": method["title"], "best": method["method"] == best, "probability": method.get("probability")}
    if len(cells) == 1:
        return {**told, "reason": " ".join(cells[0].split())}
    return {**told, "calibrated": cells[0], "as_it_came": cells[1], "held_out": cells[2]}


def images(case: Case) -> bytes:
    """Baseline, mean, standard deviation, and all samples, HU, as rows of little-endian 16-bit numbers."""
    samples = _hu(_samples(case))
    crop = _hu(nib.Nifti1Image.from_filename(case.out / f"{CASE}.nii.gz"))[..., 0]
    sides = samples.shape[:2]
    first = [whole // 2 - part // 2 for whole, part in zip(crop.shape, sides, strict=True)]  # as the networks' crop
    baseline = crop[first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]]
    runs = np.moveaxis(samples[:, :, 0], -1, 0).astype(np.float64)
    planes = [baseline, runs.mean(axis=0), runs.std(axis=0), *runs]
    return b"".join(np.rint(plane).astype("<i2").T.tobytes() for plane in planes)


def _samples(case: Case) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_filename(case.out / CASE / "samples.nii.gz")


def _hu(image: nib.Nifti1Image) -> NDArray[np.int16]:
    return np.asanyarray(image.dataobj, dtype=np.int16)
