"""The data card of a dataset: ``datasheet.md`` and its figure, made of what is in the dataset and nothing else.

Its questions are those of Gebru et al., Datasheets for Datasets (Commun. ACM 2021;64(12):86-92), as far as a program
can answer them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_prep.padding import padding
from data_prep.schema import LISTS, OLDEST, SECTIONS
from scripts.ehr.features import FEATURES, Feature
from scripts.files import write_text

OUTCOMES = {"malignant": 1, "benign": 0, "unknown": None}
COLOURS = {"malignant": "#b2182b", "benign": "#4393c3", "unknown": "#bbbbbb"}
MEASURED = {"x": "pixel spacing, mm", "z": "distance of slices, mm"}


@dataclass(frozen=True)
class Facts:
    """What the card is written from.

    Attributes:
        datalist: as it is written.
        timepoints: the cohort's rows that were taken, ``x_mm`` and ``z_mm`` among their columns.
        spacing: that was asked for, mm; None: each scanner's.
        faults: timepoints whose image cannot be used, by fault.
        left_out: single timepoints that make no pair.
        keep_ids: whether patients have the table's names.
    """

    datalist: Mapping[str, Any]
    timepoints: pd.DataFrame
    spacing: float | None
    faults: Counter[str]
    left_out: int
    keep_ids: bool


def write(folder: Path, facts: Facts) -> None:
    """Writes ``datasheet.md`` and ``datasheet.png`` into a dataset's folder."""
    environment = Environment(loader=PackageLoader("data_prep"), undefined=StrictUndefined, keep_trailing_newline=True)
    datalist, pairs = facts.datalist, _pairs(facts.datalist)
    text = environment.get_template("datasheet.md.j2").render(
        name=datalist["name"],
        simulated=datalist["simulated"],
        size=datalist["crop_size"],
        spacing=f"{facts.spacing:g} mm each" if facts.spacing else "each scanner's own size",
        sources=_sources(facts.timepoints),
        sections=[_section(name, datalist[name]) for name in LISTS],
        patients=", ".join(f"{name} {len({case['patient_id'] for case in datalist[name]})}" for name in SECTIONS),
        faults=sorted(facts.faults.items(), key=lambda item: (-item[1], item[0])),
        left_out=facts.left_out,
        lossy=len(datalist.get("lossy", [])),
        padding=padding(datalist, *LISTS),
        air=int(facts.timepoints["crop"].isin(datalist.get("unpadded", {})).mul(facts.timepoints["x"].notna()).sum()),
        distributions=[*_record(facts.timepoints), *_measured(facts.timepoints), *_changes(pairs)],
        keep_ids=facts.keep_ids,
        oldest=OLDEST,
        one_spacing=facts.spacing is not None,
    )
    write_text(folder / "datasheet.md", text)
    _draw(facts.timepoints, pairs, str(datalist["simulated"])).savefig(
        folder / "datasheet.png", metadata={"Software": None}
    )


def _sources(timepoints: pd.DataFrame) -> list[dict[str, Any]]:
    """Where the images come from, as the table says; nothing where it does not."""
    named = timepoints.assign(**{name: timepoints[name].fillna("not given") for name in ("source", "licence")})
    if timepoints[["source", "licence"]].isna().all(axis=None):
        return []
    groups = named.groupby(["source", "licence"], sort=True)["patient_id"]
    return [
        {"source": source, "licence": licence, "patients": patients.nunique(), "timepoints": len(patients)}
        for (source, licence), patients in groups
    ]


