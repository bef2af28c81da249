"""One run from the trial's tables to a cohort: what ``python -m data_prep nlst`` does."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data_prep.errors import DataError
from data_prep.files import refuse_overwriting
from data_prep.images.index import folder_index
from data_prep.nlst import coordinates, idc, noted, places, preset, tables
from data_prep.nlst.agreement import Agreement
from data_prep.nlst.choices import Attributes, Preset
from data_prep.nlst.coordinates import KINDS, Kind
from data_prep.nlst.flow import NODULE, Flow, draw, neighbours
from data_prep.nlst.join import cohort_table, join
from data_prep.nlst.series import SERIES, attach, idc_index, installed_index
from data_prep.nlst.summary import Summary
from data_prep.schema import POSITION, PREDICT, SECTIONS
from data_prep.sections import assigned_sections
from data_prep.tables import write_csv
from scripts.ehr.features import EHR_FEATURES
from scripts.files import write_atomically, write_json

StandIn = Callable[[Collection[str], pd.DataFrame, tables.Trial, int], dict[str, pd.DataFrame]]
"""From names of tables, findings, the trial and a seed: the tables, as :func:`data_prep.phantom.stand_in.simulate`."""

WRITTEN = ("cohort.csv", "manifest.csv", "manifest.s5cmd", "left_out.csv", "flow.json", "flow.svg")

RULES = {Preset.PAPER: preset.RULE}


@dataclass(frozen=True)
class Options:
    """How a cohort is made.

    Attributes:
        coordinates: see :mod:`data_prep.nlst.coordinates`.
        beside: other sources of coordinates, held against this one, and tables of days: :mod:`data_prep.nlst.noted`.
        tables: the trial's, by the names of :data:`data_prep.nlst.tables.SPECS`.
        dicom: folder with a folder for each series; None: a dry run, without pixels.
        fetch: fetch series that ``dicom`` lacks from the Imaging Data Commons.
        index: the index of the Imaging Data Commons; None: the installed one.
        any_interval: pairs of any interval, not only of consecutive years.
        attributes: which findings need the readers' attributes; None: none of a source that does not know the readers'
            abnormalities, of others those at baseline.
        preset: one of :data:`RULES`, or None.
        prospective: baselines without a follow-up, the last finding of each nodule, in place of pairs.
        stand_in: what simulates ``prsn`` and ``ctab`` where they are missing; None: they are asked for.
        seed: of the preset and of what is simulated.
        workers: processes that read headers.
    """

    coordinates: Path
    tables: Mapping[str, Path]
    beside: Sequence[Path] = ()
    dicom: Path | None = None
    fetch: bool = False
    index: Path | None = None
    any_interval: bool = False
    attributes: Attributes | None = None
    preset: Preset | None = None
    prospective: bool = False
    stand_in: StandIn | None = None
    seed: int = 0
    workers: int = 1


def make(out: Path, options: Options) -> Summary:
    """Writes :data:`WRITTEN` into a folder.

    Raises:
        DataError: every fault of the tables, or one of them would be written over; nothing is written then.
    """
    _check_writable(out)
    index = [options.index] if options.index else []
    read = [options.coordinates, *options.tables.values(), *options.beside, *index]
    refuse_overwriting([out / name for name in WRITTEN], read)
    if options.any_interval and options.preset:
        raise DataError("--preset and --pairs any: the preset's pairs are of consecutive years. Leave one out.")
    if options.prospective and (options.any_interval or options.preset):
        raise DataError("--prospective: takes baselines, no pairs. Leave --preset and --pairs out.")
    findings = coordinates.read(options.coordinates)
    kind = KINDS[findings["kind"].iloc[0]]
    sources, people = noted.read(options.beside)
    trial = _trial(options, kind)
    findings, agreements = _held(findings, sources, people, options)
    trial = _completed(trial, findings, options)
    findings = findings.drop(columns=[*coordinates.GEOMETRY, *coordinates.NOTED[:-1]])  # used up
    flow = Flow(any_interval=options.any_interval)
    attributes = options.attributes or (Attributes.NONE if "ctab" in kind.without else Attributes.BASELINE)
    table = join(trial, findings, flow, attributes, options.prospective)
    if options.prospective:
        table["split"] = PREDICT
    if options.preset:
        table = preset.select(table, flow, options.seed)
    wrong = pd.DataFrame({"cause": [], "unshown": []})
    if options.dicom is not None:
        table, wrong = _with_pixels(table, flow, options)
    if table.empty:
        raise DataError(f"{options.coordinates}: no finding is left. Left out: {_reasons(flow)}.")
    cohort = cohort_table(table, options.any_interval, trial.simulated)
    cohort["split"] = assigned_sections(cohort.assign(patient_id=cohort["patient_id"].astype(str)))
    cohort["source"] = kind.source
    cohort["licence"] = table["licence"].to_numpy() if "licence" in table else None
    if "canc" not in options.tables:
        cohort = cohort.drop(columns="cancer")
    _end(flow, table.assign(split=cohort["split"].to_numpy()))
    if options.dicom is not None:
        cohort["image"] = [os.path.relpath(folder, out.absolute()) for folder in table["folder"]]
        cohort = cohort.drop(columns=[name for name in coordinates.VOXEL if name in cohort])
    manifest = _manifest(table)
    known = {name: int(cohort[name].notna().sum()) for name in EHR_FEATURES}
    size = float(manifest["size_mb"].sum(skipna=False))
    absent = () if trial.simulated else [name for name in tables.NEEDED if name not in options.tables]
    gaps = tables.gaps(trial, cohort, absent)
    counts = int((wrong["cause"] != "").sum()), int(wrong["unshown"].sum())
    summary = Summary(flow, attributes, known, gaps, len(manifest), size, trial.simulated, agreements, *counts)
    _write(out, cohort, manifest, summary, options)
    return summary


def _check_writable(out: Path) -> None:
    """Refuses a folder where nothing may be written, before the work and not after it."""
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise DataError(f"{out}: cannot be written: {there} is no folder, or without permission. Name another: --out.")


def _trial(options: Options, kind: Kind) -> tables.Trial:
    """The trial's tables that there are.

    Raises:
        DataError: one is missing that this kind of source needs and that is not simulated, or see :func:`tables.read`.
    """
    missing = [name for name in tables.NEEDED if name not in options.tables and name not in kind.without]
    lines = [
        f"{name}: no table of {tables.SPECS[name].title}. Name one: --{name}."
        for name in missing
        if options.stand_in is None or name == "canc"
    ]
    if lines:
        raise DataError("\n".join([*lines, "For a dry run, --stand-in simulates prsn and ctab."]))
    return tables.read(options.tables)


def _completed(trial: tables.Trial, findings: pd.DataFrame, options: Options) -> tables.Trial:
    """The trial's tables, stand-ins among them where they are asked for, with what other tables note."""
    replaced = [name for name in tables.NEEDED if name not in trial.tables and name != "canc"]
    if options.stand_in is not None and replaced:
        whole = noted.completed(trial, findings)
        checked = tables.check(options.stand_in(replaced, findings, whole, options.seed))
        simulated = f"SIMULATED: {' and '.join(replaced)} were missing; stand-ins with drawn values take their place"
        trial = tables.Trial({**trial.tables, **checked.tables}, {**trial.refused, **checked.refused}, simulated)
    return noted.completed(trial, findings)


