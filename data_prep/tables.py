"""Tables of any of the kinds that hospitals and trials have are read, and CSV is written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from data_prep.errors import DataError
from scripts.ehr.features import MISSING
from scripts.files import write_atomically

SAS = (".sas7bdat", ".xpt")
SUFFIXES = (".csv", ".parquet", *SAS)
MAX_FAULTS = 50


def read_columns(path: Path, needed: tuple[str, ...] = (), taken: tuple[str, ...] | None = None) -> pd.DataFrame:
    """A table of any of the kinds that are read, column names in lower case; the cells of a CSV are text.

    Args:
        path: the file.
        needed: columns that must be there.
        taken: further columns, those that are there; None: all.

    Raises:
        DataError: the file is not there, cannot be read, or lacks columns that are needed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected CSV, parquet, SAS7BDAT or XPORT.")

    def wanted(name: str) -> bool:
        return taken is None or str(name).strip().lower() in (*needed, *taken)

    try:
        if path.suffix.lower() in SAS:
            table = pd.read_sas(path, encoding="latin-1")
        elif path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            names = pyarrow.parquet.read_schema(path).names
            table = pd.read_parquet(path, columns=[name for name in names if wanted(name)])
        else:
            table = pd.read_csv(
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True, usecols=wanted
            )
    except Exception as error:  # pandas and pyarrow raise what they like
        raise DataError(f"{path}: cannot be read ({error}); expected CSV (UTF-8, commas), parquet or SAS.") from error
    table.columns = table.columns.astype(str).str.strip().str.lower()
    faults = [f"column {name}: missing." for name in needed if name not in table]
    faults += [f"column {name}: given twice, but for case." for name in set(table.columns[table.columns.duplicated()])]
    if faults:
        raise DataError(listing(path, faults))
    return table if taken is None else table[[name for name in dict.fromkeys((*needed, *taken)) if name in table]]


def write_csv(table: pd.DataFrame, target: Path) -> None:
    """Writes a table as CSV, whole or not at all; whole numbers without a point, whatever is missing beside them."""
    with write_atomically(target) as path:
        table.convert_dtypes().to_csv(path, index=False, lineterminator="\n")


def numbers(cells: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Cells as floats, NaN where they say that there is no value; and which of them say neither."""
    if is_numeric_dtype(cells):
        return cells.astype(float), pd.Series(False, cells.index)
    text = cells.astype("string").str.strip().str.lower()
    missing = text.isna() | text.isin(MISSING) | text.str.fullmatch(r"\.[a-z_]?").fillna(False).astype(bool)
    values = pd.to_numeric(text.where(~missing), errors="coerce").astype(float)
    return values, values.isna() & ~missing


def listing(path: Path | str, faults: list[str]) -> str:
    """The message of a table's faults: how many, the first of them, one a line."""
    more = [f"  ... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
    title = f"{path}: {len(faults)} fault{'s' * (len(faults) > 1)} (the header is row 1)"
    return "\n".join([title, *(f"  {fault}" for fault in faults[:MAX_FAULTS]), *more])
