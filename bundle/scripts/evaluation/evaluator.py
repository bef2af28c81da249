"""The evaluation from images to metrics.json, predictions.csv, figures and the evaluation page (section 4).

Its commands and the keys of metrics.json are described in bundle/docs/evaluation.md.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.arrays import Array
from scripts.data.transforms import to_hu
from scripts.errors import UserError
from scripts.evaluation import clinical
from scripts.evaluation.contrasts import CAPTION, contrasts
from scripts.evaluation.judge import REAL, Judge, Method, ensembles, one_probability_per_case, score_methods
from scripts.evaluation.left_out import left_out
from scripts.evaluation.nodules import forecasts, latents
from scripts.evaluation.nodules.forecasts import RECALIBRATED, Forecasts, Section
from scripts.evaluation.nodules.growth import MEDIAN, Growth, measure_all
from scripts.evaluation.nodules.latents import Nodules, averaged, latent_scores
from scripts.evaluation.report.case_view import case_studies, chosen
from scripts.evaluation.report.columns import ENSEMBLE, TITLES
from scripts.evaluation.report.drawing import draw_benefit, draw_growth, draw_methods, draw_ranks, draw_training
from scripts.evaluation.report.output import write
from scripts.evaluation.report.training_log import Stage
from scripts.evaluation.statistics.halves import DIVISIONS, halves
from scripts.evaluation.statistics.regret import regrets
from scripts.evaluation.study import Cases, Study
from scripts.provenance import command_line, versions

DEFINITIONS = {
    "mean": "mean over runs; a method of one run, or whose probability is averaged over runs, has one value",
    "std": "standard deviation over runs: how far seeds differ, not a sampling error; does not shrink with cases",
    "ci95": "95% interval over patients, from the bootstrap: what other patients might give, the runs as they are",
    "kid": "unbiased squared maximum mean discrepancy, cubic kernel, over pairs of different patients, for an image "
    "and the follow-up of its own case are not independent (the usual estimator takes them so); unlike FID it needs "
    "no more cases than features; may be slightly negative",
    "real_halves": "FID and KID between the real follow-ups of one half of the patients and of the other, divided at "
    f"random {DIVISIONS} times (std is over divisions): what images like the real ones have, with half as many "
    "cases, of which FID is larger than of all",
    "auroc_difference": "AUROC less that of the real images, and the first generated method's less that of every other "
    "method, on the same cases, probabilities averaged over runs",
    "p": "two-sided, of the paired bootstrap over patients; no p but p_holm is corrected for the number of comparisons",
    "p_delong_clustered": "DeLong's test with the cases of a patient as a cluster (Obuchowski 1997)",
    "p_delong_independent": "DeLong's test (1988), which assumes independent cases: too sure if patients have several",
    "contrasts": CAPTION,
    "change_pearson": "correlation of the mean diameter's change since the baseline with the true change, over cases",
    "change_spearman": "the same, of ranks",
    "gap": "the real follow-ups' AUROC and AUPRC less those of the real baselines, paired; of a gap whose interval "
    "holds zero no share is given as closed",
    "calibration": "of probabilities averaged over runs; intervals from a bootstrap that is not stratified",
    "brier": "mean squared difference of probability and outcome",
    "ece": "expected calibration error, ten bins of equal width",
    "slope": "of the outcome's logistic regression on the log odds; 1 is right, below 1 too extreme",
    "intercept": "calibration in the large, the slope held at 1; 0 is right, below 0 too high on the whole",
    "regret": "in nats, to the oracle, the true probability by the law that simulated the cases: mean Kullback-Leibler "
    "divergence, the expected logarithmic loss beyond the least possible, of probabilities clipped to [1e-6, 1 - 1e-6] "
    "(lower where these are averaged over runs, for it is convex). The oracle knows rating and record and, held "
    "against real follow-ups, growth. of_baseline: the regret over that of the real baselines",
    **forecasts.DEFINITIONS,
    **latents.DEFINITIONS,
    **clinical.DEFINITIONS,
}
"""What the keys of metrics.json mean; written into metrics.json and onto the evaluation page."""


@torch.no_grad()
def evaluate(
    study: Study,
    methods: Mapping[str, Array | Method],
    judge: Judge,
    output_dir: str | Path,
    reconstruction: Array | None = None,
    encoders: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    stages: Sequence[Stage] = (),
    case_pages: Sequence[str] | str = (),
    record: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, Mapping[str, float] | str] | None = None,
    sections: Mapping[str, Section | str] | None = None,
) -> dict[str, Any]:
    """Evaluates generated follow-ups and writes the results into `output_dir`.

    Args:
        study: the cases and their real crops.
        methods: by name, the generated images (R, N, 1, H, W) in [-1, 1] of R runs or, of a method that generates
            none, probabilities of malignancy (R, N), or results. The figures show the first method with images.
        judge: computes the scores.
        reconstruction: (N, 1, H, W), the follow-ups encoded and decoded, which show the autoencoder's own error.
        encoders: by title, functions from images (n, 1, H, W) to latents (n, C, h, w), to compare latent spaces.
        stages: of `read_stages`, for the evaluation page.
        case_pages: ids of the cases that get a PDF page each, or "all".
        record: of `evaluation_record`, how all that is judged was made.
        thresholds: of :func:`scripts.evaluation.validation.validation_thresholds`, by method.
        sections: ``training`` and ``validation``, what forecasts are held against and calibrated on, or why they lack.

    Returns:
        The content of metrics.json.

    Raises:
        UserError, ValueError: a name, case, shape or value that does not fit; the message names it.
    """
    cases, pages = study.cases, chosen(study.cases.ids, case_pages)
    images, predicted, generated = _checked(methods, study, reconstruction)
    main = next(iter(generated), None)
    rows = _judged(judge, images, predicted, generated)
    growth = None if study.spacing is None else Growth(measure_all(images, study.spacing), study, judge.weights)
    foreseen = None if growth is None else Forecasts.of(growth, generated, sections or {})
    spaces = {title: _nodules(judge, encoder) for title, encoder in (encoders or {}).items()}
    result = {
        **_studied(study, judge, stages, max((len(images[name]) for name in generated), default=0)),
        **score_methods(rows, judge, main),
        "contrasts": contrasts(Path(output_dir), rows, judge),
        "growth": None if growth is None else growth.score(),
        "forecasts": None if foreseen is None else foreseen.score(),
        "latents": {title: latent_scores(*pair, judge.weights) for title, pair in spaces.items()},
        "reconstruction_mae_hu": _error_hu(reconstruction, study),
        "regret": _regrets(judge, {name: row.probabilities for name, row in rows.items()}),
        **clinical.clinical_scores(judge, one_probability_per_case(rows), main, thresholds or {}, record),
        **_origin(record),
    }
    result |= {"left_out": left_out(result)}
    maps = {title: averaged(unseen.latents) for title, (unseen, _) in spaces.items()}
    figures = [*draw_methods(rows, cases, maps, main), *draw_benefit(result["decision_curves"])]
    figures += [*draw_growth(growth, cases, main), *draw_ranks(result["forecasts"], main), *draw_training(stages)]
    views = [] if main is None else case_studies(study, rows, growth, main)
    write(Path(output_dir), result, _table(rows, cases, growth), figures, views, pages)
    return result


def _judged(
    judge: Judge, images: Mapping[str, Array], predicted: Mapping[str, Method], generated: Sequence[str]
) -> dict[str, Method]:
    """Every method with its probabilities, and averages over the runs of those that are no real images."""
    rows = {name: judge.method(values, name) for name, values in images.items()}
    rows |= predicted
    return rows | ensembles({name: rows[name] for name in (*generated, *predicted)})


def _regrets(judge: Judge, probabilities: Mapping[str, Array]) -> dict[str, dict[str, Any]] | None:
    """The entry `regret` of metrics.json: real follow-ups, seen or reconstructed, show growth."""
    cases, seen = judge.study.cases, (REAL[1], "reconstructed_follow_up")
    return regrets(probabilities, cases.oracle, cases.informed, seen, REAL[0], judge.plain_weights)


def _studied(study: Study, judge: Judge, stages: Sequence[Stage], n_runs: int) -> dict[str, Any]:
    """The entries of metrics.json that say who was studied, how often, and by what."""
    return {
        "dataset": study.dataset,
        "simulated": bool(study.simulated),
        "simulation": study.simulated if isinstance(study.simulated, str) else None,
        **study.cases.counts(),
        "cohort": study.cohort,
        "stages": {stage.name: stage.facts for stage in stages},
        "feature_extractors": judge.extractors,
        "real_halves": halves(judge.real_features, study.cases.patients),
        "bootstrap": {"unit": "patient", **asdict(judge.bootstrap)},
        "definitions": DEFINITIONS,
        "n_runs": n_runs,
    }


def _origin(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The entries of metrics.json that say how to make it again."""
    created = datetime.now(UTC).isoformat(timespec="minutes")
    made = {"command": command_line(), "created": created, "versions": versions(), "record": record}
    return {"training_cases": (record or {}).get("training_cases"), **made}