def _held(
    findings: pd.DataFrame, sources: dict[str, pd.DataFrame], people: pd.DataFrame | None, options: Options
) -> tuple[pd.DataFrame, list[Agreement]]:
    """Findings with the facts of their series and what tables beside their source note; see :func:`noted.beside`.

    Where the series are there, places in voxels become mm, so that all sources can be compared.
    """
    series = _series(findings, options)
    if series is not None:
        findings = attach(findings, series)
        sources = {title: attach(other, series) for title, other in sources.items()}
    if sources and options.dicom is not None and not options.fetch:
        shared = set(findings["series_uid"].dropna())
        findings = _in_mm(findings, shared.intersection(*(other["series_uid"] for other in sources.values())), options)
        sources = {title: _in_mm(other, shared, options) for title, other in sources.items()}
    return noted.beside(findings, sources, people)


def _in_mm(findings: pd.DataFrame, wanted: Collection[str], options: Options) -> pd.DataFrame:
    """The findings, those of the wanted series with their places in mm where their headers tell."""
    here = findings["series_uid"].isin(wanted)
    placed, _ = places.place(findings[here], options.workers)
    return findings.assign(**{axis: findings[axis].where(~here, placed[axis]) for axis in POSITION})


def _series(findings: pd.DataFrame, options: Options) -> pd.DataFrame | None:
    """The series that there are, in the folder or the Imaging Data Commons.

    None where findings name images, and in a dry run without the index, which goes on without facts of series.
    """
    if findings["image"].notna().all():
        if options.fetch:
            raise DataError(f"{options.coordinates}: has no series_uid; with --fetch it needs one. Leave --fetch out.")
        return None
    index = options.index or installed_index(needed=options.fetch)
    known = None if index is None else idc_index(index)
    if known is not None:
        known = known.assign(instances=known["slices"])
    if options.dicom is None or options.fetch:
        return known
    here = folder_index(options.dicom)
    if known is None:
        return here
    return here.assign(
        instances=here["series_uid"].map(known.drop_duplicates("series_uid").set_index("series_uid")["slices"])
    )


