"""Tables of probabilities, by which methods that generate no image take part in the evaluation.

CSV with the columns ``case_id``, ``run`` and ``probability`` (of malignancy), one row per case and run, for every case
of the validation and the test section. How a table was made stands beside it, under its name with ``.json``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.arrays import Array
from scripts.data.datalist import SECTIONS
from scripts.errors import UserError, listed
from scripts.files import read_mapping, write_atomically, write_json
from scripts.fingerprint import differences

logger = logging.getLogger(__name__)

COLUMNS = ("case_id", "run", "probability")
"""Of a table."""

LPIPS = "lpips"
"""A further column, of methods whose images were judged: their distances to the real follow-ups."""

HELD_OUT = SECTIONS[1:]
"""The sections that no method is fitted on."""


class ComparatorError(UserError):
    """A comparison that cannot be made, or a table that cannot be read; the message names the file or section."""


def write_table(
    path: str | Path,
    run: int,
    case_ids: Sequence[str],
    probabilities: Sequence[float] | Array,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Adds one run to a table, or replaces it there; the file is written atomically.

    Args:
        record: how it was made, such as ``dataset``, its digest.

    Raises:
        ComparatorError: the table has runs that were made from other things.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.csv"
        >>> write_table(path, 0, ["case-1", "case-2"], [0.25, 0.75])
        >>> read_table(path, ["case-2"])
        array([[0.75]])
    """
    path = Path(path)
    new = pd.DataFrame({"case_id": case_ids, "run": run, "probability": probabilities})
    if path.is_file():
        refuse_other_table(path, record or {})
        old = _table(path)
        new = pd.concat([old[old["run"] != run], new]).sort_values("run", kind="stable")
    with write_atomically(path) as partial:
        new.to_csv(partial, index=False, float_format="%.6g")
    if record:
        write_json(path.with_suffix(".json"), record, indent=2)
    logger.info(f"Wrote run {run} of {path}: {len(case_ids)} cases")


def write_runs(
    path: str | Path, case_ids: Sequence[str], values: Mapping[str, Array], record: Mapping[str, Any]
) -> None:
    """Writes a whole table and how it was made, in the place of what was there.

    Args:
        values: by column, (runs, cases).
    """
    runs = len(next(iter(values.values())))
    index = pd.MultiIndex.from_product([range(runs), case_ids], names=["run", "case_id"])
    table = pd.DataFrame({name: each.ravel() for name, each in values.items()}, index=index).reset_index()
    with write_atomically(path) as partial:
        table[["case_id", "run", *values]].to_csv(partial, index=False, float_format="%.6g")
    write_json(Path(path).with_suffix(".json"), record, indent=2)


def table_record(path: str | Path) -> dict[str, Any]:
    """How a table was made; empty where it does not say, as tables by other programs."""
    path = Path(path).with_suffix(".json")
    return read_mapping(path, ComparatorError) if path.is_file() else {}


def refuse_other_table(path: str | Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a table, after a check that what it says agrees with ``record``.

    Raises:
        ComparatorError: the table was made from another dataset, or otherwise.
    """
    made = table_record(path)
    shared = {key: value for key, value in record.items() if key in made}
    if found := differences({key: made[key] for key in shared}, shared):
        raise ComparatorError(f"{path}: not made from these: {'; '.join(found)}. Remove the table and make it again.")
    return made


def read_table(path: str | Path, case_ids: Sequence[str], column: str = "probability") -> Array:
    """Reads the probabilities (runs, cases) of some cases from a table, which may hold other cases too.

    Args:
        case_ids: in the order wanted.
        column: whose numbers are read.

    Raises:
        ComparatorError: the table or a column is missing, a case is missing from a run or twice in one, or values are
            not probabilities.
    """
    path = Path(path)
    table = _table(path, column)
    if twice := sorted(set(table["case_id"][table.duplicated(["case_id", "run"])])):
        raise ComparatorError(f"{path}: {listed(twice)} stand twice in one run; keep one row a case and run.")
    if table.empty:
        raise ComparatorError(f"{path}: has no {column} for any case; make it again from this dataset.")
    wide = table.pivot(index="run", columns="case_id", values=column).reindex(columns=list(case_ids))
    for run, row in wide.iterrows():
        if missing := list(row.index[row.isna()]):
            raise ComparatorError(
                f"{path}: run {run} has no {column} for {len(missing)} of {len(case_ids)} cases: {listed(missing)}. "
                "Make the table again from this dataset, or evaluate a section that it holds."
            )
    return wide.to_numpy()


def _table(path: Path, column: str = "probability") -> pd.DataFrame:
    """The content of a table's file, after a check of columns and values."""
    columns = (*COLUMNS[:2], column)
    if not path.is_file():
        raise ComparatorError(f"{path}: no such table; expected CSV with the columns {', '.join(columns)}.")
    try:
        table = pd.read_csv(path, dtype={"case_id": str, "run": int, column: float})
    except ValueError as error:  # pandas' parser raises ValueErrors too
        raise ComparatorError(f"{path}: cannot be read ({error}); expected CSV with {', '.join(columns)}.") from error
    if missing := [name for name in columns if name not in table]:
        raise ComparatorError(f"{path}: no column {', '.join(missing)}; expected {', '.join(columns)}.")
    if "probability" in table and (odd := sorted(set(table["case_id"][~table["probability"].between(0, 1)]))):
        raise ComparatorError(f"{path}: expected probabilities in [0, 1]; those of {listed(odd)} are none.")
    return table
