"""The contrasts of Table 1, named before any run: differences of AUROC and of LPIPS, as CSV, Markdown and LaTeX.

The file ``table1_rows.json`` (see :mod:`scripts.evaluation.table_one`) names them under ``contrasts``, pairs of titles.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scripts.arrays import Array
from scripts.evaluation.judge import Judge, Method
from scripts.evaluation.report.columns import METRICS
from scripts.evaluation.statistics.contrasts import contrast, holm
from scripts.evaluation.statistics.metrics import auroc, undefined, varied, weighted_mean, why_undefined
from scripts.evaluation.table_one import FILE, latex, markdown, p_value, studied, with_interval
from scripts.files import read_mapping, write_text

SCORES = {"auroc": "AUROC ↑", "lpips": "LPIPS ↓"}
"""Titles of the scores whose differences are tested."""

CAPTION = (
    "Named before any run. The first method's score less the second's, each the mean over its trainings and their "
    "runs, as in Table 1; in brackets the 95% interval over patients and trainings, which "
    "the bootstrap draws together (of K trainings it shows (K - 1) / K of their variance, so of one none). p is "
    "two-sided, of the same resamples; Holm's correction is over all p of this table. Table 1's caption says what "
    "LPIPS is here."
)
"""What the numbers are."""

Contrast = dict[str, Any]


def contrasts(folder: Path, methods: Mapping[str, Method], judge: Judge) -> list[Contrast]:
    """The contrasts that an evaluation's folder names; none where it names none.

    Returns:
        Of each ``first`` and ``second``, titles; ``trainings``, how many of each; and each key of :data:`SCORES` as
        :func:`scripts.evaluation.statistics.contrasts.contrast` gives it, with ``p_holm``, or a ``reason``.
    """
    plan = read_mapping(folder / FILE) if (folder / FILE).is_file() else {}
    rows = {row["title"]: [methods[name] for name in row["rows"] if name in methods] for row in plan.get("rows", [])}
    made = [_contrast(first, second, rows, judge) for first, second in plan.get("contrasts", [])]
    tests = [each[key] for each in made for key in SCORES]
    for test, corrected in zip(tests, holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = corrected
    return made


def _contrast(first: str, second: str, rows: Mapping[str, Sequence[Method]], judge: Judge) -> Contrast:
    """One of the contrasts, without the correction."""
    pair = [rows.get(title, []) for title in (first, second)]
    known = {"first": first, "second": second, "trainings": [len(each) for each in pair]}
    if missing := [title for title, each in zip((first, second), pair, strict=True) if not each]:
        return known | {key: undefined(f"no row {' and '.join(missing)}") | {"p": None} for key in SCORES}
    return known | {"auroc": _of_auroc(pair, judge), "lpips": _of_lpips(pair, judge)}


def _of_auroc(pair: Sequence[Sequence[Method]], judge: Judge) -> Contrast:
    """The contrast of AUROC, over the cases whose outcome is known."""
    labels, weights = judge.study.cases.labels, judge.weights
    if reason := why_undefined(labels):
        return undefined(reason) | {"p": None}
    known = np.isfinite(labels)
    first, second = [[each.probabilities[:, known] for each in methods] for methods in pair]
    score = partial(_auroc, labels=labels[known])
    return contrast(score, first, second, varied(weights, labels))


def _auroc(values: Array, weights: Array, labels: Array) -> Array:
    return auroc(values, labels, weights)


def _of_lpips(pair: Sequence[Sequence[Method]], judge: Judge) -> Contrast:
    """The contrast of LPIPS."""
    first, second = [[each.distances for each in methods if each.distances is not None] for methods in pair]
    if not first or not second:
        return undefined("not given where no image is made") | {"p": None}
    return contrast(weighted_mean, first, second, judge.weights)


def header() -> list[str]:
    """Titles of the columns of :func:`cells`."""
    return ["First", "Second", "Trainings", *(each for title in SCORES.values() for each in (title, "p", "p, Holm"))]


def cells(made: Contrast) -> list[str]:
    """The cells of a contrast as text, under :func:`header`."""
    line = [made["first"], made["second"], " / ".join(map(str, made["trainings"]))]
    for key in SCORES:
        score, decimals = made[key], METRICS[key][1]
        line += [with_interval(score, decimals), p_value(score["p"]), p_value(score["p_holm"])]
    return line


def notes(made: Sequence[Contrast]) -> list[str]:
    """What could not be made or has no interval, and why, a sentence each."""
    return [f"{each['first']} less {each['second']}, {what}: {reason}." for each, what, reason in _reasons(made)]


def _reasons(made: Sequence[Contrast]) -> Iterator[tuple[Contrast, str, str]]:
    """Contrasts with the scores that lack, and why; where both lack for one reason, once."""
    for each in made:
        found: dict[str, list[str]] = {}
        for key in SCORES:
            if reason := each[key].get("reason"):
                found.setdefault(reason, []).append(METRICS[key][0])
        yield from ((each, " and ".join(keys), reason) for reason, keys in found.items())


def as_csv(made: Sequence[Contrast]) -> str:
    """A column a number, so that other programs can read it; what is not known is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    parts = ("", "_low", "_high", "_p", "_p_holm", "_reason")
    columns = [f"{key}{part}" for key in SCORES for part in parts]
    writer.writerow(["first", "second", "trainings_first", "trainings_second", *columns])
    for each in made:
        scores = (each[key] for key in SCORES)
        numbers = [
            value
            for score in scores
            for value in (
                score["mean"],
                *(score["ci95"] or [None] * 2),
                score["p"],
                score["p_holm"],
                score.get("reason"),
            )
        ]
        writer.writerow([each["first"], each["second"], *each["trainings"], *numbers])
    return buffer.getvalue()


def write_contrasts(folder: Path, result: Mapping[str, Any]) -> None:
    """Writes ``table1/table1_contrasts.csv``, ``.md`` and ``.tex`` into an evaluation's folder, if there are any.

    The caption stands in ``table1_contrasts_caption.txt`` too, since a CSV file has no place for it.

    Args:
        result: the content of ``metrics.json``.
    """
    made = result["contrasts"]
    if not made:
        return
    caption = " ".join([studied(result), CAPTION, *notes(made)])
    table = header(), [[cells(each) for each in made]], caption
    texts = {".csv": as_csv(made), ".md": markdown(*table), ".tex": latex(*table), "_caption.txt": caption + "\n"}
    for ending, content in texts.items():
        write_text(folder / "table1" / f"table1_contrasts{ending}", content)
