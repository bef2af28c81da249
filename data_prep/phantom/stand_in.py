"""Simulated ``prsn`` and ``ctab`` for real participant and abnormality numbers: a dry run needs no real ones.

The columns are exactly those of the trial's open tables, the values drawn from the phantom's distributions. Who reads
them learns nothing about the participants: every row says that it is simulated.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from data_prep.nlst.tables import CANCER_SITES, YEARS, Trial
from data_prep.phantom.patients import LOBE_WEIGHTS
from data_prep.phantom.tables import TOPOGRAPHY
from data_prep.sections import DAYS_PER_YEAR

MARK = "SIMULATED: prsn and ctab are stand-ins with drawn values"

PRSN_COLUMNS = """
race cigsmok gender age loclhil locllow loclup locrhil locrlow locrmid locunk locrup locoth locmed loclmsb locrmsb
loccar loclin lesionsize de_type de_grade de_stag scr_res0 scr_res1 scr_res2 scr_iso0 scr_iso1 scr_iso2 cancyr can_scr
canc_rpt_link pid dataset_version scr_days0 scr_days1 scr_days2 candx_days canc_free_days de_stag_7thed
""".split()  # noqa: SIM905
CTAB_COLUMNS = """
sct_ab_desc sct_ab_num sct_epi_loc sct_long_dia sct_margins sct_perp_dia sct_pre_att study_yr sct_slice_num
sct_found_after_comp pid dataset_version
""".split()  # noqa: SIM905


def simulate(names: Collection[str], findings: pd.DataFrame, trial: Trial, seed: int) -> dict[str, pd.DataFrame]:
    """The stand-ins that are wanted.

    Args:
        names: ``prsn``, ``ctab`` or both.
        findings: see :func:`data_prep.nlst.coordinates.read`.
        trial: has ``canc``, and ``prsn`` unless that is wanted.
        seed: of what is drawn.
    """
    made: dict[str, pd.DataFrame] = {}
    if "prsn" in names:
        made["prsn"] = participants(findings["pid"], trial["canc"], seed)
    if "ctab" in names:
        keys = findings[["pid", "study_yr", "sct_ab_num", "nodule_id"]]
        made["ctab"] = abnormalities(keys, made["prsn"] if "prsn" in made else trial["prsn"], seed)
    return made


def participants(pids: pd.Series, canc: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """``prsn`` of these participants; cancers keep their real days and, where it tells, their real level of the lung.

    Args:
        pids: participant numbers, those of ``canc`` are added.
        canc: the trial's, or with ``pid`` alone.
        seed: of what is drawn.
    """
    rng = np.random.default_rng([seed, 1])
    pid = np.union1d(pids.astype(int), canc["pid"].astype(int))
    first = canc.reindex(columns=["pid", "candx_days", "lc_topog"]).drop_duplicates("pid").set_index("pid").reindex(pid)
    person = pd.DataFrame(index=range(len(pid)), columns=PRSN_COLUMNS, dtype=object).assign(
        pid=pid,
        age=np.clip(rng.normal(62.0, 5.0, len(pid)).round(), 55, 74).astype(int),
        gender=rng.choice([1, 2], len(pid), p=[0.58, 0.42]),
        candx_days=first["candx_days"].to_numpy(),
        can_scr=np.isin(pid, canc["pid"]).astype(int),
        dataset_version=MARK,
    )
    day = rng.integers(3, 40, len(pid))
    for year in YEARS:
        person[f"scr_days{year}"] = day
        day = day + DAYS_PER_YEAR + np.clip(rng.normal(0.0, 20.0, len(pid)), -60, 60).round().astype(int)
    lobe = rng.choice(list(LOBE_WEIGHTS), len(pid), p=list(LOBE_WEIGHTS.values()))
    level = first["lc_topog"].astype(str).str.strip().to_numpy()
    for topography in sorted(set(TOPOGRAPHY.values())):
        lobes = [code for code, name in TOPOGRAPHY.items() if name == topography]
        weights = np.array([LOBE_WEIGHTS[code] for code in lobes])
        drawn = rng.choice(lobes, len(pid), p=weights / weights.sum())
        lobe = np.where(level == topography, drawn, lobe)
    for code, column in CANCER_SITES.items():
        person[column] = np.where(person["can_scr"] == 1, (lobe == code).astype(int).astype(object), ".N")
    return person


def abnormalities(keys: pd.DataFrame, prsn: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """``ctab`` with a nodule for each of these abnormalities; a nodule's lobe is the same in all of its years.

    The first nodule of a participant with a cancer is in its lobe, by ``loc*``.

    Args:
        keys: ``pid``, ``study_yr``, ``sct_ab_num`` and ``nodule_id``.
        prsn: the participants.
        seed: of what is drawn.
    """
    rng = np.random.default_rng([seed, 2])
    keys = keys.dropna().sort_values(["pid", "nodule_id", "study_yr"])
    keys = keys.drop_duplicates(["pid", "study_yr", "sct_ab_num"])
    count = len(keys)
    nodule = pd.factorize(keys["pid"].astype(str) + "-" + keys["nodule_id"].astype(str))[0]
    lobes = rng.choice(list(LOBE_WEIGHTS), nodule.max(initial=-1) + 1, p=list(LOBE_WEIGHTS.values()))
    lobe = lobes[nodule]
    first = keys["nodule_id"].eq(keys.groupby("pid")["nodule_id"].transform("first")).to_numpy()
    for code, column in CANCER_SITES.items():
        here = prsn.loc[pd.to_numeric(prsn[column], errors="coerce") == 1, "pid"] if column in prsn else []
        lobe = np.where(first & keys["pid"].isin(here).to_numpy(), code, lobe)
    longest = np.clip(rng.lognormal(np.log(7.0), 0.5, count), 4.0, 60.0).round()
    across = np.maximum(1, (longest * rng.uniform(0.6, 1.0, count)).round()).astype(int)
    made = pd.DataFrame(index=range(count), columns=CTAB_COLUMNS, dtype=object).assign(
        **{name: keys[name].astype(int).to_numpy() for name in ("pid", "study_yr", "sct_ab_num")},
        sct_ab_desc=51,
        sct_epi_loc=lobe,
        sct_long_dia=longest.astype(int),
        sct_perp_dia=np.where(rng.uniform(size=count) < 0.03, ".S", across.astype(object)),
        sct_margins=rng.choice([1, 2, 3, 9], count, p=[0.12, 0.68, 0.15, 0.05]),
        sct_pre_att=rng.choice([1, 2, 3, 9], count, p=[0.72, 0.14, 0.11, 0.03]),
        sct_slice_num=999,
        dataset_version=MARK,
    )
    return made
