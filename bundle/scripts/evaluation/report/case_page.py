"""A PDF page of one case, with the same images as the evaluation page's case browser, marked as synthetic."""

from __future__ import annotations

import io
from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.data.transforms import MARK
from scripts.evaluation.report.case_view import HU_PER_UNIT, CaseStudy, diameters
from scripts.evaluation.report.columns import simulation_in_words
from scripts.evaluation.report.figures import BENIGN, MALIGNANT, NEUTRAL
from scripts.pictures import scale_bar, show

A4 = (8.27, 11.69)
"""Width and height in inches."""

WARNING = "Research use only, not for clinical decisions. Images marked SYNTHETIC were generated, not scanned."


def pdf(study: CaseStudy, result: Mapping[str, Any], limit: float) -> bytes:
    """The page as a PDF file, marked as synthetic in its metadata. It names the case id and no patient.

    Args:
        result: the content of metrics.json.
        limit: of `spread_limit`.
    """
    metadata = {
        "Title": f"Generated one-year follow-up of {study.case_id}",
        "Subject": f"{MARK}. {WARNING}",
        "Keywords": "synthetic, research use only, not for clinical decisions",
        "Creator": "NAMD evaluation",
    }
    buffer = io.BytesIO()
    page(study, result, limit).savefig(buffer, format="pdf", metadata=metadata)
    return buffer.getvalue()


def page(study: CaseStudy, result: Mapping[str, Any], limit: float) -> Figure:
    """The page as a figure; arguments as of `pdf`."""
    figure = Figure(figsize=A4)
    outcome = "outcome unknown" if study.outcome == "unknown" else study.outcome
    figure.text(0.08, 0.955, study.case_id, size=16, weight="bold", va="top")
    figure.text(0.92, 0.955, outcome, size=12, ha="right", va="top")
    figure.text(0.08, 0.925, WARNING, size=9, weight="bold", color="#8a3b00", va="top")
    of = f"Dataset {result['dataset']}. {simulation_in_words(result)}"
    figure.text(0.08, 0.907, fill(of, 110), size=8, color=NEUTRAL, va="top")
    draw_tiles(figure, study, limit)
    _scores(figure.add_axes((0.10, 0.335, 0.80, 0.075)), study)
    texts = [("Record given to the model", study.record or "nothing is known")]
    texts += [("Measured long diameter", measured)] if (measured := diameters(study)) else []
    top = 0.265
    for heading, text in texts:
        lines = fill(text, 95)
        figure.text(0.08, top, heading, size=10, weight="bold", va="top")
        figure.text(0.08, top - 0.02, lines, size=10, va="top", linespacing=1.4)
        top -= 0.05 + 0.018 * (lines.count("\n") + 1)
    made = ", ".join(f"{name} {each}" for name, each in result["versions"].items())
    figure.text(0.08, 0.045, fill(f"Made {result['created']}; {made}.", 130), size=7, color=NEUTRAL, va="bottom")
    return figure


def draw_tiles(figure: Figure, study: CaseStudy, limit: float) -> None:
    """Draws the images into the upper half of a page, four in a row, with a scale bar if the pixel size is known."""
    grid = figure.add_gridspec(2, 4, left=0.08, right=0.92, top=0.865, bottom=0.47, hspace=0.22, wspace=0.08)
    for index, tile in enumerate(study.tiles()):
        axis = figure.add_subplot(grid[index // 4, index % 4])
        colours = {"cmap": tile.colour, "limits": (0.0, limit)} if tile.colour else {}
        show(axis, tile.image, synthetic=tile.synthetic, **colours)  # type: ignore[arg-type]
        axis.set_title(f"{tile.title}\nsynthetic" if tile.synthetic else tile.title, fontsize=8)
        if study.pixel_mm:
            scale_bar(axis, tile.image, study.pixel_mm[tile.title.startswith("follow-up")])
    note = f"Standard deviation over runs: black is 0, the brightest {limit * HU_PER_UNIT:.0f} HU. Samples are single "
    figure.text(0.08, 0.445, note + "runs as they came, not the best ones.", size=8, color=NEUTRAL, va="top")


def _scores(axis: Any, study: CaseStudy) -> None:
    """Draws the probabilities of malignancy of all runs and of the real images."""
    heights = 0.35 + 0.2 * (np.arange(len(study.scores)) % 3)
    axis.scatter(study.scores, heights, s=22, color=NEUTRAL, alpha=0.6, linewidth=0, label=f"{len(study.scores)} runs")
    mean = float(study.scores.mean())
    axis.scatter([mean], [0.08], marker="^", s=55, color="black", label=f"their mean {mean:.3f}", clip_on=False)
    for name, score, colour, style in (
        ("baseline", study.real_scores[0], BENIGN, "-"),
        ("follow-up (data set)", study.real_scores[1], MALIGNANT, "--"),
    ):
        axis.axvline(score, color=colour, linestyle=style, linewidth=2, label=f"{name} {score:.3f}")
    axis.set(xlim=(0, 1), ylim=(0, 1), yticks=[])
    axis.set_title("Probability of malignancy, as the classifier reads it from each image", fontsize=10, loc="left")
    axis.spines[["left", "right", "top"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(0, -0.25))
