"""A site's own export: a table with any column names, and a YAML file that says which is which.

    table: export.csv                 # CSV, parquet or SAS, relative to this file
    columns:                          # our name: theirs; all others are left alone
      patient_id: MRN
      nodule_id: Nodule
      series: SeriesInstanceUID       # or a NIfTI file's name
      x: CentreX                      # mm
      y: CentreY
      z: CentreZ
      sct_margins: Margin
    codes:                            # where they write words for our codes
      sct_margins: {spiculated: 1, smooth: 2, ill-defined: 3}
    source: Our screening programme   # optional, as is licence: they go with every row
    date: ScanDate                    # YYYY-MM-DD, instead of study_yr: days from the first

Codes and features: see ``data_prep/README.md``. A word with a code has its meaning by it, be it ``none`` or ``NA``;
words without a code are faults, so that none is lost silently.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from data_prep.errors import DataError, listing
from data_prep.schema import NUMBERS, POSITION, cleaned
from data_prep.tables import numbers, read_columns, shown
from scripts.ehr.features import MISSING

SYSTEM = "LPS"
SOURCE = "a site's own export"
LICENCE = None
NEEDED = ("patient_id", "nodule_id", "series", *POSITION)
KNOWN = tuple(dict.fromkeys((*NEEDED, *NUMBERS, "split", "mask")))
TEXTS = ("table", "date", "source", "licence")
DATE = r"^([0-9]{4})-?([0-9]{2})-?([0-9]{2})(?:[T ].*)?$"


def read(path: Path) -> pd.DataFrame:
    """One row per nodule and scan, columns as the YAML file says.

    Raises:
        DataError: every fault of the YAML file, or every word without a code.
    """
    plan = _plan(path)
    theirs = {ours: name.strip().lower() for ours, name in plan["columns"].items()}
    source = path.parent / plan["table"]
    dated = [plan["date"].strip().lower()] if "date" in plan else []
    table = read_columns(source, (*theirs.values(), *dated), ())
    codes = {ours: _lowered(words) for ours, words in plan.get("codes", {}).items()}
    made = pd.DataFrame(
        {ours: cleaned(table[name], MISSING - codes.get(ours, {}).keys()) for ours, name in theirs.items()}
    )
    faults = []
    for ours, words in codes.items():
        coded = made[ours].str.lower().map(words)
        faults += [
            f"row {row + 2}, column {theirs[ours]}: {shown(made[ours][row])} has no code of {ours}."
            for row in made.index[coded.isna() & made[ours].notna()]
        ]
        made[ours] = coded
    for ours in (name for name in NUMBERS if name in made):
        values, bad = numbers(made[ours])
        wrong = bad | values.isna() if ours in POSITION else bad
        faults += [
            f"row {row + 2}, column {theirs[ours]}: {shown(table[theirs[ours]][row])}; expected a number."
            for row in made.index[wrong]
        ]
    for name in dated:
        text = table[name].astype("string").str.strip().str.extract(DATE)
        day = pd.to_datetime(text[0] + text[1] + text[2], format="%Y%m%d", errors="coerce")
        faults += [f"row {row + 2}, column {name}: no date; expected YYYY-MM-DD." for row in table.index[day.isna()]]
        made["days_from_baseline"] = (day - day.groupby(made["patient_id"]).transform("min")).dt.days
    if faults:
        raise DataError(listing(source, faults))
    return made.assign(**{name: plan[name] for name in ("source", "licence") if name in plan})


def inputs(path: Path, _: Path | None) -> list[Path]:
    """The table that the YAML file names."""
    return [path.parent / _plan(path)["table"]]


def _plan(path: Path) -> dict[str, Any]:
    """The YAML file. All that it says is text, so that ``yes`` and ``no`` are words as they stand in a table."""
    try:
        plan = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error}).") from error
    if not isinstance(plan, dict) or not _is_texts(plan.get("columns")) or "table" not in plan:
        raise DataError(f"{path}: expected `table` and `columns`; see data_prep/README.md.")
    codes = plan.get("codes", {})
    if not isinstance(codes, dict) or not all(map(_is_texts, codes.values())):
        raise DataError(f"{path}: codes: expected for each column its words and their codes; see data_prep/README.md.")
    allowed = (*TEXTS, "columns", "codes")
    faults = [f"{name}: unknown; expected {', '.join(allowed)}." for name in plan if name not in allowed]
    faults += [f"{name}: expected text." for name in TEXTS if not isinstance(plan.get(name, ""), str)]
    faults += [f"columns: {name} is missing." for name in NEEDED if name not in plan["columns"]]
    faults += [
        f"columns: {name} is no column of ours; there are {', '.join(KNOWN)}."
        for name in plan["columns"]
        if name not in KNOWN
    ]
    faults += [f"codes: {name} is not among the columns." for name in codes if name not in plan["columns"]]
    if faults:
        raise DataError(f"{path}:\n  " + "\n  ".join(faults))
    return plan


def _lowered(words: dict[str, str]) -> dict[str, str]:
    """Codes by words as they are compared."""
    return {word.strip().lower(): code for word, code in words.items()}


def _is_texts(content: object) -> bool:
    """Whether it is a mapping of words to words."""
    return isinstance(content, dict) and all(isinstance(value, str) for value in content.values())
