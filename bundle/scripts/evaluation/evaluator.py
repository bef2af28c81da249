"""Judges generated follow-ups as the paper does, and writes metrics.json, predictions.csv, figures and report.html."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from scripts.data import to_hu
from scripts.errors import UserError
from scripts.evaluation import figures, latents, metrics
from scripts.evaluation.calibration import calibration
from scripts.evaluation.cases import CaseStudy, case_studies, chosen
from scripts.evaluation.comparison import auroc_difference
from scripts.evaluation.features import FeatureExtractor
from scripts.evaluation.growth import DIAMETER_CHANGE, MEDIAN, Growth, Sizes, measure
from scripts.evaluation.history import Stage
from scripts.evaluation.latents import Nodules, latent_scores
from scripts.evaluation.metrics import Array
from scripts.evaluation.output import write
from scripts.evaluation.report import ENSEMBLE, TITLES, title_of
from scripts.perceptual import PerceptualDistance
from scripts.provenance import command_line, versions

GAPS = ("auroc", "auprc")
REAL = ("real_baseline", "real_follow_up")
DEFINITIONS = {
    "mean": "mean over runs; a method of one run, or whose probability is averaged over runs, has one value",
    "std": "standard deviation over runs: how far seeds differ, not a sampling error; does not shrink with cases",
    "ci95": "95% interval over patients, from the bootstrap: what other patients might give, the runs as they are",
    "kid": "unbiased squared maximum mean discrepancy, cubic kernel, over pairs of different patients, for an image "
    "and the follow-up of its own case are not independent (the usual estimator takes them so); unlike FID it needs "
    "no more cases than features; may be slightly negative",
    "auroc_difference": "AUROC less that of the real images, and the first generated method's less that of every other "
    "method, on the same cases, probabilities averaged over runs",
    "p": "two-sided, of the paired bootstrap over patients; no p is corrected for the number of comparisons",
    "p_delong_clustered": "DeLong's test with the cases of a patient as a cluster (Obuchowski 1997)",
    "p_delong_independent": "DeLong's test (1988), which assumes independent cases: too sure if patients have several",
    "change_pearson": "correlation of the mean diameter's change since the baseline with the true change, over cases",
    "change_spearman": "the same, of ranks",
    "calibration": "of probabilities averaged over runs; intervals from a bootstrap that is not stratified",
    "brier": "mean squared difference of probability and outcome",
    "ece": "expected calibration error, ten bins of equal width",
    "slope": "of the outcome's logistic regression on the log odds; 1 is right, below 1 too extreme",
    "intercept": "calibration in the large, the slope held at 1; 0 is right, below 0 too high on the whole",
    **latents.DEFINITIONS,
}
"""What the keys of metrics.json mean; metrics.json and the report carry it along."""


@dataclass(frozen=True)
class Cases:
    """What is known of N cases: `labels` (N,) 0, 1 or NaN (unknown); `diameters` (N,) in mm, NaN where unknown."""

    ids: list[str]
    patients: list[str]
    labels: Array
    diameters: Array

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]]) -> Cases:
        """From the entries of a datalist."""
        ids = [str(entry["case_id"]) for entry in entries]
        if twice := sorted({case_id for case_id in ids if ids.count(case_id) > 1}):
            raise ValueError(f"case ids must be unique, but {', '.join(twice)} occur more than once")

        def numbers(values: Sequence[Any]) -> Array:
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

        labels = numbers([entry.get("malignant") for entry in entries])
        if odd := [i for i, value in zip(ids, labels, strict=True) if value not in (0, 1) and not np.isnan(value)]:
            raise ValueError(f"malignant must be 0, 1 or null (unknown); it is neither in {', '.join(odd)}")
        diameters = numbers([entry.get("ehr", {}).get("sct_long_dia") for entry in entries])
        return cls(ids, [str(entry["patient_id"]) for entry in entries], labels, diameters)

    def counts(self) -> dict[str, int]:
        """Cases, patients and outcomes, as metrics.json names them."""
        outcomes = {"n_malignant": int((self.labels == 1).sum()), "n_benign": int((self.labels == 0).sum())}
        return {"n_cases": len(self.ids), "n_patients": len(set(self.patients)), **outcomes}


@dataclass(frozen=True)
class Method:
    """A row of the table: images (R, N, 1, H, W) to be held against the follow-ups, probabilities (R, N), or both."""

    probabilities: Array
    images: Array | None = None


@torch.no_grad()
def evaluate(
    *,
    baseline: Array,
    follow_up: Array,
    cases: Sequence[Mapping[str, Any]],
    generated: Mapping[str, Array],
    classifier: Callable[[Tensor], Tensor],
    output_dir: str | Path,
    dataset: str,
    simulated: bool | str,
    predicted: Mapping[str, Array] | None = None,
    reconstructed_follow_up: Array | None = None,
    encoders: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    training: tuple[Array, Sequence[Mapping[str, Any]]] | None = None,
    cohort: Mapping[str, Any] | None = None,
    stages: Sequence[Stage] = (),
    case_pages: Sequence[str] | str = (),
    perceptual: PerceptualDistance | None = None,
    features: FeatureExtractor | None = None,
    spacing: Mapping[str, Array] | None = None,
    command: str | None = None,
    resamples: int = 2000,
    stratified: bool = True,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluates generated follow-ups and writes the results into `output_dir`.

    Args:
        baseline, follow_up: real crops (N, 1, H, W) in [-1, 1].
        cases: their N entries in the datalist (`case_id`, `patient_id`, `malignant`, `ehr`).
        generated: name of a method to its images (R, N, 1, H, W) in [-1, 1]; the first is the one the figures show.
        classifier: (n, 1, H, W) on `device` to probabilities of malignancy (n,), in evaluation mode.
        dataset, simulated: what the report opens with; a text says what is simulated in the data set.
        predicted: name of a method that makes no image to its probabilities (R, N).
        reconstructed_follow_up: (N, 1, H, W), what the autoencoder alone loses.
        encoders: title to encoder, (n, 1, H, W) to latents (n, C, h, w), whose maps of the baselines are compared.
        training: baselines (M, 1, H, W) of the training cases and their entries, for the read-out of the diameter.
        cohort, stages: for the report, of `cohort.describe` and `history.read_stages`.
        case_pages: ids of the cases that get a page to print, or "all".
        perceptual, features: the distance, and the features of FID and KID; AlexNet's, and what is on disk, by default.
        spacing: of `baseline` (and of what is generated from it) and `follow_up`, mm between pixels (N, 2); without it
            growth is not measured.
        command: how to make this again; this process's command line by default.
        resamples, stratified, seed: of the bootstrap over patients; stratified by whether one has a malignant case.

    Returns:
        What metrics.json holds.

    Raises:
        ValueError: inputs whose shapes, values or cases do not agree; the message names them.
    """
    predicted, main = predicted or {}, next(iter(generated), None)
    _check_names([*generated, *predicted])
    known = Cases.of(cases)
    images = {"real_baseline": baseline[None], "real_follow_up": follow_up[None], "copy_baseline": baseline[None]}
    if reconstructed_follow_up is not None:
        images["reconstructed_follow_up"] = reconstructed_follow_up[None]
    images |= {name: np.asarray(samples) for name, samples in generated.items()}
    _check(images, predicted, follow_up.shape, len(known.ids))

    pages = chosen(known.ids, case_pages)

    bootstrap = {"resamples": resamples, "stratified": stratified, "seed": seed}
    judge = Judge(follow_up, known, perceptual, features, bootstrap, batch_size, device)
    methods = {name: Method(judge.classify(classifier, samples, name), samples) for name, samples in images.items()}
    methods |= {name: Method(np.asarray(values, dtype=np.float64)) for name, values in predicted.items()}
    methods |= ensembles({name: methods[name] for name in (*generated, *predicted)})
    sizes = _measure(images, spacing) if spacing is not None else {}
    growth = Growth(sizes, cases, _field(follow_up, spacing), judge.weights) if spacing is not None else None
    studies = [] if main is None else _studies(cases, methods, sizes, spacing, main)
    encoded = {title: _encode(judge, each, baseline, cases, training) for title, each in (encoders or {}).items()}
    result = {
        "dataset": dataset,
        "simulated": bool(simulated),
        "simulation": simulated if isinstance(simulated, str) else None,
        **known.counts(),
        "cohort": cohort,
        "stages": {stage.name: stage.facts for stage in stages},
        "n_runs": max((len(samples) for samples in generated.values()), default=0),
        "feature_extractors": {"lpips": judge.perceptual.name, "fid": judge.features.name, "kid": judge.features.name},
        "bootstrap": {"unit": "patient", **bootstrap},
        "definitions": DEFINITIONS,
        **score_methods(methods, judge, main),
        "growth": None if growth is None else growth.score(),
        "latents": {title: latent_scores(*pair, judge.weights) for title, pair in encoded.items()},
        "reconstruction_mae_hu": _error_hu(reconstructed_follow_up, follow_up),
        "command": command or command_line(),
        "created": datetime.now(UTC).isoformat(timespec="minutes"),
        "versions": versions(),
    }
    maps = {title: latents.averaged(unseen.latents) for title, (unseen, _) in encoded.items()}
    drawn = [*_draw(methods, known, maps, main), *_draw_growth(growth, known, main), *_draw_training(stages)]
    write(Path(output_dir), result, _table(methods, known, sizes), drawn, studies, pages)
    return result


