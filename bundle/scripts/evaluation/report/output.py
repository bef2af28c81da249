"""Writing the files of an evaluation, each atomically."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scripts.evaluation.report.case_page import pdf
from scripts.evaluation.report.case_view import CaseStudy, spread_limit
from scripts.evaluation.report.html import render
from scripts.files import write_bytes, write_json, write_text
from scripts.pictures import png


def write(
    folder: Path,
    result: dict[str, Any],
    table: str,
    drawn: Iterable[tuple[str, Figure]],
    studies: Sequence[CaseStudy] = (),
    pages: Sequence[str] = (),
) -> None:
    """Writes figures, pages of cases, tables, metrics.json and, last, the evaluation page.

    The page includes the study of steering if its files are in the folder.

    Args:
        folder: to write to.
        result: the content of metrics.json.
        table: the text of predictions.csv.
        drawn: names and figures.
        studies: cases of the case browser.
        pages: ids of the cases that get a PDF page.
    """
    pictures = {name: png(figure) for name, figure in drawn}
    for name, content in pictures.items():
        write_bytes(folder / "figures" / f"{name}.png", content)
    limit = spread_limit(studies)
    for study in (study for study in studies if study.case_id in pages):
        write_bytes(folder / "cases" / f"{study.case_id}.pdf", pdf(study, result, limit))
    write_text(folder / "predictions.csv", table)
    write_json(folder / "metrics.json", result, indent=2)
    steering, figure = folder / "steering.json", folder / "figures" / "steering.png"
    known = json.loads(steering.read_bytes()) if steering.is_file() and figure.is_file() else None
    pictures |= {"steering": figure.read_bytes()} if known else {}
    write_text(folder / "report.html", render(result, pictures, known, studies))
