"""From a cohort table to the dataset folder that the bundle reads: crops and ``datalist.json``."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import track

from data_prep import crops
from data_prep.errors import DataError
from data_prep.files import write_atomically, write_json
from data_prep.reading import MAX_FAULTS
from data_prep.schema import KEY, SPLITS, read_cohort, times
from scripts.ehr import EHR_FEATURES, NODULE_ATTRIBUTES

SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}
DAYS_PER_YEAR = 365
CROPS_VERSION = 1
"""Part of every crop's fingerprint; raise it when crops come out differently, so that none is reused."""


@dataclass(frozen=True)
class Summary:
    """What :func:`build` did: entries per section, crops written and reused, single rows left out."""

    entries: dict[str, int]
    written: int
    reused: int
    left_out: int


def build(
    table: Path,
    out: Path,
    size: int = 128,
    spacing: float | None = None,
    name: str | None = None,
    simulated: str | None = None,
) -> Summary:
    """Makes a dataset folder of a cohort table.

    Nothing is read of any image before the whole table is found good, and ``out`` appears, or is replaced, when all
    is done. Crops whose source has not changed are taken from the last run, be it finished or not.

    Args:
        table: see :mod:`data_prep.schema`.
        out: the dataset folder.
        size: pixels along both axes of a crop.
        spacing: mm between pixels in plane; None keeps each scanner's.
        name: the dataset's name; None: the folder's.
        simulated: a text that marks the data as simulated; None: what the table's column ``simulated`` says.

    Raises:
        DataError: every fault of the table, or of the images, at once; or ``out`` is something else than a dataset.
    """
    if out.exists() and not (out / "datalist.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is no dataset (no datalist.json). Name another folder, or remove it.")
    cohort = _prepared(read_cohort(table))
    if simulated is None:
        simulated = "; ".join(sorted(set(cohort["simulated"].dropna())))
    sections = sectioned(cohort)
    used = cohort[cohort["crop"].isin(set(_crops_of(sections)))]
    with write_atomically(out, keep_unfinished=True) as folder:
        written = _cut_all(used, table.parent, folder, out, size, spacing)
        datalist = {"name": name or out.name, "simulated": simulated, "crop_size": size, **sections}
        write_json(folder / "datalist.json", datalist)
        _remove_strays(folder, set(used["crop"]))
    entries = {section: len(cases) for section, cases in sections.items()}
    return Summary(entries, written, len(used) - written, len(cohort) - len(used))


def _prepared(cohort: pd.DataFrame) -> pd.DataFrame:
    """Sorted, with the columns ``time``, ``timepoint``, ``crop`` and a full ``split``."""
    cohort = cohort.assign(time=times(cohort))
    cohort = cohort.sort_values([*KEY, "time"], kind="stable").reset_index(drop=True)
    letter = "T" if cohort["study_yr"].notna().any() else "D"
    cohort["timepoint"] = [f"{letter}{time:g}" for time in cohort["time"]]
    cohort["crop"] = [f"crops/{row.patient_id}_{row.nodule_id}_{row.timepoint}.nii.gz" for row in cohort.itertuples()]
    alike = cohort.loc[cohort["crop"].str.lower().duplicated(keep=False), "patient_id"].unique()
    if len(alike):
        raise DataError(
            f"patient_id, nodule_id: the names of nodules of {', '.join(alike[:5])} are alike but for case or '_'; "
            "expected different ones, as files are named by them. Rename them in the table."
        )
    cohort["split"] = assigned_splits(cohort)
    return cohort


def assigned_splits(cohort: pd.DataFrame) -> pd.Series:
    """The split of every row: the table's own, drawn by patient where the table gives none.

    Patients without one are put in the order of a hash of their identifier, those with a malignant nodule, without
    and with unknown outcome each for themselves, and dealt out 70 : 10 : 20. The same table always gives the same.
    """
    drawn: dict[str, str] = {}
    free = cohort[cohort.groupby("patient_id")["split"].transform("count").eq(0)]
    for _, stratum in free.groupby(free.groupby("patient_id")["malignant"].transform("max").fillna(-1)):
        patients = sorted(stratum["patient_id"].unique(), key=lambda patient: hashlib.sha256(patient.encode()).digest())
        first = round(SHARES["training"] * len(patients))
        second = round((SHARES["training"] + SHARES["validation"]) * len(patients))
        for position, patient in enumerate(patients):
            drawn[patient] = SPLITS[(position >= first) + (position >= second)]
    given = cohort.groupby("patient_id")["split"].transform("first")
    return given.where(given.notna(), cohort["patient_id"].map(drawn))