def _measure(images: Mapping[str, Array], spacing: Mapping[str, Array]) -> dict[str, Sizes]:
    """Sizes of the nodules in all images; what is generated lies on the baseline's pixels."""
    on_follow_up = ("real_follow_up", "reconstructed_follow_up")
    return {
        name: measure(samples, spacing["follow_up" if name in on_follow_up else "baseline"])
        for name, samples in images.items()
    }


def _studies(
    cases: Sequence[Mapping[str, Any]],
    methods: Mapping[str, Method],
    sizes: Mapping[str, Sizes],
    spacing: Mapping[str, Array] | None,
    main: str,
) -> list[CaseStudy]:
    """Each case with what the first method made of it."""
    first, last = (methods[name] for name in REAL)
    generated = methods[main]
    assert first.images is not None and last.images is not None and generated.images is not None
    images = (first.images[0], generated.images, last.images[0])
    scores = (first.probabilities[0], generated.probabilities, last.probabilities[0])
    long_mm = (sizes[REAL[0]].long[0], sizes[main].long, sizes[REAL[1]].long[0]) if sizes else None
    pixels = None if spacing is None else (spacing["baseline"], spacing["follow_up"])
    return case_studies(cases, images, scores, long_mm, pixels)


def _encode(
    judge: Judge,
    encoder: Callable[[Tensor], Tensor],
    baseline: Array,
    cases: Sequence[Mapping[str, Any]],
    training: tuple[Array, Sequence[Mapping[str, Any]]] | None,
) -> tuple[Nodules, Nodules | None]:
    """The evaluated and the training nodules in one latent space."""

    def nodules(crops: Array, entries: Sequence[Mapping[str, Any]]) -> Nodules:
        return Nodules.of(
            np.concatenate([encoder(batch).double().cpu().numpy() for batch in judge.batches(crops)]), entries
        )

    return nodules(baseline, cases), None if training is None else nodules(*training)


