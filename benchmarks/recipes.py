"""Which recipe of the conditional stage gives the highest AUROC? Cross-validates recipes.

Eighty validation cases and one training of each recipe are too few to choose by. So the stage is trained as with
small.yaml, but with untrained prompts, on the training section and on each fold of the patients of training and
validation together. The cases left out are generated at several guidance scales and read by two classifiers
(`readers.py`). Autoencoder and judge were trained on the training section, so the folds compare recipes with each other
but do not estimate their AUROC on new patients.

    python benchmarks/recipes.py DATASET MODELS OUT [--recipe "12 by record" ..] [--part validation --part 0 ..]

MODELS has unet_unconditional.safetensors too. Trainings are kept in OUT, and reused by the next call.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from folds import with_sections
from monai.bundle import run
from readers import Readers, crops, outcomes
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import load_datalist, pairs
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model

CONFIGS = [
    str(Path(__file__).parents[1] / "bundle" / "configs" / f"{name}.yaml") for name in ("train_conditional", "small")
]
BY_RECORD: dict[str, Any] = {"components": 12, "components_by": "record"}
PLAIN: dict[str, Any] = {"num_prompt_sets": 1, "prompt_length": 0}
RECIPES: dict[str, tuple[dict[str, Any], float]] = {
    "16 by variance": ({"components": 16}, 0.0),
    "16 by variance, 15 % left out": ({"components": 16}, 0.15),
    "12 by record": (BY_RECORD, 0.0),
    "12 by record, 15 % left out": (BY_RECORD, 0.15),
    "12 by record, no prompts": (BY_RECORD | PLAIN, 0.0),
    "12 by record, no prompts, 15 % left out": (BY_RECORD | PLAIN, 0.15),
}
"""Arguments of the conditioner, and the share of reports replaced by the null context in training."""

GUIDANCES = (1, 2, 3, 4, 6)
RUNS, STEPS = 10, 25
FOLDS = 5


def start_from(models: Path, out: Path) -> None:
    """Copies to ``out`` the weights that the conditional stage starts from."""
    (out / "models").mkdir(parents=True, exist_ok=True)
    for name in ("autoencoder", "unet_unconditional"):
        shutil.copy(models / f"{name}.safetensors", out / "models")


def fold(dataset: Path, number: int, folder: Path) -> Path:
    """A dataset folder for one fold of training and validation together, whose section ``test`` is left out."""
    cases = [case for section in ("training", "validation") for case in load_datalist(dataset)[section]]
    labels, patients = (np.array([case[key] for case in cases]) for key in ("malignant", "patient_id"))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=1).split(cases, labels, patients)
    rest, left_out = next(itertools.islice(folds, number, None))
    within = StratifiedGroupKFold(8, shuffle=True, random_state=2)
    train, validate = next(within.split(rest, labels[rest], patients[rest]))
    sections = {"training": rest[train], "validation": rest[validate], "test": left_out}
    chosen = {section: [cases[row] for row in rows] for section, rows in sections.items()}
    return with_sections(dataset, chosen, folder)


def aurocs(dataset: Path, models: Path, out: Path, recipe: str, part: str) -> list[str]:
    """Trains a recipe; AUROCs by judge and probe of real baselines, generated follow-ups and real follow-ups."""
    folder, section = out / f"{recipe}, {part}", "validation" if part == "validation" else "test"
    data = dataset if part == "validation" else fold(dataset, int(part), folder / "dataset")
    arguments, condition_dropout = RECIPES[recipe]
    arguments = {"llm": "embedded", **arguments}
    if not (folder / "models" / "unet_conditional.safetensors").exists():
        start_from(models, folder)
        settings: dict[str, Any] = {
            "conditioner_arguments": arguments,
            "condition_dropout": condition_dropout,
            "prompt_steps": 0,
        }
        run("training", config_file=CONFIGS, dataset_dir=str(data), output_dir=str(folder), **settings)
    model = load_progression_model(folder / "models", **arguments)
    readers, real, truth = Readers(data, models), crops(data, section), outcomes(data, section)
    reports = [item["report"] for item in pairs(data, section)]
    images = {
        "baseline": real["baseline"],
        **{
            each: ProgressionInferer(STEPS, RUNS, guidance_scale=each)(real["baseline"], model, reports)
            for each in GUIDANCES
        },
        "follow-up": real["follow_up"],
    }
    return [
        " / ".join(f"{roc_auc_score(truth, score):.3f}" for score in readers.read(each)) for each in images.values()
    ]


def main(
    dataset: Path,
    models: Path,
    out: Path,
    recipe: Annotated[list[str] | None, typer.Option(help="by name; all where none is named")] = None,
    part: Annotated[list[str] | None, typer.Option(help="validation, or a fold from 0")] = None,
) -> None:
    """Prints a row for each training."""
    table = Table("cases", "context", "baseline", *map(str, GUIDANCES), "follow-up", title="AUROC: judge / probe")
    for each, name in itertools.product(part or ["validation", *map(str, range(FOLDS))], recipe or RECIPES):
        table.add_row(each, name, *aurocs(dataset, models, out, name, each))
    Console(width=160).print(table)


if __name__ == "__main__":
    typer.run(main)
