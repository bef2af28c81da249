"""The core of every deployment: one scan, one point and one record to one result."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep import BUNDLE
from data_prep.cutting import Centre
from data_prep.images import crops
from data_prep.single import cut_single
from deploy.flags import flags
from scripts.ehr.features import validate
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.files import read_mapping, whole_folder, write_json

CASE = "nodule"
"""What a case is called in its folder, which tells nothing of a patient."""

RESULT = f"{CASE}/result.json"

SIZE = 128
"""Pixels along both sides of the crop, as `data_prep cohort` cuts; networks see the middle."""


class CaseError(UserError):
    """A case that cannot be begun: its result's folder, or the weights."""


def predict(
    series: Path,
    point: Centre,
    record: Mapping[str, Any],
    out: Path,
    *,
    interval_days: float = 365,
    models_dir: Path | None = None,
    transform: str | None = None,
    series_uid: str | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Generates follow-ups of one nodule, and says what they tell.

    Whatever is wrong with the scan, the point or the record is refused before torch is imported.

    Args:
        series: a folder with a DICOM series, or a NIfTI or MetaImage file.
        point: the nodule's centre, mm, LPS.
        record: the patient's, see :func:`scripts.ehr.features.validate`.
        out: the folder to write, which appears whole or not at all: the crop ``nodule.nii.gz``, ``results.csv``, and
            ``nodule`` with what inference writes of a case. An earlier result there is replaced, nothing else.
        interval_days: from the scan to the follow-up.
        models_dir: holds the weights; None: the bundle's.
        transform, series_uid: see :func:`data_prep.images.crops.cut`.
        settings: of ``inference.yaml``, such as ``num_runs``.

    Returns:
        The content of ``nodule/result.json``.

    Raises:
        DataError: of the scan and the point, see :func:`data_prep.single.cut_single`.
        UserError: of the record, the interval, the folder or the weights.
    """
    _refuse_other(out)
    known = validate(record)
    radiology_report(known, interval_days)
    which: dict[str, Any] = {"transform": transform, "series_uid": series_uid}
    found = flags(series, point, known, cut_single(series, point, SIZE, **which), **which)
    models = models_of(models_dir)
    if not (models / "unet_conditional.safetensors").is_file():
        raise CaseError(
            f"{models}: no unet_conditional.safetensors; expected finished weights. Name another --models_dir."
        )
    from scripts.diffusion.settings import sampling_settings  # these import torch
    from scripts.results import add_flags

    told = sampling_settings(models)
    crop = cut_single(series, point, max(SIZE, told["image_size"]), told["pixel_mm"], **which)
    with whole_folder(out) as folder:
        crops.save(crop, folder / f"{CASE}.nii.gz")
        _generate(folder, known, models, interval_days, settings)
        add_flags(folder / CASE, found)
    return read_mapping(out / RESULT)


def models_of(models_dir: Path | None) -> Path:
    """The folder of the weights; None: the bundle's."""
    return (models_dir or BUNDLE / "models").absolute()


def _refuse_other(out: Path) -> None:
    """Refuses to replace what is no earlier result."""
    if out.exists() and not (out / RESULT).is_file() and (out.is_file() or any(out.iterdir())):
        raise CaseError(f"{out}: exists and is no result of a case. Name another folder, or remove it.")


def _generate(
    folder: Path, record: Mapping[str, Any], models: Path, interval_days: float, settings: Mapping[str, Any]
) -> None:
    """Runs the bundle's inference of the crop in a folder, into that folder; the record is not left there."""
    from monai.bundle import ConfigWorkflow

    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # its notice that it sets no logging up
    with tempfile.TemporaryDirectory() as place:
        ehr = Path(place) / "ehr.json"
        write_json(ehr, record)
        workflow = ConfigWorkflow(
            str(BUNDLE / "configs" / "inference.yaml"),
            workflow_type="infer",
            logging_file=False,
            image=str(folder / f"{CASE}.nii.gz"),
            ehr=str(ehr),
            predictions_dir=str(folder),
            models_dir=str(models),
            interval_days=interval_days,
            **settings,
        )
        workflow.initialize()
        workflow.run()
        workflow.finalize()
