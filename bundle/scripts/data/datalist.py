"""From a dataset folder (``datalist.json`` and NIfTI crops in HU) to what the networks eat."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import Dataset, MetaTensor
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    Identityd,
    LoadImaged,
    MapTransform,
    OneOf,
    Rotated,
    ScaleIntensityRanged,
    SqueezeDimd,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from scripts.ehr import attributes, report
from scripts.errors import UserError

HU_WINDOW = (-1000.0, 400.0)
"""The window that is scaled to [-1, 1] (NLST: the authors' choice for one of their sets)."""

MARK = "SYNTHETIC follow-up by NAMD, research use only"
"""Stands in the NIfTI header's ``descrip`` field, and in the meta data's, of everything generated."""

ROTATIONS = (0, 45, 90, 135, 180)
"""Degrees; augmentation turns baseline and follow-up together (Appendix B)."""

SECTIONS = ("training", "validation", "test")


class DatalistError(UserError):
    """A dataset that is absent or breaks its contract; the message names the file and the entry."""


def to_hu(images: Any) -> Any:
    """[-1, 1] back to HU; arrays and tensors alike."""
    low, high = HU_WINDOW
    return (images + 1.0) * (0.5 * (high - low)) + low


def from_hu(hu: Any) -> Any:
    """HU to [-1, 1], clipped to the window; the inverse of :func:`to_hu` inside it."""
    low, high = HU_WINDOW
    return ((hu - low) * (2.0 / (high - low)) - 1.0).clip(-1.0, 1.0)


def load_datalist(dataset_dir: str | Path) -> dict[str, Any]:
    """The datalist of a dataset folder, checked for patients that stand in two sections.

    Raises:
        DatalistError: no datalist, not JSON, a section absent, or a patient in two sections.
    """
    path = Path(dataset_dir) / "datalist.json"
    if not path.is_file():
        raise DatalistError(
            f"{path}: no datalist. Make one with `python -m data_prep cohort TABLE --out {dataset_dir}`."
        )
    try:
        datalist = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DatalistError(f"{path}: not JSON ({error}).") from error
    missing = [section for section in SECTIONS if not isinstance(datalist.get(section), list)]
    if missing:
        raise DatalistError(f"{path}: no list {', '.join(missing)}; expected {', '.join(SECTIONS)}.")
    patients = {section: {case["patient_id"] for case in datalist[section]} for section in SECTIONS}
    patients["training"] |= {crop["patient_id"] for crop in datalist.get("unpaired", [])}
    for first, second in (("training", "validation"), ("training", "test"), ("validation", "test")):
        shared = sorted(patients[first] & patients[second])
        if shared:
            raise DatalistError(
                f"{path}: {len(shared)} patients stand in {first} and in {second} (first: {shared[0]}). "
                "Split by patient: results would be worth nothing."
            )
    return datalist


def pairs(dataset_dir: str | Path, section: str) -> list[dict[str, Any]]:
    """The cases of a section as MONAI items: paths of ``baseline`` and ``follow_up``, ``report``, ``malignant``.

    ``malignant`` is NaN where the outcome is unknown. Only baseline facts reach the report.
    """
    folder = Path(dataset_dir)
    return [
        {
            "case_id": case["case_id"],
            "baseline": str(folder / case["baseline"]),
            "follow_up": str(folder / case["follow_up"]),
            "report": report(case["ehr"], case.get("interval_days")),
            "malignant": outcome(case),
        }
        for case in load_datalist(dataset_dir)[section]
    ]


def inference_items(
    dataset_dir: str | Path,
    section: str,
    image: str | Path | None = None,
    ehr: str | Path | None = None,
    interval_days: float | None = None,
    image_size: int = 64,
) -> list[dict[str, Any]]:
    """What is to be predicted: the cases of a section, or one crop with its EHR (a JSON object) given ``image``.

    The crop is called ``image``, as the network's input is in ``metadata.json``: MONAI Deploy and MONAI Label look for
    it by that name.

    Raises:
        DatalistError: the crop is absent, unreadable, of more than one slice or under ``image_size`` pixels a side, or
            the EHR file is absent or not JSON.
        EHRError: naming every fault of the EHR.
    """
    if image is None:
        return [
            {"case_id": item["case_id"], "image": item["baseline"], "report": item["report"]}
            for item in pairs(dataset_dir, section)
        ]
    _check_crop(image, image_size)
    try:
        record = json.loads(Path(ehr).read_text()) if ehr is not None else {}
    except (OSError, ValueError) as error:
        raise DatalistError(f"{ehr}: expected a JSON object of EHR features ({error}).") from error
    if not isinstance(record, dict):
        raise DatalistError(f"{ehr}: expected a JSON object of EHR features, found a {type(record).__name__}.")
    return [
        {
            "case_id": Path(image).name.removesuffix(".gz").removesuffix(".nii"),
            "image": str(image),
            "report": report(record, interval_days),
        }
    ]


def _check_crop(path: str | Path, image_size: int) -> None:
    expected = f"expected a nodule-centred crop as NIfTI in HU, one axial slice of at least {image_size} px a side"
    if not Path(path).is_file():
        raise DatalistError(f"{path}: no such file; {expected}.")
    try:
        shape = nib.load(path).shape  # type: ignore[attr-defined]
    except (OSError, nib.filebasedimages.ImageFileError) as error:
        raise DatalistError(f"{path}: cannot be read ({error}); {expected}.") from error
    if len(shape) != 3 or shape[2] != 1 or min(shape[:2]) < image_size:
        raise DatalistError(
            f"{path}: has shape {shape}; {expected}. `python -m data_prep cohort` cuts crops from scans."
        )


def crops(dataset_dir: str | Path, section: str, metric: str = "standardised") -> list[dict[str, Any]]:
    """Every single crop of a section, both times alike, and in training the unpaired ones too.

    Args:
        metric: how nodule attributes become numbers, ``raw`` or ``standardised`` (see :func:`scripts.ehr.attributes`).

    Returns:
        Items ``image`` (path), ``attributes`` (F,) float32 with NaN where unknown, ``malignant``.
    """
    folder, datalist = Path(dataset_dir), load_datalist(dataset_dir)

    def item(crop: str, ehr: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
        vector = np.asarray(attributes(ehr, metric), dtype=np.float32)
        return {"image": str(folder / crop), "attributes": vector, "malignant": outcome(case)}

    items = []
    for case in datalist[section]:
        items.append(item(case["baseline"], case["ehr"], case))
        items.append(item(case["follow_up"], case.get("follow_up_attributes", {}), case))
    if section == "training":
        items += [item(crop["image"], crop.get("ehr", {}), crop) for crop in datalist.get("unpaired", [])]
    return items


def baselines(dataset_dir: str | Path, section: str, image_size: int) -> NDArray[np.float32]:
    """The baseline crops of a section, (cases, 1, image_size, image_size) in [-1, 1], in the datalist's order."""
    load = preprocessing(["baseline"], image_size)
    crops = [np.asarray(load({"baseline": item["baseline"]})["baseline"]) for item in pairs(dataset_dir, section)]
    return np.stack(crops) if crops else np.empty((0, 1, image_size, image_size), dtype=np.float32)


def outcome(case: dict[str, Any]) -> float:
    """1.0 malignant, 0.0 benign, NaN unknown."""
    value = case.get("malignant")
    return math.nan if value is None else float(value)


def preprocessing(
    keys: Sequence[str],
    image_size: int | None = None,
    rotations: Sequence[int] = (0,),
    augmentation: Sequence[Callable[[Any], Any]] = (),
) -> Compose:
    """Load, window and crop; with more than one rotation, one of them is drawn for all keys together.

    Cropping comes after rotation, so that a 45 degree turn of a larger crop brings no empty corners.

    Args:
        image_size: pixels a side of what is left; None leaves the crops whole.
        augmentation: further transforms of the cropped items.

    Returns:
        Items with each key as (1, image_size, image_size) float32 in [-1, 1], its geometry in the meta data.
    """
    low, high = HU_WINDOW
    turns = [rotation(keys, angle) for angle in rotations]
    return Compose(
        [
            LoadImaged(keys, reader="NibabelReader", image_only=True),
            EnsureChannelFirstd(keys, channel_dim="no_channel"),
            SqueezeDimd(keys, dim=-1),
            ScaleIntensityRanged(keys, a_min=low, a_max=high, b_min=-1.0, b_max=1.0, clip=True),
            turns[0] if len(turns) == 1 else OneOf(turns),
            Identityd(keys) if image_size is None else centre(keys, image_size),
            *augmentation,
            EnsureTyped(keys, dtype=torch.float32),
        ]
    )


class MarkSyntheticd(MapTransform):
    """Says in the meta data of each key that it was generated."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = MetaTensor(item[key], meta={"descrip": MARK})
        return item


def postprocessing(keys: Sequence[str]) -> Compose:
    """Generated follow-ups from [-1, 1] to HU, marked as synthetic."""
    low, high = HU_WINDOW
    return Compose([ScaleIntensityRanged(keys, a_min=-1.0, a_max=1.0, b_min=low, b_max=high), MarkSyntheticd(keys)])


def centre(keys: Sequence[str], image_size: int) -> CenterSpatialCropd:
    """The central square of ``image_size`` pixels a side."""
    return CenterSpatialCropd(keys, roi_size=(image_size, image_size))


def rotation(keys: Sequence[str], degrees: int) -> Rotated | Identityd:
    """A turn of all keys by the same angle about the centre, size kept, bilinear; none for 0 degrees."""
    if degrees == 0:
        return Identityd(keys)
    return Rotated(keys, angle=math.radians(degrees), keep_size=True, mode="bilinear", padding_mode="border")


class LatentDataset(Dataset):
    """Crops as scaled latents: each is encoded once in each rotation, when first asked for, and kept in memory.

    The autoencoder is frozen and the rotations are few, so nothing is lost against encoding in every step.

    Args:
        data: MONAI items with the paths of ``keys``.
        keys: the crops that turn together.
        autoencoder: a :class:`scripts.networks.LatentAutoencoder`.
        image_size: pixels a side of the crop that is encoded.
        rotations: degrees; each access draws one of them.
        batch_size: crops encoded at once.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        keys: Sequence[str],
        autoencoder: nn.Module,
        image_size: int = 64,
        rotations: Sequence[int] = (0,),
        batch_size: int = 64,
    ) -> None:
        super().__init__(list(data))
        self.keys = tuple(keys)
        self.autoencoder: Any = autoencoder.eval()
        self.image_size = image_size
        self.rotations = tuple(rotations)
        self.batch_size = batch_size
        self._latents: dict[str, Tensor] = {}

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """The item with each key as a latent (C, h, w), all in the same rotation."""
        if not self._latents:
            self._latents = {key: self._encode(key) for key in self.keys}
        turn = int(torch.randint(len(self.rotations), ())) if len(self.rotations) > 1 else 0
        return self.data[index] | {key: self._latents[key][index, turn] for key in self.keys}

    @torch.no_grad()
    def _encode(self, key: str) -> Tensor:
        """(cases, rotations, C, h, w)"""
        device = next(self.autoencoder.parameters()).device
        load = preprocessing([key])
        whole = [load({key: item[key]}) for item in self.data]
        turns = [Compose([rotation([key], angle), centre([key], self.image_size)]) for angle in self.rotations]
        crops = torch.stack([turn(item)[key].as_tensor() for item in whole for turn in turns])
        latents = [
            self.autoencoder.encode_stage_2_inputs(part.to(device)).cpu() for part in crops.split(self.batch_size)
        ]
        return torch.cat(latents).unflatten(0, (len(whole), len(turns)))
