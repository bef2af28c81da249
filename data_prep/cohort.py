"""The dataset folder of a cohort table: crops and ``datalist.json``, as the bundle reads them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from rich.progress import track

from data_prep.cutting import MADE, Recipe, Result, Scan, Wanted, cut_scan, failed, made_line, read_made, write_made
from data_prep.errors import MAX_FAULTS, DataError
from data_prep.files import one_writer, refuse_overwriting
from data_prep.identity import Names, open_key, write_key
from data_prep.padding import crops_of
from data_prep.schema import KEY, OLDEST, PREDICT, times
from data_prep.sections import SHARES, assigned_sections, sectioned
from data_prep.spacing import PIXEL_MM
from data_prep.tables import write_csv
from data_prep.unforeseen import Streak
from data_prep.workers import spread
from scripts.errors import listed
from scripts.files import write_atomically, write_json


@dataclass(frozen=True)
class Summary:
    """What :func:`build` did.

    Attributes:
        entries: per section.
        written, reused: crops that were cut, and that were taken from an earlier run.
        left_out: single timepoints of validation and test patients.
        earlier: timepoints of patients in ``predict`` that a later one follows.
        faults: timepoints whose image cannot be used, by fault.
        aged: timepoints whose age was above :data:`data_prep.schema.OLDEST`, and is that now.
        unforeseen: of these, those that met an error nobody thought of.
        lossy: crops of pixels that were compressed with loss.
    """

    entries: dict[str, int]
    written: int
    reused: int
    left_out: int
    faults: Counter[str]
    aged: int
    unforeseen: int = 0
    lossy: int = 0
    earlier: int = 0


def build(
    table: Path,
    out: Path,
    size: int = 128,
    spacing: float | None = PIXEL_MM,
    name: str | None = None,
    simulated: str | None = None,
    key: Path | None = None,
    keep_ids: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    transform: str | None = None,
    predict: bool = False,
    shares: Mapping[str, float] = SHARES,
) -> Summary:
    """Makes a dataset folder of a cohort table.

    Nothing is read of any image before the whole table is found good, and ``out`` appears, or is replaced, when all
    is done. Crops whose source has not changed are taken from the last run, be it finished or not. An image that
    cannot be used stands in ``failures.csv`` with the reason, and the others are taken.

    Args:
        table, out, size: see :mod:`data_prep.schema`; the dataset folder; pixels along both axes of a crop.
        spacing: mm between pixels in plane, of all crops; None keeps each scanner's.
        name: the dataset's name; None: the folder's.
        simulated: a text that marks the data as simulated; None: what the table's column ``simulated`` says.
        key: the file that maps cases to patients; None: beside ``out``.
        keep_ids: keep the table's identifiers and write no key; for public and simulated data.
        workers, scheduler: see :func:`data_prep.workers.spread`.
        transform, predict, shares: see :func:`data_prep.images.crops.cut`, and ``sectioned`` and ``assigned_sections``.

    Raises:
        DataError: every fault of the table; nothing can be taken; ``out`` is no dataset, holds what is read, or is
            being written by another run; or a crop that was cut is not there any more.

    Example:
        The table is that of a simulated cohort, ``python -m data_prep phantom phantom``.

        >>> from pathlib import Path
        >>> made = build(Path("phantom/cohort.csv"), Path("dataset"), size=64, keep_ids=True)
        >>> list(made.entries), made.faults
        (['training', 'validation', 'test', 'unpaired', 'predict'], Counter())
        >>> sorted(path.name for path in Path("dataset").iterdir())
        ['crops', 'crops.jsonl', 'datalist.json', 'datasheet.md', 'datasheet.png', 'failures.csv']
    """
    _refuse_other(out)
    key = key or out.with_name(f"{out.name}.key.json")
    with one_writer(out):
        names = Names("") if keep_ids else open_key(key, out)
        cohort = _read(table, out, names, shares)
        used = _used(cohort, predict, table)
        write_key(key, names, {})  # a run that is stopped goes on with the same names
        with write_atomically(out, keep_unfinished=True) as folder:
            recipe = Recipe(folder, out.absolute(), size, spacing, names, transform)
            results = _cut_all(used, table.parent, recipe, workers, scheduler)
            made = _complete(cohort, results, recipe, name or out.name, simulated, predict)
        write_key(key, names, _cases_by_name(cohort))
    return made


def _refuse_other(out: Path) -> None:
    """Refuses to replace what is no dataset."""
    if out.exists() and not (out / "datalist.json").is_file() and (out.is_file() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is no dataset (no datalist.json). Name another folder, or remove it.")


def _read(table: Path, out: Path, names: Names, shares: Mapping[str, float]) -> pd.DataFrame:
    """The table as `_prepared` gives it, whose file and images are not in ``out``."""
    from data_prep.contract import read_cohort

    cohort = _prepared(read_cohort(table), names, shares)
    refuse_overwriting([out], [table, *(table.parent / image for image in cohort["image"].unique())])
    return cohort


def _used(cohort: pd.DataFrame, predict: bool, table: Path) -> pd.DataFrame:
    """The rows whose crops are in a section.

    Raises:
        DataError: there is none.
    """
    used = cohort[cohort["crop"].isin(crops_of(chain(*sectioned(cohort, predict).values())))]
    if used.empty:
        raise DataError(
            f"{table}: all {len(cohort)} timepoints are single ones of validation and test patients, which make no "
            "pair. To forecast from them, give --predict, or write predict into the column split."
        )
    return used


def _complete(
    cohort: pd.DataFrame, results: list[Result], recipe: Recipe, name: str, simulated: str | None, predict: bool
) -> Summary:
    """Writes what stands beside the crops, and removes crops of an earlier run that are not named any more."""
    from data_prep import datasheet

    folder, bad = recipe.folder, {result.crop: result for result in results if result.fault}
    good = cohort[~cohort["crop"].isin(bad)]
    sections = sectioned(good, predict)
    used = good["crop"].isin(crops_of(chain(*sections.values())))
    taken, left = good[used], good[~used]
    if taken.empty:
        reasons = list(dict.fromkeys(result.message for result in bad.values()))
        raise DataError(
            "\n  ".join(["No pair is left without these images; nothing was written:", *reasons[:MAX_FAULTS]])
        )
    _refuse_gone(folder, taken["crop"])
    datalist: dict[str, Any] = {
        "name": name,
        "simulated": "; ".join(sorted(set(cohort["simulated"].dropna()))) if simulated is None else simulated,
        "crop_size": recipe.size,
        "pixel_mm": recipe.spacing,
        **sections,
    }
    datalist |= _of_crops(taken, results, recipe.size)
    write_json(folder / "datalist.json", datalist)
    write_csv(_failures(bad.values()), folder / "failures.csv")
    made = {each.crop: each.made for each in results if each.made}
    earlier = int(left["split"].eq(PREDICT).sum())
    left_out = len(left) - earlier
    faults = Counter(result.fault for result in bad.values())
    keep_ids, measured = not recipe.names.secret, _measured(taken, results)
    datasheet.write(folder, datasheet.Facts(datalist, measured, recipe.spacing, faults, left_out, keep_ids))
    _remove_strays(folder, set(taken["crop"]))
    write_made(folder, [made[crop] for crop in taken["crop"]])
    reused = sum(result.reused for result in results)
    return Summary(
        entries={section: len(cases) for section, cases in sections.items()},
        written=len(results) - len(bad) - reused,
        reused=reused,
        left_out=left_out,
        faults=faults,
        aged=int(taken["aged"].sum()),
        unforeseen=sum(bool(result.cause) for result in results),
        lossy=len(datalist.get("lossy", [])),
        earlier=earlier,
    )


def _refuse_gone(folder: Path, crops: Iterable[str]) -> None:
    """Refuses to name crops that are not in the folder any more: something else writes there."""
    if gone := [crop for crop in crops if not (folder / crop).is_file()]:
        raise DataError(
            f"{folder}: of the crops that were cut, {listed(gone)} went missing; nothing was written. See that no "
            "other program removes files there, and give the same command again, which cuts them."
        )


def _prepared(cohort: pd.DataFrame, names: Names, shares: Mapping[str, float] = SHARES) -> pd.DataFrame:
    """Sorted, with ``time``, ``timepoint``, ``crop``, the section (``split``) in every row, and patients by new names.

    Whose they are stands in the columns ``patient`` and ``nodule``; ``last`` tells which timepoint of a nodule no other
    follows, ``aged`` whose age stands as :data:`data_prep.schema.OLDEST`.
    """
    cohort = cohort.assign(split=assigned_sections(cohort, shares), time=times(cohort))
    cohort = cohort.assign(patient=cohort["patient_id"], nodule=cohort["nodule_id"])
    cohort = cohort.assign(aged=cohort["age"] > OLDEST, age=cohort["age"].clip(upper=OLDEST))
    cohort["nodule_id"] = [names.nodule(row.patient, row.nodule) for row in cohort.itertuples()]
    cohort["patient_id"] = cohort["patient"].map(names.patient)
    cohort = cohort.sort_values([*KEY, "time"], kind="stable").reset_index(drop=True)
    cohort["last"] = ~cohort.duplicated([*KEY], keep="last")
    letter = "T" if cohort["study_yr"].notna().any() else "D"
    cohort["timepoint"] = [f"{letter}{time:g}" for time in cohort["time"]]
    cohort["crop"] = [f"crops/{row.patient_id}_{row.nodule_id}_{row.timepoint}.nii.gz" for row in cohort.itertuples()]
    alike = cohort.loc[cohort["crop"].str.lower().duplicated(keep=False), "patient"].unique()
    if len(alike):
        raise DataError(
            f"patient_id, nodule_id: the names of nodules of {', '.join(alike[:5])} are alike but for case or '_'; "
            "expected different ones, as files are named by them. Rename them in the table."
        )
    return cohort


def _cases_by_name(cohort: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Whose each timepoint is, and where its image lies, for the key."""
    return {
        _stem(row.crop): {"patient_id": row.patient, "nodule_id": row.nodule, "time": row.timepoint, "image": row.image}
        for row in cohort.itertuples()
    }


