"""Titles and decimals of the evaluation page's tables, and captions of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.evaluation.nodules.forecasts import RECALIBRATED
from scripts.evaluation.nodules.growth import MEDIAN

ENSEMBLE = "_mean_probability"
"""Suffix of a method's name for its probabilities averaged over runs."""

METRICS = {"auroc": ("AUROC", 3), "auprc": ("AUPRC", 3), "lpips": ("LPIPS", 3), "fid": ("FID", 2), "kid": ("KID", 5)}
"""Title and decimals of each column of the first table."""

CALIBRATION = {
    "brier": ("Brier ↓", 3),
    "ece": ("ECE ↓", 3),
    "slope": ("Slope → 1", 2),
    "intercept": ("Intercept → 0", 2),
}
"""Title and decimals of each column of the table of calibration."""

REGRET = {"regret": ("Regret (nats) ↓", 3), "of_baseline": ("of the baseline's ↓", 2)}
"""Title and decimals of each column of the table of regret."""

RECALIBRATION = {"brier": ("Brier ↓", 3), "ici": ("ICI ↓", 3), "observed_expected": ("O:E → 1", 2)}
"""Title and decimals of each column of the table of recalibration."""

WAYS = {"as_given": "as given", "intercept": "intercept", "intercept_and_slope": "intercept and slope"}
"""Titles of the ways of recalibration."""

POLICIES = {"treat_all": "treating all", "treat_none": "treating none"}
"""Titles of the policies that look at no case."""

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

CRPS = {
    "copy_baseline": "less copy's ↓",
    "climatology": "less climatology's ↓",
    "quantile_regression": "less regression's ↓",
}
"""Titles of the columns of differences in the table of forecasts."""

AXES = {"long": "Long diameter", "perpendicular": "Perpendicular diameter", "mean": "Mean diameter"}
"""Titles of the diameters that are forecast."""

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
    "climatology": "Climatology: training's growth",
    "quantile_regression": "Quantile regression: record and baseline",
}
"""Titles of the rows of real images, of images made from them, and of forecasts without images: reserved names."""

CAPTIONS = {
    "curves": "ROC and precision-recall curves of the classifier's probabilities, averaged over runs; dotted: chance.",
    "calibration": "Calibration of the probabilities, averaged over runs, in ten bins of equal width; a dot's area is "
    "its bin's share of the cases; dotted: right (left). How often which probability is given (right).",
    "benefit": "Net benefit of acting on the probability from a threshold on, averaged over runs; dotted: treating "
    "none. A method helps where its curve is above treating all and none.",
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
    "ranks": "Rank of the real follow-up's long diameter among the runs, or its place in a forecast without images; "
    "ties broken at random. Of a right forecast all bars are level; the band holds 95% of such bars. High at both "
    "ends: the forecast is too narrow; high in the middle: too wide; high on one side: biased.",
}
"""Captions of the figures, by name."""


def simulation_in_words(result: Mapping[str, Any]) -> str:
    """What of the cases is simulated, given the content of metrics.json, as a sentence; empty: nothing.

    >>> simulation_in_words({"simulated": True, "simulation": "all images"})
    'Simulated: all images.'
    >>> simulation_in_words({"simulated": True, "simulation": "Records are simulated."})
    'Records are simulated.'
    """
    if not result["simulated"]:
        return ""
    how = (result["simulation"] or "in part").rstrip(".")
    return f"{how if 'simulated' in how.lower() else f'Simulated: {how}'}."


def halves_in_words(result: Mapping[str, Any]) -> str:
    """What FID and KID are between images that are all real, as a sentence; empty: there are too few patients.

    >>> score = {"mean": 0.5, "std": 0.25}
    >>> halves_in_words({"real_halves": {"fid": score, "kid": score}}).partition(" over")[0]
    'Between two halves of the real follow-ups FID is 0.50 (sd 0.25'
    """
    scores = result["real_halves"]
    if scores["fid"]["mean"] is None:
        return ""
    (fid, fid_sd), (kid, kid_sd) = (
        [f"{scores[key][part]:.{METRICS[key][1]}f}" for part in ("mean", "std")] for key in ("fid", "kid")
    )
    return (
        f"Between two halves of the real follow-ups FID is {fid} (sd {fid_sd} over divisions of the patients) and KID "
        f"{kid} (sd {kid_sd}), as of images that are like the real ones; FID, which grows as cases become fewer, at "
        "half as many."
    )


def title_of(name: str) -> str:
    """The title, in figures and tables, of a method of metrics.json."""
    if name.endswith(MEDIAN):
        return f"{title_of(name.removesuffix(MEDIAN))}, median size over runs"
    if name.endswith(RECALIBRATED):
        return f"{title_of(name.removesuffix(RECALIBRATED))}, mean growth shrunk, with training's spread"
    if name.endswith(ENSEMBLE):
        return f"{title_of(name.removesuffix(ENSEMBLE))}, probability averaged over runs"
    return (TITLES | POLICIES).get(name, name)
