"""The figures of an evaluation, each with its name; those that the results do not suffice for are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scripts.arrays import Array
from scripts.evaluation.judge import Method, one_probability_per_case
from scripts.evaluation.nodules.forecasts import RECALIBRATED, REFERENCES
from scripts.evaluation.nodules.growth import DIAMETER_CHANGE, Growth
from scripts.evaluation.report import figures
from scripts.evaluation.report.columns import ENSEMBLE, title_of
from scripts.evaluation.report.training_log import Stage
from scripts.evaluation.study import Cases


def draw_methods(
    methods: Mapping[str, Method], cases: Cases, maps: Mapping[str, Array], main: str | None
) -> Iterator[tuple[str, Figure]]:
    """Names and figures of curves, calibration, images, variances and latent spaces.

    Args:
        methods: by name, with the rows of real images.
        maps: title of an encoder to latents (N, D).
        main: name of the method whose images are shown; None if no method generates any.
    """
    labels = cases.labels
    if {0.0, 1.0} <= set(labels):
        shown = {name: method for name, method in methods.items() if name != "copy_baseline" and ENSEMBLE not in name}
        yield "curves", figures.curves({title_of(n): method.probabilities for n, method in shown.items()}, labels)
        yield (
            "calibration",
            figures.calibration(
                {title_of(n): values for n, values in one_probability_per_case(methods).items()}, labels
            ),
        )
    baseline, follow_up = methods["real_baseline"].images, methods["real_follow_up"].images
    images = methods[main].images if main is not None else None
    if main is not None and images is not None and baseline is not None and follow_up is not None:
        yield "gallery", figures.gallery(baseline[0], images, follow_up[0], labels, cases.ids)
        probabilities = methods[main].probabilities
        if len(images) > 1 and np.isfinite(labels).any():
            yield "error_variance", figures.error_and_variance(probabilities, labels, images, follow_up[0], cases.ids)
        if len(images) > 2:
            yield "running_variance", figures.running_variance(probabilities)
    if maps and len(cases.ids) >= 5:
        yield "latent_map", figures.latent_map(maps, cases.diameters[:, 0])


def draw_benefit(curves: Mapping[str, Any]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of the decision curves, given the entry of metrics.json, if there are any."""
    if "net_benefit" in curves:
        titles = {title_of(name): values for name, values in curves["net_benefit"].items()}
        yield "benefit", figures.decision_curves(curves["thresholds"], titles)


def draw_training(stages: Sequence[Stage]) -> Iterator[tuple[str, Figure]]:
    """Name and figure of the training curves, if any stage has some."""
    if any(stage.training or stage.validation for stage in stages):
        yield "training", figures.training(stages)


def draw_growth(growth: Growth | None, cases: Cases, main: str | None) -> Iterator[tuple[str, Figure]]:
    """Name and figure of measured growth, if at least three cases can be measured."""
    if growth is not None and main is not None and growth.measurable.sum() >= 3:
        real, generated = growth.changes(main)
        yield "growth", figures.growth(real, generated, cases.labels[growth.measurable], DIAMETER_CHANGE)


def draw_ranks(forecasts: Mapping[str, Any] | None, main: str | None) -> Iterator[tuple[str, Figure]]:
    """Name and figure of the rank histograms of the long diameter, given the entry of metrics.json, if there are any.

    Shown are the method whose images are shown, as it is and corrected, and the forecasts without images.
    """
    rows = (forecasts or {}).get("long", {})
    if main is None:
        return
    names = [main, f"{main}{RECALIBRATED}", *REFERENCES]
    counts = {
        title_of(name): rows[name]["rank_histogram"]["counts"]
        for name in names
        if name in rows and "counts" in rows[name].get("rank_histogram", {})
    }
    if title_of(main) in counts:
        yield "ranks", figures.rank_histograms(counts)