def _stem(crop: str) -> str:
    """A timepoint's name, as cases and the key have it."""
    return Path(crop).name.removesuffix(".nii.gz")


def _cut_all(used: pd.DataFrame, source: Path, recipe: Recipe, workers: int, scheduler: str | None) -> list[Result]:
    """Cuts the crops, scan by scan, or takes them from an earlier run.

    Raises:
        DataError: there is none that could be cut; the first reasons. Or the run cannot go on: nothing can be written,
            or images in a row meet the same unforeseen error.
    """
    (recipe.folder / "crops").mkdir(parents=True, exist_ok=True)
    earlier = [read_made(folder) for folder in (recipe.folder, recipe.last)]
    wanted: dict[tuple[str, str], list[Wanted]] = defaultdict(list)
    for row in used.itertuples():
        centre = None if math.isnan(row.x) else (row.x, row.y, row.z)
        known = tuple(made[row.crop] for made in earlier if row.crop in made)
        wanted[row.image, row.series_uid or ""].append(Wanted(row.crop, centre, known))
    scans = [
        Scan((source / image).absolute(), tuple(crops), series or None)
        for (image, series), crops in sorted(wanted.items())
    ]
    done = spread(partial(cut_scan, recipe=recipe), scans, _lost, workers, scheduler)
    results: list[Result] = []
    streak = Streak()
    with open(recipe.folder / MADE, "a", encoding="utf-8") as record:  # goes along, so that a stopped run goes on
        record.write("\n")
        for some in track(done, "Cutting crops", len(scans)):
            if stop := next((result.stop for result in some if result.stop), ""):
                raise DataError(stop)
            streak.see(some[-1].cause, some[-1].message)
            results += [_seen(result, recipe) for result in some]
            record.writelines(made_line(result.made) for result in some if result.made)
            record.flush()
    if all(result.fault for result in results):
        reasons = list(dict.fromkeys(result.message for result in results))
        title = f"None of {len(scans)} images can be used; nothing was written:"
        raise DataError("\n  ".join([title, *reasons[:MAX_FAULTS]]))
    return results


