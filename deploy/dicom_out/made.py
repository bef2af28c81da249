"""The files of a case's result, read once, and what its objects have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, generate_uid

from data_prep.version import VERSION
from deploy.dicom_out.source import Source
from scripts.files import read_mapping

MANUFACTURER, MODEL = "NAMD", "NAMD nodule follow-up"

FIRST_SERIES = 9000
"""Series numbers of objects follow it, far from a scanner's."""

LONGEST = 64
"""Characters of a series' description (PS3.5, LO)."""


@dataclass(frozen=True)
class Made:
    """A case's result.

    Attributes:
        folder: with samples.nii.gz, panel.png, result.json and provenance.json, as inference writes them.
        key: of :func:`deploy.dicom_out.keys.case_key`.
    """

    folder: Path
    key: str

    def uid(self, *names: str) -> UID:
        """A UID that follows from the case and from names."""
        return generate_uid(entropy_srcs=[self.key, *names])

    def object_uid(self, name: str) -> UID:
        """The SOP Instance UID of an object, by the name of its file; known before it is made."""
        return self.uid("object", name)

    def tracking(self, source: Source) -> tuple[UID, str]:
        """By what the nodule is known in all objects that measure or outline it: a UID, and in words."""
        return self.uid("tracking"), f"NAMD nodule at {source.place}"

    def place(self, source: Source, name: str, series: int, kind: str, instance: int = 1) -> dict[str, Any]:
        """What each constructor of highdicom takes: UIDs, numbers and who made it.

        Args:
            source: the slice, whose nodule it is of.
            name: of the object's file.
            series: its number; a kind of objects is a series of its own.
            kind: what it is, in words.
            instance: its number in the series.
        """
        return {
            "series_instance_uid": self.uid("series", kind),
            "series_number": FIRST_SERIES + series,
            "sop_instance_uid": self.object_uid(name),
            "instance_number": instance,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": MODEL,
            "software_versions": VERSION,
            "device_serial_number": self.weights,
            "series_description": f"SYNTHETIC {kind} at {source.place}, research only"[:LONGEST],
        }

    @cached_property
    def result(self) -> Mapping[str, Any]:
        """result.json."""
        return read_mapping(self.folder / "result.json")

    @cached_property
    def weights(self) -> str:
        """A digest of the weights, short enough for a serial number."""
        weights = read_mapping(self.folder / "provenance.json").get("weights")
        return hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def samples(self) -> NDArray[np.float32]:
        """HU (runs, x, y), axes as those of the crop."""
        return np.moveaxis(np.asarray(self._image.dataobj, dtype=np.float32)[:, :, 0], -1, 0)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Of the samples' grid, voxel to mm, RAS+."""
        return np.asarray(self._image.affine, dtype=float)

    @cached_property
    def typical(self) -> int:
        """The run that is nearest to the mean of all."""
        return int(np.square(self.samples - self.samples.mean(axis=0)).mean(axis=(1, 2)).argmin())

    @cached_property
    def _image(self) -> nib.Nifti1Image:
        return nib.Nifti1Image.from_filename(self.folder / "samples.nii.gz")
