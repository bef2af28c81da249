"""Does the record steer what is generated? Follow-ups of the same crops from the same noise under other records.

Crop, noise and network are the same, so all differences between the images of a case are effects of the record. They
are compared with the difference between two seeds under one record. How to run it: bundle/docs/evaluation.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from monai.data import DataLoader, Dataset
from rich.progress import track
from torch import nn

from scripts.arrays import Array
from scripts.data.datalist import entries_of, load_datalist
from scripts.data.transforms import HU_PER_UNIT, preprocessing
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
from scripts.ehr.features import FEATURES
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.evaluation.report.figures import BENIGN, MALIGNANT, NEUTRAL, marked
from scripts.evaluation.statistics.metrics import auroc, estimate, patient_resamples, varied, weighted_mean
from scripts.evaluation.study import Cases
from scripts.files import write_bytes, write_json
from scripts.pictures import png, show

Record = Mapping[str, Any]

RECORDED = "as recorded"
"""Title of the intervention that changes nothing."""


def scaled_diameter(factor: float) -> Callable[[Record], dict[str, Any]]:
    """A function that multiplies both diameters of a record by ``factor``, clipped to the features' ranges."""

    def change(record: Record) -> dict[str, Any]:
        sizes = {name: record[name] for name in ("sct_long_dia", "sct_perp_dia") if record.get(name) is not None}
        limits = {name: (FEATURES[name].minimum, FEATURES[name].maximum) for name in sizes}
        return {**record, **{name: float(np.clip(factor * sizes[name], *limits[name])) for name in sizes}}

    return change


def with_value(**values: float) -> Callable[[Record], dict[str, Any]]:
    """A function that sets features of a record to these values."""
    return lambda record: {**record, **values}


CHANGES: dict[str, Callable[[Record], dict[str, Any]]] = {
    "diameters x 1.5": scaled_diameter(1.5),
    "diameters / 1.5": scaled_diameter(1 / 1.5),
    "margins spiculated": with_value(sct_margins=1),
    "margins smooth": with_value(sct_margins=2),
    "age 55": with_value(age=55),
    "age 74": with_value(age=74),
}
"""Interventions on one feature, by title; all other features stay as recorded."""

SHUFFLED, BLANK = "another patient's record", "no record"
"""Titles of the two interventions on the whole record."""


def conditions(cases: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, list[str | None]]:
    """By title of the intervention, the report of each case; None stands for the null context.

    Args:
        cases: entries of a datalist.
        seed: of the shuffling, in which no case gets a record of its own patient.
    """
    days = [case.get("interval_days") for case in cases]
    records = [case["ehr"] for case in cases]

    def reports(changed: Sequence[Record]) -> list[str | None]:
        return [radiology_report(record, interval) for record, interval in zip(changed, days, strict=True)]

    strangers = strangers_of([str(case["patient_id"]) for case in cases], seed)
    return {
        RECORDED: reports(records),
        SHUFFLED: reports([records[index] for index in strangers]),
        BLANK: [None] * len(cases),
        **{title: reports([change(record) for record in records]) for title, change in CHANGES.items()},
    }


def strangers_of(patients: Sequence[str], seed: int) -> list[int]:
    """A permutation that assigns to each case one of another patient.

    The cases are grouped by patient and shifted by the size of the largest group, so none stays in its own group.

    Raises:
        UserError: one patient has more than half of the cases, so there is no such permutation.
    """
    order = np.random.default_rng(seed).permutation(len(patients))
    order = order[np.argsort([patients[index] for index in order], kind="stable")]
    largest = max(patients.count(patient) for patient in patients)
    if 2 * largest > len(patients):
        raise UserError("Shuffling records needs more patients: one of them has more than half of the cases.")
    strangers = np.empty(len(patients), dtype=int)
    strangers[order] = np.roll(order, largest)
    return strangers.tolist()


@dataclass(frozen=True)
class Generated:
    """The images (N, R, H, W) in [-1, 1] of one intervention, and the classifier's probabilities (N, R) for them."""

    images: Array
    probabilities: Array


