"""Situations in which ``data_prep`` gave a wrong crop, outcome or split without a word, in two commits.

    python benchmarks/situations_data.py CHECKOUT_OF_8d44515

Every situation is a table and scans, made here, and ``python -m data_prep cohort`` then ``check`` on them, in both
checkouts. Prints how the commands ended and, where a crop came out, the HU at its centre (the nodule has 50).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROOT = Path(__file__).resolve().parents[1]
SHAPE, SPACING = (64, 64, 24), np.array([0.7, 0.7, 1.5])
NODULE = (40, 24, 12)
"""Voxel of the nodule's centre; the scan's first voxel lies at 0, 0, 0 mm (LPS)."""

RECORD = {"sct_pre_att": 1, "sct_margins": 2, "sct_long_dia": 9, "sct_perp_dia": 8, "sct_epi_loc": 1, "age": 63}
RECORD |= {"gender": 1, "diagemph": 0, **dict.fromkeys(("famfather", "fammother", "fambrother", "famsister"), 0)}
RECORD |= {"famchild": 0}
SITUATIONS: dict[str, Callable[[Path], str | None]] = {}


def situation(name: str) -> Callable[[Callable[[Path], str | None]], None]:
    """Registers what makes a folder with ``table.csv``; it may return what runs between two calls of ``cohort``."""

    def register(act: Callable[[Path], str | None]) -> None:
        SITUATIONS[name] = act

    return register


def volume(centre: Sequence[int] = NODULE, seed: int = 0) -> NDArray[np.int16]:
    """HU of lung with a round nodule and a wall at the first columns; another ``seed`` has other noise."""
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    away = np.sqrt(sum(((axis - at) * step) ** 2 for axis, at, step in zip((x, y, z), centre, SPACING, strict=True)))
    hu = np.where(away < 5, 50, -850) + np.random.default_rng(seed).integers(-20, 20, SHAPE)
    hu[:6] = 40
    return hu.astype(np.int16)


def mm(voxel: Sequence[int] = NODULE) -> dict[str, float]:
    """The point of a voxel, LPS."""
    return dict(zip("xyz", (np.array(voxel) * SPACING).round(2).tolist(), strict=True))


def nifti(path: Path, hu: NDArray[Any], **forms: Any) -> None:
    """A volume whose indices grow to the left, to the back and up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    image = nib.Nifti1Image(hu, affine)
    image.set_qform(forms.get("qform", affine), code=1)
    image.set_sform(forms.get("sform", affine), code=1)
    nib.save(image, path)


def dicom(
    folder: Path, hu: NDArray[Any], change: Callable[[FileDataset, int], Any] = lambda slice_, number: None
) -> None:
    """A series; ``change`` may spoil a slice, or return True to leave it out."""
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = (generate_uid(entropy_srcs=[str(folder.name), kind]) for kind in "abc")
    for number in range(hu.shape[2]):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[folder.name, str(number)])
        slice_ = FileDataset(str(folder / f"{number:03}.dcm"), {}, file_meta=meta, preamble=bytes(128))
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID, slice_.FrameOfReferenceUID = series, study, frame
        slice_.Modality, slice_.PatientID, slice_.InstanceNumber = "CT", "p", number + 1
        slice_.ImagePositionPatient = [0, 0, round(float(number * SPACING[2]), 4)]
        slice_.ImageOrientationPatient, slice_.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.7, 0.7]
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel = SHAPE[1], SHAPE[0], 1
        slice_.PhotometricInterpretation, slice_.RescaleSlope, slice_.RescaleIntercept = "MONOCHROME2", 1, -1024
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        noise = np.random.default_rng([ord(folder.name[0]), number]).integers(-9, 9, SHAPE[1::-1])
        slice_.PixelData = (hu[:, :, number].T.astype(np.int32) + noise + 1024).astype("<u2").tobytes()
        if not change(slice_, number):
            slice_.save_as(folder / f"{number:03}.dcm", enforce_file_format=True)


def table(folder: Path, rows: Sequence[dict[str, Any]], **how: Any) -> None:
    """``table.csv`` of rows that say what differs from a whole row; each patient has two times unless they say."""
    whole = []
    for number, row in enumerate(rows):
        base = {"patient_id": f"P{number // 2}", "nodule_id": 1, "study_yr": number % 2, "malignant": 0, **RECORD}
        whole.append({**base, **mm(), **row})
    pd.DataFrame(whole).to_csv(folder / "table.csv", index=False, **how)


