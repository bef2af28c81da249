"""What open tables beside the trial's note of participants, in the place of what the trial's do not tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data_prep.errors import DataError, listing
from data_prep.nlst import coordinates, stmixer
from data_prep.nlst.agreement import Agreement, hold
from data_prep.nlst.coordinates import KINDS
from data_prep.nlst.tables import DAYS, SPECS, YEARS, Trial
from data_prep.tables import read_columns, typed


def read(paths: Sequence[Path]) -> tuple[dict[str, pd.DataFrame], pd.DataFrame | None]:
    """Tables beside the source: other sources of coordinates by their titles, and what is noted of participants.

    Raises:
        DataError: a table of no known kind, or every fault of its rows.
    """
    sources: dict[str, pd.DataFrame] = {}
    people: list[pd.DataFrame] = []
    for path in paths:
        table = read_columns(path, (), (*stmixer.PEOPLE, *stmixer.PEOPLE_TAKEN))
        if set(stmixer.PEOPLE) <= set(table):
            table = typed(table, path, (*stmixer.DAYS, *stmixer.PEOPLE_TAKEN))
            odd = table.index[~table["id"].astype(str).str.match(stmixer.PERSON)]
            if len(odd):
                told = [f"row {row + 2}, column id: expected a participant's number, _ and a nodule's." for row in odd]
                raise DataError(listing(path, told))
            people.append(table)
        else:
            findings = coordinates.read(path)
            title = KINDS[findings["kind"].iloc[0]].title
            sources[title] = pd.concat([*([sources[title]] if title in sources else []), findings], ignore_index=True)
    return sources, stmixer.people(people) if people else None


def beside(
    findings: pd.DataFrame, sources: dict[str, pd.DataFrame], people: pd.DataFrame | None
) -> tuple[pd.DataFrame, list[Agreement]]:
    """Findings with what tables beside their source note; see :func:`data_prep.nlst.agreement.hold`."""
    if people is not None:
        known = findings[["pid", "study_yr"]].merge(people, on=["pid", "study_yr"], how="left", validate="many_to_one")
        for name in people.columns.difference(["pid", "study_yr"]):
            findings = findings.assign(**{name: findings[name].fillna(known[name].set_axis(findings.index))})
    linked = bool(findings["kind"].map(lambda kind: kind in KINDS and KINDS[kind].linked).all())
    return hold(findings, sources, linked) if linked or sources else (findings, [])


def completed(trial: Trial, findings: pd.DataFrame) -> Trial:
    """The trial's tables, with what sources note of participants where ``prsn`` does not tell.

    A table that is not there is made of it: ``canc`` of the participants with a malignant nodule, ``ctab`` empty.
    """
    made = dict(trial.tables)
    noted = _participants(findings).dropna(axis=1, how="all")
    if "prsn" in made:
        known = noted.reindex(made["prsn"]["pid"]).set_axis(made["prsn"].index)
        made["prsn"] = made["prsn"].assign(
            **{name: made["prsn"].get(name, known[name]).fillna(known[name]) for name in known}
        )
    else:
        made["prsn"] = noted.reset_index()
    if "ctab" not in made:
        made["ctab"] = pd.DataFrame(columns=[*SPECS["ctab"].key, *SPECS["ctab"].needed], dtype=float)
    if "canc" not in made:
        made["canc"] = findings.loc[findings["noted_malignant"] == 1, ["pid"]].drop_duplicates()
    return Trial(made, trial.refused, trial.simulated)


def _participants(findings: pd.DataFrame) -> pd.DataFrame:
    """``age``, ``gender`` and the days of screens, by participant."""
    person = findings.groupby("pid")[["noted_age", "noted_gender"]].first()
    days = findings.pivot_table(index="pid", columns="study_yr", values="noted_day", aggfunc="first")
    days = days.reindex(person.index).reindex(columns=list(YEARS), fill_value=np.nan)
    return person.set_axis(["age", "gender"], axis=1).join(days.set_axis(list(DAYS), axis=1))