def _section(name: str, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    outcomes = Counter(case.get("malignant") for case in cases)
    counts = {words: outcomes[code] for words, code in OUTCOMES.items()}
    return {"section": name, "cases": len(cases), "patients": len({case["patient_id"] for case in cases}), **counts}


def _pairs(datalist: Mapping[str, Any]) -> pd.DataFrame:
    """What lies between the two times of each pair: days, and how much the longest diameter grew."""
    return pd.DataFrame(
        [
            {
                "malignant": case.get("malignant"),
                "days": case["interval_days"],
                "growth": case["follow_up_attributes"].get("sct_long_dia", np.nan)
                - case["ehr"].get("sct_long_dia", np.nan),
            }
            for section in SECTIONS
            for case in datalist[section]
        ],
        columns=["malignant", "days", "growth"],
    ).astype(float)


def _row(what: str, values: pd.Series, words: str | None = None) -> dict[str, Any]:
    """A line of the table: by its quantiles, or in words."""
    known = values.dropna()
    if words is None and len(known):
        low, first, median, third, high = np.quantile(known, [0.05, 0.25, 0.5, 0.75, 0.95])
        words = f"median {median:.3g}, quartiles {first:.3g} to {third:.3g}, 5 % to 95 %: {low:.3g} to {high:.3g}"
    return {"what": what, "known": len(known), "total": len(values), "words": words or ""}


def _record(timepoints: pd.DataFrame) -> list[dict[str, Any]]:
    """The 13 features."""
    return [
        _row(
            f"{feature.description}{f', {feature.unit}' if feature.unit else ''}",
            timepoints[name],
            _shares(timepoints[name], feature) if feature.codes else None,
        )
        for name, feature in FEATURES.items()
    ]


def _shares(values: pd.Series, feature: Feature) -> str:
    """How many percent of the known values each code has, the most frequent first."""
    shares = values.dropna().value_counts(normalize=True)
    return ", ".join(f"{feature.codes[int(code)]} {share:.0%}" for code, share in shares.items())


def _measured(timepoints: pd.DataFrame) -> list[dict[str, Any]]:
    return [_row(what, timepoints[f"{axis}_mm"]) for axis, what in MEASURED.items()]


def _changes(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    growth = "growth of the longest diameter from baseline to follow-up, mm (pairs)"
    return [_row("days from baseline to follow-up (pairs)", pairs["days"]), _row(growth, pairs["growth"])]


def _draw(timepoints: pd.DataFrame, pairs: pd.DataFrame, simulated: str) -> Figure:
    """Eight distributions, coloured by outcome."""
    figure = Figure(figsize=(13.0, 6.2), dpi=100, layout="constrained")
    grid = figure.subplots(2, 4).flat
    for name in ("sct_long_dia", "age"):
        feature = FEATURES[name]
        _histogram(next(grid), timepoints[name], timepoints["malignant"], f"{feature.description}, {feature.unit}")
    _histogram(next(grid), pairs["days"], pairs["malignant"], "baseline to follow-up, days")
    _histogram(next(grid), pairs["growth"], pairs["malignant"], "growth of longest diameter, mm")
    for name in ("sct_pre_att", "sct_epi_loc", "sct_margins"):
        _bars(next(grid), timepoints[name], timepoints["malignant"], FEATURES[name])
    _histogram(next(grid), timepoints["x_mm"], timepoints["malignant"], MEASURED["x"])
    figure.axes[0].legend(fontsize=8, frameon=False)
    if simulated:
        figure.suptitle(f"SIMULATED: {simulated}", color="crimson", fontsize=10)
    return figure


def _by_outcome(values: pd.Series, outcomes: pd.Series) -> list[pd.Series]:
    """Known values of nodules that are malignant, benign, and whose outcome is not known."""
    return [
        values[outcomes.isna() if code is None else outcomes.eq(code)].dropna().astype(float)
        for code in OUTCOMES.values()
    ]


def _histogram(axes: Axes, values: pd.Series, outcomes: pd.Series, title: str) -> None:
    parts = _by_outcome(values, outcomes)
    axes.hist(parts, bins=20, stacked=True, color=[*COLOURS.values()], label=[*COLOURS])
    _finish(axes, title, sum(map(len, parts)), len(values))


def _bars(axes: Axes, values: pd.Series, outcomes: pd.Series, feature: Feature) -> None:
    parts, start = _by_outcome(values, outcomes), np.zeros(len(feature.codes))
    for part, colour in zip(parts, COLOURS.values(), strict=True):
        counts = part.value_counts().reindex([*feature.codes], fill_value=0).to_numpy()
        axes.barh([*feature.codes.values()], counts, left=start, color=colour)
        start = start + counts
    axes.invert_yaxis()
    _finish(axes, feature.description, sum(map(len, parts)), len(values))


def _finish(axes: Axes, title: str, known: int, total: int) -> None:
    axes.set_title(f"{title}\n{known} of {total} known", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