def scans(folder: Path, names: Sequence[str] = ("a", "b"), hu: NDArray[Any] | None = None) -> list[dict[str, Any]]:
    """NIfTI scans, and their rows."""
    for number, name in enumerate(names):
        noise = volume(seed=number) - volume()
        nifti(
            folder / f"{name}.nii.gz",
            volume() + noise if hu is None else hu + noise[-hu.shape[0] :, : hu.shape[1], : hu.shape[2]],
        )
    return [{"image": f"{name}.nii.gz"} for name in names]


@situation("nothing is wrong")
def _(folder: Path) -> None:
    table(folder, scans(folder))


@situation("a row with one field more than the header")
def _(folder: Path) -> None:
    table(folder, scans(folder))
    first, *lines = (folder / "table.csv").read_text().splitlines()
    (folder / "table.csv").write_text("\n".join([first, *(f"extra,{line}" for line in lines), ""]))


@situation("identifiers 0025 and 25, one in training and one in validation")
def _(folder: Path) -> None:
    rows = scans(folder, "abcd")
    names, split = ("0025", "0025", "25", "25"), ("training", "training", "validation", "validation")
    table(folder, [{**row, "patient_id": n, "split": s} for row, n, s in zip(rows, names, split, strict=True)])


@situation("identifiers that differ in case")
def _(folder: Path) -> None:
    rows = scans(folder, "abcd")
    table(folder, [{**row, "patient_id": name} for row, name in zip(rows, ("Ab1", "Ab1", "AB1", "AB1"), strict=True)])


@situation("the centre under another name (coordX)")
def _(folder: Path) -> None:
    table(folder, scans(folder))
    text = (folder / "table.csv").read_text()
    first, rest = text.split("\n", 1)
    (folder / "table.csv").write_text(first.replace(",x,y,z", ",coordX,coordY,coordZ") + "\n" + rest)


@situation("a whole scan without a centre")
def _(folder: Path) -> None:
    table(folder, [{**row, "x": None, "y": None, "z": None} for row in scans(folder)])


@situation("a point in RAS, which lies inside the scan too")
def _(folder: Path) -> None:
    middle = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    middle[:2, 3] = SPACING[0] * 32
    rows = scans(folder)
    for row in rows:
        nifti(folder / row["image"], volume(seed=len(row["image"]) + ord(row["image"][0])), qform=middle, sform=middle)
        ras = middle @ [*NODULE, 1]
        row |= dict(zip("xyz", ras[:3].round(2).tolist(), strict=True))
    table(folder, rows)


@situation("two files swapped by mv between two calls, so that the nodule lies elsewhere")
def _(folder: Path) -> str:
    nifti(folder / "a.nii", volume())
    nifti(folder / "b.nii", volume((20, 44, 12)))
    table(folder, [{"image": "a.nii"}, {"image": "b.nii", **mm((20, 44, 12))}])
    return "mv a.nii c.nii; mv b.nii a.nii; mv c.nii b.nii"


@situation("HU to which the rescale was applied twice")
def _(folder: Path) -> None:
    table(folder, scans(folder, hu=volume() - 1024))


@situation("padding of 63536 in unsigned pixels (PixelPaddingValue)")
def _(folder: Path) -> None:
    def pad(slice_: FileDataset, number: int) -> None:
        pixels = np.frombuffer(slice_.PixelData, "<u2").reshape(SHAPE[1], SHAPE[0]).copy()
        pixels[10:16, 30:50] = 63536
        slice_.PixelData, slice_.PixelPaddingValue = pixels.tobytes(), 63536

    for name in "ab":
        dicom(folder / name, volume(), pad)
    table(folder, [{"image": "a"}, {"image": "b"}])


@situation("NaN outside the field of view")
def _(folder: Path) -> None:
    hu = volume().astype(np.float32)
    hu[:, :22] = np.nan
    table(folder, scans(folder, hu=hu))


@situation("qform and sform that differ by 14 mm")
def _(folder: Path) -> None:
    rows = scans(folder)
    shifted = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    shifted[0, 3] = 14.0
    for row in rows:
        nifti(folder / row["image"], volume(), sform=shifted)
    table(folder, rows)


@situation("two breaths in one series whose slices interleave evenly")
def _(folder: Path) -> None:
    both, other = volume(), volume((20, 44, 12))
    both[:, :, 1::2] = other[:, :, 1::2]

    def breath(slice_: FileDataset, number: int) -> None:
        slice_.AcquisitionNumber = 1 + number % 2

    for name in "ab":
        dicom(folder / name, both, breath)
    table(folder, [{"image": "a"}, {"image": "b"}])


