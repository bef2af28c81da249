"""The core of every deployment: one scan, one point and one record to one result."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping
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


KEPT = ("made_by", "network_def", "methods")
"""Of the bundle's inference, what is the same for every case by the same weights and settings."""


class Predictor:
    """Generates follow-ups of one nodule after another, by weights that are opened for the first and stay open.

    Weights that were replaced since are opened again. One case at a time: a predictor is not for several threads.

    Args:
        models_dir: holds the weights; None: the bundle's.
        settings: of ``inference.yaml``, such as ``num_runs``.
    """

    def __init__(self, models_dir: Path | None = None, **settings: Any) -> None:
        self.models, self.settings = models_of(models_dir), settings
        self._opened: dict[str, Any] = {}
        self._files: list[tuple[str, int, int]] = []

    def predict(
        self,
        series: Path,
        point: Centre,
        record: Mapping[str, Any],
        out: Path,
        *,
        interval_days: float = 365,
        transform: str | None = None,
        series_uid: str | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> dict[str, Any]:
        """Generates follow-ups, and says what they tell.

        Whatever is wrong with the scan, the point or the record is refused before torch is imported.

        Args:
            series: a folder with a DICOM series, or a NIfTI or MetaImage file.
            point: the nodule's centre, mm, LPS.
            record: the patient's, see :func:`scripts.ehr.features.validate`.
            out: the folder to write, which appears whole or not at all: the crop ``nodule.nii.gz``, ``results.csv``,
                and ``nodule`` with what inference writes of a case. An earlier result there is replaced, nothing else.
            interval_days: from the scan to the follow-up.
            transform, series_uid: see :func:`data_prep.images.crops.cut`.
            progress: called with the share of sampling that is done, 0 to 1.

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
        told = self.sampling()
        from scripts.results import add_flags  # imports torch

        crop = cut_single(series, point, max(SIZE, told["image_size"]), told["pixel_mm"], **which)
        with whole_folder(out) as folder:
            crops.save(crop, folder / f"{CASE}.nii.gz")
            self._generate(folder, known, interval_days, progress)
            add_flags(folder / CASE, found)
        return read_mapping(out / RESULT)

    def sampling(self) -> dict[str, Any]:
        """What cases are sampled with, by weights and settings, see :func:`scripts.diffusion.sampling_settings`.

        Raises:
            UserError: there are no finished weights, or the settings are none, or contradict them.
        """
        if not (self.models / "unet_conditional.safetensors").is_file():
            raise CaseError(
                f"{self.models}: no unet_conditional.safetensors; expected finished weights. Name another models_dir."
            )
        from scripts.diffusion.sampler import ProgressionInferer  # these import torch
        from scripts.diffusion.settings import sampling_settings

        told = sampling_settings(self.models, guidance_scale=self.settings.get("guidance_scale"))
        ProgressionInferer(**{**self.settings, "guidance_scale": told["guidance_scale"]})
        return told

    def _generate(
        self, folder: Path, record: Mapping[str, Any], interval_days: float, progress: Callable[[float], None] | None
    ) -> None:
        """Runs the bundle's inference of the crop in a folder, into that folder; the record is not left there.

        It lies there meanwhile, so that it goes wherever a half-made result goes.
        """
        from monai.bundle import ConfigWorkflow

        logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)  # its notice that it sets no logging up
        if self._files != (files := _state(self.models)):
            self._opened, self._files = {}, files
        with tempfile.TemporaryDirectory(dir=folder) as place:
            ehr = Path(place) / "ehr.json"
            write_json(ehr, record)
            options: dict[str, Any] = {
                "image": str(folder / f"{CASE}.nii.gz"),
                "ehr": str(ehr),
                "predictions_dir": str(folder),
                "models_dir": str(self.models),
                "interval_days": interval_days,
                "inferer::progress": progress,
            }
            inference, options = (
                str(BUNDLE / "configs" / "inference.yaml"),
                {**self.settings, **options, **self._opened},
            )
            workflow = ConfigWorkflow(inference, workflow_type="infer", logging_file=False, **options)
            workflow.initialize()
            workflow.run()
            workflow.finalize()
        self._opened = {name: workflow.parser.get_parsed_content(name) for name in KEPT}


def models_of(models_dir: Path | None) -> Path:
    """The folder of the weights; None: the bundle's."""
    return (models_dir or BUNDLE / "models").absolute()


def _refuse_other(out: Path) -> None:
    """Refuses to replace what is no earlier result."""
    if out.exists() and not (out / RESULT).is_file() and (out.is_file() or any(out.iterdir())):
        raise CaseError(f"{out}: exists and is no result of a case. Name another folder, or remove it.")


def _state(models: Path) -> list[tuple[str, int, int]]:
    """By which weights that were replaced are noticed: each file's name, size and time of change."""
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in models.rglob("*"))
