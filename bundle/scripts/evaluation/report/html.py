"""The report: one HTML file with everything in it, readable without a network, on paper, and on a phone."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from scripts.evaluation.cases import CaseStudy, browser
from scripts.evaluation.growth import MEDIAN

ENSEMBLE = "_mean_probability"
"""What is appended to a method's name where its probabilities are averaged over runs before they are judged."""

METRICS = {"auroc": ("AUROC", 3), "auprc": ("AUPRC", 3), "lpips": ("LPIPS", 3), "fid": ("FID", 2), "kid": ("KID", 5)}
"""Title and decimals of each column of the first table."""

CALIBRATION = {
    "brier": ("Brier ↓", 3),
    "ece": ("ECE ↓", 3),
    "slope": ("Slope → 1", 2),
    "intercept": ("Intercept → 0", 2),
}
"""Title and decimals of each column of the table of calibration."""

GROWTH = {
    "long_mm": ("Long (mm) ↓", 2),
    "perpendicular_mm": ("Perp. (mm) ↓", 2),
    "area_mm2": ("Area (mm²) ↓", 1),
    "doublings_per_year": ("Doublings ↓", 2),
    "diameter_accuracy": ("Diameter class ↑", 2),
    "diameter_balanced_accuracy": ("balanced ↑", 2),
    "volume_accuracy": ("Volume class ↑", 2),
    "volume_balanced_accuracy": ("balanced ↑", 2),
    "change_pearson": ("Change, r ↑", 2),
    "change_spearman": ("ranks ↑", 2),
}
"""Title and decimals of each column of the growth tables."""

LATENTS = {"distance_correlation": ("Distances' correlation ↑", 3), "diameter_r2": ("R² of log diameter ↑", 3)}
"""Title and decimals of each column of the table of latent spaces."""

STEERING = {
    "image_change_hu": ("Image (HU)", 1),
    "score_change": ("Probability", 3),
    "auroc": ("AUROC", 3),
    "auroc_change": ("AUROC, change", 3),
}
"""Title and decimals of each column of the table of other records."""

TITLES = {
    "real_baseline": "Baseline of the data set",
    "real_follow_up": "Follow-up of the data set",
    "copy_baseline": "Copy of the baseline",
    "reconstructed_follow_up": "Reconstructed follow-up",
}

CAPTIONS = {
    "curves": "ROC and precision-recall curves of the classifier's probabilities, averaged over runs; dotted: chance.",
    "calibration": "Calibration of the probabilities, averaged over runs, in ten bins of equal width; a dot's area is "
    "its bin's share of the cases; dotted: right (left). How often which probability is given (right).",
    "gallery": "The first malignant and the first benign cases of the list, not the best ones; std is over runs.",
    "error_variance": "Error of the mean probability against its variance over runs (left), and three cases, the most "
    "clearly right, the most unsure and the most clearly wrong one: mean absolute error and pixel variance (right).",
    "running_variance": "Variance of the predicted probability over the first k runs, a line per case (50 at most): "
    "there are enough runs where the lines are level.",
    "latent_map": "t-SNE of the baselines' latents averaged over space, as the alignment loss sees them, coloured by "
    "long diameter; open circles: unknown. The table has numbers to go by: t-SNE keeps neighbours, not distances.",
    "training": "Loss of each stage; the axes differ, and so do the losses. Dotted: the epoch whose weights are judged "
    "here.",
    "steering": "Change of the image and of the probability under other records, with 95% intervals over patients; "
    "below, the case that larger diameters change most, from one noise under every record.",
    "growth": "Measured change of the mean diameter, generated against real: median over runs, lines hold the middle "
    "80% of them. In the grey bands a nodule counts as stable; on the diagonal the generated nodule is the real one.",
}