@torch.no_grad()
def steer(
    *,
    dataset_dir: str | Path,
    section: str,
    network: ProgressionModel,
    classifier: nn.Module,
    inferer: ProgressionInferer,
    output_dir: str | Path,
    image_size: int = 64,
    batch_size: int = 8,
    resamples: int = 2000,
    seed: int = 0,
    device: str | torch.device = "cpu",
    limit: int | None = None,
    report_interval: bool = True,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Generates follow-ups under every intervention, and writes steering.json and figures/steering.png.

    Args:
        network: the finished model.
        classifier: gives logits of malignancy.
        inferer: generates ``num_runs`` images per case, from the same noise under every intervention.
        resamples, seed: of the bootstrap over patients; the seed also shuffles records.
        limit: uses only this many cases, the first ones.
        record: of :func:`scripts.evaluation.record.judged_by`, and how was sampled.

    Returns the content of steering.json; see :func:`summarise`.
    """
    datalist = load_datalist(dataset_dir)
    chosen = entries_of(dataset_dir, datalist, section)[:limit]
    entries = chosen if report_interval else [{**case, "interval_days": None} for case in chosen]
    crops = [{"image": str(Path(dataset_dir) / entry["baseline"])} for entry in entries]
    loader = DataLoader(Dataset(crops, preprocessing(["image"], image_size)), batch_size=len(crops))
    baseline = next(iter(loader))["image"].as_tensor()
    results = {}
    for title, reports in track(conditions(entries, seed).items(), description="Steering"):
        images, scores = [], []
        for start in range(0, len(crops), batch_size):
            part, some = baseline[start : start + batch_size].to(device), reports[start : start + batch_size]
            condition = None if some[0] is None else [each for each in some if each is not None]
            made = inferer(part, network, condition)
            images.append(made.cpu())
            scores.append(torch.sigmoid(classifier(made.flatten(0, 1)[:, None])).view(made.shape[:2]).cpu())
        results[title] = Generated(torch.cat(images).numpy(), torch.cat(scores).double().numpy())
    known = Cases.of(entries)
    result = {
        "dataset": datalist.get("name"),
        "simulated": bool(datalist.get("simulated")),
        "section": section,
        **known.counts(),
        "n_runs": inferer.num_runs,
        "bootstrap": {"unit": "patient", "resamples": resamples, "seed": seed},
        **summarise(results, known, resamples, seed),
        "record": record,
    }
    picture = png(marked(figure(result, results, baseline.numpy()), result["simulated"]))
    write_bytes(Path(output_dir) / "figures" / "steering.png", picture)
    write_json(Path(output_dir) / "steering.json", result, indent=2)
    return result


def summarise(results: Mapping[str, Generated], cases: Cases, resamples: int, seed: int) -> dict[str, Any]:
    """The effect of each intervention, with 95 % intervals from a bootstrap over patients.

    Returns:
        ``seed_change_hu``, the mean absolute difference between two runs under the recorded EHR, and ``interventions``,
        which has for each: ``image_change_hu`` and ``score_change``, means over cases and runs of the differences from
        the recorded EHR's image and probability with the same noise; ``auroc`` of the probability averaged over runs;
        and ``auroc_change``. Each is ``{mean, ci95}``.
    """
    recorded = results[RECORDED]
    weights = patient_resamples(cases.patients, cases.labels, resamples, seed)
    rows = {}
    for title, made in results.items():
        image = np.abs(made.images - recorded.images).mean(axis=(1, 2, 3)) * HU_PER_UNIT
        score = (made.probabilities - recorded.probabilities).mean(axis=1)
        rows[title] = {
            "image_change_hu": interval(weighted_mean, image, weights),
            "score_change": interval(weighted_mean, score, weights),
            **_discrimination(made, recorded, cases, weights),
        }
    several = recorded.images.shape[1] > 1
    between = np.abs(np.diff(recorded.images, axis=1)).mean() * HU_PER_UNIT if several else None
    return {"seed_change_hu": None if between is None else float(between), "interventions": rows}


def _discrimination(made: Generated, recorded: Generated, cases: Cases, weights: Array | None) -> dict[str, Any]:
    """AUROC under an intervention, and its difference from the recorded EHR's in the same resamples."""
    known = np.isfinite(cases.labels)
    labels = cases.labels[known]
    if len(np.unique(labels)) < 2:
        return {"auroc": None, "auroc_change": None}

    def area(probabilities: Array, resampled: Array | None = None) -> Array:
        return auroc(probabilities, labels, resampled)

    def change(probabilities: Array, resampled: Array | None = None) -> Array:
        return area(probabilities, resampled) - area(recorded.probabilities.mean(axis=1)[known][None], resampled)

    averaged, kept = made.probabilities.mean(axis=1)[known], varied(weights, cases.labels)
    return {"auroc": interval(area, averaged, kept), "auroc_change": interval(change, averaged, kept)}


def interval(statistic: Callable[..., Array], values: Array, weights: Array | None) -> dict[str, Any]:
    """A statistic of ``values`` (N,) and, if there are resamples ``weights`` (B, N), its 95 % interval."""
    found = estimate(statistic(values[None])[0], None if weights is None else statistic(values[None], weights)[0])
    return {key: found[key] for key in ("mean", "ci95")}


def figure(result: Mapping[str, Any], results: Mapping[str, Generated], baseline: Array) -> Figure:
    """The figure: above, effects with their intervals; below, one case from the same noise under every record."""
    rows = {title: row for title, row in result["interventions"].items() if title != RECORDED}
    drawn = Figure(figsize=(12.0, 5.6), layout="constrained")
    halves: Any = drawn.subfigures(2, 1, height_ratios=(2.4, 1.0))
    above, below = halves
    left, right = above.subplots(1, 2)
    panels = (
        (left, "image_change_hu", "mean absolute change of the image (HU)", BENIGN, result["seed_change_hu"]),
        (right, "score_change", "change of the probability of malignancy", MALIGNANT, 0.0),
    )
    for axis, key, label, colour, reference in panels:
        for height, row in enumerate(rows.values()):
            axis.plot(row[key]["ci95"] or [row[key]["mean"]] * 2, [height, height], color=colour, linewidth=2)
            axis.plot(row[key]["mean"], height, "o", color=colour)
        if reference is not None:
            axis.axvline(reference, color=NEUTRAL, linestyle=":", label="between two seeds" if reference else None)
        axis.set(yticks=range(len(rows)), yticklabels=list(rows), xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        if reference:
            axis.legend(frameon=False, loc="lower right")
    example = int(np.argmax(np.abs(results["diameters x 1.5"].images - results[RECORDED].images).mean(axis=(1, 2, 3))))
    pictures = {"baseline": baseline[example, 0], **{title: made.images[example, 0] for title, made in results.items()}}
    for axis, (title, image) in zip(below.subplots(1, len(pictures)), pictures.items(), strict=True):
        show(axis, image, synthetic=title != "baseline")
        axis.set_title(fill(title, 14), fontsize=8)
    return drawn