def _field(follow_up: Array, spacing: Mapping[str, Array]) -> Array:
    """The shorter side of what is seen of each case (N,), in mm."""
    return np.min([each * follow_up.shape[2:] for each in spacing.values()], axis=(0, 2))


def _error_hu(images: Array | None, real: Array) -> float | None:
    """Mean absolute error in HU, inside the window."""
    return None if images is None else float(np.abs(to_hu(images) - to_hu(real)).mean())


class Judge:
    """Everything that images are held against, with the features of the real follow-ups computed once."""

    def __init__(
        self,
        follow_up: Array,
        cases: Cases,
        perceptual: PerceptualDistance | None,
        features: FeatureExtractor | None,
        bootstrap: Mapping[str, Any],
        batch_size: int,
        device: str | torch.device,
    ) -> None:
        self.follow_up, self.cases, self.batch_size, self.device = follow_up, cases, batch_size, device
        self.weights = metrics.patient_resamples(cases.patients, cases.labels, **bootstrap)
        # for calibration, where the share of malignant patients must vary too
        self.plain_weights = metrics.patient_resamples(
            cases.patients, cases.labels, **{**bootstrap, "stratified": False}
        )
        self.perceptual = (perceptual or PerceptualDistance("alex")).to(device)
        # FID's features do not depend on which distance was asked for; AlexNet is only not loaded twice
        shared = self.perceptual if self.perceptual.network == "alex" else None
        self.features = (features or FeatureExtractor(fallback=shared)).to(device)
        self.real_features = self.apply(self.features, follow_up)

    def batches(self, images: Array) -> Iterator[Tensor]:
        """Images (n, 1, H, W) in batches on the device."""
        for start in range(0, len(images), self.batch_size):
            yield torch.as_tensor(images[start : start + self.batch_size], dtype=torch.float32, device=self.device)

    def apply(self, function: Callable[[Tensor], Tensor], images: Array) -> Array:
        """`function` in batches over images (n, 1, H, W), as (n, D)."""
        return np.concatenate([function(batch).flatten(1).double().cpu().numpy() for batch in self.batches(images)])

    def distances(self, images: Array) -> Array:
        """Perceptual distances (R, N) of images (R, N, 1, H, W) to the follow-ups, whose features serve all runs."""
        parts = []
        for real, *runs in zip(self.batches(self.follow_up), *(self.batches(run) for run in images), strict=True):
            features = self.perceptual.features(real)
            parts.append(
                torch.stack([self.perceptual.compare(self.perceptual.features(run), features) for run in runs])
            )
        return torch.cat(parts, dim=1).double().cpu().numpy()

    def classify(self, classifier: Callable[[Tensor], Tensor], images: Array, name: str) -> Array:
        """Probabilities (R, N) of images (R, N, 1, H, W)."""
        outputs = np.stack([self.apply(lambda batch: classifier(batch).reshape(len(batch), -1), run) for run in images])
        if outputs.shape[2] != 1:
            raise ValueError(f"the classifier must give one probability an image, not {outputs.shape[2]}")
        if not ((outputs >= 0) & (outputs <= 1)).all():
            raise ValueError(f"the classifier must give probabilities in [0, 1]; for {name} it does not (logits?)")
        return outputs[:, :, 0]

    def score(self, method: Method, compare: bool) -> dict[str, Any]:
        """A method's row of the table; images are compared with the real follow-ups where `compare` holds."""
        scores = metrics.classification(method.probabilities, self.cases.labels, self.weights)
        if method.images is None or not compare:
            reason = "not given where no image is made" if method.images is None else "not given for real images"
            return scores | {name: metrics.undefined(reason) for name in ("lpips", "fid", "kid")}
        features = np.stack([self.apply(self.features, run) for run in method.images])
        return scores | {
            "lpips": metrics.similarity(self.distances(method.images), self.weights),
            "fid": metrics.fid(features, self.real_features),
            "kid": metrics.kid(features, self.real_features, self.cases.patients, self.weights),
        }

    def statistics(self, name: str, probabilities: Mapping[str, Array], others: Sequence[str]) -> dict[str, Any]:
        """`calibration` of a method of `once`, and its `auroc_difference` from others."""
        labels, patients, own = self.cases.labels, self.cases.patients, probabilities[name]
        return {
            "auroc_difference": {
                other: auroc_difference(own, probabilities[other], labels, patients, self.weights) for other in others
            },
            "calibration": calibration(own, labels, self.plain_weights),
        }


