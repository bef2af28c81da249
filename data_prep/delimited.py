"""CSV as people have it: UTF-8 or Excel's UTF-16; commas, semicolons or tabs, or what a line ``sep=;`` says.

No cell changes its column: a row with more or fewer cells than the header is a fault. Rows without a value are left
out, and counted. What is read otherwise than with commas and points is told of in one line.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import pandas as pd

from data_prep.errors import DataError, listing

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How Excel's files begin."""
SEP = re.compile(r'"?sep=([,;|\t])"?[,;|\t\s]*', re.IGNORECASE)
DECIMAL_COMMA = r"([+-]?[0-9]+),([0-9]+)"
GROUPED = r"[+-]?[1-9][0-9]{0,2},[0-9]{3}"
"""9,500 is 9.5 or 9500."""
DECIMAL_POINT = r"[+-]?[0-9]*\.[0-9]+"


Choose = Callable[[Sequence[str]], list[int]]
"""From the columns' names to the positions of those that are wanted; it may raise."""


def read(path: Path, choose: Choose) -> pd.DataFrame:
    """The cells of a table as text.

    Args:
        path: the file; ``.gz`` is unpacked.
        choose: which columns are wanted.

    Returns:
        Columns by their names in the header. Index + 2 is a row's number in the file, the header being row 1.

    Raises:
        DataError: no text, no header, or every row that does not fit it.
    """
    text = _text(path)
    lines = io.StringIO(text, newline="")
    header, separator = _start(path, lines)
    reader = csv.reader(chain([header], lines), delimiter=separator, skipinitialspace=True, strict=True)
    rows: dict[int, Sequence[str]] = {}
    odd: dict[int, int] = {}
    try:
        names = next(reader)
        columns = choose(names)
        taken = itemgetter(*columns, 0)  # with another, so that it gives a tuple for one column too
        least = max((place + 1 for place, name in enumerate(names) if name.strip()), default=0)
        for number, cells in enumerate(reader):
            if not (cells and cells[0].strip()) and not any(map(str.strip, cells)):
                continue
            if len(cells) != len(names) and (len(cells) < least or any(map(str.strip, cells[len(names) :]))):
                odd[number] = len(cells)
            else:
                rows[number] = taken(cells)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}. Quote whole cells, or none of them.") from error
    if odd:
        told = f"cells, the header has {len(names)}. Quote cells with {SEPARATORS[separator]}, and write empty ones."
        faults = [f"row {number + 2}: {count} {told}" for number, count in odd.items()]
        if number in odd and not text.endswith(("\n", "\r")):
            faults[-1] = f"row {number + 2}: the file ends within it. It was cut off; get it anew."
        raise DataError(listing(path, faults))
    chosen = [*(names[column] for column in columns), ""]
    table = pd.DataFrame(rows.values(), list(rows), chosen, dtype=str).iloc[:, :-1]
    table = table.apply(lambda cells: cells.str.strip())
    return table if separator == "," else _told(path, table, SEPARATORS[separator])


def _text(path: Path) -> str:
    """The file's text.

    Raises:
        DataError: a workbook, or another encoding than UTF-8 and UTF-16.
    """
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        content = gzip.decompress(content)
    if content.startswith(WORKBOOKS):
        raise DataError(f"{path}: a workbook or an archive; expected text. In Excel, save it as CSV UTF-8.")
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        expected = "UTF-16" if wide else "UTF-8"
        raise DataError(f"{path}: line {line} is not {expected}. In Excel, save it as CSV UTF-8.") from error


def _start(path: Path, lines: io.StringIO) -> tuple[str, str]:
    """The header's first line, and what is between columns: by a line ``sep=``, or what the header has most of."""
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise DataError(f"{path}: empty; expected a header and rows.")
    if said := SEP.fullmatch(first):
        return next((line for line in lines if line.strip()), ""), said[1]
    bare = re.sub(r'"[^"]*("|$)', "", first)
    counts = {separator: bare.count(separator) for separator in SEPARATORS}
    most = [separator for separator, count in counts.items() if count == max(counts.values())]
    if len(most) > 1 and max(counts.values()):
        words = " or ".join(SEPARATORS[separator] for separator in most)
        raise DataError(f"{path}: {words} between its columns? Quote the header's cells, or save it with commas.")
    return first, most[0]


def _told(path: Path, table: pd.DataFrame, separated: str) -> pd.DataFrame:
    """The table with points for decimal commas, where its cells leave no doubt; says how it was read.

    There is doubt where a number has a point, or all commas may be of thousands; the cells then stay as they are.
    """
    cells = pd.Series(table.to_numpy(dtype=object).ravel(), dtype=str)
    commas = cells.str.fullmatch(DECIMAL_COMMA)
    clear = commas.any() and not cells[commas].str.fullmatch(GROUPED).all()
    if clear and not cells.str.fullmatch(DECIMAL_POINT).any():
        table = table.apply(lambda column: column.str.replace(f"^{DECIMAL_COMMA}$", r"\1.\2", regex=True))
        separated += " and decimal commas"
    print(f"{path}: read as a table with {separated}.", file=sys.stderr)
    return table
