"""Findings and the trial's tables to the cohort: who is taken, with what features and what outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.nlst import agreement, coordinates, tables
from data_prep.nlst.choices import Attributes
from data_prep.nlst.coordinates import VOXEL
from data_prep.nlst.flow import NODULE, Flow, neighbours
from data_prep.nlst.tables import CANCER_SITES, DAYS, YEARS, Trial
from data_prep.schema import POSITION
from scripts.ehr.features import EHR_FEATURES, NODULE_ATTRIBUTES

NODULE_CODE = 51
"""``sct_ab_desc``: non-calcified nodule or mass of at least 4 mm."""
NOT_DIAGNOSTIC = 3
"""``ctdxqual``."""
CT_ARM = 1
"""``rndgroup``, in CDAS's release."""
TOPOGRAPHY = {"C34.1": (1, 4, 5), "C34.2": (2,), "C34.3": (3, 6)}
"""Codes of ``sct_epi_loc`` by ICD-O-3 topography, which does not tell left from right."""

FOLLOWS = "follows a scan in which its attributes are not known"

EXTRA = ("cancer", "sct_ab_gwth", "sct_ab_preexist", "sct_ab_num", "series_uid")


def join(
    trial: Trial,
    findings: pd.DataFrame,
    flow: Flow,
    attributes: Attributes = Attributes.BASELINE,
    prospective: bool = False,
) -> pd.DataFrame:
    """Joins findings with the trial's tables and leaves out what cannot be used.

    Args:
        trial: with ``prsn``, ``ctab`` and ``canc``.
        findings: see :mod:`data_prep.nlst.coordinates`, with ``folder`` where their series have been looked for.
        flow: notes what is taken and what is left out.
        attributes: ``both``: every finding needs the readers' row; ``baseline``: the follow-up of a pair does not;
            ``none``: no finding does.
        prospective: leave out what a later scan that can be used shows again, so that no finding has a follow-up.

    Returns:
        The findings that are left, with the features, ``malignant`` and ``cancer``, ``days`` since randomisation;
        sorted by participant, nodule and year.
    """
    table = findings.sort_values([*NODULE, "study_yr"], kind="stable").reset_index(drop=True)
    table = table.merge(trial["prsn"], on="pid", how="left", indicator="participant", validate="many_to_one")
    table = _with_screens(table, trial)
    table = _with_abnormalities(table, trial)
    flow.box("In the source of coordinates", table)
    table = agreement.applied(table, flow)
    table = flow.exclude(table, table["participant"] == "left_only", "participant is not in prsn")
    if trial.has("prsn", "rndgroup"):
        table = flow.exclude(table, table["rndgroup"] != CT_ARM, "participant of the X-ray arm (rndgroup)")
    if "folder" in table:
        table = flow.exclude(table, table["series_uid"].isna(), "its series is not among those there are")
    if "ctdxqual" in table:
        table = flow.exclude(table, table["ctdxqual"] == NOT_DIAGNOSTIC, "screen of no diagnostic quality (ctdxqual)")
    table["cancer"] = _cancer(table, trial)
    table = flow.exclude(table, _after_diagnosis(table, trial), "scan after the diagnosis of a lung cancer")
    flow.box("On scans that can be used", table)
    if prospective:
        table = flow.exclude(table, table.duplicated(NODULE, keep="last"), "a later scan shows the nodule again")
        flow.box("Without a follow-up", table)
    table = _described(table, flow, attributes)
    table = _with_outcomes(table, trial, flow)
    table["age"] = table.get("age", np.nan) + table["study_yr"]
    return table


