"""Which recipe holds on patients it was not trained on? All stages, five-fold, over training and validation together.

Every fold trains all stages anew on four fifths of those patients: one autoencoder, one unconditional U-Net and one
judge, and for each recipe the conditional stage with three seeds. The fifth left out is its validation section; it
chooses epochs by loss, and the judge's by its loss on real crops, so no generated image has a part in either. Its cases
are generated at the guidance of each candidate, judged, and measured. The test section is never opened.

    python benchmarks/folds.py train DATASET OUT [--fold 0 ..] [--recipe .. ] [--judge 0.4.0/classifier.safetensors]
    python benchmarks/folds.py choose DATASET OUT

`train` goes on where it was; folds may run in processes of their own. `choose` and `fold_sizes.py` read the folds'
tables alone (`judged.csv`, `sizes.csv.gz`, `epochs.json`), so that folds may be run on different days and machines.
`choose` prints the candidates by their probabilities out of fold, the simplest one within one standard error of the
best, and the epochs of each stage to train for on all these patients; it writes OUT/out_of_fold.csv and, of the chosen
one, tables for `publish_reference.yaml --tables`. What is chosen among candidates has an optimistic figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from monai.bundle import run
from readers import IMAGE_SIZE, crops
from rich.console import Console
from rich.table import Table
from scipy.special import logit

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.arrays import Array
from scripts.data.datalist import load_datalist, pairs
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.sections import open_section
from scripts.evaluation.statistics.calibration import CLIP
from scripts.evaluation.statistics.contrasts import mean_of_drawn
from scripts.evaluation.statistics.folds import FOLDS, patient_folds
from scripts.evaluation.statistics.metrics import auroc, patient_resamples, weighted_mean
from scripts.evaluation.statistics.recalibration import recalibrated
from scripts.evaluation.statistics.regret import divergence
from scripts.files import write_json
from scripts.training.checkpointing import read_checkpoint
from scripts.weights.checkpoints import load_network

CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"


class Candidate(NamedTuple):
    """A recipe, which is trained, and the guidance it is sampled with."""

    recipe: str
    guidance: float

    @property
    def name(self) -> str:
        return f"{self.recipe}, guidance {self.guidance:g}"


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

RUNS, CALLS = 20, 12
SHARED = ("autoencoder", "unconditional", "classifier")
SIZES = "sizes.csv.gz"
SIZED, AXES = ["guidance", "run", "case_id"], ("long", "perpendicular")
"""Of that table: what names a row, and what is measured."""
TIMES_READ = {"baseline": "baseline", "follow_up": "follow-up"}
IDENTITY = ["case_id", "patient_id", "fold", "malignant", "oracle"]
Folds = Annotated[list[int] | None, typer.Option("--fold", help="from 0; all where none is named")]
Recipes = Annotated[list[str] | None, typer.Option("--recipe", help="of RECIPES; all where none is named")]
Judges = Annotated[list[Path] | None, typer.Option("--judge", help="further classifiers that read the same images")]
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
def follow_ups(folder: Path, data: Path, recipe: str) -> dict[str, torch.Tensor]:
    """By guidance, images (cases, runs, H, W) of the cases left out, generated at each candidate of a recipe."""
    baselines, reports = crops(data, "validation")["baseline"], [item["report"] for item in pairs(data, "validation")]
    model = load_progression_model(folder / "models")
    guidances = [candidate.guidance for candidate in CANDIDATES if candidate.recipe == recipe]
    sample = partial(ProgressionInferer, CALLS, RUNS, solver="dpmpp")
    return {f"{each:g}": sample(guidance_scale=each)(baselines, model, reports) for each in guidances}


@torch.no_grad()
def judged(images: Mapping[str, torch.Tensor], judges: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Probabilities (cases,) of images (cases, runs, H, W), averaged over runs, by "NAME" or "NAME by JUDGE"."""
    found = {}
    for judge, path in judges.items():
        network: Any = load_network(path, "NoduleClassifier")
        for name, each in images.items():
            parts = each.flatten(0, 1)[:, None].split(256)
            flat = torch.cat([torch.sigmoid(network(part)).flatten() for part in parts])
            found[f"{name} by {judge}" if judge else name] = flat.reshape(len(each), -1).mean(dim=1).numpy()
    return found


