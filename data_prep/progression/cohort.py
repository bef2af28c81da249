"""Makes a cohort of baseline crops: outcome, record, growth and follow-up drawn, with the oracle's probability."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import yaml
from numpy.random import Generator
from rich.progress import track

from data_prep.errors import MAX_FAULTS, DataError, ImageError
from data_prep.files import refuse_overwriting
from data_prep.images import Transform
from data_prep.images.content import HU_RANGE
from data_prep.progression import Control, laws
from data_prep.progression.baselines import Baseline, crop_of, read
from data_prep.progression.growth import YEAR
from data_prep.progression.laws import Law
from data_prep.progression.oracle import oracle
from data_prep.progression.record import RECORD, draw_lobe, draw_record
from data_prep.progression.warp import follow_up
from data_prep.schema import COLUMNS, KEY, YES
from data_prep.tables import write_csv
from data_prep.workers import spread
from scripts.files import whole_folder, write_text

KEPT = ("split", "sct_pre_att", "sct_margins", "sct_long_dia", "sct_perp_dia", "malignancy_rating", "source", "licence")
"""Columns that are the baselines' own."""
DIAMETERS = ("sct_long_dia", "sct_perp_dia")
LAW = "law.yaml"
"""In the cohort's folder: the law as it was used."""


class Drawn(NamedTuple):
    """A case to be written: where from, where to, how much the nodule grows, and the stream of its noise."""

    baseline: Baseline
    stem: str
    growth: float
    seed: list[int]


