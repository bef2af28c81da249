"""The evaluation page's sentence, rows and notes on forecasts of growth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.evaluation.report.columns import AXES, TITLES, title_of
from scripts.evaluation.statistics.forecasts import INTERVALS
from scripts.evaluation.statistics.metrics import side

KINDS = ("raw", "conformal")
"""Intervals as they are, and conformalised."""


def forecast_view(forecasts: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the template `forecasts.html.j2` shows, given the entry `forecasts` of metrics.json."""
    found = {axis: (forecasts or {}).get(axis, {}) for axis in AXES}
    scored = {
        AXES[axis]: {title_of(name): row for name, row in rows.items() if "crps" in row} for axis, rows in found.items()
    }
    return {
        "sentence": forecast_sentence(found["long"]),
        "axes": {title: rows for title, rows in scored.items() if rows},
        "intervals": [((key, kind), f"{key.removeprefix('interval')}% {kind}") for key in INTERVALS for kind in KINDS],
        "notes": [f"{title}: {reason}" for title, reason in reasons(found["long"])],
    }


def forecast_sentence(rows: Mapping[str, Any]) -> str | None:
    """A sentence on the first generated method: its CRPS held against climatology's, and what its intervals cover."""
    name = next((name for name, row in rows.items() if name not in TITLES and "crps" in row), None)
    if name is None:
        return None
    row, text = (
        rows[name],
        f"{title_of(name)} forecasts the long diameter with a CRPS of {rows[name]['crps']['mean']:.2f} mm",
    )
    if less := row["crps_less"].get("climatology"):
        known, verdict = "(no interval)", ""
        if bounds := less["ci95"]:
            known = f"[{bounds[0]:+.2f}, {bounds[1]:+.2f}]"
            verdict = f": {('no different', 'worse', 'better')[side(bounds)]}, as far as these cases show"
        text += f", {less['mean']:+.2f} {known} beside climatology's{verdict}"
    covered = {kind: row["interval90"][kind]["coverage"]["mean"] for kind in KINDS}
    shares = [f"{share:.0%} ({kind})" for kind, share in covered.items() if share is not None]
    return f"{text}. Its 90% intervals hold {' and '.join(shares)} of the follow-ups." if shares else f"{text}."


def reasons(rows: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Titles and reasons of forecasts, and of intervals, that could not be computed."""
    for name, row in rows.items():
        if "crps" not in row:
            yield title_of(name), row["reason"]
            continue
        told: dict[str, str] = {}
        for key in INTERVALS:
            for kind in KINDS:
                if reason := row[key][kind]["coverage"].get("reason"):
                    told.setdefault(reason, f"{title_of(name)}, {key.removeprefix('interval')}% intervals, {kind}")
        for reason, what in told.items():
            if not reason.startswith("no interval"):
                yield what, reason