def _with_pixels(table: pd.DataFrame, flow: Flow, options: Options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Findings whose series can be read, with their place in mm; and what is wrong, see :func:`places.place`."""
    assert options.dicom is not None
    if table.get("folder") is None:
        table = table.assign(folder=[str(options.dicom / image) for image in table["image"]])
    if options.fetch:
        series = table.drop_duplicates("series_uid")
        failed = idc.fetch(series, options.dicom, idc.client())
        missing = table["series_uid"].isin(failed)
        table = flow.exclude(table, missing, "its series could not be fetched", table["series_uid"].map(failed))
        table = table.assign(folder=[str(options.dicom / uid) for uid in table["series_uid"]])
    table, wrong = places.place(table, options.workers)
    for fault in sorted(set(wrong["fault"]) - {""}):
        bad = (wrong["fault"] == fault).reindex(table.index)
        table = flow.exclude(table, bad, f"scan: {fault}", wrong["detail"].reindex(table.index))
    return table, wrong


def _end(flow: Flow, table: pd.DataFrame) -> None:
    """What the cohort falls into: pairs by section, and findings that have no partner."""
    flow.box("The cohort", table)
    paired = neighbours(table, flow.any_interval)
    partner = paired | paired.shift(-1, fill_value=False)
    parts = {name.capitalize(): partner & (table["split"] == name) for name in SECTIONS}
    parts["Unpaired, of training"] = ~partner & (table["split"] == SECTIONS[0])
    parts["Without a follow-up, to forecast"] = table["split"] == PREDICT
    parts["Unpaired, not used"] = ~partner & table["split"].isin(SECTIONS[1:])
    for label, part in parts.items():
        if part.any():
            flow.end(label, table[part])


def _manifest(table: pd.DataFrame) -> pd.DataFrame:
    """One row per series, the facts of the index and how many findings it shows."""
    series = table.dropna(subset="series_uid").reindex(columns=["study_yr", *SERIES])
    count = series.groupby("series_uid")["pid"].transform("size")
    return series.assign(findings=count).drop_duplicates("series_uid").rename(columns={"pid": "patient_id"})


def _reasons(flow: Flow) -> str:
    return "; ".join(
        f"{lost['findings']:,}: {reason}" for taken in flow.exclusions for reason, lost in taken if lost["findings"]
    )


def _write(out: Path, cohort: pd.DataFrame, manifest: pd.DataFrame, summary: Summary, options: Options) -> None:
    flow = summary.flow
    out.mkdir(parents=True, exist_ok=True)
    write_csv(cohort, out / "cohort.csv")
    write_csv(manifest, out / "manifest.csv")
    with write_atomically(out / "manifest.s5cmd") as path:
        fetched = manifest.dropna(subset="url")
        lines = [f"cp {url} {uid}/\n" for url, uid in zip(fetched["url"], fetched["series_uid"], strict=True)]
        path.write_text("".join(lines), encoding="utf-8", newline="\n")
    left = [*flow.left_out, pd.DataFrame(columns=[*NODULE, "study_yr", "series_uid", "reason", "detail"])]
    write_csv(pd.concat(left[:-1] or left).rename(columns={"pid": "patient_id"}), out / "left_out.csv")
    facts: dict[str, Any] = {
        "simulated": summary.simulated,
        "pairs": "neighbours in time" if options.any_interval else "consecutive study years",
        "prospective": options.prospective,
        "attributes": summary.attributes,
        "preset": options.preset,
        "rule": RULES[options.preset] if options.preset else "",
        "seed": options.seed,
        "beside": [path.name for path in options.beside],
        "sources": {name: path.name for name, path in {**options.tables, "coordinates": options.coordinates}.items()},
        **flow.as_json(),
        "features_known": summary.known,
        "features_with_gaps": summary.gaps,
        "agreement": [asdict(agreement) for agreement in summary.agreements],
        "series": summary.series,
        "slices_not_shown_to_be_whole": summary.unshown,
        "size_gb": None if math.isnan(summary.size_mb) else round(summary.size_mb / 1024, 1),
    }
    write_json(out / "flow.json", facts)
    title = (
        f"NLST: from {options.coordinates.name} to the cohort. "
        f"A finding is a nodule in one scan, a pair one in {facts['pairs']}"
    )
    draw(flow, out / "flow.svg", title, summary.simulated)