def _lost(scan: Scan, error: BaseException) -> list[Result]:
    """The results of a scan at which workers were lost."""
    return [failed(wanted.crop, scan.image, error) for wanted in scan.wanted]


def _seen(result: Result, recipe: Recipe) -> Result:
    """The result, or a failure where the crop is not in the dataset's folder: the worker has another file system."""
    if result.fault or (recipe.folder / result.crop).is_file():
        return result
    reason = "written by a worker, not seen here: workers need the same file system."
    return Result(result.crop, fault="lost crop", reason=f"lost crop: {reason}", message=f"{result.crop}: {reason}")


def _failures(bad: Iterable[Result]) -> pd.DataFrame:
    """The timepoints that could not be taken; it holds no identifiers."""
    rows = sorted((_stem(result.crop), result.fault, result.reason) for result in bad)
    return pd.DataFrame(rows, columns=["case", "fault", "reason"])


def _measured(taken: pd.DataFrame, results: Iterable[Result]) -> pd.DataFrame:
    """The rows with their crops' spacing in mm, ``x_mm`` and ``z_mm``."""
    sizes = {result.crop: result.spacing for result in results if result.spacing}
    x, _, z = zip(*(sizes[crop] for crop in taken["crop"]), strict=True)
    return taken.assign(x_mm=x, z_mm=z)


def _of_crops(taken: pd.DataFrame, results: Iterable[Result], size: int) -> dict[str, Any]:
    """What the datalist says of crops, where there are such: ``unpadded``, the part of padded ones that is not, and
    ``lossy``, those whose pixels were compressed with loss.
    """
    whole, made = [0, size, 0, size], {each.crop: each for each in results if each.made}
    parts = {crop: each.made.unpadded for crop, each in made.items() if each.made and each.made.unpadded != whole}
    unpadded = {crop: parts[crop] for crop in taken["crop"] if crop in parts}
    lossy = [crop for crop in taken["crop"] if made[crop].lossy]
    return {name: found for name, found in (("unpadded", unpadded), ("lossy", lossy)) if found}


def _remove_strays(folder: Path, wanted: set[str]) -> None:
    """Removes crops of an earlier, unfinished run that this one does not name."""
    for path in (folder / "crops").iterdir():
        if f"crops/{path.name}" not in wanted:
            path.unlink()
