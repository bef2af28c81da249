"""SAS7BDAT and XPORT with SAS's special missing values, ``.A`` to ``.Z`` and ``._``: a trial has codes among them.

Other readers give NaN for them. ReadStat tells them of SAS7BDAT; of XPORT, whose format is open, its cells do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data_prep.delimited import Choose
from data_prep.errors import DataError

SUFFIXES = (".sas7bdat", ".xpt")
NAME_LENGTH = 8
"""Of a column in XPORT version 5."""
CODES = tuple(b"_ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def read(path: Path, choose: Choose) -> pd.DataFrame:
    """The cells of a table: numbers, text, and special missing values as text.

    Args:
        path: the file.
        choose: which columns are wanted.

    Raises:
        DataError: several tables in one file.
    """
    import pyreadstat

    xport = path.suffix.lower() == ".xpt"
    facts = (pyreadstat.read_xport if xport else pyreadstat.read_sas7bdat)(str(path), metadataonly=True)[1]
    names = [facts.column_names[column] for column in choose(facts.column_names)]
    if not xport:
        table, told = pyreadstat.read_sas7bdat(str(path), usecols=names, user_missing=True)
        for name in told.missing_user_values:
            table[name] = table[name].map(lambda cell: f".{cell}" if isinstance(cell, str) else cell)
        return table
    table, _ = pyreadstat.read_xport(str(path), usecols=names)
    for name, codes in _codes(path, facts, len(table)).items():
        if name in table and (codes != "").any():
            table[name] = table[name].astype(object).where(codes == "", codes)
    return table


def is_version_5(path: Path) -> bool:
    """Whether a file is XPORT whose columns have names of at most :data:`NAME_LENGTH` letters."""
    if path.suffix.lower() != ".xpt":
        return False
    with path.open("rb") as file:
        return b"LIBV8" not in file.read(80)


def _codes(path: Path, facts: Any, count: int) -> dict[str, np.ndarray]:
    """The special missing value of each cell of an XPORT file, by numeric column; empty where there is none.

    A missing number is its code as a letter and zeros (SAS's technical note TS-140).
    """
    content = path.read_bytes()
    if len(re.findall(rb"HEADER RECORD\*{7}MEMB(?:ER|V8) ", content)) > 1:
        raise DataError(f"{path}: holds several tables; expected one. Export them one by one.")
    start = re.search(rb"HEADER RECORD\*{7}OBS(?:V8)? +HEADER RECORD!{7}.{32}", content, re.DOTALL)
    widths = [facts.variable_storage_width[name] for name in facts.column_names]
    if start is None:
        raise DataError(f"{path}: no XPORT file; it has no rows' header. Export it again.")
    cells = np.frombuffer(content, np.uint8, count * sum(widths), start.end()).reshape(count, sum(widths))
    found: dict[str, np.ndarray] = {}
    for name, width, end in zip(facts.column_names, widths, np.cumsum(widths), strict=True):
        if facts.readstat_variable_types[name] == "string":
            continue
        first, others = cells[:, end - width], cells[:, end - width + 1 : end]
        coded = np.isin(first, CODES) & ~others.any(axis=1)
        found[name] = np.array([f".{chr(code)}" if is_code else "" for code, is_code in zip(first, coded, strict=True)])
    return found
