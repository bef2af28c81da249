"""Tables of any of the kinds that hospitals and trials have are read, and CSV is written.

A table's index tells the rows of its file: index + 2, where the header is row 1 and blank rows are counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from data_prep import delimited, sas
from data_prep.errors import DataError, listing
from scripts.ehr.features import MISSING
from scripts.files import write_atomically

SUFFIXES = (".csv", ".parquet", *sas.SUFFIXES)
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?"
"""In lower case. What Python reads besides, as 1_000 or infinity, is no number of a table."""
WORDS = (
    "coord(?:inate)?s?|cent(?:er|re|roid)|pos(?:ition)?|world|nodule|lesion|loc(?:ation)?|vox(?:el)?|mm|lps|ras|dicom"
)
"""What a column of x, y or z may have in its name besides."""
ALIKE = 0.84
"""How much of two names is the same (difflib's ratio); ``license`` and ``licence``: 0.86."""


def read_columns(path: Path, needed: tuple[str, ...] = (), taken: tuple[str, ...] | None = None) -> pd.DataFrame:
    """A table of any of the kinds that are read, column names in lower case; the cells of a CSV are text.

    Args:
        path: the file.
        needed: columns that must be there.
        taken: further columns, those that are there; None: all.

    Raises:
        DataError: the file is not there or cannot be read; it lacks columns that are needed; or, where some are, others
            bear nearly the name of one that it lacks.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected CSV, parquet, SAS7BDAT or XPORT.")
    ours = (*needed, *(taken or ()))

    def choose(names: Sequence[str]) -> list[int]:
        plain = [str(name).strip().lower() for name in names]
        chosen = [place for place, name in enumerate(plain) if name and (taken is None or name in ours)]
        found = [plain[place] for place in chosen]
        near = alike(plain, ours) if needed else {}
        faults = [f"column {name}: missing." for name in needed if name not in found and name not in near]
        faults += [misnamed(theirs, name, optional=name not in needed) for name, theirs in near.items()]
        faults += [
            f"column {name}: given twice, but for case." for name in dict.fromkeys(found) if found.count(name) > 1
        ]
        if faults:
            raise DataError(listing(path, faults))
        return chosen

    table = _read(path, ours, taken is None, choose)
    table.columns = table.columns.astype(str).str.strip().str.lower()
    return table if taken is None else table[[name for name in dict.fromkeys(ours) if name in table]]


def _read(path: Path, ours: Iterable[str], everything: bool, choose: delimited.Choose) -> pd.DataFrame:
    """The chosen columns of a file, by its suffix."""
    suffix = path.suffix.lower()
    long = [name for name in dict.fromkeys(ours) if len(name) > sas.NAME_LENGTH]
    if (long or everything) and sas.is_version_5(path):
        lost = f", so {', '.join(long[:5])} cannot be in it" if long else ""
        raise DataError(
            f"{path}: XPORT version 5 has names of at most {sas.NAME_LENGTH} letters{lost}. "
            "Export it as XPORT version 8, SAS7BDAT or CSV."
        )
    try:
        if suffix in sas.SUFFIXES:
            return sas.read(path, choose)
        if suffix != ".parquet":
            return delimited.read(path, choose)
        import pyarrow.parquet

        names = pyarrow.parquet.read_schema(path).names
        columns = [names[place] for place in choose(names)]
        return pyarrow.parquet.read_table(path, columns=columns).to_pandas(ignore_metadata=True)
    except DataError:
        raise
    except Exception as error:  # pandas, pyarrow and ReadStat raise what they like
        raise DataError(f"{path}: cannot be read ({error}); expected CSV, parquet, SAS7BDAT or XPORT.") from error


def alike(columns: Collection[str], ours: Iterable[str]) -> dict[str, str]:
    """Of our columns that a table lacks, those whose name one of its others nearly bears, with that."""
    absent = [name for name in dict.fromkeys(ours) if name not in columns]
    others = [column for column in columns if column not in set(ours)]
    near = {name: next((column for column in others if _alike(column, name)), None) for name in absent}
    return {name: column for name, column in near.items() if column is not None}


def _alike(theirs: str, ours: str) -> bool:
    """Whether two names are the same but for signs or a letter or two; ``coordX`` and ``x (mm)`` are alike x.

    A name of ours with a word more, as ``source_id``, is another.
    """
    one, other = (re.sub("[^a-z0-9]", "", name.lower()) for name in (theirs, ours))
    if other in ("x", "y", "z"):
        return re.fullmatch(f"(?:{WORDS})*{other}(?:{WORDS})*", one) is not None
    words, own = (set(re.findall("[a-z0-9]+", name.lower())) for name in (theirs, ours))
    if own < words or re.sub("[^0-9]", "", one) != re.sub("[^0-9]", "", other):
        return False
    return bool(get_close_matches(one, [other], 1, ALIKE))


def misnamed(theirs: str, ours: str, optional: bool) -> str:
    """The fault of a column that nearly bears the name of ours."""
    other = f", or add an empty column {ours} if it is something else" if optional else ""
    return f"column {ours}: missing, but there is {theirs}. Rename that{other}."


def write_csv(table: pd.DataFrame, target: Path) -> None:
    """Writes a table as CSV, whole or not at all; whole numbers without a point, whatever is missing beside them."""
    with write_atomically(target) as path:
        table.convert_dtypes().to_csv(path, index=False, lineterminator="\n")


def numbers(cells: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Cells as floats, NaN where they say that there is no value; and which of them say neither."""
    if is_numeric_dtype(cells):
        values = cells.astype(float)
        return values.where(~np.isinf(values)), np.isinf(values)
    text = cells.astype("string").str.strip().str.lower()
    missing = text.isna() | text.isin(MISSING) | text.str.fullmatch(r"\.[a-z_]?").fillna(False).astype(bool)
    values = pd.to_numeric(text.where(text.str.fullmatch(NUMBER).fillna(False) & ~missing)).astype(float)
    values = values.where(~np.isinf(values))
    return values, values.isna() & ~missing


def whole(values: pd.Series) -> pd.Series:
    """Which numbers are whole, and small enough (2^53) that no two of a file have become one."""
    return values.isna() | (values.mod(1).eq(0) & values.abs().lt(2.0**53))


def typed(
    table: pd.DataFrame,
    path: Path,
    numeric: Iterable[str] = (),
    words: Mapping[str, Mapping[str, object]] | None = None,
    filled: Iterable[str] = (),
) -> pd.DataFrame:
    """The table with numbers and codes for its text; columns that it lacks are left out.

    Args:
        table: see :func:`read_columns`.
        path: its file, for messages.
        numeric: columns of numbers.
        words: of columns of words, what each stands for, in lower case.
        filled: columns in which every cell has a value.

    Raises:
        DataError: every cell that is there and cannot be read, and every empty one of ``filled``.
    """
    made = table.copy()
    faults: list[tuple[int, str]] = []

    def fault(rows: pd.Series, column: str, expected: str) -> None:
        faults.extend(
            (row, f"row {row + 2}, column {column}: {shown(table[column][row])}; expected {expected}.")
            for row in table.index[rows]
        )

    for column in (name for name in numeric if name in table):
        made[column], bad = numbers(table[column])
        fault(bad, column, "a number")
    for column, codes in (words or {}).items():
        if column in table:
            cells = table[column].astype("string").str.strip().str.lower().fillna("")
            made[column] = cells.map(dict(codes))
            fault(~cells.isin(list(codes)) & ~_empty(cells), column, f"one of {', '.join(codes)}")
    for column in (name for name in filled if name in table):
        fault(_empty(table[column]), column, "a value")
    if faults:
        raise DataError(listing(path, [line for _, line in sorted(faults)]))
    return made


def _empty(cells: pd.Series) -> pd.Series:
    return cells.isna() | cells.astype("string").str.strip().str.lower().isin(MISSING)


def shown(cell: object) -> str:
    """A cell that cannot be read, for a message; what is wrong with it where it is a number with a comma."""
    number = re.fullmatch(f"{delimited.DECIMAL_COMMA}|{delimited.GROUPED}", str(cell))
    return f"{str(cell)!r}{' has a comma where numbers have a point' if number else ''}"


def spread(values: pd.Series, by: pd.Series) -> pd.Series:
    """How far apart the values of a group lie, for each row."""
    groups = values.groupby(by)
    return groups.transform("max") - groups.transform("min")