def sized(images: Mapping[str, torch.Tensor], data: Path) -> pd.DataFrame:
    """Diameters in mm of images (cases, runs, H, W) of the cases left out: a row for each case, name and run."""
    study = open_section(data, "validation", IMAGE_SIZE)
    assert study.spacing is not None
    parts = []
    for name, each in images.items():
        found = measure(each.movedim(1, 0)[:, :, None].numpy(), study.spacing["baseline"])
        index = pd.MultiIndex.from_product([[name], range(each.shape[1]), study.cases.ids], names=SIZED)
        parts.append(pd.DataFrame({axis: getattr(found, axis).ravel().round(2) for axis in AXES}, index=index))
    return pd.concat(parts).reset_index()


@app.command()
def train(
    dataset: Path,
    out: Path,
    folds: Folds = None,
    recipes: Recipes = None,
    judges: Judges = None,
    settings: Settings = "{}",
) -> None:
    """Trains folds, judges and measures what they generate; what is there already is not made again."""
    options = json.loads(settings)
    for number in folds or range(FOLDS):
        fold = out / f"fold_{number}"
        data = fold_dataset(dataset, number, fold / "dataset")
        for stage in SHARED:
            train_stage(stage, data, fold, (), **options)
        readers = {"": fold / "models" / "classifier.safetensors"} | {path.parent.name: path for path in judges or ()}
        known = [case.get("truth", {}) | case | {"fold": number} for case in load_datalist(data)["validation"]]
        cases = pd.DataFrame(known).reindex(columns=IDENTITY)
        for recipe in recipes or RECIPES:
            for seed in SEEDS:
                folder = conditional_folder(fold, recipe, seed)
                if (folder / "judged.csv").exists():
                    continue
                link_shared(fold, folder)
                train_stage("conditional", data, folder, RECIPES[recipe], seed=seed, **options)
                images = follow_ups(folder, data, recipe)
                sized(images, data).to_csv(folder / SIZES, index=False, compression={"method": "gzip", "mtime": 0})
                real = {TIMES_READ[time]: each for time, each in crops(data, "validation").items()}
                cases.assign(**judged(real | images, readers)).to_csv(folder / "judged.csv", index=False)
        write_json(fold / EPOCHS, best_epochs(fold))


def best_epochs(fold: Path) -> dict[str, list[int]]:
    """Of each stage of a fold that is trained, for each of its trainings."""
    folders = {stage: [fold / stage] for stage in SHARED}
    for recipe in RECIPES:
        kept = [conditional_folder(fold, recipe, seed) / "conditional" for seed in SEEDS]
        folders[f"conditional, {recipe}"] = [folder for folder in kept if folder.exists()]
    return {
        stage: [int(read_checkpoint(folder / "last.pt")["progress"]["best_epoch"]) for folder in each]
        for stage, each in folders.items()
    }


# ---- choosing ------------------------------------------------------------------------------------------------------


def trained(out: Path) -> list[Candidate]:
    """The candidates whose recipe has been trained, in all folds; the end where a table is missing."""
    recipes = [recipe for recipe in RECIPES if _table(out, 0, recipe, SEEDS[0]).exists()]
    for number, recipe, seed in product(range(FOLDS), recipes or RECIPES, SEEDS):
        if not (table := _table(out, number, recipe, seed)).exists():
            raise SystemExit(f"{table} is missing: train that fold first (--fold {number})")
    return [candidate for candidate in CANDIDATES if candidate.recipe in recipes]


def _table(out: Path, fold: int, recipe: str, seed: int, name: str = "judged.csv") -> Path:
    return conditional_folder(out / f"fold_{fold}", recipe, seed) / name


def read_tables(out: Path, recipe: str, seed: int, name: str) -> pd.DataFrame:
    """The tables of one training of each fold, one below the other."""
    return pd.concat([pd.read_csv(_table(out, fold, recipe, seed, name)) for fold in range(FOLDS)], ignore_index=True)


