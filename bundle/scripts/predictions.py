"""Generated follow-ups on disk: one folder per case, written atomically and read back for evaluation.

``<predictions_dir>/<case_id>/`` holds ``samples.nii.gz`` (H, W, 1, runs), ``mean.nii.gz`` and ``std.nii.gz``, all in HU
with the baseline crop's geometry and marked as synthetic in their headers, a picture ``panel.png``, and
``provenance.json``, the digests and settings that they depend on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
import nibabel as nib
import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor, decollate_batch
from numpy.typing import NDArray

from scripts.conditioning.identity import language_model_identity
from scripts.data.digest import digest_case
from scripts.data.transforms import HU_WINDOW, MARK, from_hu
from scripts.ehr.report import interval_of
from scripts.errors import UserError, listed
from scripts.files import read_mapping, whole_folder, write_json
from scripts.fingerprint import code_version, comparable
from scripts.options import end_here, log_next
from scripts.pictures import panel
from scripts.provenance import FILE
from scripts.weights.parts import digest_parts

logger = logging.getLogger(__name__)

SAMPLES, PANEL = "samples.nii.gz", "panel.png"


class PredictionError(UserError):
    """Predictions that are absent, damaged or of different shapes; the message names the cases."""


def read_predictions(predictions_dir: str | Path, case_ids: Sequence[str]) -> NDArray[np.float32]:
    """Reads all runs of some cases from ``<predictions_dir>/<case_id>/samples.nii.gz``.

    Args:
        case_ids: in the order wanted.

    Returns:
        (runs, cases, 1, H, W) float32, the window scaled to [-1, 1] and clipped.

    Raises:
        PredictionError: cases without predictions, unreadable files, or shapes or numbers of runs that differ.
    """
    samples = {case_id: _read(path) for case_id, path in sample_paths(predictions_dir, case_ids).items()}
    first = samples[case_ids[0]]
    if odd := [f"{case_id} {array.shape}" for case_id, array in samples.items() if array.shape != first.shape]:
        raise PredictionError(
            f"all cases need the same (runs, height, width); {case_ids[0]} has {first.shape}, but not {listed(odd)}"
        )
    stacked = np.stack([samples[case_id] for case_id in case_ids], axis=1)
    return from_hu(stacked[:, :, None]).astype(np.float32)


def sample_paths(predictions_dir: str | Path, case_ids: Sequence[str]) -> dict[str, Path]:
    """The file of each case's runs.

    Raises:
        PredictionError: no cases, or cases without predictions.
    """
    folder = Path(predictions_dir)
    paths = {case_id: folder / case_id / SAMPLES for case_id in case_ids}
    if not paths:
        raise PredictionError("no case ids were given, so there are no predictions to read")
    if missing := [case_id for case_id, path in paths.items() if not path.is_file()]:
        raise PredictionError(
            f"{folder} has no {SAMPLES} for {len(missing)} of {len(paths)} cases: {listed(missing)}. "
            "Run inference for them, or evaluate fewer cases."
        )
    return paths


def _read(path: Path) -> NDArray[np.float32]:
    """The runs of one file as (runs, H, W) in HU."""
    try:
        samples = np.asanyarray(nib.load(path).dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    except (OSError, EOFError, nib.filebasedimages.ImageFileError) as error:
        raise PredictionError(f"{path} cannot be read: {error}") from error
    if samples.ndim == 3:  # a single run, from a tool that drops a last axis of one
        samples = samples[..., None]
    if samples.ndim != 4 or samples.shape[2] != 1:
        raise PredictionError(f"{path} has shape {samples.shape}; expected (height, width, 1, runs)")
    if not np.isfinite(samples).all():
        raise PredictionError(f"{path} holds values that are not finite")
    return np.moveaxis(samples[:, :, 0], -1, 0)


def provenance(models_dir: str | Path, **settings: Any) -> dict[str, Any]:
    """The record of a run of inference, which all its predictions depend on.

    Args:
        models_dir: holds the weights.
        settings: of sampling. Of ``conditioner_arguments`` the language model's place is left out.

    Returns:
        ``weights``, the digest of each part, and ``language_model``; the settings; ``version`` and ``commit``.
    """
    arguments = dict(settings.get("conditioner_arguments") or {})
    language_model = language_model_identity(arguments.pop("llm", None) or "embedded")
    record = {"weights": digest_parts(models_dir), "language_model": language_model, **settings, **code_version()}
    if arguments or "conditioner_arguments" in settings:
        record["conditioner_arguments"] = arguments
    return json.loads(json.dumps(record, default=str))


def case_provenance(made_by: Mapping[str, Any], baseline: str | Path, report: str) -> dict[str, Any]:
    """What one prediction depends on: ``made_by``, and a SHA-256 digest of the baseline's file and the report."""
    return {**made_by, "case_sha256": digest_case(baseline, report)}