def cohort_table(table: pd.DataFrame, any_interval: bool, simulated: str = "") -> pd.DataFrame:
    """The cohort table (:mod:`data_prep.schema`) of what :func:`join` returns.

    Where pairs of any interval are wanted there is no ``study_yr``: by ``days_from_baseline`` alone, a year stands in
    for 365 days where the screen's day is not known, neighbours in time are pairs.
    """
    first = table.groupby("pid")["days"].transform("min")
    nominal = 365.0 * table["study_yr"]
    unknown = table["days"].isna().groupby([table[name] for name in NODULE]).transform("any")
    days = nominal.where(unknown, table["days"] - first) if any_interval else table["days"] - first
    columns = {
        "patient_id": table["pid"],
        "nodule_id": table["nodule_id"],
        "study_yr": table["study_yr"],
        "days_from_baseline": days,
        "image": table["image"].where(table["image"].notna(), table["series_uid"]),
        **{name: table[name] for name in (*POSITION, *VOXEL) if table[name].notna().any()},
        **{name: table.get(name, np.nan) for name in EHR_FEATURES},
        "malignant": table["malignant"],
        "split": table.get("split"),
        **{name: table[name] for name in EXTRA if name in table},
    }
    cohort = pd.DataFrame(columns, index=table.index)
    if any_interval:
        cohort = cohort.drop(columns="study_yr")
    if simulated:
        cohort["simulated"] = simulated
    return cohort.reset_index(drop=True)


def join_files(folder: Path, any_interval: bool = False) -> pd.DataFrame:
    """The cohort table of a folder with ``prsn``, ``ctab``, ``canc`` and ``positions`` (a source of coordinates)."""
    trial, flow = tables.read(tables.find(folder)), Flow(any_interval=any_interval)
    return cohort_table(join(trial, coordinates.read(folder / "positions.csv"), flow), any_interval)


