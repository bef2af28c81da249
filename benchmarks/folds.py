"""Which recipe holds on patients that it was not trained on? All stages, five-fold, over training and validation.

Every fold trains all stages anew on four fifths of those patients: one autoencoder, one unconditional U-Net, one judge
and one direct classifier, and for each recipe the conditional stage with three seeds. The fifth left out is its
validation section; it chooses epochs by loss, and the judge's by its loss on real crops, so no generated image has a
part in either. Its cases are generated at the guidance of each candidate, judged, and measured. The test section is
never opened.

    python benchmarks/folds.py DATASET OUT [--fold 0] [--recipe prompts] [--seed 23] [--judge 0.4.0/judge.safetensors]

It goes on where it was, and leaves a fold alone whose tables are there. Folds may run in processes of their own, and so
may a fold's recipes and seeds once its first conditional training has begun, also elsewhere, with the fold's models and
made.json.
`fold_choice.py` and `fold_sizes.py` read the folds' tables alone (`judged.csv`, `sizes.csv.gz`, `made.json`,
`direct_classifier.csv`), so that folds may be run on different days and machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from filelock import FileLock
from monai.bundle import run
from readers import IMAGE_SIZE, crops

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import load_datalist, pairs
from scripts.data.digest import crops_of, digest_dataset
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.sections import open_section
from scripts.evaluation.statistics.folds import FOLDS, patient_folds
from scripts.files import read_mapping, write_atomically, write_json
from scripts.training.stage import LAST, read_checkpoint
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

MADE = "made.json"
"""Of a fold: the dataset's digest, and the best epoch of each training."""

RUNS, CALLS = 20, 12
SHARED = {"autoencoder": "autoencoder", "unconditional": "unet_unconditional", "classifier": "classifier"}
"""Of a fold: stages that all its trainings go on from, and their weights."""
DIRECT = "baselines/direct_classifier.csv"
"""Of a fold: the table of the classifier that reads baseline and record."""
JUDGED, SIZES = "judged.csv", "sizes.csv.gz"
"""Of a training: probabilities, and diameters."""
SIZED, AXES = ["guidance", "run", "case_id"], ("long", "perpendicular")
"""Of that table: what names a row, and what is measured."""
TIMES_READ = {"baseline": "baseline", "follow_up": "follow-up"}
IDENTITY = ["case_id", "patient_id", "fold", "malignant", "oracle"]
Folds = Annotated[list[int] | None, typer.Option("--fold", help="from 0; all where none is named")]
Recipes = Annotated[list[str] | None, typer.Option("--recipe", help="of RECIPES; all where none is named")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="of SEEDS; all where none is named")]
Judges = Annotated[list[Path] | None, typer.Option("--judge", help="further classifiers that read the same images")]
Settings = Annotated[str, typer.Option("--set", help="settings of every stage, as JSON")]


