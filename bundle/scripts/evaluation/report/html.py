"""The evaluation page: one HTML file that contains its images and scripts, so that it needs no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.evaluation import contrasts, table_one
from scripts.evaluation.judge import REAL
from scripts.evaluation.report.case_view import CaseStudy, browser
from scripts.evaluation.report.clinical_view import clinical_view
from scripts.evaluation.report.columns import (
    CALIBRATION,
    CAPTIONS,
    CRPS,
    ENSEMBLE,
    GROWTH,
    LATENTS,
    METRICS,
    RECALIBRATION,
    REGRET,
    STEERING,
    TITLES,
    halves_in_words,
    title_of,
)
from scripts.evaluation.report.forecast_view import forecast_view
from scripts.evaluation.statistics.metrics import side
from scripts.training.cases import trained_sentence


def render(
    result: Mapping[str, Any],
    pictures: Mapping[str, bytes],
    steering: Mapping[str, Any] | None = None,
    studies: Sequence[CaseStudy] = (),
    table: table_one.TableOne | None = None,
) -> str:
    """The evaluation page as HTML.

    Args:
        result: the content of metrics.json, as `evaluate` returns it.
        pictures: PNG files by name of the figure, a key of `CAPTIONS`.
        steering: the content of steering.json, if that study was made.
        studies: cases of the case browser; without any there is no browser.
        table: Table 1, if this evaluation is of all its methods.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters |= {"number": number, "p_value": table_one.p_value, "embed": embed, "json": in_script}
    seen = result["training_cases"]
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
        regret_columns=REGRET,
        notes=notes,
        equal=halves_in_words(result),
        gap=gap_sentence(result),
        facts_sentence=facts_sentence,
        clinical=clinical_view(result),
        recalibration_columns=RECALIBRATION,
        trained=trained_sentence(seen) if seen and seen["n_trained"] else None,
        forecasts=forecast_view(result["forecasts"]),
        crps_columns=CRPS,
        latent_columns=LATENTS,
        table_header=table_one.header(),
        table_parts=table_one.groups(table.rows if table else ()),
        table_caption=table.caption if table else None,
        contrasts=[contrasts.cells(each) for each in result["contrasts"]],
        contrasts_header=contrasts.header(),
        contrasts_notes=contrasts.notes(result["contrasts"]),
        steering=steering,
        steering_columns=STEERING,
        verdict=steering_sentence(steering) if steering else None,
        browser=browser(studies),
        outcomes=sorted({study.outcome for study in studies}),
        pictures=pictures,
        captions=CAPTIONS,
    )


def number(value: float | None, decimals: int) -> str:
    """A number with fixed decimals; a dash for None."""
    return "–" if value is None else f"{value:.{decimals}f}"


def differences(result: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Rows of the table of differences: titles of the method and of the one it is compared with, and the scores."""
    return [
        (title_of(name), title_of(real), score)
        for name, scores in result["methods"].items()
        for real, score in scores.get("auroc_difference", {}).items()
    ]


def embed(content: bytes) -> Markup:
    """A PNG file as a data URL."""
    return Markup("data:image/png;base64,") + base64.b64encode(content).decode()


def in_script(value: Any) -> Markup:
    """JSON for a script element; `<` is escaped, so that no text can end the element."""
    return Markup(json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def notes(rows: Mapping[str, Mapping[str, Any]], columns: Mapping[str, tuple[str, int]]) -> list[str]:
    """Notes below a table: each reason why values or intervals are missing, with the columns that it concerns."""
    reasons: dict[str, list[str]] = {}
    for scores in rows.values():
        for key, (title, _) in columns.items():
            titles = reasons.setdefault(scores[key].get("reason", ""), [])
            if title not in titles:
                titles.append(title)
    return [f"{', '.join(titles)}: {reason}." for reason, titles in reasons.items() if reason]


GAPS = {
    1: "The gap {between} is",
    0: "No gap is shown {between}, so that no share of it is given:",
    -1: "The classifier reads the follow-ups worse than the baselines, so that there is no gap to close {between}:",
}
"""What is said of a gap without a share, by the side of zero on which its interval lies."""


def gap_sentence(result: Mapping[str, Any]) -> str | None:
    """What the first method gains on real baselines: the share of the gap to the follow-ups, and the AUROC's interval.

    Of a gap that has no share it says what there is, by the side of zero on which its interval lies.
    """
    generated = [name for name in result["methods"] if name not in TITLES]
    known = {METRICS[key][0]: (gap, result["gap_closed"][key]) for key, gap in result["gap"].items() if gap["ci95"]}
    if not known or not generated:
        return None
    shares = [f"{share:.0%} of the {title} gap" for title, (_, share) in known.items() if share is not None]
    others: dict[int, list[str]] = {}
    for title, (gap, share) in known.items():
        if share is None:
            others.setdefault(side(gap["ci95"]), []).append(f"{title} {_with_interval(gap)}")
    between = "between the data set's baselines and follow-ups"
    sentences = [f"{title_of(generated[0])} closes {' and '.join(shares)} {between}."] if shares else []
    sentences += [f"{GAPS[each].format(between=between)} {' and '.join(gaps)}." for each, gaps in others.items()]
    averaged = result["methods"].get(generated[0] + ENSEMBLE, {}).get("auroc_difference", {}).get(REAL[0])
    if averaged and averaged["ci95"]:
        verdict = (", so that no gain is shown", "", ", a loss")[side(averaged["ci95"])]
        sentences.append(f"Averaged over runs, its AUROC less the baselines' is {_with_interval(averaged)}{verdict}.")
    return " ".join(sentences)


def _with_interval(score: Mapping[str, Any]) -> str:
    """A difference with its interval."""
    return f"{score['mean']:+.3f} [{score['ci95'][0]:.3f}, {score['ci95'][1]:.3f}]"


def facts_sentence(facts: Mapping[str, Any]) -> str:
    """A sentence on a stage's settings, kept epoch and versions of packages."""
    aside = ("command", "versions", "case_sha256", "best", "same_weights", "record", "weights", "language_model")
    parts = [f"{key.replace('_', ' ')} {value}" for key, value in facts.items() if key not in aside]
    if best := facts.get("best"):
        parts.append("kept: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in best.items()))
    if facts.get("same_weights") is False:
        parts.append("what this run logged is not of these weights")
    parts += [f"{package} {version}" for package, version in facts.get("versions", {}).items()]
    return "; ".join(parts) + "."


def steering_sentence(steering: Mapping[str, Any]) -> str:
    """A sentence on the effect of giving each case another patient's record."""
    row = steering["interventions"]["another patient's record"]
    sentence = f"Another patient's record changes the image by {row['image_change_hu']['mean']:.0f} HU on average"
    change = row["auroc_change"]
    if change is None or change["ci95"] is None:
        return sentence + "; whether it makes the score worse cannot be told here."
    verdicts = (
        "no effect of the right record on the score is shown",
        "the score is worse with the right record",
        "the score rests on the record",
    )
    return f"{sentence} and the AUROC by {_with_interval(change)}: {verdicts[side(change['ci95'])]}."
