"""Where the nodules are: one of several sources (:data:`KINDS`), all to one table of findings.

A finding is a nodule in one scan. The columns of :data:`FINDINGS` are always there, empty where a source does not tell.
Centres come in mm (``x``, ``y``, ``z``, LPS) or in voxels: ``column`` and ``row`` of the DICOM pixels, from 0, and one
of ``slice`` (from 0 at the slice nearest to the feet, as the tracking table counts) and ``instance`` (the slice's
InstanceNumber, from 1, as NLSTx counts; in some scanners it rises towards the head, in others towards the feet).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import DataError, listing
from data_prep.nlst import luna25, stmixer
from data_prep.nlst.tables import YEARS
from data_prep.schema import POSITION
from data_prep.tables import numbers, read_columns, typed, whole
from scripts.ehr.features import MISSING

KEY = ("pid", "study_yr", "nodule_id")
VOXEL = ("column", "row", "slice", "instance")
NOTED = ("noted_day", "noted_age", "noted_gender", "noted_malignant")
"""What a source itself notes: days since randomisation, age then, gender, and whether the nodule is malignant."""
GEOMETRY = ("pixel_mm", "left", "front")
"""Of a scan: its pixels' spacing, and x and y of its first pixel, mm."""
FINDINGS = (
    *(*KEY, "kind", "sct_ab_num", "candidates", "size", "series_uid", "exam", "image"),
    *(*POSITION, *VOXEL, *NOTED, *GEOMETRY, "doubt"),
)
"""``candidates``: how many abnormalities of the trial's readers match, -1 where none was looked for; ``size``: the
larger, the larger; ``doubt``: why a source's row is not believed."""

TRACKING = ("pid", "nodule_group", "exam_idx", "exam", "abnid_in_nlst", "volume", "center_i", "center_j", "center_k")
BOX = {axis: f"bounding box {axis} (pixels)" for axis in ("x", "y", "width", "height")}
NLSTX = ("pid", "study_yr", "seriesinstanceuids", "abnormality uid", "slice number", *BOX.values())
OWN = ("pid", "study_yr", "nodule_id")
OWN_BOX = ("instance", "box_x", "box_y", "box_width", "box_height")
ABNORMALITY = r"([0-9]+)(?:\.0?)?"
OWN_TAKEN = ("sct_ab_num", "image", "series_uid", *POSITION, *OWN_BOX)


@dataclass(frozen=True)
class Kind:
    """A kind of source.

    Attributes:
        title: what it is called.
        licence: of its table.
        needed, taken: its columns, in lower case; by those that are needed it is known.
        numeric: those of them that findings are computed from.
        findings: makes findings of its table.
        faults: rows of its table that cannot be right, each with what is wrong.
        without: tables of the trial that it can do without.
        linked: whether its nodules over the years were put together by someone else, and are held against positions.
    """

    title: str
    licence: str
    needed: tuple[str, ...]
    taken: tuple[str, ...]
    numeric: tuple[str, ...]
    findings: Callable[[pd.DataFrame], pd.DataFrame]
    faults: Callable[[pd.DataFrame], list[tuple[int, str]]] = lambda _: []
    without: tuple[str, ...] = ()
    linked: bool = False

    @property
    def source(self) -> str:
        """Where images and nodules come from, for the cohort table."""
        return f"NLST, doi 10.7937/TCIA.HMQ8-J677; where the nodules are: {self.title}, licence: {self.licence}"


def read(path: Path) -> pd.DataFrame:
    """Reads a source of coordinates; which kind it is, its columns tell.

    Returns:
        One row per finding, columns :data:`FINDINGS`.

    Raises:
        DataError: none of the kinds, or every fault of its rows.
    """
    table = read_columns(path, (), tuple(name for kind in KINDS.values() for name in (*kind.needed, *kind.taken)))
    for name, kind in KINDS.items():
        if len(table) and set(kind.needed) <= set(table):
            table = typed(table, path, kind.numeric)
            if faults := [f"row {row + 2}, {text}." for row, text in sorted(kind.faults(table))]:
                raise DataError(listing(path, faults))
            return checked(kind.findings(table).reindex(columns=list(FINDINGS)).assign(kind=name), path)
    raise DataError(
        f"{path}: no source of coordinates that is known, or no rows. Expected the columns of one of these: {_known()}."
    )


def _known() -> str:
    """The kinds of sources with their columns."""
    kinds = "; ".join(f"{kind.title}: {', '.join(kind.needed)}" for kind in KINDS.values())
    return f"{kinds}, series_uid or image, and x, y, z (mm, LPS) or {', '.join(OWN_BOX)}"