@situation("a slice missing in the middle")
def _(folder: Path) -> None:
    for name in "ab":
        dicom(folder / name, volume(), lambda slice_, number: number == 9)
    table(folder, [{"image": "a"}, {"image": "b"}])


@situation("an age of 93")
def _(folder: Path) -> None:
    table(folder, [{**row, "age": 93} for row in scans(folder)])


@situation("semicolons between fields")
def _(folder: Path) -> None:
    table(folder, scans(folder), sep=";")


@situation("a line sep=; before the header")
def _(folder: Path) -> None:
    table(folder, scans(folder), sep=";")
    (folder / "table.csv").write_text("sep=;\n" + (folder / "table.csv").read_text())


@situation("no column image")
def _(folder: Path) -> None:
    scans(folder)
    table(folder, [{}, {}])


@situation("an empty cell in image")
def _(folder: Path) -> None:
    table(folder, [scans(folder)[0], {"image": None}])


@situation("positions rounded to 0.1 mm")
def _(folder: Path) -> None:
    def rounded(slice_: FileDataset, number: int) -> None:
        slice_.ImagePositionPatient = [0, 0, round(number * 1.54, 1)]

    for name in "ab":
        dicom(folder / name, volume(), rounded)
    table(folder, [{"image": name, "z": round(12 * 1.54, 2)} for name in "ab"])


@situation("a folder with a DICOM SR beside the series")
def _(folder: Path) -> None:
    for name in "ab":
        dicom(folder / name, volume())
        report = FileDataset(str(folder / name / "sr.dcm"), {}, file_meta=FileMetaDataset(), preamble=bytes(128))
        report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        report.file_meta.MediaStorageSOPClassUID = report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID = generate_uid(entropy_srcs=[name])
        report.SeriesInstanceUID, report.Modality, report.PatientID = generate_uid(entropy_srcs=["sr"]), "SR", "p"
        report.save_as(folder / name / "sr.dcm", enforce_file_format=True)
    table(folder, [{"image": "a"}, {"image": "b"}])


def called(root: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m data_prep`` of a checkout, in a folder."""
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'bundle'}", "COLUMNS": "500"}
    command = [sys.executable, "-m", "data_prep", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def verdict(root: Path, act: Callable[[Path], str | None]) -> str:
    """How a situation ends in one checkout."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        between = act(folder)
        options = ("cohort", "table.csv", "--out", "dataset", "--size", "32", "--keep-ids")
        ran = called(root, folder, *options)
        if between:
            subprocess.run(["sh", "-c", between], cwd=folder, check=True)
            ran = called(root, folder, *options)
        if ran.returncode:
            lines = [line for line in ran.stderr.splitlines() if line.strip()] or ["nothing said"]
            kind = "traceback" if "Traceback" in ran.stderr else "refused"
            return f"status {ran.returncode}, {kind}: {lines[-1].strip().replace(place, '')[:110]}"
        checked = called(root, folder, "check", "dataset")
        said = [line.strip() for line in checked.stdout.splitlines() if ": no cases" not in line]
        said = [line for line in said if line.startswith(("wrong", "look"))]
        datalist = json.loads((folder / "dataset" / "datalist.json").read_text())
        middles, highest, water = [], -1024, 0.0
        for case in datalist["training"] + datalist["validation"] + datalist["test"]:
            for key in ("baseline", "follow_up"):
                hu = np.asanyarray(nib.load(folder / "dataset" / case[key]).dataobj)
                side = hu.shape[0] // 2
                highest, water = max(highest, round(float(hu.max()))), max(water, float((hu == 0).mean()))
                middles.append(round(float(np.median(hu[side - 1 : side + 1, side - 1 : side + 1]))))
        ages = {case["ehr"].get("age") for case in datalist["training"]} - {63}
        told = f", age {sorted(ages)}" if ages else ""
        told += f", up to {highest} HU" if highest > 500 else ""
        told += f", {water:.0%} of a crop is 0 HU" if water > 0.05 else ""
        found = said[0].replace(place, "")[:130] if said else "nothing"
        return f"status 0, HU at the centres {sorted(set(middles))}{told}; check: {found}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path, help="a checkout of the commit before")
    parser.add_argument("--only", default="", help="a part of the situations' names")
    options = parser.parse_args()
    print("| situation | before | now |\n| --- | --- | --- |")
    for name, act in SITUATIONS.items():
        if options.only in name:
            ends = [verdict(root, act) for root in (options.earlier.resolve(), ROOT)]
            print(f"| {name} | {ends[0]} | {ends[1]} |", flush=True)


if __name__ == "__main__":
    main()