def ensembles(methods: Mapping[str, Method]) -> dict[str, Method]:
    """A row more for each method of several runs: its probabilities averaged before they are judged."""
    several = {name: method.probabilities for name, method in methods.items() if len(method.probabilities) > 1}
    return {name + ENSEMBLE: Method(runs.mean(axis=0, keepdims=True)) for name, runs in several.items()}


def once(methods: Mapping[str, Method]) -> dict[str, Array]:
    """Name to (N,) of the methods that give a case one probability, that averaged over runs where there are several.

    Without the copy of the baseline, whose probabilities are the baseline's.
    """
    single = {name: method.probabilities[0] for name, method in methods.items() if len(method.probabilities) == 1}
    return {name: values for name, values in single.items() if name != "copy_baseline"}


def score_methods(methods: Mapping[str, Method], judge: Judge, main: str | None) -> dict[str, Any]:
    """`methods` and `gap_closed` as metrics.json holds them; the gap at the top is that of the method `main`."""
    rows = {name: judge.score(method, compare=name not in REAL) for name, method in methods.items()}
    for name, row in rows.items():
        row["n_runs"] = len(methods[name].probabilities)
        if name not in REAL:
            ends = tuple(rows[real] for real in REAL)
            row["gap_closed"] = {key: metrics.gap_closed(row[key], *(end[key] for end in ends)) for key in GAPS}
    probabilities = once(methods)
    for name in probabilities:
        rows[name] |= judge.statistics(name, probabilities, _held_against(name, list(probabilities), main))
    return {"methods": rows, "gap_closed": dict.fromkeys(GAPS) if main is None else rows[main]["gap_closed"]}


