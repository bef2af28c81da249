"""What TRIPOD+AI asks of a report (Collins et al., BMJ 2024;385:e078378), filled in where an evaluation can.

The items are told in our own words and do not replace the checklist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.evaluation.report.columns import METRICS, simulation_in_words, title_of

ITEMS = {
    "1": "Title: a model is evaluated, whom and what it is for",
    "2": "Abstract, by TRIPOD+AI for Abstracts",
    "3a": "Background: the condition, why a model, earlier models",
    "3b": "Whom the model is for, its purpose, its users",
    "3c": "Known inequalities between groups of patients",
    "4": "Objectives: development, evaluation or both",
    "5a": "Sources of the data, and whether they represent whom the model is for",
    "5b": "Dates of recruitment and follow-up",
    "6a": "Setting: kind, number and place of centres",
    "6b": "Who was eligible",
    "6c": "Treatments, and how they were dealt with",
    "7": "How data were prepared and checked, alike in all groups",
    "8a": "The outcome, how and when it is assessed, alike in all groups",
    "8b": "Who assessed it, where that needs judgement",
    "8c": "Whether assessors knew the predictors",
    "9a": "How predictors were chosen",
    "9b": "The predictors, how and when they are measured",
    "9c": "Who measured them, where that needs judgement",
    "10": "How the size of the study was arrived at",
    "11": "How missing data were handled",
    "12a": "How data were used, and divided, for development and evaluation",
    "12b": "How predictors enter the model",
    "12c": "The kind of model, how it was built and validated",
    "12d": "Heterogeneity between clusters, such as hospitals",
    "12e": "Measures of performance, why these, and comparisons of models",
    "12f": "Whether the model was updated, such as recalibrated",
    "12g": "How predictions were calculated in the evaluation",
    "13": "Methods against imbalance of classes, and recalibration after them",
    "14": "What was done for fairness",
    "15": "What the model gives, and how thresholds were chosen",
    "16": "How the evaluated data differ from those of development",
    "17": "Ethics committee and consent",
    "18a": "Funding",
    "18b": "Conflicts of interest",
    "18c": "Protocol",
    "18d": "Registration",
    "18e": "Whether data are available",
    "18f": "Whether code is available",
    "19": "Involvement of patients and the public",
    "20a": "Flow of participants, with and without the outcome, time of follow-up",
    "20b": "Characteristics of participants, of groups too, missing data",
    "20c": "Comparison with the development data",
    "21": "Participants and outcomes in each analysis",
    "22": "The full model, so that it can be used",
    "23a": "Performance with intervals, in key groups too, with plots",
    "23b": "Heterogeneity of performance between clusters",
    "24": "Results of updating the model",
    "25": "Interpretation, fairness included",
    "26": "Limitations: sample, size, overfitting, missing data",
    "27a": "How poor or missing input is to be handled in use",
    "27b": "What users have to do, and need to know",
    "27c": "Next steps: use, and other settings",
}
"""Number to item."""


def tripod(result: Mapping[str, Any]) -> str:
    """The text of tripod_ai.md: a table of the items that the evaluation fills, and a list of the others.

    Args:
        result: the content of metrics.json.
    """
    found = answers(result)
    lines = [
        f"# TRIPOD+AI, evaluation on {result['dataset']}",
        "",
        "What this evaluation can fill in of TRIPOD+AI (Collins et al., BMJ 2024;385:e078378), in our own words; the",
        "checklist itself is at tripod-statement.org. Numbers are those of metrics.json. Research use only.",
        "",
        "| item | what is asked | here |",
        "| --- | --- | --- |",
        *(f"| {number} | {ITEMS[number]} | {text} |" for number, text in found.items()),
        "",
        "To be written by the authors:",
        "",
        *(f"- {number}: {item}" for number, item in ITEMS.items() if number not in found),
    ]
    return "\n".join(lines) + "\n"


def answers(result: Mapping[str, Any]) -> dict[str, str]:
    """By number, the items that the content of metrics.json fills."""
    unknown = result["n_cases"] - result["n_malignant"] - result["n_benign"]
    counts = (
        f"{result['n_cases']} cases of {result['n_patients']} patients: {result['n_malignant']} malignant, "
        f"{result['n_benign']} benign, {unknown} with an unknown outcome"
    )
    missing = "; ".join(f"{each['what']}: {each['reason']}" for each in result["left_out"]) or "nothing"
    names = ", ".join(title for title, _ in METRICS.values())
    found = {
        "4": "evaluation",
        "5a": f"dataset {result['dataset']}. {simulation_in_words(result)}".removesuffix(". "),
        "9b": "baseline crop, the 13 features of the record and, where the weights take it, the interval",
        "10": result["events_warning"] or "100 or more of either outcome",
        "11": "cases with an unknown outcome are left out of scores of outcomes; missing features stay missing",
        "12a": _sections(result),
        "12d": f"clusters are patients, whom the bootstrap draws: {result['bootstrap']['resamples']} resamples",
        "12e": f"{names}, calibration, decision curves, sensitivity and specificity, growth; paired differences",
        "12f": "by intercept, and by intercept and slope, cross-validated by patient, apart from the scores as given",
        "12g": f"{result['n_runs']} runs a case, probabilities averaged over them; command: `{result['command']}`",
        "15": "probability of malignancy; thresholds fixed on validation, published with the weights or given: "
        + _thresholds(result),
        "18f": f"`record` in metrics.json has version, commit and digests of the weights{_seen(result)}",
        "20b": "`cohort` in metrics.json, Cohort on the evaluation page",
        "21": counts,
        "23a": f"{_performance(result)}; groups: Subgroups on the evaluation page",
        "24": "`recalibration` in metrics.json",
        "26": f"left out: {missing}",
    }
    return {number: text.replace("|", "/").replace("\n", " ") for number, text in found.items()}


def _sections(result: Mapping[str, Any]) -> str:
    """Cases in each section, and which is evaluated."""
    if not result["cohort"]:
        return "one section"
    sections = result["cohort"]["sections"]
    counts = ", ".join(f"{name} {section['n_cases']}" for name, section in sections.items())
    return f"{counts}; evaluated: {result['cohort']['evaluated']}; no patient is in two"


def _thresholds(result: Mapping[str, Any]) -> str:
    """How many methods have a threshold."""
    count = sum("reason" not in points for points in result["operating_points"].values())
    return f"{count} of {len(result['operating_points'])} methods"


def _seen(result: Mapping[str, Any]) -> str:
    seen = result["training_cases"]
    return f"; {seen['n_trained']} of {seen['n_cases']} cases trained them" if seen else ""


def _performance(result: Mapping[str, Any]) -> str:
    """AUROC and interval of each method."""
    texts = []
    for name, row in result["methods"].items():
        score = row["auroc"]
        if score["mean"] is not None:
            interval = " [{:.3f}, {:.3f}]".format(*score["ci95"]) if score["ci95"] else ""
            texts.append(f"{title_of(name)} {score['mean']:.3f}{interval}")
    return "AUROC: " + (", ".join(texts) or "not known")