def read(out: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """The cases in order, and by method probabilities (seeds, cases)."""
    known: dict[str, np.ndarray] = {}
    for candidate in trained(out):
        tables = [read_tables(out, candidate.recipe, seed, "judged.csv") for seed in SEEDS]
        known |= {name: tables[0][[name]].to_numpy().T for name in TIMES_READ.values()}
        known[candidate.name] = np.stack([table[f"{candidate.guidance:g}"].to_numpy() for table in tables])
    return tables[0][IDENTITY], known


def epochs(out: Path) -> dict[str, list[int]]:
    """The best epochs of each stage over folds and seeds."""
    of_folds = [json.loads((out / f"fold_{number}" / EPOCHS).read_text()) for number in range(FOLDS)]
    return {stage: [epoch for found in of_folds for epoch in found[stage]] for stage in of_folds[0]}


@app.command()
def choose(dataset: Path, out: Path, resamples: int = 2000) -> None:
    """Prints AUROC and regret out of fold with intervals over patients and trainings, and the chosen candidate."""
    cases, known = read(out)
    labels, oracle, patients = cases["malignant"].to_numpy(), cases["oracle"].to_numpy(), list(cases["patient_id"])
    corrected = {name: _recalibrated(values, labels, cases["fold"].to_numpy()) for name, values in known.items()}
    telling = _varied(known, lambda values, weights: auroc(values, labels, weights), patients, labels, resamples)
    columns = ["AUROC", "less baseline", "regret", "of baseline's", "regret, recalibrated", "of baseline's"]
    table = Table("judged", *columns, title=f"{len(labels)} cases out of fold, intervals over patients and trainings")
    regrets = [
        _varied(
            each,
            lambda values, weights: weighted_mean(divergence(oracle, values), weights),
            patients,
            labels,
            resamples,
        )
        for each in (known, corrected)
    ]
    for name in known:
        row = [_interval(telling[name]), _interval(telling[name] - telling["baseline"])]
        for regret in regrets:  # the follow-up shows growth, which this oracle does not know
            told = name != "follow-up" and np.isfinite(regret[name]).all()
            row += [_interval(regret[name]), _interval(regret[name] / regret["baseline"])] if told else ["-", "-"]
        table.add_row(name, *row)
    names = [candidate.name for candidate in trained(out)]
    best = max(names, key=lambda name: telling[name][0])
    chosen = next(name for name in names if telling[name][0] >= telling[best][0] - np.nanstd(telling[best][1:]))
    Console(width=160).print(table)
    print(f"Chosen: {chosen} (the best is {best}); chosen among {len(names)}, its figure is optimistic.")
    for stage, found in epochs(out).items():
        if found:
            print(f"Epochs of {stage}: median {int(np.median(found))} of {sorted(found)}")
    write_tables(out, cases, known, chosen)


def _varied(
    known: Mapping[str, Array],
    score: Callable[[Array, Array | None], Array],
    patients: list[str],
    labels: Array,
    resamples: int,
) -> dict[str, Array]:
    """Of each method's trainings (S, N) the mean score, and then that of each resample of patients and trainings."""
    weights = patient_resamples(patients, labels, resamples, seed=0)
    assert weights is not None, "too few patients for intervals"
    draws = np.random.default_rng(1).random((resamples, len(SEEDS)))
    return {
        name: np.r_[score(values, None).mean(), mean_of_drawn(score(values, weights), draws[:, : len(values)])]
        for name, values in known.items()
    }


def _interval(varied: Array) -> str:
    low, high = np.nanpercentile(varied[1:], [2.5, 97.5])
    return f"{varied[0]:.3f} [{low:.3f}, {high:.3f}]"


def _recalibrated(values: Array, labels: Array, fold: Array) -> Array:
    """Probabilities (S, N), each fold's after a logistic regression on the others."""
    log_odds = logit(np.clip(values, CLIP, 1 - CLIP))
    return np.stack([recalibrated(each, labels, fold)["intercept_and_slope"][0] for each in log_odds])


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
