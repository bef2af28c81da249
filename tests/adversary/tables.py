"""A valid cohort table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pandas as pd

from tests.adversary.scans import SECRETS

PATIENTS = (SECRETS["PatientID"], "MRN5520417")
NUMBERS = {
    "study_yr": ("0", "1"),
    "x": ("-61.5", "40.25"),
    "y": ("12", "-3.75"),
    "z": ("-210.5", "88"),
    "malignant": ("0", "1"),
    "sct_pre_att": ("1", "2", "3"),
    "sct_epi_loc": ("1", "4", "8"),
    "sct_long_dia": ("9.5", "12", "6.25"),
    "sct_perp_dia": ("5.5", "4"),
    "sct_margins": ("1", "2", "3"),
    "age": ("61", "70"),
    "diagemph": ("0", "1"),
    "gender": ("1", "2"),
    "famfather": ("0", "1"),
    "fammother": ("0", "1"),
    "fambrother": ("0", "1"),
    "famsister": ("0", "1"),
    "famchild": ("0", "1"),
}
FEATURES = tuple(NUMBERS)[5:]
TEXTS = ("patient_id", "nodule_id", "image", "split", "note")

Line = dict[str, str]


@dataclass
class Table:
    """A cohort table.

    Attributes:
        names: of the columns, as they are written.
        lines: of the file below the header, cells by column, or a line as it stands.
        expected: what is to be read of each row.
        wrong: the line that a refusal has to name, if it has to.
        separator, ending, encoding, start, quoting: of the file.
        suffix: of its name; ``.parquet`` is written from the cells as they are.
    """

    names: dict[str, str]
    lines: list[Line | str]
    expected: list[dict[str, str | float | None]]
    wrong: Line | str | None = None
    separator: str = ","
    ending: str = "\n"
    encoding: str = "utf-8"
    start: bytes = b""
    quoting: int = csv.QUOTE_MINIMAL
    suffix: str = ".csv"
    images: set[str] = field(default_factory=set)
    twice: str | None = None

    @property
    def rows(self) -> list[Line]:
        """Lines that are rows."""
        return [line for line in self.lines if isinstance(line, dict)]

    def number(self) -> int | None:
        """The row that has to be named: the header is row 1, and blank lines count."""
        if self.wrong is None:
            return None
        return 2 + next(number for number, line in enumerate(self.lines) if line is self.wrong)

    def write(self, folder: Path) -> Path:
        """Writes the table and empty images; returns its path."""
        for name in self.images:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        path = folder / f"cohort{self.suffix}"
        if self.suffix == ".parquet":
            rows = [{shown: row[name].strip() for name, shown in self.names.items()} for row in self.rows]
            pd.DataFrame(rows).to_parquet(path)
            return path
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=self.separator, lineterminator=self.ending, quoting=self.quoting)  # type: ignore[arg-type]
        extra = [] if self.twice is None else [self.names[self.twice]]
        writer.writerow([*self.names.values(), *extra])
        for line in self.lines:
            if isinstance(line, str):
                buffer.write(line.replace("FOLDER", str(folder)) + self.ending)
                continue
            cells = [line[name].replace("FOLDER", str(folder)) for name in self.names]
            writer.writerow([*cells, *([] if self.twice is None else [line[f"{self.twice} again"]]), *_more(line)])
        path.write_bytes(self.start + buffer.getvalue().encode(self.encoding))
        return path


def _more(line: Line) -> Sequence[str]:
    return [line["more"]] if "more" in line else []


def table(rng: Random) -> Table:
    """Two patients, a nodule each, at two times."""
    names = [*TEXTS[:2], "study_yr", "image", *(name for name in NUMBERS if name != "study_yr"), "split", "note"]
    lines: list[Line | str] = []
    for patient, split in zip(PATIENTS, rng.sample(("training", "validation", "test"), 2), strict=True):
        outcome, first = rng.choice(("0", "1", "")), Line()
        for year in ("0", "1"):
            row = {name: rng.choice(values) for name, values in NUMBERS.items()}
            image = f"images/scan{len(lines)}.nii.gz"
            row |= {"patient_id": patient, "nodule_id": "1", "study_yr": year, "image": image, "malignant": outcome}
            first = first or row
            row |= {"gender": first["gender"], "age": max(first["age"], row["age"])}
            lines.append(row | {"split": split, "note": "seen"})
    made = Table({name: name for name in names}, lines, [])
    made.images = {row["image"] for row in made.rows}
    made.expected = [{name: _known(name, row[name]) for name in names if name != "note"} for row in made.rows]
    return made


def _known(name: str, cell: str) -> str | float | None:
    return cell if name in TEXTS else float(cell) if cell else None
