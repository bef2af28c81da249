"""The paper's Table 1 of an evaluation that holds several trainings of each method, as CSV, Markdown and LaTeX.

An evaluation whose folder has a file ``table1_rows.json`` makes the table of it. That file has ``contrasts`` (see
:mod:`scripts.evaluation.contrasts`); ``caption``, sentences on what was trained, which may be left out; and ``rows``, a
list of:

| key | meaning |
| --- | --- |
| ``title`` | the method's |
| ``rows`` | names of the method's trainings in ``metrics.json``; of what is not trained, its only one |
| ``reads`` | what of image, record and interval the method is told; empty where it is not known |
| ``parameters``, ``views``, ``minutes``, ``calls``, ``seconds`` | of the networks; crops or pairs seen and minutes of |
| | training, means over trainings; network calls and seconds a sample. Any may be null |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.errors import UserError
from scripts.evaluation.report.columns import METRICS, halves_in_words, simulation_in_words
from scripts.files import read_mapping, write_text

FILE = "table1_rows.json"
"""Name of the list of rows in an evaluation's folder."""

RECONSTRUCTED = "(reconstructed)"
"""In the title of a method that was made from an abstract; it stands below a rule."""

TOLD = "told the record"
"""In the title of a method that reads more here than where it was published; it stands below a rule of its own."""

COLUMNS = {"lpips": "LPIPS ↓", "fid": "FID ↓", "kid": "KID ↓", "auroc": "AUROC ↑", "auprc": "AUPRC ↑"}
"""Titles of the scores, in the paper's order."""

FACTS = {
    "parameters": ("Parameters", 0),
    "views": ("Views", 0),
    "minutes": ("Minutes", 1),
    "calls": ("Calls", 0),
    "seconds": ("Seconds", 3),
}
"""Title and decimals of what a method costs."""

Row = dict[str, Any]


def table_one(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The table's rows; those of methods that were reconstructed from an abstract come last, told ones behind them.

    Args:
        result: the content of ``metrics.json``.
        rows: see the module.

    Returns:
        Of each row its own keys, ``trainings`` (how many), ``regret`` (mean over trainings and runs), ``told``,
        ``reconstructed`` and each key of :data:`COLUMNS`: ``mean`` over trainings and runs; ``ci95`` over patients, its
        ends averaged over trainings; ``runs``, the standard deviation over runs, averaged over trainings;
        ``trainings``, that of the trainings' means. What is not known is None.

    Raises:
        UserError: a row of a method that was not evaluated.
    """
    methods, regrets = result["methods"], result.get("regret") or {}
    if missing := sorted({name for row in rows for name in row["rows"]} - methods.keys()):
        raise UserError(f"{FILE}: names {missing[0]!r}, which was not evaluated. Evaluated are {', '.join(methods)}.")
    made = []
    for row in rows:
        regret = _mean([regrets[name]["regret"]["mean"] if name in regrets else None for name in row["rows"]])
        scores = {key: _summary([methods[name][key] for name in row["rows"]]) for key in COLUMNS}
        known = {
            "trainings": len(row["rows"]),
            "reconstructed": RECONSTRUCTED in row["title"],
            "told": TOLD in row["title"],
        }
        made.append({**row, **known, **scores, "regret": regret})
    return sorted(made, key=_part)


def _part(row: Mapping[str, Any]) -> tuple[bool, bool]:
    """What orders the table's parts, each below a rule."""
    return row["told"], row["reconstructed"]


def _summary(scores: Sequence[Mapping[str, Any]]) -> Row:
    """One score of several trainings."""
    means = [score["mean"] for score in scores]
    limits = [score["ci95"] for score in scores]
    whole = None if None in limits else np.mean(limits, axis=0).tolist()
    spread = float(np.std(means, ddof=1)) if len(means) > 1 and None not in means else None
    return {"mean": _mean(means), "ci95": whole, "runs": _mean([each["std"] for each in scores]), "trainings": spread}


def _mean(values: Sequence[float | None]) -> float | None:
    """None where any value is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def text(value: float | None, decimals: int) -> str:
    """A number with fixed decimals, thousands apart; a dash for None."""
    return "–" if value is None else f"{value:,.{decimals}f}"


def with_interval(score: Mapping[str, Any], decimals: int) -> str:
    """A mean and, where it is known, its interval."""
    interval = "" if score["ci95"] is None else f" [{', '.join(text(end, decimals) for end in score['ci95'])}]"
    return text(score["mean"], decimals) + interval


def p_value(value: float | None) -> str:
    """A p-value with three decimals; a dash for None."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def cell(score: Mapping[str, Any], decimals: int) -> str:
    """Mean, interval over patients, deviations over runs and over trainings.

    >>> cell({"mean": 0.8, "ci95": [0.7, 0.9], "runs": 0.02, "trainings": None}, 2)
    '0.80 [0.70, 0.90] sd 0.02 / –'
    """
    spread = [text(score[key], decimals) for key in ("runs", "trainings")]
    return with_interval(score, decimals) + ("" if spread == ["–", "–"] else f" sd {' / '.join(spread)}")


def cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of a row as text, under :func:`header`."""
    scores = [cell(row[key], METRICS[key][1]) for key in COLUMNS]
    facts = [text(row.get(key), decimals) for key, (_, decimals) in FACTS.items()]
    reads = ", ".join(row["reads"]) or "–"
    return [row["title"], *scores, text(row["regret"], 3), reads, str(row["trainings"]), *facts]


def header() -> list[str]:
    """Titles of the columns of :func:`cells`."""
    costs = [title for title, _ in FACTS.values()]
    return ["Method", *COLUMNS.values(), "Regret ↓", "Reads", "Trainings", *costs]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A column a number, so that other programs can read it; what is not known is empty."""
    buffer = io.StringIO()
    parts = {"": "mean", "_low": 0, "_high": 1, "_sd_runs": "runs", "_sd_trainings": "trainings"}
    names = [f"{key}{part}" for key in COLUMNS for part in parts]
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "reconstructed", *names, "regret", "reads", "trainings", *FACTS])
    for row in rows:
        scores = [
            (row[key]["ci95"] or (None, None))[part] if isinstance(part, int) else row[key][part]
            for key in COLUMNS
            for part in parts.values()
        ]
        facts = [row.get(key) for key in FACTS]
        writer.writerow(
            [
                row["title"],
                row["reconstructed"],
                *scores,
                row["regret"],
                "+".join(row["reads"]),
                row["trainings"],
                *facts,
            ]
        )
    return buffer.getvalue()