def make(
    baselines: Path,
    out: Path,
    law: str = "real",
    seed: int = 0,
    control: Control | None = None,
    workers: int = 1,
    transform: Transform | None = None,
) -> pd.DataFrame:
    """Writes a cohort; the same arguments give the same bytes.

    Args:
        baselines: cohort table with ``malignancy_rating`` (1 to 5); crops with ``mask``, or scans with x, y, z.
        out: a new folder, or one with an older cohort of this kind, which is replaced.
        law: see :func:`data_prep.progression.laws.read`.
        seed: of all that is drawn, which goes by patient and nodule: other rows of the table do not matter.
        control: a cohort to test methods with.
        workers: processes.
        transform: see :func:`data_prep.images.crops.cut`.

    Returns:
        The cohort table, two rows a nodule.

    Raises:
        DataError: every fault of the table, of the law or of the images, or ``out`` holds what is read; nothing is
            written then.
    """
    if out.exists() and not (out / LAW).is_file() and (out.is_file() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is no simulated cohort. Name another folder, or remove it.")
    ruling = laws.read(law)
    if control is Control.TOLD:
        ruling = telling(ruling)
    given = read(baselines)
    refuse_overwriting([out], [baselines, *map(Path, {*given["image"], *given["mask"]} - {""})])
    table = draw(given, ruling, seed, control is Control.PERMUTED)
    mark = f"Simulated outcomes, records, growth and follow-ups: NAMD's law {ruling.name}, seed {seed}"
    mark += f", control {control}" if control else ""
    tasks = [
        Drawn(Baseline.of(row), _stem(row), row.simulated_growth, _entropy(seed, row, "follow-up"))
        for row in table.itertuples()
    ]
    with whole_folder(out) as folder:
        done = spread(partial(_write_case, folder=folder, transform=transform), tasks, _lost, workers)
        if faults := sorted(filter(None, track(done, "Growing nodules", len(tasks)))):
            raise DataError("\n  ".join(["Nothing was written:", *faults[:MAX_FAULTS]]))
        cohort = _two_times(table.assign(simulated=mark))
        write_csv(cohort, folder / "cohort.csv")
        header = f"# SIMULATED. {mark}.\n"
        write_text(folder / LAW, header + yaml.safe_dump(dict(ruling.content), sort_keys=False, width=120))
    return cohort


def telling(law: Law) -> Law:
    """The law with a record that tells the outcome: the lobe is an upper one where the nodule is malignant alone."""
    told = {"malignant": 1.0, "benign": 0.0}
    record = {**law.content["record"], "upper_lobe": told}
    return replace(law, shares={**law.shares, "upper_lobe": (0.0, 1.0)}, content={**law.content, "record": record})


def draw(table: pd.DataFrame, law: Law, seed: int, permuted: bool = False) -> pd.DataFrame:
    """The baselines with outcome, record, growth, days to the follow-up and the oracle's probabilities.

    Args:
        table: of :func:`data_prep.progression.baselines.read`.
        law: how they are drawn.
        seed: by patient and nodule.
        permuted: records change places between patients, lobes between nodules, so that they tell nothing.

    Returns:
        The table with ``malignant``, the record, ``simulated_growth``, ``days``, ``oracle`` (given rating and record)
        and ``oracle_growth`` (given growth too).
    """
    prior = law.prior(table["malignancy_rating"])
    malignant = np.array([_stream(seed, row, "outcome").uniform() for row in table.itertuples()]) < prior
    table = table.assign(malignant=malignant.astype(int))
    worst = table.groupby("patient_id", sort=False)["malignant"].max()
    records = pd.DataFrame([draw_record(bool(value), law, _rng(seed, str(name))) for name, value in worst.items()])
    lobes = [draw_lobe(bool(row.malignant), law, _stream(seed, row, "lobe")) for row in table.itertuples()]
    if permuted:
        rng = np.random.default_rng(seed)
        records = records.iloc[rng.permutation(len(records))]
        lobes = [lobes[place] for place in rng.permutation(len(lobes))]
    records.index = worst.index
    table = table.assign(sct_epi_loc=lobes, **{name: table["patient_id"].map(records[name]) for name in RECORD})
    streams = [_stream(seed, row, "growth") for row in table.itertuples()]
    days = np.array([law.draw_interval(rng) for rng in streams])
    growth = [law.growth[y].draw(t, rng) for y, t, rng in zip(table["malignant"], days, streams, strict=True)]
    table = table.assign(simulated_growth=growth, days=days)
    return table.assign(
        oracle=oracle(table, law, told=not permuted), oracle_growth=oracle(table, law, told=not permuted, days=days)
    )


def _stream(seed: int, row: Any, purpose: str) -> Generator:
    """A nodule's own random numbers for a purpose."""
    return np.random.default_rng(_entropy(seed, row, purpose))


def _entropy(seed: int, row: Any, purpose: str) -> list[int]:
    return _words(seed, str(row.patient_id), str(row.nodule_id), purpose)


def _rng(seed: int, patient: str) -> Generator:
    """A patient's own random numbers."""
    return np.random.default_rng(_words(seed, patient))


def _words(seed: int, *names: str) -> list[int]:
    """Entropy of a seed and names."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return [seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()]


def _stem(row: Any) -> str:
    """What a nodule's files are called: folder and beginning of the name."""
    return f"{row.patient_id}/{row.nodule_id}"


def _two_times(table: pd.DataFrame) -> pd.DataFrame:
    """The cohort table: a row for each baseline and each follow-up, without empty columns that nobody needs."""
    days = np.floor(table["days"]).astype(int)
    later = {name: np.maximum(1.0, np.rint(table[name] * table["simulated_growth"])) for name in DIAMETERS}
    later |= {"age": table["age"] + np.rint(days / YEAR).astype(int)}
    first = table.assign(study_yr=0, days_from_baseline=0)
    second = table.assign(study_yr=1, days_from_baseline=days, **later)
    for year, each in enumerate((first, second)):
        for kind in ("image", "mask"):
            each[kind] = [f"{kind}s/{_stem(row)}_T{year}.nii.gz" for row in table.itertuples()]
    columns = [*KEY, "study_yr", "days_from_baseline", "image", "mask", *KEPT[:5], "sct_epi_loc", *RECORD, "malignant"]
    columns += [*KEPT[5:], "simulated", "simulated_growth", "oracle", "oracle_growth"]
    both = pd.concat([first, second]).sort_values([*KEY, "study_yr"], kind="stable")[columns]
    both = both.round({"oracle": 6, "oracle_growth": 6})
    needed = {name for name, column in COLUMNS.items() if column.needed == YES}
    return both[[name for name in both if name in needed or both[name].notna().any()]].reset_index(drop=True)


def _write_case(case: Drawn, folder: Path, transform: Transform | None) -> str:
    """Writes both crops and masks of a case; returns what is wrong, if anything."""
    try:
        crop, mask = crop_of(case.baseline, transform)
    except ImageError as error:
        return str(error)
    hu = np.asarray(crop.dataobj, dtype=np.float32)[..., 0]
    if not np.isfinite(hu).all():
        return f"{case.baseline.image}: values not finite; expected HU. Export it again."
    x, y = (float(size) for size in np.linalg.norm(crop.affine[:3, :2], axis=0))
    grown = follow_up(hu, mask, case.growth, (x, y), np.random.default_rng(case.seed))
    for year, (image, where) in enumerate(((hu, mask), grown)):
        for kind, pixels in (("images", np.rint(image.clip(*HU_RANGE))), ("masks", where)):
            path = folder / kind / f"{case.stem}_T{year}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(pixels, crop, path)
    return ""


def _save(pixels: Any, like: nib.Nifti1Image, path: Path) -> None:
    """Writes pixels (W, H) as int16, where another image is."""
    made = nib.Nifti1Image(np.asarray(pixels).astype(np.int16)[..., None], like.affine)
    made.header.set_xyzt_units("mm")
    made.set_sform(like.affine, code="scanner")
    made.set_qform(like.affine, code="scanner")
    nib.save(made, path)


def _lost(case: Drawn, error: BaseException) -> str:
    """What is wrong with a case at which workers were lost."""
    return f"{case.baseline.image}: its process was lost ({type(error).__name__})."