def title_of(name: str) -> str:
    """How a method of metrics.json is called in figures and tables."""
    if name.endswith(MEDIAN):
        return f"{title_of(name.removesuffix(MEDIAN))}, median size over runs"
    if name.endswith(ENSEMBLE):
        return f"{title_of(name.removesuffix(ENSEMBLE))}, probability averaged over runs"
    return TITLES.get(name, name)


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def render(
    result: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    steering: Mapping[str, Any] | None = None,
    studies: Sequence[CaseStudy] = (),
) -> str:
    """The report as HTML.

    Args:
        result: what metrics.json holds, as `evaluate` returns it.
        pictures: name of a figure (a key of `CAPTIONS`) to its PNG.
        steering: what steering.json holds, where that study was made.
        studies: what the case browser shows; none without it.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"number": number, "p_value": p_value, "embed": embed, "json": in_script}
    rows = {title_of(name): scores for name, scores in result["methods"].items()}
    return environment.get_template("report.html.j2").render(
        result=result,
        rows=rows,
        columns=METRICS,
        growth_columns=GROWTH,
        title_of=title_of,
        differences=differences(result),
        calibrations={title: row["calibration"] for title, row in rows.items() if "calibration" in row},
        calibration_columns=CALIBRATION,
        notes=notes,
        gap=gap_sentence(result),
        facts_sentence=facts_sentence,
        latent_columns=LATENTS,
        steering=steering,
        steering_columns=STEERING,
        verdict=steering_sentence(steering) if steering else None,
        browser=browser(studies),
        outcomes=sorted({study.outcome for study in studies}),
        pictures=pictures,
        captions=CAPTIONS,
    )


def number(value: float | None, decimals: int) -> str:
    """A number with a fixed number of decimals, a dash where there is none."""
    return "–" if value is None else f"{value:.{decimals}f}"


def p_value(value: float | None) -> str:
    """A p with as many decimals as can matter."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def differences(result: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Rows of the table of differences: titles of the method and of what it is held against, and the scores."""
    return [
        (title_of(name), title_of(real), score)
        for name, scores in result["methods"].items()
        for real, score in scores.get("auroc_difference", {}).items()
    ]


def embed(content: bytes) -> Markup:
    """A PNG file as the address of an image."""
    return Markup("data:image/png;base64,") + base64.b64encode(content).decode()


def in_script(value: Any) -> Markup:
    """JSON that can stand in a script element, which no text in it can end."""
    return Markup(json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def notes(rows: Mapping[str, Mapping[str, Any]], columns: Mapping[str, tuple[str, int]]) -> list[str]:
    """Why values or intervals of a table are absent, each reason once, with the columns that it concerns."""
    reasons: dict[str, list[str]] = {}
    for scores in rows.values():
        for key, (title, _) in columns.items():
            titles = reasons.setdefault(scores[key].get("reason", ""), [])
            if title not in titles:
                titles.append(title)
    return [f"{', '.join(titles)}: {reason}." for reason, titles in reasons.items() if reason]


def gap_sentence(result: Mapping[str, Any]) -> str | None:
    """How much of the gap between real baseline and real follow-up the first generated method closes."""
    shares = {METRICS[key][0]: share for key, share in result["gap_closed"].items() if share is not None}
    generated = [name for name in result["methods"] if name not in TITLES]
    if not shares or not generated:
        return None
    parts = " and ".join(f"{share:.0%} of the {title} gap" for title, share in shares.items())
    return f"{title_of(generated[0])} closes {parts} between the data set's baselines and follow-ups."


def facts_sentence(facts: Mapping[str, Any]) -> str:
    """What else a stage left word of, beside its command: settings, the epoch that was kept, versions."""
    aside = ("command", "versions", "case_sha256", "best", "same_weights")
    parts = [f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if key not in aside]
    if best := facts.get("best"):
        parts.append("kept: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in best.items()))
    if facts.get("same_weights") is False:
        parts.append("what this run logged is not of these weights")
    parts += [f"{package} {version}" for package, version in facts.get("versions", {}).items()]
    return "; ".join(parts) + "."


def steering_sentence(steering: Mapping[str, Any]) -> str:
    """What giving each case another patient's record shows, and what it does not."""
    row = steering["interventions"]["another patient's record"]
    sentence = f"Another patient's record changes the image by {row['image_change_hu']['mean']:.0f} HU on average"
    change = row["auroc_change"]
    if change is None or change["ci95"] is None:
        return sentence + "; whether it makes the score worse cannot be told here."
    low, high = change["ci95"]
    effect = f"the AUROC by {change['mean']:+.3f} [{low:.3f}, {high:.3f}]"
    if high < 0:
        return f"{sentence} and {effect}: the score rests on the record."
    return f"{sentence} and {effect}: no effect of the right record on the score is shown."
