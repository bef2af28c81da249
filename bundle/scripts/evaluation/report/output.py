"""Writing the files of an evaluation, each atomically."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scripts.errors import listed
from scripts.evaluation.contrasts import write_contrasts
from scripts.evaluation.report.case_page import pdf
from scripts.evaluation.report.case_view import CaseStudy, spread_limit
from scripts.evaluation.report.figures import marked
from scripts.evaluation.report.html import render
from scripts.evaluation.report.tripod import tripod
from scripts.evaluation.table_one import write_table_one
from scripts.files import write_bytes, write_json, write_text
from scripts.fingerprint import differences
from scripts.pictures import png

logger = logging.getLogger(__name__)


def write(
    folder: Path,
    result: dict[str, Any],
    table: str,
    drawn: Iterable[tuple[str, Figure]],
    studies: Sequence[CaseStudy] = (),
    pages: Sequence[str] = (),
) -> None:
    """Writes figures, pages of cases, tables, metrics.json and, last, the evaluation page.

    The page includes the study of steering if its files are in the folder, and of the same dataset and weights; and
    Table 1 if the folder says which rows and contrasts it has, see :mod:`scripts.evaluation.table_one`.

    Args:
        folder: to write to.
        result: the content of metrics.json.
        table: the text of predictions.csv.
        drawn: names and figures.
        studies: cases of the case browser.
        pages: ids of the cases that get a PDF page.
    """
    pictures = {name: png(marked(figure, result["simulated"])) for name, figure in drawn}
    for name, content in pictures.items():
        write_bytes(folder / "figures" / f"{name}.png", content)
    limit = spread_limit(studies)
    for study in (study for study in studies if study.case_id in pages):
        write_bytes(folder / "cases" / f"{study.case_id}.pdf", pdf(study, result, limit))
    write_text(folder / "predictions.csv", table)
    write_json(folder / "metrics.json", result, indent=2)
    steering, figure = _steering(folder, result.get("record")), folder / "figures" / "steering.png"
    pictures |= {"steering": figure.read_bytes()} if steering else {}
    write_contrasts(folder, result)
    write_text(folder / "tripod_ai.md", tripod(result))
    write_text(folder / "report.html", render(result, pictures, steering, studies, write_table_one(folder, result)))


def _steering(folder: Path, record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The content of steering.json; None without the study, or where it is another dataset's or other weights'."""
    path = folder / "steering.json"
    if not (path.is_file() and (folder / "figures" / "steering.png").is_file()):
        return None
    study = json.loads(path.read_bytes())
    made, now = (
        {key: (each or {}).get(key) for key in ("dataset", "weights")} for each in (study.get("record"), record)
    )
    if found := differences(made, now) if record else []:
        logger.warning(f"{path} is left out of the page, since {listed(found)}. Run steering.yaml again.")
        return None
    return study
