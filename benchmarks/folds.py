"""Which recipe holds on patients it was not trained on? All stages, five-fold, over training and validation together.

Every fold trains all stages anew on four fifths of those patients: one autoencoder, one unconditional U-Net and one
judge, and for each recipe the conditional stage with three seeds. The fifth left out is its validation section; it
chooses epochs by loss, and the judge's by its loss on real crops, so no generated image has a part in either. Its cases
are generated at the guidance of each candidate, judged, and kept. The test section is never opened.

    python benchmarks/folds.py train DATASET OUT [--fold 0 ..]     # resumable; folds may run in processes of their own
    python benchmarks/folds.py choose DATASET OUT

`choose` reads the folds' tables alone (`judged.csv` and `epochs.json`), so that folds may be run on different days and
machines. It prints the candidates by their probabilities out of fold, the simplest one within one standard error of
the best, and the epochs of each stage to train for on all these patients; it writes OUT/out_of_fold.csv and, of the
chosen one, tables for `publish_reference.yaml --tables`. What is chosen among candidates has an optimistic figure.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from monai.bundle import run
from readers import crops
from rich.console import Console
from rich.table import Table

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import load_datalist, pairs
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.evaluation.statistics.contrasts import mean_of_drawn
from scripts.evaluation.statistics.folds import FOLDS, patient_folds
from scripts.evaluation.statistics.metrics import auroc, patient_resamples
from scripts.evaluation.statistics.regret import divergence
from scripts.files import write_json
from scripts.training.checkpointing import read_checkpoint
from scripts.weights.checkpoints import load_network

CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"


class Candidate(NamedTuple):
    """A recipe, which is trained, and the guidance it is sampled with."""

    recipe: str
    guidance: float


RECIPES: dict[str, tuple[str, ...]] = {"no prompts": ("no_prompts",), "prompts": ()}
"""Overlays after small.yaml."""

CANDIDATES = (
    Candidate("no prompts", 1.0),
    Candidate("no prompts", 3.0),
    Candidate("no prompts", 6.0),
    Candidate("prompts", 1.0),
    Candidate("prompts", 3.0),
    Candidate("prompts", 6.0),
)
"""The simplest first, written down before any was run; the last is the recipe of version 0.5.0."""

SEEDS = (23, 24, 25)
"""Of the conditional stage."""

EPOCHS = "epochs.json"
"""What a fold writes last: the best epochs of its stages."""

RUNS, CALLS = 10, 12
SHARED = ("autoencoder", "unconditional", "classifier")
IDENTITY = ["case_id", "patient_id", "fold", "malignant", "oracle"]
Folds = Annotated[list[int] | None, typer.Option("--fold", help="from 0; all where none is named")]
Settings = Annotated[str, typer.Option("--set", help="settings of every stage, as JSON")]
app = typer.Typer(add_completion=False)


# ---- training ------------------------------------------------------------------------------------------------------


def fold_dataset(dataset: Path, fold: int, folder: Path) -> Path:
    """A dataset folder whose validation section is one fold, and whose training section is the others."""
    datalist = load_datalist(dataset)
    cases = [
        case | {time: str((dataset / case[time]).resolve()) for time in ("baseline", "follow_up")}
        for section in ("training", "validation")
        for case in datalist[section]
    ]
    labels = np.array([case["malignant"] for case in cases])
    folds = patient_folds([case["patient_id"] for case in cases], labels, FOLDS)
    sections: dict[str, list[Any]] = {"training": [], "validation": []}
    for case, number in zip(cases, folds, strict=True):
        sections["validation" if number == fold else "training"].append(case)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "datalist.json").write_text(json.dumps(datalist | sections | {"test": [], "unpaired": []}))
    return folder


def train_stage(stage: str, data: Path, folder: Path, overlays: tuple[str, ...], **settings: Any) -> None:
    """A stage with small.yaml; where it has been trained, its configuration says so and does nothing."""
    names = (f"train_{stage}", "small", *overlays)
    files = [str(CONFIGS / f"{name}.yaml") for name in names]
    run("training", config_file=files, dataset_dir=str(data), output_dir=str(folder), **settings)


def conditional_folder(fold: Path, recipe: str, seed: int) -> Path:
    """Where a training of the conditional stage lies."""
    return fold / f"{recipe}, seed {seed}".replace(" ", "_").replace(",", "")


def link_shared(fold: Path, folder: Path) -> None:
    """Puts the weights that a conditional stage starts from, and its judge, beside its own."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    for name in ("autoencoder", "unet_unconditional", "classifier"):
        if not (models / f"{name}.safetensors").exists():
            (models / f"{name}.safetensors").symlink_to((fold / "models" / f"{name}.safetensors").resolve())