def groups(rows: Sequence[Mapping[str, Any]]) -> list[list[list[str]]]:
    """The cells of the rows, those of reconstructed methods and of told ones apart."""
    return [[cells(row) for row in part] for _, part in groupby(rows, key=_part)]


def markdown(titles: Sequence[str], parts: Sequence[Sequence[Sequence[str]]], caption: str) -> str:
    """A table of Markdown; a row of dashes stands for the rule between two parts."""
    rule = ["---"] * len(titles)
    lines = [titles, *(line for part in parts for line in (rule, *part))]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{caption}\n"


def latex(titles: Sequence[str], parts: Sequence[Sequence[Sequence[str]]], caption: str) -> str:
    """A table of LaTeX with its caption, with the rules of ``booktabs``."""
    lines = [r"\begin{table}", rf"\caption{{{_latex(caption)}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}", r"\toprule", _latex_line(titles)]
    lines += [line for part in parts for line in (r"\midrule", *map(_latex_line, part))]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


CAPTION = (
    "Mean over trainings and runs; in brackets the 95% interval over patients, its ends averaged over trainings; sd "
    "over runs / over trainings. Regret is the mean Kullback-Leibler divergence from the oracle in nats; the real "
    "follow-up's is from an oracle that knows growth too. Reconstructed rows were made from an abstract and say "
    "nothing of their authors' work; those told the record were not published so. Minutes and seconds are of whole "
    "jobs, their start included, on the machine that ran them; minutes of what was trained before an interruption, too."
)
"""What the numbers of a cell are."""


def studied(result: Mapping[str, Any]) -> str:
    """The dataset, its cases and what of them is simulated, given the content of ``metrics.json``.

    >>> counts = {"dataset": "phantom", "n_cases": 9, "n_patients": 8, "n_malignant": 3}
    >>> studied({**counts, "simulated": True, "simulation": "all images"})
    'Dataset phantom: 9 cases of 8 patients (3 malignant). Simulated: all images.'
    """
    counts = f"{result['n_cases']} cases of {result['n_patients']} patients ({result['n_malignant']} malignant)"
    return f"Dataset {result['dataset']}: {counts}. {simulation_in_words(result)}".rstrip()


def caption(result: Mapping[str, Any], trained: str = "") -> str:
    """The table's caption, the same in every format; it begins with :func:`studied`.

    Args:
        result: the content of ``metrics.json``.
        trained: ``caption`` of the rows' file.
    """
    networks = result["feature_extractors"]
    measured = (
        f"LPIPS is {networks['lpips']}; features of FID and KID are {networks['fid']}. Padded pixels are left out of "
        "LPIPS; FID, KID and the judge read whole crops."
    )
    parts = [studied(result), CAPTION, measured, halves_in_words(result), trained]
    return " ".join(part for part in parts if part)


def _latex(text: str) -> str:
    """A text for LaTeX."""
    signs = {"&": r"\&", "%": r"\%", "_": r"\_", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "–": "--"}
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return text


def _latex_line(line: Sequence[str]) -> str:
    """A line of a LaTeX table."""
    return " & ".join(map(_latex, line)) + r" \\"


class TableOne(NamedTuple):
    """The table's rows, of :func:`table_one`, and its caption."""

    rows: list[Row]
    caption: str


def write_table_one(folder: Path, result: Mapping[str, Any]) -> TableOne | None:
    """Writes ``table1/table1.csv``, ``.md`` and ``.tex`` into an evaluation's folder, and returns the table.

    The caption stands in ``table1_caption.txt`` too, since a CSV file has no place for it. None where the folder has no
    :data:`FILE`.
    """
    if not (folder / FILE).is_file():
        return None
    plan = read_mapping(folder / FILE)
    made = TableOne(table_one(result, plan["rows"]), caption(result, plan.get("caption", "")))
    table = header(), groups(made.rows), made.caption
    texts = {".csv": as_csv(made.rows), ".md": markdown(*table), ".tex": latex(*table)}
    for ending, content in {**texts, "_caption.txt": made.caption + "\n"}.items():
        write_text(folder / "table1" / f"table1{ending}", content)
    return made