def _held_against(name: str, names: Sequence[str], main: str | None) -> list[str]:
    """What a method's AUROC is compared with: the main method's with all of `names`, others' with the real images."""
    if main is not None and name in (main, main + ENSEMBLE):
        return [other for other in names if other != name]
    return [real for real in REAL if REAL[0] != name != real]


def _check_names(names: Sequence[str]) -> None:
    if reserved := sorted({name for name in names if name in TITLES or name.endswith((ENSEMBLE, MEDIAN))}):
        raise UserError(f"{', '.join(reserved)} cannot name a method: the name is reserved")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{', '.join(twice)} names two methods: give one another name")


def _check(images: Mapping[str, Array], predicted: Mapping[str, Array], shape: tuple[int, ...], count: int) -> None:
    if count == 0 or len(shape) != 4 or shape[:2] != (count, 1):
        raise ValueError(f"follow_up must be (cases, 1, H, W) of {count} cases, at least one; it is {shape}")
    for name, array in images.items():
        if array.ndim != 5 or array.shape[1:] != shape or len(array) == 0:
            raise ValueError(f"{name} must be (runs, {', '.join(map(str, shape))}); it is {array.shape}")
        if not (np.abs(array).max() <= 1 + 1e-5):  # also false for NaN
            raise ValueError(f"{name} must be scaled to [-1, 1] and finite")
    for name, array in predicted.items():
        array = np.asarray(array)
        if array.ndim != 2 or array.shape[1] != count or not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{name} must hold probabilities (runs, {count}); it has shape {array.shape}")


def _table(methods: Mapping[str, Method], cases: Cases, sizes: Mapping[str, Sizes]) -> str:
    """predictions.csv: a row per method, case and run; what is derived from the runs is left out."""
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
                getattr(sizes[name], key)[run].round(2) if name in sizes else repeat("") for key in measures.values()
            ]
            writer.writerows(zip(repeat(name), cases.ids, repeat(run), values, outcomes, *measured, strict=False))
    return buffer.getvalue()


def _draw(
    methods: Mapping[str, Method], cases: Cases, maps: Mapping[str, Array], main: str | None
) -> Iterator[tuple[str, Figure]]:
    """The figures that these results allow, each with its name."""
    labels = cases.labels
    if {0.0, 1.0} <= set(labels):
        shown = {name: method for name, method in methods.items() if name != "copy_baseline" and ENSEMBLE not in name}
        yield "curves", figures.curves({title_of(n): method.probabilities for n, method in shown.items()}, labels)
        yield "calibration", figures.calibration({title_of(n): values for n, values in once(methods).items()}, labels)
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
        yield "latent_map", figures.latent_map(maps, cases.diameters)


def _draw_training(stages: Sequence[Stage]) -> Iterator[tuple[str, Figure]]:
    """The training curves, where a stage left any."""
    if any(stage.training or stage.validation for stage in stages):
        yield "training", figures.training(stages)


def _draw_growth(growth: Growth | None, cases: Cases, main: str | None) -> Iterator[tuple[str, Figure]]:
    """The figure of measured growth, where three cases at least can be measured."""
    if growth is not None and main is not None and growth.measurable.sum() >= 3:
        real, generated = growth.changes(main)
        yield "growth", figures.growth(real, generated, cases.labels[growth.measurable], DIAMETER_CHANGE)
