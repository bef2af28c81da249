"""The evaluation page's rows and sentences on decisions, recalibration, thresholds and subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.evaluation.report.columns import ENSEMBLE, POLICIES, TITLES, WAYS, title_of
from scripts.evaluation.statistics.decision_curve import ALL, SHOWN
from scripts.evaluation.statistics.metrics import side
from scripts.evaluation.statistics.thresholds import SENSITIVITY

RULE_TITLES = {
    "sensitive": f"{SENSITIVITY:.0%} sensitive on validation",
    "youden": "Youden's on validation",
    "given": "given",
    "published_sensitive": f"{SENSITIVITY:.0%} sensitive on the weights' own held-out cases",
    "published_youden": "Youden's on the weights' own held-out cases",
}
"""How a threshold was fixed, in the table."""

COLUMNS = 4
"""Methods whose AUROC the table of subgroups has at most; metrics.json has all."""


def clinical_view(result: Mapping[str, Any]) -> dict[str, Any]:
    """What the template `clinical.html.j2` shows, given the content of metrics.json."""
    return {
        "added": added_sentence(result["added_value"]),
        "thresholds": [f"{threshold:.0%}" for threshold in SHOWN],
        "benefits": benefits(result["decision_curves"]),
        "recalibrations": {
            f"{title_of(name)}, {WAYS[way]}": scores
            for name, ways in result["recalibration"].items()
            for way, scores in ways.items()
            if scores["brier"]["mean"] is not None
        },
        "points": [
            (title_of(name), RULE_TITLES[rule], point)
            for name, points in result["operating_points"].items()
            if "reason" not in points
            for rule, point in points.items()
        ],
        "fixed_on": (result["record"] or {}).get("published_thresholds"),
        "subgroups": subgroups(result),
        "methods": [title_of(name) for name in subgroup_methods(result)],
    }


def added_sentence(added: Mapping[str, Any]) -> str | None:
    """A sentence on what the generated images add; None where the models were not fitted."""
    if "reason" in added:
        return None
    change, before, after = added["auroc_difference"], *(each["mean"] for each in added["auroc"].values())
    interval = "no interval" if change["ci95"] is None else "[{:.3f}, {:.3f}]".format(*change["ci95"])
    test, rows = added["likelihood_ratio"], added["net_benefit_difference"]
    benefit = ", ".join(f"{_signed(row)} at {100 * float(limit):g}%" for limit, row in rows.items())
    p = "not known" if test["p"] is None else "< 0.001" if test["p"] < 0.001 else f"{test['p']:.3f}"
    return (
        f"Beside record ({title_of(added['record'])}) and baseline, the generated images' score changes the AUROC from "
        f"{before:.3f} to {after:.3f}, by {change['mean']:+.3f} {interval}, on patients that no model was fitted on. "
        f"{_verdict(change)} Likelihood ratio test, in the sample: p {p}. Net benefit changes by {benefit}."
    )


def _verdict(change: Mapping[str, Any]) -> str:
    if change["ci95"] is None:
        return "Whether they add anything cannot be told here."
    return ("Nothing is shown to be added.", "They add to both.", "They make the prediction worse.")[
        side(change["ci95"])
    ]


def _signed(score: Mapping[str, Any]) -> str:
    interval = "" if score["ci95"] is None else " [{:+.3f}, {:+.3f}]".format(*score["ci95"])
    return f"{score['mean']:+.3f}{interval}"


def benefits(curves: Mapping[str, Any]) -> list[tuple[str, list[tuple[float, Mapping[str, Any] | None]]]]:
    """Rows of the table of net benefits: a title, and at each of `SHOWN` the number and its difference to treating all.

    After the methods come the differences of the one that is held against the others; there the number stands in both.
    """
    if "reason" in curves:
        return []
    places = [curves["thresholds"].index(threshold) for threshold in SHOWN]
    rows: list[tuple[str, list[tuple[float, Mapping[str, Any] | None]]]] = []
    for name, values in curves["net_benefit"].items():
        against = curves["differences"].get(name, {}).get(ALL, {})
        rows.append(
            (title_of(name), [(values[at], against.get(f"{limit:g}")) for at, limit in zip(places, SHOWN, strict=True)])
        )
    for name, others in curves["differences"].items():
        for other, scores in others.items():
            if other not in POLICIES:
                cells = [(scores[f"{limit:g}"]["mean"], scores[f"{limit:g}"]) for limit in SHOWN]
                rows.append((f"{title_of(name)}, less {title_of(other)}", cells))
    return rows


def subgroup_methods(result: Mapping[str, Any]) -> list[str]:
    """The methods in the table of subgroups: the real baselines, the generated images, and tables."""
    names = [name for name in result["recalibration"] if name not in TITLES or name == "real_baseline"]
    averaged = {name.removesuffix(ENSEMBLE) for name in names if name.endswith(ENSEMBLE)}
    return [name for name in names if name not in averaged][:COLUMNS]


def subgroups(result: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Rows of the table of subgroups: what divides, title, counts and scores."""
    return [
        (title, name, group, [group["auroc"][method] for method in subgroup_methods(result)])
        for title, groups in result["subgroups"].items()
        for name, group in groups.items()
    ]
