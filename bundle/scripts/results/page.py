"""A page to print of one case, marked as synthetic: images, probabilities side by side, growth, flags; no record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.data.transforms import MARK, preprocessing
from scripts.ehr.report import interval_in_words
from scripts.evaluation.report.case_page import A4, draw_tiles
from scripts.evaluation.report.case_view import CaseStudy, spread_limit
from scripts.evaluation.report.figures import NEUTRAL
from scripts.files import read_mapping, write_atomically
from scripts.predictions import PredictionError, pixel_mm, read_predictions
from scripts.results.case import PAGE, RESULT
from scripts.results.growth import shown90
from scripts.results.table import probability_of, simulated_in_words

COLUMNS = (0.08, 0.50, 0.63, 0.75)
"""Where the columns of the table of methods begin."""


FOOT, LINE = 0.06, 0.0125
"""Where the text ends, and the height of one of its lines, as shares of the page."""


def write_page(case_dir: str | Path, image: str | Path, place: str = "") -> Path:
    """Writes result.pdf beside result.json, from it and the saved samples.

    Args:
        case_dir: the case's folder, ``<predictions_dir>/<case_id>``.
        image: the baseline crop that the samples were generated from.
        place: where the nodule lies in its scan, which the heading then says.
    """
    folder = Path(case_dir)
    result = read_mapping(folder / RESULT, PredictionError)
    samples = read_predictions(folder.parent, [folder.name])[:, 0, 0]
    crop = preprocessing(["image"], samples.shape[-1])({"image": str(image)})["image"]
    side = float(pixel_mm(crop)[0])
    name = f"{result['case_id']} at {place}" if place else result["case_id"]
    study = CaseStudy(
        case_id=name,
        outcome="unknown",
        record="",
        baseline=np.asarray(crop)[0],
        follow_up=None,
        samples=samples,
        scores=np.empty(0),
        real_scores=(np.nan, np.nan),
        pixel_mm=(side, side),
    )
    metadata = {"Title": f"Generated follow-up of {name}", "Subject": f"{MARK}. {result['warning']}"}
    with write_atomically(folder / PAGE) as path:
        page(study, result).savefig(path, format="pdf", metadata=metadata | {"Creator": "NAMD"})
    return folder / PAGE


def page(study: CaseStudy, result: Mapping[str, Any]) -> Figure:
    """The page as a figure.

    Args:
        study: its images, and what the case is called.
        result: the content of result.json.
    """
    figure = Figure(figsize=A4)
    after = f" after {interval_in_words(result['interval_days'])}" if result["interval_days"] else ""
    figure.text(0.08, 0.955, fill(study.case_id, 50), size=16, weight="bold", va="top")
    figure.text(0.08, 0.925, result["warning"], size=9, weight="bold", color="#8a3b00", va="top")
    figure.text(0.08, 0.907, f"Follow-up{after}, {result['num_runs']} runs", size=8, color=NEUTRAL, va="top")
    draw_tiles(figure, study, spread_limit([study]))
    top = _methods(figure, result, 0.425)
    for heading, lines in (("Growth in the generated images", growth_in_words(result)), ("Flags", result["flags"])):
        figure.text(0.08, top, heading, size=10, weight="bold", va="top")
        text = _fitting(lines or ["none"], int((top - 0.018 - FOOT) / LINE))
        figure.text(0.08, top - 0.018, text, size=8, va="top", linespacing=1.3)
        top -= 0.036 + LINE * (text.count("\n") + 1)
    lacking = [f"Lacking: {'; '.join(result['lacking'])}."] if result["lacking"] else []
    made = result["made_from"]
    digest = f"Made by version {made['version']}; prediction {made['prediction_sha256'][:12]}."
    figure.text(0.08, 0.03, fill(" ".join([*lacking, digest]), 130), size=7, color=NEUTRAL, va="bottom")
    return figure


def growth_in_words(result: Mapping[str, Any]) -> list[str]:
    """Growth and how far it can be trusted, in sentences."""
    size = result["growth"]
    if "not_measurable" in size:
        return [f"Not measured: {size['not_measurable']}."]
    changes = ", ".join(f"{axis} {spread_in_words(each, '+.1f')}" for axis, each in size["change_mm"].items())
    rads, volume = size["lung_rads"], size["volume_mm3"]
    grown = f"more than {rads['threshold_mm']:g} mm in 12 months"
    held = size["change_mm"]["mean"].get("held_out90")
    lines = [f"Change of the diameters in mm, median and {'90 % range' if held else '90 % of the runs'}: {changes}."]
    if held:
        lines.append(
            "Ranges are those of the runs, scaled so as to hold the real change for 90 % of new patients, by "
            f"{size['held_out']['n']} held-out nodules of {size['held_out']['n_patients']} patients."
        )
    lines += [
        f"Lung-RADS: {'growth' if rads['grows'] else 'no growth'}; the mean diameter grows by {grown} in "
        f"{rads['share_of_runs_that_grow']:.0%} of the runs.",
        f"Volume, from one slice: {volume['baseline']:.0f} mm³, generated "
        f"{spread_in_words(volume['generated'], '.0f')}; doublings a year "
        f"{spread_in_words(size['doublings_per_year'], '+.2f')}.",
    ]
    if trust := size["held_out"]:
        lines.append(
            f"On {trust['n']} held-out nodules this change of the mean diameter is off by {trust['error_mm']:.1f} mm; "
            f"to say that nothing changes is off by {trust['unchanged_error_mm']:.1f} mm."
        )
    return lines


def spread_in_words(spread: Mapping[str, Any], form: str) -> str:
    """Median and 90 % interval, the one scaled by held-out nodules where it is known.

    >>> spread_in_words({"median": 1.0, "interval90": [-0.5, 2.0]}, "+.1f")
    '+1.0 [-0.5, +2.0]'
    """
    ends = shown90(spread)
    return format(spread["median"], form) + (f" [{ends[0]:{form}}, {ends[1]:{form}}]" if ends else "")


def _fitting(sentences: Sequence[str], most: int) -> str:
    """Sentences with line breaks; those that do not fit into so many lines are counted."""
    lines: list[str] = []
    for index, sentence in enumerate(sentences):
        more = fill(sentence, 118).split("\n")
        rest = len(sentences) - index
        if len(lines) + len(more) > most - (rest > 1):
            return "\n".join([*lines, f"... and {rest} more in result.json."])
        lines += more
    return "\n".join(lines)


def _methods(figure: Figure, result: Mapping[str, Any], top: float) -> float:
    """Draws the table of methods and returns where the next part begins."""
    heads = ("Probability of malignancy", "calibrated", "as it came", "held-out AUROC")
    for place, head in zip(COLUMNS, heads, strict=True):
        figure.text(place, top, head, size=10 if place == COLUMNS[0] else 8, weight="bold", va="top")
    for each in result["methods"]:
        top -= 0.018
        weight = "bold" if each["method"] == result["best_method"] else "normal"
        cells = [each["title"], *method_in_words(each)]
        for place, cell in zip(COLUMNS, cells, strict=False):
            figure.text(place, top, cell, size=8, va="top", weight=weight)
        top -= 0.012 * cells[1].count("\n")
    note = fill(held_out_in_words(result), 130)
    figure.text(0.08, top - 0.02, note, size=7, color=NEUTRAL, va="top")
    return top - 0.045 - 0.01 * note.count("\n")


def held_out_in_words(result: Mapping[str, Any]) -> str:
    """Which cases methods were compared on, what they reached there, and how the cases of each were held out."""
    return f"{_cases(result['held_out_cases'])} {_origins(result)}".strip()


def _cases(held_out: Mapping[str, Any]) -> str:
    """Which cases methods were compared on, and what they reached there."""
    if not held_out["compared"]:
        return "These weights have no published comparison, so that it is not known which of these is best."
    reached = ", ".join(f"{value:.3f}" for value in sorted(held_out["compared"]["auroc"].values(), reverse=True))
    words = f"In the order of their AUROC on the same {held_out['compared']['n']} held-out cases: {reached}. "
    how = simulated_in_words(held_out)
    return f"{words}Cases: {held_out['dataset']}." + (f" {how}." if how else "")


def _origins(result: Mapping[str, Any]) -> str:
    """How the cases of each AUROC, and the nodules of growth, were held out, by their number, which stands beside."""
    said: dict[str, dict[int, None]] = {}
    for each in (*result["methods"], result["growth"]):
        known = each.get("held_out") or {}
        if "on" in known:  # older weights do not say it of growth
            said.setdefault(known["on"], {})[known["n"]] = None
    return " ".join(f"n = {' and '.join(map(str, numbers))}: {on}." for on, numbers in said.items())


def method_in_words(method: Mapping[str, Any]) -> list[str]:
    """Calibrated and uncalibrated probability and AUROC with interval, or why there is none."""
    if "not_computable" in method:
        most = f"; at most {100 * method['at_most']:.0f} %" if "at_most" in method else ""
        return [fill(f"not computable: {method['not_computable']}{most}", 55)]
    calibrated = probability_of(method) if method["probability"] is not None else "-"
    held_out = method["held_out"] or {}
    auroc = "-" if held_out.get("auroc") is None else f"{held_out['auroc']:.2f}"
    if held_out.get("ci95"):
        auroc += " [{:.2f}, {:.2f}]".format(*held_out["ci95"])
    return [
        calibrated,
        f"{100 * method['uncalibrated']:.0f} %",
        f"{auroc} (n = {held_out['n']})" if held_out else auroc,
    ]