def _checked(
    methods: Mapping[str, Array | Method], study: Study, reconstruction: Array | None
) -> tuple[dict[str, Array], dict[str, Method], list[str]]:
    """Images by name, those of the real crops included; results without images; names of methods with images.

    Raises:
        UserError: a method's name is reserved.
        ValueError: shapes or values that do not fit; the message names the method.
    """
    if reserved := sorted(
        {name for name in methods if name in TITLES or name.endswith((ENSEMBLE, MEDIAN, RECALIBRATED))}
    ):
        raise UserError(f"{', '.join(reserved)} cannot name a method: the name is reserved")
    given = {name: each if isinstance(each, Method) else np.asarray(each) for name, each in methods.items()}
    arrays = {name: each for name, each in given.items() if not isinstance(each, Method)}
    generated = {name: each for name, each in arrays.items() if each.ndim != 2}
    predicted = {
        name: each if isinstance(each, Method) else Method(each.astype(np.float64))
        for name, each in given.items()
        if name not in generated
    }
    images, shape = _real_images(study, reconstruction) | generated, study.follow_up.shape
    for name, array in images.items():
        if array.ndim != 5 or array.shape[1:] != shape or len(array) == 0:
            raise ValueError(f"{name} must be (runs, {', '.join(map(str, shape))}); it is {array.shape}")
        if not (np.abs(array).max() <= 1 + 1e-5):  # also false for NaN
            raise ValueError(f"{name} must be scaled to [-1, 1] and finite")
    for name, method in predicted.items():
        array = method.probabilities
        if array.shape[1] != shape[0] or not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{name} must hold probabilities (runs, {shape[0]}); it has shape {array.shape}")
    return images, predicted, list(generated)


