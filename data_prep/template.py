"""The cohort table as a form: an empty one to fill in, and its columns and features as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from data_prep.errors import DataError
from data_prep.schema import COLUMNS
from data_prep.tables import write_csv
from scripts.ehr.features import FEATURES, Feature

FEATURE_HEADINGS = ("column", "meaning", "codes or range", "unit", "not determined")
COLUMN_HEADINGS = ("column", "needed", "meaning")

EXAMPLE = (
    {"study_yr": 0, "sct_long_dia": 8, "sct_perp_dia": 6, "sct_margins": 2, "age": 62, "gender": 1},
    {"study_yr": 1, "sct_long_dia": 11, "sct_perp_dia": 8, "sct_margins": 1, "age": 63, "gender": 1, "malignant": 1},
)
"""A nodule at two times; what is not said is unknown."""


def write(target: Path, example: bool = False) -> None:
    """Writes a cohort table with the columns of :data:`data_prep.schema.COLUMNS` and no row.

    Args:
        target: the CSV.
        example: add two rows, which are marked as such and name images that do not exist, so that they cannot be
            taken for data.

    Raises:
        DataError: there is such a file.
    """
    if target.exists():
        raise DataError(f"{target}: exists and is not replaced. Name another file.")
    marked = [
        {
            "patient_id": "EXAMPLE",
            "nodule_id": 1,
            "image": f"EXAMPLE_T{row['study_yr']}.nii.gz",
            "source": "EXAMPLE: remove this row",
            **row,
        }
        for row in EXAMPLE
        if example
    ]
    write_csv(pd.DataFrame(marked, columns=list(COLUMNS)), target)


def columns() -> Iterator[tuple[str, ...]]:
    """All columns but the features, as :data:`COLUMN_HEADINGS`."""
    for name, column in COLUMNS.items():
        if name not in FEATURES:
            yield name, column.needed, column.meaning


def features() -> Iterator[tuple[str, ...]]:
    """The 13 features, as :data:`FEATURE_HEADINGS`; an empty cell is unknown for each of them."""
    for name, feature in FEATURES.items():
        unknown = ", ".join(map(str, sorted(feature.unknown)))
        yield name, feature.description, _values(feature), feature.unit, unknown


def _values(feature: Feature) -> str:
    if not feature.codes:
        return f"{feature.minimum:g} to {feature.maximum:g}"
    return ", ".join(f"{code} {words}" for code, words in feature.codes.items())


def features_table() -> Table:
    """The features for a terminal."""
    table = Table(*FEATURE_HEADINGS, box=SIMPLE, pad_edge=False, collapse_padding=True)
    for row in features():
        table.add_row(*(cell.replace(", ", "\n") if cell.count(", ") > 1 else cell for cell in row))
    return table


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table as Markdown; the first cell of a row is a name."""
    lines = [headings, ["---"] * len(headings), *([f"`{first}`", *others] for first, *others in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
