"""The files that an evaluation leaves, each whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scripts.evaluation.cases import CaseStudy, spread_limit
from scripts.evaluation.page import pdf
from scripts.evaluation.report import png, render


def write(
    folder: Path,
    result: dict[str, Any],
    table: str,
    drawn: Iterable[tuple[str, Figure]],
    studies: Sequence[CaseStudy] = (),
    pages: Sequence[str] = (),
) -> None:
    """Writes everything, the report last, with the study of steering where it was made."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    pictures = {name: png(figure) for name, figure in drawn}
    for name, content in pictures.items():
        replace_file(folder / "figures" / f"{name}.png", content)
    limit = spread_limit(studies)
    for study in (study for study in studies if study.case_id in pages):
        (folder / "cases").mkdir(exist_ok=True)
        replace_file(folder / "cases" / f"{study.case_id}.pdf", pdf(study, result, limit))
    replace_file(folder / "predictions.csv", table.encode())
    replace_file(folder / "metrics.json", json.dumps(result, indent=2, allow_nan=False).encode())
    steering, figure = folder / "steering.json", folder / "figures" / "steering.png"
    known = json.loads(steering.read_text()) if steering.is_file() and figure.is_file() else None
    pictures |= {"steering": figure.read_bytes()} if known else {}
    replace_file(folder / "report.html", render(result, pictures, known, studies).encode())


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)
