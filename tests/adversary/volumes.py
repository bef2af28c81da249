"""Valid NIfTI and MetaImage files, byte by byte."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.adversary.scans import SECRETS, Truth

NIFTI_TYPES = {"i2": 4, "i4": 8, "f4": 16, "f8": 64, "u1": 2, "u2": 512, "c8": 32, "rgb": 128}
META_TYPES = {"i2": "MET_SHORT", "i4": "MET_INT", "f4": "MET_FLOAT", "f8": "MET_DOUBLE", "u2": "MET_USHORT"}


@dataclass
class Volume:
    """A volume in a file.

    Attributes:
        truth: what is to be found.
        values: along the array's axes.
        affine: of those axes, RAS, mm.
        header: of NIfTI's fields, those that differ from the usual.
        text: of MetaImage's, likewise.
        kind, order: of the stored numbers, as numpy names them, and of their bytes.
        slope, intercept: by which they are stored.
        spoil, spoil_raw: of the bytes of the file, before it is packed, and of those of a file beside it, if any.
        lies: whether the name says the contrary of whether it is packed.
        earlier: whether an earlier dataset was made of other pixels at the same place.
    """

    truth: Truth
    values: NDArray[Any]
    affine: NDArray[np.float64]
    suffix: str
    kind: str = "i2"
    order: str = "<"
    slope: float = 1.0
    intercept: float = 0.0
    header: dict[str, Any] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    spoil: Callable[[bytes], bytes] | None = None
    spoil_raw: Callable[[bytes], bytes | None] | None = None
    lies: bool = False
    earlier: bool = False

    def write(self, folder: Path, other: bool = False) -> Path:
        """Writes the file, ``other`` with other pixels; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / f"{SECRETS['PatientID']}{self.suffix}"
        values = np.roll(self.values, 5, axis=0) if other else self.values
        stored = (values - self.intercept) / self.slope if self.slope != 1.0 or self.intercept else values
        if self.kind[0] in "iu":
            stored = np.rint(stored)
        stored = stored.astype(f"{self.order}{'u1' if self.kind == 'rgb' else self.kind}")
        content = stored.tobytes(order="F") * (3 if self.kind == "rgb" else 1)
        if self.suffix.startswith(".nii"):
            content = nifti_header(self) + content
            content = content if self.spoil is None else self.spoil(content)
            content = gzip.compress(content, 1) if self.suffix.endswith(".gz") != self.lies else content
        else:
            packed = zlib.compress(content, 1) if self.text.get("CompressedData") == "True" else content
            raw = packed if self.spoil_raw is None else self.spoil_raw(packed)
            head = meta_header(self, place.with_suffix(".raw").name, len(packed))
            if self.suffix == ".mha":
                content = head + (raw or b"")
            else:
                content = head
                if raw is not None:
                    place.with_suffix(".raw").write_bytes(raw)
            content = content if self.spoil is None else self.spoil(content)
        place.write_bytes(content)
        return place


def volume(truth: Truth, rng: Random, kind: str) -> Volume:
    """A valid file, its axes in any order and direction."""
    values, affine = truth.hu.transpose(2, 1, 0), np.diag([*(truth.spacing * [-1, -1, 1]), 1.0])
    affine[:3, 3] = truth.origin * [-1, -1, 1]
    order = rng.sample((0, 1, 2), 3)
    values, affine = values.transpose(order), affine[:, [*order, 3]]
    for axis in range(3):
        if rng.random() < 0.5:
            affine[:3, 3] += affine[:3, axis] * (values.shape[axis] - 1)
            affine[:3, axis] *= -1
            values = np.flip(values, axis)
    suffix = rng.choice((".nii", ".nii.gz") if kind == "nifti" else (".mha", ".mhd"))
    return Volume(truth, np.array(values), affine, suffix)


def nifti_header(volume: Volume) -> bytes:
    """NIfTI-1's 348 bytes and four of no extension (nifti1.h), or what ``header`` says."""
    fields = {"sform_code": 1, "qform_code": 0, "sform": volume.affine, "units": 2, "descrip": b"", **volume.header}
    shape = fields.get("shape", volume.values.shape)
    zooms = fields.get("zooms", np.linalg.norm(volume.affine[:3, :3], axis=0))
    o, header = volume.order, bytearray(352)
    bits = {"rgb": 24, "c8": 64}.get(volume.kind) or 8 * int(volume.kind[1])
    struct.pack_into(f"{o}i", header, 0, 348)
    struct.pack_into(f"{o}8h", header, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into(f"{o}2h", header, 70, NIFTI_TYPES[volume.kind], bits)
    offset, extension = 352.0, fields.get("extension", b"")
    struct.pack_into(f"{o}8f", header, 76, fields.get("qfac", 1.0), *zooms, 1, 1, 1, 1)
    struct.pack_into(
        f"{o}3f", header, 108, offset + len(extension), fields.get("slope", volume.slope), volume.intercept
    )
    header[123] = fields["units"]
    header[148 : 148 + len(fields["descrip"])] = fields["descrip"]
    struct.pack_into(f"{o}2h", header, 252, fields["qform_code"], fields["sform_code"])
    struct.pack_into(f"{o}6f", header, 256, *fields.get("quaternion", (0, 0, 0)), *fields.get("offset", (0, 0, 0)))
    struct.pack_into(f"{o}12f", header, 280, *np.asarray(fields["sform"], float)[:3].ravel())
    header[344:348] = b"n+1\0"
    header[348] = bool(extension)
    return bytes(header) + extension


def meta_header(volume: Volume, raw: str, size: int) -> bytes:
    """MetaImage's text (itk.org/Wiki/MetaIO): axes as columns of LPS directions, one after the other."""
    lps = np.diag([-1.0, -1.0, 1.0]) @ volume.affine[:3]
    zooms = np.linalg.norm(lps[:, :3], axis=0)
    fields = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": str(volume.order == ">"),
        "CompressedData": "False",
        "TransformMatrix": " ".join(f"{value:.10g}" for value in (lps[:, :3] / zooms).T.ravel()),
        "Offset": " ".join(f"{value:.10g}" for value in lps[:, 3]),
        "ElementSpacing": " ".join(f"{value:.10g}" for value in zooms),
        "DimSize": " ".join(map(str, volume.values.shape)),
        "ElementType": META_TYPES[volume.kind],
        **volume.text,
    }
    if fields["CompressedData"] == "True":
        fields["CompressedDataSize"] = str(size)
    lines = [f"{name} = {value}" for name, value in fields.items() if value]
    return "\n".join([*lines, f"ElementDataFile = {'LOCAL' if volume.suffix == '.mha' else raw}", ""]).encode()