@torch.no_grad()
def judged(folder: Path, data: Path, recipe: str) -> dict[str, np.ndarray]:
    """Probabilities of the cases left out, by what is judged: real crops, and each candidate of a recipe."""
    judge: Any = load_network(folder / "models" / "classifier.safetensors", "NoduleClassifier")
    model = load_progression_model(folder / "models")
    real, reports = crops(data, "validation"), [item["report"] for item in pairs(data, "validation")]
    images = {"baseline": real["baseline"], "follow-up": real["follow_up"]}
    for candidate in CANDIDATES:
        if candidate.recipe == recipe:
            inferer = ProgressionInferer(CALLS, RUNS, guidance_scale=candidate.guidance, solver="dpmpp")
            images[f"{candidate.guidance:g}"] = inferer(real["baseline"], model, reports)
    return {name: _mean_probability(judge, each) for name, each in images.items()}


def _mean_probability(judge: Any, images: torch.Tensor) -> np.ndarray:
    """The judge's probabilities (cases,) of images (cases, runs, H, W), averaged over runs."""
    flat = torch.cat([torch.sigmoid(judge(part)).flatten() for part in images.flatten(0, 1)[:, None].split(256)])
    return flat.reshape(len(images), -1).mean(dim=1).numpy()


@app.command()
def train(dataset: Path, out: Path, folds: Folds = None, settings: Settings = "{}") -> None:
    """Trains and judges folds; what is there already is not made again."""
    options = json.loads(settings)
    for number in folds or range(FOLDS):
        fold = out / f"fold_{number}"
        data = fold_dataset(dataset, number, fold / "dataset")
        for stage in SHARED:
            train_stage(stage, data, fold, (), **options)
        for recipe, overlays in RECIPES.items():
            for seed in SEEDS:
                folder = conditional_folder(fold, recipe, seed)
                if (folder / "judged.csv").exists():
                    continue
                link_shared(fold, folder)
                train_stage("conditional", data, folder, overlays, seed=seed, **options)
                cases = [
                    {name: case.get(name, np.nan) for name in IDENTITY} | {"fold": number}
                    for case in load_datalist(data)["validation"]
                ]
                table = pd.DataFrame(cases).assign(**judged(folder, data, recipe))
                table.to_csv(folder / "judged.csv", index=False)
        write_json(fold / EPOCHS, best_epochs(fold))


def best_epochs(fold: Path) -> dict[str, list[int]]:
    """Of each stage of a fold that is trained, for each of its trainings."""
    folders = {stage: [fold / stage] for stage in SHARED}
    for recipe in RECIPES:
        kept = [conditional_folder(fold, recipe, seed) / "conditional" for seed in SEEDS]
        folders[f"conditional, {recipe}"] = kept
    return {
        stage: [int(read_checkpoint(folder / "last.pt")["progress"]["best_epoch"]) for folder in each]
        for stage, each in folders.items()
    }


# ---- choosing ------------------------------------------------------------------------------------------------------