def _real_images(study: Study, reconstruction: Array | None) -> dict[str, Array]:
    """Images (1, N, 1, H, W) that every evaluation has: real ones, a copy of the baseline, reconstructions."""
    images = {
        "real_baseline": study.baseline[None],
        "real_follow_up": study.follow_up[None],
        "copy_baseline": study.baseline[None],
    }
    return images if reconstruction is None else images | {"reconstructed_follow_up": reconstruction[None]}


def _nodules(judge: Judge, encoder: Callable[[Tensor], Tensor]) -> tuple[Nodules, Nodules | None]:
    """The evaluated nodules in the latent space of one encoder and, if they are known, those of training."""
    study, training = judge.study, judge.study.training
    return (
        Nodules(judge.encode(encoder, study.baseline), study.cases),
        None if training is None else Nodules(judge.encode(encoder, training[1]), training[0]),
    )


def _error_hu(images: Array | None, study: Study) -> float | None:
    """Mean absolute error in HU, inside the HU window and without padding."""
    if images is None:
        return None
    error = np.abs(to_hu(study.compared(images)) - to_hu(study.follow_up)).mean()
    return float(error / study.compared_share.mean())


def _table(methods: Mapping[str, Method], cases: Cases, growth: Growth | None) -> str:
    """The text of predictions.csv: one row per method, case and run, without averages over runs.

    Sizes are empty where nothing was measured, the nodule was not found or is larger than its crop.
    """
    sizes = {} if growth is None else growth.measured
    measures = {"long_mm": "long", "perpendicular_mm": "perpendicular", "area_mm2": "area"} if sizes else {}
    outcomes = ["" if np.isnan(label) else int(label) for label in cases.labels]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["method", "case_id", "run", "probability", "malignant", *measures])
    for name, method in methods.items():
        if name.endswith(ENSEMBLE):
            continue
        for run, values in enumerate(method.probabilities.tolist()):
            measured = [
                ["" if np.isnan(size) else size for size in sizes[name].measurable(key)[run].round(2)]
                if name in sizes
                else repeat("")
                for key in measures.values()
            ]
            writer.writerows(zip(repeat(name), cases.ids, repeat(run), values, outcomes, *measured, strict=False))
    return buffer.getvalue()