def _with_screens(table: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    """Adds ``days`` and ``late`` (after a diagnosis) of the screen of the finding's year, and its quality.

    Days that do not rise from screen to screen are not believed: none of the participant's are taken.
    """
    for name, source, empty in (("days", "{}", np.nan), ("late", "{}_late", False)):
        columns = [table.get(source.format(column), pd.Series(empty, table.index)) for column in DAYS]
        years = [table["study_yr"] == year for year in YEARS]
        table[name] = np.select(years, [column.fillna(empty) for column in columns], empty)
    days = table.reindex(columns=list(DAYS))
    table.loc[(days <= days.ffill(axis=1).shift(axis=1)).any(axis=1), "days"] = np.nan
    table["late"] = table["late"].astype(bool)
    if trial.has("screen", "ctdxqual"):
        table = table.merge(trial["screen"], on=["pid", "study_yr"], how="left", validate="many_to_one")
    return table


def _with_abnormalities(table: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    key = ["pid", "study_yr", "sct_ab_num"]
    table = table.merge(trial["ctab"], on=key, how="left", indicator="abnormality", validate="many_to_one")
    if trial.has("ctabc"):
        table = table.merge(trial["ctabc"], on=key, how="left", validate="many_to_one")
    for name in NODULE_ATTRIBUTES:
        if name not in table:
            table[name] = np.nan
    return table


def _cancer(table: pd.DataFrame, trial: Trial) -> pd.Series:
    """1 for participants with a confirmed lung cancer, by ``canc`` or ``can_scr``."""
    noted = table.get("can_scr", pd.Series(np.nan, table.index)).between(1, 4)
    return (table["pid"].isin(trial["canc"]["pid"]) | noted).astype(int)


def _after_diagnosis(table: pd.DataFrame, trial: Trial) -> pd.Series:
    """Scans on or after the day of the first diagnosis: what they show may have been treated.

    Where a scan's day is not known, a year stands for 365 days.
    """
    canc = trial["canc"].reindex(columns=["pid", "candx_days"])
    day = table["pid"].map(canc.groupby("pid")["candx_days"].min()).fillna(table.get("candx_days", np.nan))
    return table["late"] | table["days"].fillna(365.0 * table["study_yr"]).ge(day)


def _described(table: pd.DataFrame, flow: Flow, attributes: Attributes) -> pd.DataFrame:
    """Leaves out findings without the readers' attributes; see :func:`join`.

    Where several findings are matched to one abnormality, the largest is it: of NLSTx's expert boxes that lie on one of
    several, 174 of 215 lie on the largest.
    """
    largest = table.groupby(["pid", "study_yr", "sct_ab_num"])["size"].rank(ascending=False, method="first")
    reasons = {
        "which abnormality of the trial's readers it is is not known": table["candidates"] < 0,
        "the trial's readers noted no abnormality there": table["candidates"] == 0,
        "several abnormalities fit: which one is not known": table["candidates"] > 1,
        "a larger finding fits the same abnormality": largest > 1,
        "its abnormality is not in ctab": table["abnormality"] == "left_only",
        "its abnormality is no nodule of 4 mm or more (sct_ab_desc 51)": table["sct_ab_desc"] != NODULE_CODE,
    }
    reason = pd.Series(np.select(list(reasons.values()), list(reasons), ""), table.index)
    table.loc[reason != "", list(NODULE_ATTRIBUTES)] = np.nan
    if attributes is Attributes.NONE:
        return table
    bad = reason != ""
    if attributes is Attributes.BASELINE:
        pair = neighbours(table, flow.any_interval)
        seen_again = bad & pair & (~bad).shift(fill_value=False)
        after = ~bad & pair & seen_again.shift(fill_value=False)
        reason[after] = FOLLOWS
        bad = (bad & ~seen_again) | after
    kept = table
    for text in (*reasons, FOLLOWS):
        kept = flow.exclude(kept, (bad & (reason == text)).reindex(kept.index), text)
    at_baseline = " at baseline" if attributes is Attributes.BASELINE else ""
    flow.box(f"With the readers' attributes{at_baseline}", kept)
    return kept


def _with_outcomes(table: pd.DataFrame, trial: Trial, flow: Flow) -> pd.DataFrame:
    """Adds ``malignant``: what the source itself notes of the nodule, else what the trial's tables tell.

    Nodules of which they say different things are left out, unless the tables are simulated.
    """
    told = outcomes(table, trial)
    noted = table.get("noted_malignant", pd.Series(np.nan, table.index))
    noted = noted.groupby([table[name] for name in NODULE]).transform("first")
    table["malignant"] = noted.where(noted.notna(), told)
    contradict = noted.notna() & told.notna() & (noted != told)
    if trial.simulated:
        return table
    return flow.exclude(table, contradict, "its outcome is another in the trial's tables than in the source")


def outcomes(table: pd.DataFrame, trial: Trial) -> pd.Series:
    """Whether a nodule is malignant: 1, 0, or NaN where the tables do not tell.

    0 for participants without a lung cancer. For the others by the cancer's lobes, ``loc*`` of ``prsn``: 1 in one of
    them, 0 in another, unknown where the nodule's lobe or the cancer's is not known. Where ``loc*`` do not tell, by the
    topography in ``canc`` (upper, middle, lower): 0 in another level; else 1 for the participant's only nodule, unknown
    for one of several. A cancer counts whenever it was found. A nodule that is in two lobes over the years, or without
    a lobe in one of them, takes what the first year that tells says.
    """
    lobe = table["sct_epi_loc"]
    columns = {code: table.get(name, np.nan) for code, name in CANCER_SITES.items()}
    sites = pd.DataFrame(columns, index=table.index).eq(1)
    here = np.select([lobe == code for code in CANCER_SITES], [sites[code] for code in CANCER_SITES], False)
    by_lobe = pd.Series(np.where(lobe.isin(list(CANCER_SITES)), here.astype(float), np.nan), table.index)

    canc = trial["canc"]
    topography = canc.get("lc_topog", pd.Series("", canc.index)).astype(str).str.strip().str.upper()
    possible = pd.Series(False, table.index)
    for code, lobes in TOPOGRAPHY.items():
        possible |= table["pid"].isin(canc.loc[topography == code, "pid"]) & lobe.isin(lobes)
    vague = table["pid"].isin(canc.loc[~topography.isin(list(TOPOGRAPHY)), "pid"]) | lobe.isna() | lobe.eq(8)
    unlisted = ~table["pid"].isin(canc["pid"])
    read = trial["ctab"][trial["ctab"]["sct_ab_desc"] == NODULE_CODE].groupby(["pid", "study_yr"]).size()
    most = table["pid"].map(read.groupby("pid").max()).fillna(0 if len(trial["ctab"]) else np.inf)
    only = most.le(1) & table.groupby("pid")["nodule_id"].transform("nunique").eq(1)
    by_level = pd.Series(np.select([~(possible | vague | unlisted), only], [0.0, 1.0], np.nan), table.index)

    known = by_lobe.where(sites.any(axis=1), by_level).where(table["cancer"] == 1, 0.0)
    return known.groupby([table[name] for name in NODULE]).transform("first")
