"""Makes an example, lets data preparation try it, and says what became of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from data_prep import cohort, sections
from data_prep.contract import read_cohort
from data_prep.cutting import Made, Recipe, Result, Scan, Wanted, cut_scan
from data_prep.errors import DataError
from data_prep.identity import Names
from data_prep.nlst.coordinates import VOXEL
from data_prep.nlst.places import place
from tests.adversary import scans, tables, volumes
from tests.adversary.corruption import Example

RIGHT, NAMED = "right", "refused by name"
"""The outcomes that may be; which of them, the corruptions say."""

WRONG, REFUSED, TAKEN, OTHER_NAME, UNFORESEEN, TOLD = (
    "another crop",
    "refused, though the truth is known",
    "taken, though the truth is lost",
    "refused by another name",
    "unforeseen error",
    "an identifier is told",
)
"""The outcomes that must never be."""

POSITION_TOLERANCE_MM = 0.06
"""Positions rounded to a tenth are off by half of that."""

CROP = "crops/0f3a_1_T0.nii.gz"


@dataclass(frozen=True)
class Verdict:
    """What became of an example, and what was seen."""

    outcome: str
    detail: str

    @property
    def good(self) -> bool:
        """Whether it may be."""
        return self.outcome in (RIGHT, NAMED)


def judged(example: Example, folder: Path) -> Verdict:
    """Makes an example in an empty folder and tries it."""
    rng = Random(example.seed)
    made = made_of(example, rng)
    words = [word for each in example.corruptions for word in each.faults]
    if example.kind == "table" and len([each for each in example.corruptions if each.faults]) != 1:
        made.wrong = None  # one refusal may come before the other sees its row
    known = all(each.known for each in example.corruptions)
    try:
        fault, message, difference = _tried(example.kind, made, folder, rng)
    except Exception as error:  # the adversary asks for just that
        return Verdict(UNFORESEEN, f"{type(error).__name__}: {error}")
    if fault == "unforeseen error":
        return Verdict(UNFORESEEN, message)
    if fault.startswith("told: "):
        return Verdict(TOLD, fault)
    if not fault:
        outcome = WRONG if difference and known else TAKEN if not known else RIGHT
        return Verdict(outcome, difference)
    if known and not words:
        return Verdict(REFUSED, message)
    return Verdict(NAMED if any(word in fault for word in words) else OTHER_NAME, message)


def made_of(example: Example, rng: Random) -> Any:
    """The input, with its corruptions."""
    if example.kind == "table":
        made: Any = tables.table(rng)
    else:
        truth = scans.scan(rng)
        series = example.kind in ("series", "place")
        made = scans.series(truth, rng) if series else volumes.volume(truth, rng, example.kind)
    for each in example.corruptions:
        each.edit(made, rng)
    return made


def _tried(kind: str, made: Any, folder: Path, rng: Random) -> tuple[str, str, str]:
    """The fault and the message of a refusal; without one, how what was made differs from the truth."""
    if kind == "table":
        return _table(made, folder)
    image = made.write(folder, other=made.earlier)
    truth = made.truth
    if kind == "place":
        centre, fault, detail = _placed(made, image)
        if fault:
            return _private(fault, fault, detail)
        expected = np.asarray(scans.position(truth, truth.voxel[2])) + [*(truth.spacing[:2] * truth.voxel[:2]), 0]
        off = float(np.abs(np.asarray(centre) - expected).max())
        return "", "", "" if off < POSITION_TOLERANCE_MM else f"{off:.2f} mm away"
    recipe = Recipe(folder / "out", folder / "last", scans.SIZE, None, Names("secret"))
    (folder / "out" / "crops").mkdir(parents=True)
    earlier: tuple[Made, ...] = ()
    if made.earlier:
        (first,) = cut_scan(Scan(image, (Wanted(CROP, truth.centre),)), recipe)
        earlier = (first.made,) if first.made else ()
        _replace(made, folder, in_place=rng.random() < 0.5)
    (result,) = cut_scan(Scan(image, (Wanted(CROP, truth.centre, earlier),)), recipe)
    if result.fault:
        return _private(result.fault, result.reason, result.message)
    return _compared(folder / "out" / CROP, truth, result)


def _placed(series: scans.Series, image: Path) -> tuple[Sequence[float], str, str]:
    """Where the nodule is by its slice's number."""
    voxel = dict.fromkeys(VOXEL, np.nan) | {
        "column": series.column,
        "row": series.row,
        series.number: series.count,
        "instances": series.instances,
    }
    finding = {"folder": str(image), "series_uid": None, "x": np.nan, "y": np.nan, "z": np.nan, **voxel}
    with redirect_stdout(io.StringIO()):  # progress
        table, wrong = place(pd.DataFrame([finding]))
    return table.loc[0, ["x", "y", "z"]].tolist(), wrong.loc[0, "fault"], wrong.loc[0, "detail"]