def sectioned(cohort: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """The datalist's sections: pairs by split, and single timepoints of training patients as ``unpaired``.

    A pair is two neighbouring timepoints of a nodule: study years that follow each other or, in a table without
    study years, any two neighbours. Three timepoints give two pairs.
    """
    sections: dict[str, list[dict[str, Any]]] = {section: [] for section in (*SPLITS, "unpaired")}
    for _, nodule in cohort.groupby(list(KEY), sort=True):
        rows = [row for _, row in nodule.iterrows()]
        pairs = [(first, second) for first, second in zip(rows, rows[1:], strict=False) if _neighbours(first, second)]
        for first, second in pairs:
            sections[first["split"]].append(_case(first, second))
        paired = {row["crop"] for pair in pairs for row in pair}
        sections["unpaired"] += [
            _single(row) for row in rows if row["crop"] not in paired and row["split"] == "training"
        ]
    return sections


def _neighbours(first: pd.Series, second: pd.Series) -> bool:
    """Whether two timepoints next to each other make a pair."""
    return bool(math.isnan(first["study_yr"]) or second["study_yr"] - first["study_yr"] == 1)


def _case(first: pd.Series, second: pd.Series) -> dict[str, Any]:
    """A pair as the datalist has it."""
    days = second["days_from_baseline"] - first["days_from_baseline"]
    if math.isnan(days):
        days = DAYS_PER_YEAR * (second["time"] - first["time"])
    return {
        "case_id": f"{first['patient_id']}_{first['nodule_id']}_{first['timepoint']}-{second['timepoint']}",
        "patient_id": first["patient_id"],
        "nodule_id": first["nodule_id"],
        "baseline": first["crop"],
        "follow_up": second["crop"],
        "ehr": _known(first, EHR_FEATURES),
        "follow_up_attributes": _known(second, NODULE_ATTRIBUTES),
        **_outcome(first, second),
        "interval_days": int(days),
    }


def _single(row: pd.Series) -> dict[str, Any]:
    """A timepoint without a partner as the datalist has it."""
    return {
        "case_id": f"{row['patient_id']}_{row['nodule_id']}_{row['timepoint']}",
        "patient_id": row["patient_id"],
        "image": row["crop"],
        "ehr": _known(row, EHR_FEATURES),
        **_outcome(row),
    }


def _known(row: pd.Series, names: Iterable[str]) -> dict[str, float]:
    """The features that are known; whole numbers as such."""
    values = {name: float(row[name]) for name in names if not pd.isna(row[name])}
    return {name: int(value) if value.is_integer() else value for name, value in values.items()}


def _outcome(*rows: pd.Series) -> dict[str, int]:
    """``malignant`` from the first row that tells; nothing where none does."""
    known = [int(row["malignant"]) for row in rows if not pd.isna(row["malignant"])]
    return {"malignant": known[0]} if known else {}


def _crops_of(sections: dict[str, list[dict[str, Any]]]) -> Iterable[str]:
    """Every crop that a datalist names."""
    for cases in sections.values():
        for case in cases:
            yield from (case[key] for key in ("baseline", "follow_up", "image") if key in case)


def _cut_all(cohort: pd.DataFrame, source: Path, folder: Path, last: Path, size: int, spacing: float | None) -> int:
    """Cuts the crops into ``folder``, or takes them from there or from the ``last`` dataset.

    Returns:
        How many were cut.

    Raises:
        DataError: every image that could not be cut, once.
    """
    (folder / "crops").mkdir(parents=True, exist_ok=True)
    written = 0
    faults: list[str] = []
    rows = cohort.sort_values(["image", "crop"])  # nodules of one scan follow each other: headers are read once
    for row in track(list(rows.itertuples()), description="Cutting crops"):
        image, target = source / row.image, folder / row.crop
        centre = None if math.isnan(row.x) else (row.x, row.y, row.z)
        fingerprint = _fingerprint(image, row.image, centre, size, spacing)
        if _reuse(image, (target, last / row.crop), target, fingerprint):
            continue
        try:
            crops.save(crops.cut(image, centre, size, spacing), target, fingerprint)
            written += 1
        except DataError as error:
            faults.append(str(error))
    if faults:
        faults = list(dict.fromkeys(faults))
        title = f"{len(faults)} images cannot be used; nothing was written. Mend them, or take their rows out:"
        raise DataError("\n  ".join([title, *faults[:MAX_FAULTS]]))
    return written


def _files(image: Path) -> list[Path]:
    """The file, or the files of a folder."""
    return sorted(path for path in image.iterdir() if path.is_file()) if image.is_dir() else [image]


def _fingerprint(image: Path, name: str, centre: tuple[float, ...] | None, size: int, spacing: float | None) -> str:
    """What a crop depends on, but for the age of its source: 64 hexadecimal digits."""
    sizes = [path.stat().st_size for path in _files(image)]
    facts = (CROPS_VERSION, name, sizes, centre, size, spacing)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _reuse(image: Path, candidates: Iterable[Path], target: Path, fingerprint: str) -> bool:
    """Puts an up-to-date crop of an earlier run in place, as make would: same facts, and younger than its source."""
    newest = max(path.stat().st_mtime_ns for path in [image, *_files(image)])
    for candidate in candidates:
        if (
            candidate.is_file()
            and candidate.stat().st_mtime_ns > newest
            and crops.description(candidate) == fingerprint
        ):
            if candidate != target:
                with write_atomically(target) as path:
                    shutil.copy2(candidate, path)
            return True
    return False


def _remove_strays(folder: Path, wanted: set[str]) -> None:
    """Takes away crops of an earlier, unfinished run that this one does not name."""
    for path in (folder / "crops").iterdir():
        if f"crops/{path.name}" not in wanted:
            path.unlink()
