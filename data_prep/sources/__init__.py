"""Other nodule sets to the cohort table; a new one is one file here and one test.

A module of this package has ``read``, which makes of the set's annotation table ``patient_id``, ``nodule_id``,
``series`` (what the image is called: a series UID or a file name), ``x``, ``y``, ``z`` (mm), and whatever the set tells
of time, of the 13 features, ``malignant`` and ``split``; further columns are kept. ``SYSTEM`` is that of x, y, z:
``LPS``, ``RAS``, or None where it has to be asked, in the words of ``ASK``. ``SOURCE`` and ``LICENCE`` (None where it
is not known) go with every row. A set of the trial has ``joined`` instead of ``read``:
it also takes the trial's tables and other sources of the same nodules, and counts what it left out. ``inputs``, where
a module has it, tells which files it reads besides.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from data_prep.errors import MAX_FAULTS, DataError, listing
from data_prep.files import refuse_overwriting
from data_prep.images import VOLUMES
from data_prep.images.index import folder_index
from data_prep.schema import NUMBERS, POSITION, TIMES
from data_prep.tables import numbers, shown, write_csv
from scripts.ehr.features import EHR_FEATURES

KINDS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def convert(
    kind: str,
    annotations: Path,
    out: Path,
    images: Path | None = None,
    system: str | None = None,
    tables: Path | None = None,
    beside: Sequence[Path] = (),
) -> Counter[str]:
    """Writes the cohort table of a set's annotations.

    Args:
        kind: one of :data:`KINDS`.
        annotations: the set's table.
        out: the cohort table to write, CSV.
        images: folder with NIfTI or MetaImage files, or DICOM series, at any depth; None: ``image`` is what the set
            calls it.
        system: of x, y, z: ``LPS`` or ``RAS``; None: the set's.
        tables, beside: of a set of the trial, see :func:`data_prep.sources.luna25.joined`.

    Returns:
        Rows that were taken (``taken``), those left out because their image is not there (``no image``), and what else
        the set counts.

    Raises:
        DataError: every fault of the table; no image is there; a system that has to be named; or ``out`` is a table
            that is read.
    """
    if kind not in KINDS:
        raise DataError(f"{kind}: no such set; expected one of {', '.join(KINDS)}.")
    module = importlib.import_module(f"{__name__}.{kind}")
    system = system or module.SYSTEM
    if system is None:
        raise DataError(f"{kind}: {module.ASK}")
    besides = module.inputs(annotations, tables) if hasattr(module, "inputs") else ()
    refuse_overwriting([out], [annotations, *beside, *besides])
    if hasattr(module, "joined"):
        if system != module.SYSTEM:
            raise DataError(f"{kind}: its coordinates are {module.SYSTEM}. Leave --system out.")
        table, counts = module.joined(annotations, tables, beside)
    elif tables or beside:
        raise DataError(f"{kind}: is not of the trial. Leave --tables and --beside out.")
    else:
        table, counts = module.read(annotations), Counter[str]()
    table = _placed(table, annotations, system)
    facts = {"source": module.SOURCE, "licence": module.LICENCE}
    found = write(table.assign(**{name: fact for name, fact in facts.items() if name not in table}), out, images)
    found.update(counts)
    return found


def write(table: pd.DataFrame, out: Path, images: Path | None) -> Counter[str]:
    """Completes a cohort table, finds its images and writes it; see :func:`convert`."""
    if not set(TIMES) & set(table):
        table = table.assign(study_yr=0)
    table = table.reindex(columns=list(dict.fromkeys([*table, *EHR_FEATURES])))
    found = table["series"]
    if images is not None:
        base, places = out.absolute().parent, _found(found, images)
        if (folders := places.map(Path.is_dir, na_action="ignore").eq(True)).any():
            table = table.assign(series_uid=found.where(folders))
        found = places.map(lambda path: os.path.relpath(path, base), na_action="ignore")
    if found.isna().all():
        raise DataError(f"{images}: none of the {len(table)} images is there, such as {table['series'].iloc[0]}.")
    table = table.assign(image=found).drop(columns="series")
    first = ["patient_id", "nodule_id", *(name for name in TIMES if name in table), "image"]
    taken = table.loc[found.notna(), [*first, *table.columns.difference(first, sort=False)]]
    write_csv(taken, out)
    return Counter({"taken": len(taken), "no image": len(table) - len(taken)})


def _placed(table: pd.DataFrame, annotations: Path, system: str) -> pd.DataFrame:
    """x, y, z as LPS, all that are numbers as such."""
    if table.empty:
        raise DataError(f"{annotations}: no rows; expected one a nodule and scan.")
    faults = []
    for name in (name for name in NUMBERS if name in table):
        values, bad = numbers(table[name])
        wrong, expected = (bad | values.isna(), "millimetres") if name in POSITION else (bad, "a number")
        faults += [
            f"row {row + 2}: {name} is {shown(table[name][row])}; expected {expected}." for row in table.index[wrong]
        ]
        table[name] = -values if system == "RAS" and name in ("x", "y") else values
    if faults:
        raise DataError(listing(annotations, faults))
    return table


def _found(names: pd.Series, root: Path) -> pd.Series:
    """The image of each row, missing where there is none: a file by its name or by more of its path, a series by UID.

    Raises:
        DataError: a name is that of several images, and none of them has it as its path from the folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected one with NIfTI or MetaImage files, or DICOM series.")
    names = names.astype(str).map(lambda name: PurePosixPath(name.strip().replace("\\", "/")).as_posix())
    places: dict[str, list[Path]] = defaultdict(list)
    files = [path for path in sorted(root.rglob("*")) if path.name.endswith(VOLUMES)]
    for path in files:
        for name in _names(path, root):
            places[name].append(path)
    if not set(names) <= places.keys() and (series := _series(root, alone=not files)) is not None:
        for uid, folder in zip(series["series_uid"], series["folder"], strict=True):
            places[str(uid)].append(Path(folder))
    chosen = {}
    for name in dict.fromkeys(names):
        exact = [path for path in places[name] if name in _names(path, root, whole=True)]
        chosen[name] = {path.resolve(): path for path in exact or places[name]}
    several = [f"{name}: {', '.join(map(str, paths.values()))}" for name, paths in chosen.items() if len(paths) > 1]
    if several:
        raise DataError(
            "\n  ".join([f"{root}: {len(several)} names are each that of several images:", *several[:MAX_FAULTS]])
            + f"\nGive paths from {root}, or with --images a folder without masks and copies."
        )
    return names.map({name: next(iter(paths.values())) for name, paths in chosen.items() if paths})


def _names(path: Path, root: Path, whole: bool = False) -> set[str]:
    """What a file may be called: its path from the folder or an end of it, with and without the ending."""
    parts = Path(os.path.relpath(path, root)).parts
    ends = ["/".join(parts[first:]) for first in range(1 if whole else len(parts))]
    return {name for end in ends for name in (end, end.removesuffix(".gz").rsplit(".", 1)[0])}


def _series(root: Path, alone: bool) -> pd.DataFrame | None:
    """The DICOM series in a folder; None where there is none, which is a fault unless there are other images."""
    try:
        return folder_index(root)
    except DataError:
        if alone:
            raise
        return None


def numbered(table: pd.DataFrame, by: str) -> pd.Series:
    """1, 2, 3 ... for the nodules of each scan, in the table's order."""
    return table.groupby(by).cumcount() + 1


def banded(ratings: pd.Series, bands: dict[int, tuple[float, float]]) -> pd.Series:
    """Ratings as codes, by the band (inclusive) that they lie in."""
    return pd.Series(np.select([ratings.between(*band) for band in bands.values()], list(bands), np.nan), ratings.index)