def read(out: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The cases in order, and by method probabilities (seeds, cases)."""
    known: dict[str, list[np.ndarray]] = {}
    for recipe in RECIPES:
        for seed in SEEDS:
            parts = [pd.read_csv(conditional_folder(fold, recipe, seed) / "judged.csv") for fold in _complete(out)]
            table = pd.concat(parts, ignore_index=True)
            for candidate in CANDIDATES:
                if candidate.recipe == recipe:
                    name = f"{recipe}, guidance {candidate.guidance:g}"
                    known.setdefault(name, []).append(table[f"{candidate.guidance:g}"].to_numpy())
    real = {name: [table[name].to_numpy()] for name in ("baseline", "follow-up")}
    return table[IDENTITY], {name: np.stack(values) for name, values in (real | known).items()}


def _complete(out: Path) -> list[Path]:
    """The folders of all folds, or the end where one is missing."""
    folders = [out / f"fold_{number}" for number in range(FOLDS)]
    for folder in folders:
        for recipe in RECIPES:
            for seed in SEEDS:
                if not (table := conditional_folder(folder, recipe, seed) / "judged.csv").exists():
                    raise SystemExit(f"{table} is missing: train that fold first (--fold {folder.name[-1]})")
    return folders


def epochs(out: Path) -> dict[str, list[int]]:
    """The best epochs of each stage over folds and seeds."""
    of_folds = [json.loads((out / f"fold_{number}" / EPOCHS).read_text()) for number in range(FOLDS)]
    return {stage: [epoch for found in of_folds for epoch in found[stage]] for stage in of_folds[0]}


@app.command()
def choose(dataset: Path, out: Path, resamples: int = 2000) -> None:
    """Prints AUROC out of fold with intervals over patients and trainings, and the chosen candidate."""
    cases, known = read(out)
    labels, patients = cases["malignant"].to_numpy(), list(cases["patient_id"])
    weights = patient_resamples(patients, labels, resamples, seed=0)
    assert weights is not None, f"{dataset}: too few patients for intervals"
    draws = np.random.default_rng(1).random((resamples, len(SEEDS)))
    varied = {
        name: mean_of_drawn(auroc(values, labels, weights), draws[:, : len(values)]) for name, values in known.items()
    }
    means = {name: float(auroc(values, labels).mean()) for name, values in known.items()}
    table = Table(
        "judged", "AUROC", "95 %", "less baseline", "95 %", "regret", title=f"{len(labels)} cases out of fold"
    )
    for name, values in known.items():
        low, high = np.nanpercentile(varied[name], [2.5, 97.5])
        less, (lower, upper) = (
            means[name] - means["baseline"],
            np.nanpercentile(varied[name] - varied["baseline"], [2.5, 97.5]),
        )
        regret = np.mean([divergence(cases["oracle"].to_numpy(), run).mean() for run in values])
        row = [
            f"{means[name]:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{less:.3f}",
            f"{lower:.3f} to {upper:.3f}",
            # the follow-up shows growth, which this oracle does not know
            "-" if np.isnan(regret) or name == "follow-up" else f"{regret:.3f}",
        ]
        table.add_row(name, *row)
    names = [f"{recipe}, guidance {guidance:g}" for recipe, guidance in CANDIDATES]
    best = max(names, key=lambda name: means[name])
    chosen = next(name for name in names if means[name] >= means[best] - np.nanstd(varied[best]))
    Console(width=140).print(table)
    print(f"Chosen: {chosen} (the best is {best}); chosen among {len(names)}, its figure is optimistic.")
    for stage, found in epochs(out).items():
        print(f"Epochs of {stage}: median {int(np.median(found))} of {sorted(found)}")
    write_tables(out, cases, known, chosen)


def write_tables(out: Path, cases: pd.DataFrame, known: dict[str, np.ndarray], chosen: str) -> None:
    """All probabilities in one table, and those of the chosen candidate and the baseline each in one of their own."""
    long = [
        cases.assign(method=name, run=seed, probability=values)
        for name, runs in known.items()
        for seed, values in enumerate(runs)
    ]
    pd.concat(long).to_csv(out / "out_of_fold.csv", index=False)
    for name, values in {"generated": known[chosen].mean(axis=0), "baseline": known["baseline"][0]}.items():
        table = pd.DataFrame({"case_id": cases["case_id"], "run": 0, "probability": values})
        table.to_csv(out / f"{name}.csv", index=False)


if __name__ == "__main__":
    app()