def _replace(made: Any, folder: Path, in_place: bool) -> None:
    """Puts the example in the place of the earlier one, no file newer than the crop."""
    files = [path for path in folder.rglob("*") if path.is_file() and "out" not in path.parts]
    if not in_place:
        for path in files:
            path.rename(path.with_name(f"{path.name}~"))
            path.with_name(f"{path.name}~").unlink()
    made.write(folder)
    for path in files:
        if path.exists():
            os.utime(path, ns=(10**18, 10**18))


def _compared(path: Path, truth: scans.Truth, result: Result) -> tuple[str, str, str]:
    """How a crop's file differs from the truth."""
    if told := _told(gzip.decompress(path.read_bytes()) + repr(result.crop).encode()):
        return f"told: {told} in the crop", "", ""
    crop = nib.load(path)
    pixels, affine = np.asarray(crop.dataobj)[..., 0], crop.affine
    hu, expected = truth.crop()
    if pixels.shape != hu.shape:
        return "", "", f"shape {pixels.shape}"
    if (wrong := int((pixels != hu).sum())) > 0:
        return "", "", f"{wrong} of {hu.size} pixels differ, by {np.abs(pixels - hu.astype(int)).max()} HU at most"
    off = float(np.abs(affine - expected)[:3].max())
    return "", "", "" if off < POSITION_TOLERANCE_MM else f"{off:.3f} mm away"


def _table(made: tables.Table, folder: Path) -> tuple[str, str, str]:
    """What is read of a table, and whether a refusal names the row."""
    path = made.write(folder)
    try:
        table = read_cohort(path)
        prepared = cohort._prepared(table, Names("secret"))
        datalist = json.dumps(sections.sectioned(prepared))
    except DataError as error:
        number, message = made.number(), str(error)
        if number is not None and not re.search(rf"row {number}\b", message):
            return f"not of {number}", message, ""
        return message, message, ""
    if told := _told(datalist.encode()):
        return f"told: {told} in the datalist", "", ""
    differing = []
    for number, (expected, row) in enumerate(zip(made.expected, table.to_dict("records"), strict=False)):
        for name, value in expected.items():
            found = row[name]
            if name == "image":
                value, found = (folder / str(value)).resolve(), (folder / str(found)).resolve()
            elif value is None:
                value, found = True, bool(pd.isna(found))
            if found != value:
                differing.append(f"row {number}, {name}: {found!r} for {value!r}")
    if len(table) != len(made.expected):
        differing.append(f"{len(table)} rows")
    return "", "", "; ".join(differing[:3])


def _private(fault: str, reason: str, message: str) -> tuple[str, str, str]:
    """A refusal; what may stand in a dataset tells no identifier."""
    told = _told(f"{fault} {reason}".encode())
    return (f"told: {told} in {reason!r}" if told else fault), message, ""


def _told(content: bytes) -> str:
    """An identifier that is in what is shared."""
    found = [name for name, value in scans.SECRETS.items() if value.encode() in content]
    return ", ".join(found) or (tables.PATIENTS[1] if tables.PATIENTS[1].encode() in content else "")