def read_provenance(predictions_dir: str | Path, case_id: str) -> dict[str, Any]:
    """What :func:`case_provenance` gave for a prediction; empty where there is none, as by other programs."""
    path = Path(predictions_dir) / case_id / FILE
    return read_mapping(path, PredictionError) if path.is_file() else {}


def pending(
    items: Sequence[dict[str, Any]], predictions_dir: str | Path, made_by: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What networks read of the items that have no prediction yet with the same weights, settings, crop and report.

    An interrupted run is thus continued, while predictions of other weights, or of another crop with the same name, are
    made again.

    Args:
        items: with ``case_id``, ``image`` (a path) and ``report``.
        made_by: of :func:`provenance`.

    Returns:
        ``case_id``, ``image`` and ``report`` of each; records, which have gaps, would not fit into one batch.
    """

    def done(item: Mapping[str, Any]) -> bool:
        expected = case_provenance(made_by, item["image"], item["report"])
        return comparable(read_provenance(predictions_dir, item["case_id"])) == comparable(expected)

    return [{key: item[key] for key in ("case_id", "image", "report")} for item in items if not done(item)]


def share(pending: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """This process's share of the pending items, every n-th of n processes; all of them where there is one.

    It waits until every process has its own ``pending``, which otherwise could lack what another has written by then.
    """
    idist.barrier()
    return list(pending[idist.get_rank() :: idist.get_world_size()])


class PredictionSaver:
    """Ignite handler that writes one folder per case after each batch, from the postprocessed ``pred`` in HU.

    Args:
        predictions_dir: gets the folders described at the top of this module.
        made_by: of :func:`provenance`.
    """

    def __init__(self, predictions_dir: str | Path, made_by: Mapping[str, Any]) -> None:
        self.folder = Path(predictions_dir)
        self.made_by = dict(made_by)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.announce)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def announce(self, engine: Engine) -> None:
        """Logs how many batches are generated."""
        batches = engine.state.epoch_length
        logger.info(f"Generating follow-ups in {batches} batches of cases" if batches != 1 else "Generating follow-ups")

    def __call__(self, engine: Engine) -> None:
        batch, output = cast(dict, engine.state.batch), cast(dict, engine.state.output)
        baselines = decollate_batch(batch["image"])
        cases = zip(batch["case_id"], baselines, batch["report"], output["pred"], strict=True)
        for case_id, baseline, report, samples in cases:
            made_by = case_provenance(self.made_by, baseline.meta["filename_or_obj"], report)
            self.save(case_id, baseline, np.asarray(samples.cpu()), made_by, report)

    def save(
        self,
        case_id: str,
        baseline: MetaTensor,
        hu: NDArray[np.float32],
        made_by: Mapping[str, Any] | None = None,
        report: str = "",
    ) -> Path:
        """Writes one case: ``baseline`` (1, H, W) in [-1, 1] with its affine, and its samples ``hu`` (runs, H, W).

        Args:
            made_by: of :func:`case_provenance`; None writes the provenance that all cases share.
            report: the one that the model was given; the picture shows its interval, nothing else of the record.
        """
        affine = crop_affine(baseline)
        target, mark = self.folder / case_id, mark_of(self.made_by)
        with whole_folder(target) as new:
            _write(new / SAMPLES, np.moveaxis(hu, 0, -1)[:, :, None], affine, mark)
            _write(new / "mean.nii.gz", hu.mean(axis=0)[..., None], affine, mark)
            _write(new / "std.nii.gz", hu.std(axis=0)[..., None], affine, mark)
            pixel_mm, towards = float(np.linalg.norm(affine[:3, 0])), nib.aff2axcodes(affine)
            picture = panel(baseline.numpy()[0], from_hu(hu), case_id, pixel_mm, towards, interval_of(report))
            picture.savefig(new / PANEL, dpi=150, metadata={"Comment": mark})
            write_json(new / FILE, made_by or self.made_by)
        return target


def crop_affine(crop: MetaTensor) -> NDArray[np.float64]:
    """The 4 x 4 affine (voxel to mm, RAS+) of the central crop (1, H, W) of a NIfTI image (X, Y, 1).

    MONAI's own affine of a 2D image is 3 x 3 and lacks the slice's thickness and position.
    """
    affine = np.array(crop.meta["original_affine"], dtype=np.float64)
    sizes = zip(crop.meta["spatial_shape"][:2], crop.shape[1:], strict=True)
    corner = [int(whole) // 2 - part // 2 for whole, part in sizes]  # as MONAI's CenterSpatialCrop
    affine[:3, 3] = (affine @ [*corner, 0, 1])[:3]
    return affine


def pixel_mm(crop: MetaTensor) -> NDArray[np.float64]:
    """mm between the pixels of a crop (1, H, W) of a NIfTI image along both axes, (2,)."""
    return np.linalg.norm(crop_affine(crop)[:3, :2], axis=0)


def end_if_done(predictions_dir: str | Path, items: Sequence[Mapping[str, Any]], rest: Sequence[Any]) -> None:
    """Ends the program where nothing is left to generate, if it is ``python -m monai.bundle``: no model is opened.

    Args:
        items: all cases that were requested.
        rest: those without predictions.
    """
    if not len(rest):
        log_result(predictions_dir, items, rest)
        end_here()


def log_result(predictions_dir: str | Path, items: Sequence[Mapping[str, Any]], generated: Sequence[Any]) -> None:
    """Logs how many cases an inference run generated, where they are, what to open and the next command.

    Args:
        items: all cases that were requested.
        generated: those that this run generated, in all of its processes, of which the first speaks.
    """
    if idist.get_rank() != 0:
        return
    folder = Path(predictions_dir)
    logger.info(f"{len(generated)} generated, {len(items) - len(generated)} already there; all in {folder}")
    if items:
        logger.info(f"Open {folder / items[0]['case_id'] / PANEL}; synthetic images, for research only")
    log_next()


def mark_of(made_by: Mapping[str, Any]) -> str:
    """The text in the header of a generated image: :data:`scripts.data.MARK`, with a compared method's own title.

    >>> mark_of({"method": "McWGAN (reconstructed)"})
    'SYNTHETIC follow-up by McWGAN (reconstructed), research use only'
    """
    return MARK.replace("NAMD", made_by.get("method", "NAMD"))


def _write(path: Path, hu: NDArray[np.floating], affine: NDArray[np.floating], mark: str) -> None:
    image = nib.Nifti1Image(hu.round().astype(np.int16), affine)  # type: ignore[attr-defined]
    image.header["descrip"] = mark
    image.header["cal_min"], image.header["cal_max"] = HU_WINDOW
    image.header.set_xyzt_units("mm")
    nib.save(image, path)  # type: ignore[attr-defined]
