"""The figures of an evaluation: the paper's figures 2, 3 and 5, curves, calibration, growth and a gallery.

Each function returns a figure and does not show or save it. Images are in [-1, 1] and indexed as in NIfTI, x first.
Throughout, R is the number of runs and N of cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import binom
from sklearn.manifold import TSNE
from sklearn.metrics import precision_recall_curve, roc_curve

from scripts.arrays import Array
from scripts.evaluation.report.training_log import Stage
from scripts.evaluation.statistics.calibration import reliability
from scripts.pictures import show

BENIGN, MALIGNANT, NEUTRAL = "#0072b2", "#d55e00", "#666666"  # of Okabe and Ito's palette for colour-blind readers

LINES = ("#666666", "#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of the methods' curves, in turn."""


def marked(figure: Figure, simulated: bool) -> Figure:
    """The figure, which says above that its data are in part simulated, if they are: its file may stand alone."""
    if simulated:
        figure.suptitle("Data in part simulated", fontsize=8, color=NEUTRAL)
    return figure


def training(stages: Sequence[Stage]) -> Figure:
    """Training and validation loss of each stage that has curves, with the epoch whose weights were kept."""
    shown = [stage for stage in stages if stage.training or stage.validation]
    columns = min(2, len(shown))
    figure = Figure(figsize=(4.5 * columns, 2.9 * -(-len(shown) // columns)), layout="constrained")
    axes = figure.subplots(-(-len(shown) // columns), columns, squeeze=False).ravel()
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis, stage in zip(axes, shown, strict=False):
        for title, curve, colour, mark in (
            ("training, mean of an epoch", stage.training, NEUTRAL, ""),
            ("validation", stage.validation, BENIGN, "."),
        ):
            if curve:
                axis.plot(*zip(*curve, strict=True), color=colour, marker=mark, linewidth=1.2, label=title)
        best = stage.facts.get("best", {})
        same = stage.facts.get("same_weights")
        if same and "epoch" in best:
            axis.axvline(best["epoch"], color=MALIGNANT, linestyle=":", label=f"kept: epoch {best['epoch']}")
        axis.set(xlabel="epoch", ylabel="loss", title=stage.name + (" (of other weights)" if same is False else ""))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(frameon=False, fontsize=8)
    return figure


def latent_map(latents: Mapping[str, Array], diameters: Array, seed: int = 0) -> Figure:
    """Fig. 2: t-SNE of latents, coloured by diameter; one panel per encoder.

    Args:
        latents: title of the panel to (N, D), N at least 5 and D at least 2.
        diameters: (N,) in mm, NaN where unknown.
    """
    figure = Figure(figsize=(4.4 * len(latents) + 0.8, 4.0), layout="constrained")
    axes = figure.subplots(1, len(latents), squeeze=False)[0]
    known = np.isfinite(diameters)
    points = None
    for axis, (title, values) in zip(axes, latents.items(), strict=True):
        perplexity = min(30.0, (len(values) - 1) / 3)
        place = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
        axis.scatter(*place[~known].T, s=14, color="none", edgecolor=NEUTRAL, linewidth=0.7)
        points = axis.scatter(*place[known].T, s=18, c=diameters[known], cmap="viridis", linewidth=0)
        axis.set(title=title, xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    if points is not None and known.any():
        figure.colorbar(points, ax=list(axes), label="long diameter (mm)", shrink=0.9)
    return figure


def curves(probabilities: Mapping[str, Array], labels: Array) -> Figure:
    """ROC and precision-recall curves of each method's probability, averaged over runs.

    Args:
        probabilities: title to (R, N).
        labels: (N,) with both outcomes; NaN where unknown, which leaves the case out.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    roc, recall_axis = figure.subplots(1, 2)
    known = np.isfinite(labels)
    truth = labels[known].astype(int)
    for index, (title, runs) in enumerate(probabilities.items()):
        colour = LINES[index % len(LINES)]
        mean = runs[:, known].mean(axis=0)
        false_positives, true_positives, _ = roc_curve(truth, mean)
        precision, recall, _ = precision_recall_curve(truth, mean)
        roc.plot(false_positives, true_positives, color=colour, label=title, linewidth=1.6)
        recall_axis.step(recall, precision, color=colour, where="post", linewidth=1.6)
    roc.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", linewidth=1)
    recall_axis.axhline(truth.mean(), color=NEUTRAL, linestyle=":", linewidth=1)
    roc.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC", aspect="equal")
    recall_axis.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.05))
    roc.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def calibration(probabilities: Mapping[str, Array], labels: Array) -> Figure:
    """Calibration curves in ten bins of equal width; a marker's area grows with the bin's share of the cases.

    Args:
        probabilities: title to (N,).
        labels: (N,) with both outcomes; NaN where unknown, which leaves the case out.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axis, histogram = figure.subplots(1, 2)
    known = np.isfinite(labels)
    for index, (title, values) in enumerate(probabilities.items()):
        colour = LINES[index % len(LINES)]
        predicted, observed, share = reliability(values[known], labels[known])
        axis.plot(predicted, observed, color=colour, label=title, linewidth=1.2)
        axis.scatter(predicted, observed, s=6 + 300 * share, color=colour, alpha=0.6, linewidth=0)
        histogram.hist(values[known], bins=20, range=(0, 1), histtype="step", color=colour, linewidth=1.4)
    axis.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", linewidth=1)
    axis.set(xlabel="mean probability", ylabel="share of malignant cases", title="Calibration", aspect="equal")
    axis.set(xlim=(0, 1), ylim=(-0.03, 1.03))
    histogram.set(xlabel="probability", ylabel="cases", title="Probabilities given", xlim=(0, 1))
    figure.legend(fontsize=8, frameon=False, loc="outside lower center", ncols=2)
    return figure


def decision_curves(thresholds: Sequence[float], benefit: Mapping[str, Sequence[float]]) -> Figure:
    """Net benefit over thresholds, a curve a method; below zero the axis is cut off.

    Args:
        thresholds: T, between 0 and 1.
        benefit: title to T numbers.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axis = figure.subplots()
    highest = max(max(values) for values in benefit.values())
    for index, (title, values) in enumerate(benefit.items()):
        axis.plot(thresholds, values, color=LINES[index % len(LINES)], label=title, linewidth=1.6)
    axis.axhline(0, color=NEUTRAL, linestyle=":", linewidth=1)
    axis.set(xlabel="threshold", ylabel="net benefit", xlim=(0, max(thresholds)))
    axis.set_ylim(-0.25 * highest - 0.005, 1.1 * highest + 0.005)
    figure.legend(fontsize=8, frameon=False, loc="outside right center")
    return figure


def running_variance(probabilities: Array) -> Figure:
    """Fig. 5: variance of a case's probability over its first k runs, against k, for (R, N) with R at least 3."""
    runs = np.arange(2, len(probabilities) + 1)
    variance = np.stack([probabilities[:count].var(axis=0, ddof=1) for count in runs])
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.plot(runs, variance[:, :50], color=BENIGN, alpha=0.25, linewidth=0.8)  # as many cases as in the paper
    axis.plot(runs, variance.mean(axis=1), color="black", linewidth=2, label="mean over all cases")
    axis.set(xlabel="runs", ylabel="variance of predicted probability", ylim=(0, None))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    return figure


def exemplary_cases(error: Array, variance: Array) -> dict[str, int]:
    """Indices, by title, of three cases: the most confidently right, the most confidently wrong, the least sure.

    Args:
        error, variance: (N,), NaN where the outcome is unknown.
    """
    known = np.isfinite(error)
    # ranks, since error and variance have different scales; a confident case has a low variance
    rank = np.where(known, np.argsort(np.argsort(variance)), 0) / max(1, len(variance) - 1)
    scores = {
        "confident, right": -error - 0.5 * rank,
        "unsure": variance,
        "confident, wrong": error - 0.5 * rank,
    }
    chosen: dict[str, int] = {}
    for title, score in scores.items():
        free = [index for index in np.flatnonzero(known) if index not in chosen.values()]
        if free:
            chosen[title] = int(max(free, key=lambda index: score[index]))
    return chosen


def error_and_variance(
    probabilities: Array, labels: Array, generated: Array, follow_up: Array, case_ids: Sequence[str]
) -> Figure:
    """Fig. 3: error against variance of the probability, and for three cases the error and variance of the images.

    Args:
        probabilities: (R, N), R at least 2.
        labels: (N,), NaN where unknown.
        generated, follow_up: (R, N, 1, H, W) and (N, 1, H, W).
    """
    error = np.abs(probabilities.mean(axis=0) - labels)
    variance = probabilities.var(axis=0, ddof=1)
    chosen = exemplary_cases(error, variance)
    figure = Figure(figsize=(11.0, 0.4 + 1.65 * len(chosen)), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.0, 1.35])[0]
    axis = left.subplots()
    for value, colour, name in ((0, BENIGN, "benign"), (1, MALIGNANT, "malignant")):
        axis.scatter(error[labels == value], variance[labels == value], s=16, color=colour, alpha=0.7, label=name)
    for number, index in enumerate(chosen.values(), start=1):
        axis.text(error[index], variance[index], f" {number}", weight="bold", va="bottom")
    axis.set(xlabel="error of the mean probability", ylabel="variance over runs", xlim=(-0.02, 1.02))
    axis.legend(frameon=False)

    columns = ("follow-up (data set)", "mean generated", "mean error", "variance")
    grid = right.subplots(len(chosen), len(columns), squeeze=False)
    indices = list(chosen.values())
    difference = np.abs(generated[:, indices] - follow_up[indices]).mean(axis=0)[:, 0]
    spread = generated[:, indices].var(axis=0, ddof=1)[:, 0]
    for row, (title, index) in enumerate(chosen.items()):
        show(grid[row, 0], follow_up[index, 0])
        show(grid[row, 1], generated[:, index, 0].mean(axis=0), synthetic=True)
        show(grid[row, 2], difference[row], synthetic=True, cmap="magma", limits=(0.0, float(difference.max())))
        show(grid[row, 3], spread[row], synthetic=True, cmap="magma", limits=(0.0, float(spread.max())))
        outcome = "malignant" if labels[index] == 1 else "benign"
        grid[row, 0].set_ylabel(f"{row + 1}: {title}\n{case_ids[index]}\n{outcome}", fontsize=7)
    for axis, name in zip(grid[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    return figure


def gallery(
    baseline: Array, generated: Array, follow_up: Array, labels: Array, case_ids: Sequence[str], rows: int = 6
) -> Figure:
    """Images of the first malignant and the first benign cases of the list, half of each if there are enough.

    Args:
        baseline, follow_up: (N, 1, H, W).
        generated: (R, N, 1, H, W).
    """
    malignant, others = np.flatnonzero(labels == 1), np.flatnonzero(labels != 1)
    count = min(len(malignant), max(rows // 2, rows - len(others)))
    indices = [*malignant[:count], *others[: rows - count]]
    samples = min(3, len(generated))
    columns = ["baseline", *(f"sample {run + 1}" for run in range(samples)), "follow-up (data set)"]
    if len(generated) > 1:
        columns[-1:-1] = ["mean", "std"]
    figure = Figure(figsize=(1.45 * len(columns) + 0.4, 1.5 * len(indices) + 0.3), layout="constrained")
    grid = figure.subplots(len(indices), len(columns), squeeze=False)
    std = generated[:, indices, 0].std(axis=0)
    for row, index in enumerate(indices):
        runs = generated[:, index, 0]
        show(grid[row, 0], baseline[index, 0])
        for column in range(samples):
            show(grid[row, 1 + column], runs[column], synthetic=True)
        if len(generated) > 1:
            show(grid[row, -3], runs.mean(axis=0), synthetic=True)
            show(grid[row, -2], std[row], synthetic=True, cmap="magma", limits=(0.0, float(std.max())))
        show(grid[row, -1], follow_up[index, 0])
        outcome = {0.0: "benign", 1.0: "malignant"}.get(float(labels[index]), "outcome unknown")
        grid[row, 0].set_ylabel(f"{case_ids[index]}\n{outcome}", fontsize=7)
    for axis, name in zip(grid[0], columns, strict=True):
        axis.set_title(name, fontsize=9)
    return figure


def growth(real: Array, generated: Array, labels: Array, limit: float) -> Figure:
    """Measured change of the mean diameter, generated against real: the median over runs, and their middle 80 %.

    Args:
        real, generated: (N,) and (R, N) in mm.
        labels: (N,), NaN where unknown.
        limit: change in mm above which a nodule has grown or shrunk.
    """
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axis = figure.subplots()
    low, middle, high = np.quantile(generated, [0.1, 0.5, 0.9], axis=0, method="weibull")
    outcomes = ((labels == 0, BENIGN, "benign"), (labels == 1, MALIGNANT, "malignant"))
    for chosen, colour, name in (*outcomes, (np.isnan(labels), NEUTRAL, "outcome unknown")):
        if chosen.any():
            axis.vlines(real[chosen], low[chosen], high[chosen], color=colour, alpha=0.25, linewidth=0.8)
            axis.scatter(real[chosen], middle[chosen], s=14, color=colour, alpha=0.8, linewidth=0, label=name)
    ends = np.array([min(real.min(), low.min()), max(real.max(), high.max())]) + [-1, 1]
    axis.plot(ends, ends, color=NEUTRAL, linewidth=1)
    for draw in (axis.axvspan, axis.axhspan):
        draw(-limit, limit, color=NEUTRAL, alpha=0.1, linewidth=0)
    axis.set(xlabel="change in the data set (mm)", ylabel="change in the generated images (mm)", xlim=ends, ylim=ends)
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def rank_histograms(counts: Mapping[str, Sequence[int]]) -> Figure:
    """Histograms of ranks, a panel each, with the level of even ranks and the band that holds 95 % of such bars.

    Args:
        counts: title to the cases in each bin.
    """
    columns = min(3, len(counts))
    rows = -(-len(counts) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(counts) :]:
        axis.set_axis_off()
    for axis, (title, heights) in zip(axes, counts.items(), strict=False):
        total, bins = sum(heights), len(heights)
        places = (np.arange(bins) + 0.5) / bins
        axis.bar(places, heights, width=0.92 / bins, color=BENIGN, alpha=0.8)
        axis.axhspan(*binom.ppf([0.025, 0.975], total, 1 / bins), color=NEUTRAL, alpha=0.2, linewidth=0, zorder=0)
        axis.axhline(total / bins, color=NEUTRAL, linestyle=":", linewidth=1)
        axis.set(title=title, xlabel="rank of the truth, as a share", ylabel="cases", xlim=(0, 1))
        axis.title.set_fontsize(9)
    return figure