def checked(findings: pd.DataFrame, path: Path | str) -> pd.DataFrame:
    """The findings with numbers as numbers.

    Raises:
        DataError: cells that are no numbers, rows without a key or a centre, nodules that come twice in a scan.
    """
    findings = findings.copy()
    faults: list[tuple[int, str]] = []

    def fault(rows: pd.Series, text: str) -> None:
        faults.extend((row, f"row {row + 2}, {text}.") for row in findings.index[rows])

    for name in ("pid", "study_yr", "sct_ab_num", "candidates", "size", *POSITION, *VOXEL, *NOTED, *GEOMETRY):
        findings[name], bad = numbers(findings[name])
        fault(bad | np.isinf(findings[name]), f"column {name}: no number")
    for name in ("pid", "study_yr", "sct_ab_num", "slice", "instance"):
        fault(~whole(findings[name]), f"column {name}: no whole number")
    fault(findings["study_yr"].notna() & ~findings["study_yr"].isin(YEARS), "column study_yr: expected 0, 1 or 2")
    fault(findings[list(KEY)].isna().any(axis=1), f"columns {', '.join(KEY)}: expected a value in each")
    fault(findings.duplicated(list(KEY)), f"columns {', '.join(KEY)}: this nodule comes again in the same year")
    fault(findings[["series_uid", "exam", "image"]].isna().all(axis=1), "expected series_uid or image")
    in_plane = findings[["column", "row"]].notna().all(axis=1) & findings[["slice", "instance"]].notna().any(axis=1)
    fault(~in_plane & findings[list(POSITION)].isna().any(axis=1), f"expected x, y, z or {', '.join(OWN_BOX)}")
    if faults:
        raise DataError(listing(path, [text for _, text in sorted(faults)]))
    findings["candidates"] = findings["candidates"].fillna(findings["sct_ab_num"].notna().astype(float))
    findings["doubt"] = findings["doubt"].fillna("").astype(str)
    return findings.astype({"pid": int, "study_yr": int, "nodule_id": str})


def _tracking(table: pd.DataFrame) -> pd.DataFrame:
    """Array axes i and j of the tracking table are rows and columns, k counts from the feet.

    Held against NLSTx: 741 of its boxes and tracked ones of the same scan have centres within 6 pixels of each other, 9
    would with the axes exchanged; in 686 of them the slice agrees to 2, from the head or from the feet, by scanner.
    That k always counts from the feet shows in the lungs' width: nodules at high k lie in the narrow apex.
    """
    matches = table["abnid_in_nlst"]
    if _is_text(matches):  # written out as CSV: "[2 3]"
        matches = matches.str.findall(ABNORMALITY)
    count = matches.str.len().fillna(0)
    return pd.DataFrame(
        {
            "pid": table["pid"],
            "study_yr": table["exam_idx"],
            "nodule_id": table["nodule_group"],
            "sct_ab_num": matches.str[0].where(count == 1),
            "candidates": count,
            "size": table["volume"],
            "exam": table["exam"],
            "column": table["center_j"],
            "row": table["center_i"],
            "slice": table["center_k"],
        }
    )


def _is_text(cells: pd.Series) -> bool:
    """Whether cells are text, where they have a value; before pandas 3 the kind of the column does not tell."""
    return pd.api.types.infer_dtype(cells, skipna=True) == "string"


def _unmatched(table: pd.DataFrame) -> list[tuple[int, str]]:
    """Rows whose abnormalities cannot be read."""
    cells = table["abnid_in_nlst"]
    if not _is_text(cells):
        return []
    listed = rf"\[?\s*(?:{ABNORMALITY}(?:[\s,]+{ABNORMALITY})*)?\s*\]?"
    odd = ~cells.fillna("").str.fullmatch(listed) & ~cells.str.lower().isin(MISSING)
    return [(row, "column abnid_in_nlst: expected numbers, as [2 3]") for row in table.index[odd]]


def _nlstx(table: pd.DataFrame) -> pd.DataFrame:
    """A participant's boxes are one nodule over the years, as long as there is one a year; else each is its own."""
    alone = table.groupby("pid")["study_yr"].transform(lambda years: not years.duplicated().any())
    own = "T" + table["study_yr"].astype(str) + "-" + table["abnormality uid"].astype(str).str.removesuffix(".0")
    found = _boxed(table.rename(columns={name: f"box_{axis}" for axis, name in BOX.items()}))
    return found.assign(
        nodule_id=own.where(~alone.astype(bool), "1"),
        sct_ab_num=table["abnormality uid"],
        instance=table["slice number"],
        series_uid=table["seriesinstanceuids"],
    )


def _own(table: pd.DataFrame) -> pd.DataFrame:
    table = table.replace({name: {"": None} for name in ("image", "series_uid", "nodule_id") if name in table})
    return _boxed(table) if set(OWN_BOX) <= set(table) else table


def _boxed(table: pd.DataFrame) -> pd.DataFrame:
    """The middle of pixel boxes given by their first pixel and their size in pixels."""
    box = {axis: numbers(table[f"box_{axis}"])[0] for axis in BOX}
    box = {
        name: values.where(values > 0 if name in ("width", "height") else values >= 0) for name, values in box.items()
    }
    return table.assign(column=box["x"] + (box["width"] - 1) / 2, row=box["y"] + (box["height"] - 1) / 2)


KINDS = {
    "tracking": Kind("the tracking table", "MIT", TRACKING, (), TRACKING[-3:], _tracking, _unmatched),
    "nlstx": Kind("NLSTx", "MIT", NLSTX, (), NLSTX[-5:], _nlstx),
    "stmixer": Kind(
        *(stmixer.TITLE, stmixer.LICENCE, stmixer.NEEDED, (), stmixer.NUMERIC, stmixer.findings),
        without=("prsn", "ctab"),
        linked=True,
    ),
    "luna25": Kind(
        *(luna25.TITLE, luna25.LICENCE, luna25.NEEDED, luna25.TAKEN, (), luna25.findings, luna25.faults),
        without=("prsn", "ctab", "canc"),
        linked=True,
    ),
    "own": Kind("a table of your own", "yours", OWN, OWN_TAKEN, OWN_BOX, _own),
}
"""The sources that are known; the first whose columns are all there is taken."""