def by_fold(dataset: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The cases of training and validation as the datalist has them, and the fold (N,) that leaves each out."""
    datalist = load_datalist(dataset)
    cases = [case for section in ("training", "validation") for case in datalist[section]]
    if unknown := [case["case_id"] for case in cases if case.get("malignant") not in (0, 1)]:
        raise SystemExit(f"{dataset}: no outcome of {unknown[0]}; expected 0 or 1 of every case. Leave the others out.")
    labels = np.array([case["malignant"] for case in cases])
    return cases, patient_folds([case["patient_id"] for case in cases], labels, FOLDS)


def identities(cases: Sequence[Mapping[str, Any]], folds: np.ndarray | int) -> pd.DataFrame:
    """The columns of a table of cases that say which they are, and the oracle's probability."""
    known = pd.DataFrame([case.get("truth", {}) | case for case in cases])
    return known.assign(fold=folds).reindex(columns=IDENTITY)


def fold_dataset(dataset: Path, fold: int, folder: Path) -> Path:
    """A dataset folder whose validation section is one fold, and whose training section is the others."""
    cases, folds = by_fold(dataset)
    sections: dict[str, list[Any]] = {"training": [], "validation": [], "test": []}
    for case, number in zip(cases, folds, strict=True):
        sections["validation" if number == fold else "training"].append(case)
    return with_sections(dataset, sections, folder)


def with_sections(dataset: Path, sections: Mapping[str, Sequence[Any]], folder: Path) -> Path:
    """A dataset folder with the same crops, otherwise divided.

    Crops keep their names, by which the datalist knows their padding; their folders are linked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in {Path(crop).parts[0] for cases in sections.values() for case in cases for crop in crops_of(case)}:
        if not (folder / name).exists():
            (folder / name).symlink_to((dataset / name).resolve())
    write_json(folder / "datalist.json", load_datalist(dataset) | dict(sections) | {"unpaired": []})
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
    for name in SHARED.values():
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


def main(
    dataset: Path,
    out: Path,
    folds: Folds = None,
    recipes: Recipes = None,
    seeds: Seeds = None,
    judges: Judges = None,
    settings: Settings = "{}",
) -> None:
    """Trains folds, judges and measures what they generate; what is there already is not made again."""
    options, digest = json.loads(settings), digest_dataset(dataset)
    for number in folds or range(FOLDS):
        fold = out / f"fold_{number}"
        made = read_mapping(fold / MADE) if (fold / MADE).exists() else {"dataset": digest}
        if made["dataset"] != digest:
            raise SystemExit(f"{fold / MADE}: of another dataset; give another OUT.")
        data = fold_dataset(dataset, number, fold / "dataset")
        if not (fold / MADE).exists():
            write_json(fold / MADE, made)
        if not (fold / DIRECT).exists():
            train_stage("classifier", data, fold, ("direct_classifier",), **options)
            note(fold, "direct_classifier", fold / f"{Path(DIRECT).with_suffix('')}_23")
        trainings = {
            conditional_folder(fold, recipe, seed): (recipe, seed)
            for recipe in recipes or RECIPES
            for seed in seeds or SEEDS
        }
        rest = {folder: each for folder, each in trainings.items() if not (folder / JUDGED).exists()}
        for stage, weights in SHARED.items() if rest else ():
            if stage in made and (fold / "models" / f"{weights}.safetensors").exists():
                continue  # also where they were made on another machine
            train_stage(stage, data, fold, (), **options)
            note(fold, stage, fold / stage)
        readers = {"": fold / "models" / "classifier.safetensors"} | {path.parent.name: path for path in judges or ()}
        for folder, (recipe, seed) in rest.items():
            link_shared(fold, folder)
            train_stage("conditional", data, folder, RECIPES[recipe], seed=seed, **options)
            note(fold, folder.name, folder / "conditional")
            write_tables(folder, data, number, recipe, readers)


def write_tables(folder: Path, data: Path, number: int, recipe: str, readers: Mapping[str, Path]) -> None:
    """Judges and measures what one training generates of the cases left out; the judged table comes last."""
    images = follow_ups(folder, data, recipe)
    with write_atomically(folder / SIZES) as partial_:
        sized(images, data).to_csv(partial_, index=False, compression={"method": "gzip", "mtime": 0})
    real = {TIMES_READ[time]: each for time, each in crops(data, "validation").items()}
    cases = identities(load_datalist(data)["validation"], number)
    with write_atomically(folder / JUDGED) as partial_:
        cases.assign(**judged(real | images, readers)).to_csv(partial_, index=False)


def note(fold: Path, name: str, stage: Path) -> None:
    """Adds the number of the epoch that a stage published to what is known of a fold; others may add to it too."""
    best = int(read_checkpoint(stage / LAST)["progress"]["best_epoch"])
    with FileLock(fold / f"{MADE}.lock"):
        write_json(fold / MADE, read_mapping(fold / MADE) | {name: best})


if __name__ == "__main__":
    typer.run(main)
