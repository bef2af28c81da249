"""What limits the AUROC of generated follow-ups against that of real ones: autoencoder, diffusion, record or judge?

The conditional stage is trained again, as with small.yaml, but with reports that state *the outcome itself*, which is
unknown in practice. Given the true outcome, its AUROC shows what autoencoder and diffusion can reach. Given "malignant"
and then "benign" for the same baseline, with the two results averaged by a probability of malignancy, it shows what a
perfect generator could reach that knows only this probability, since the mean over its runs would be this mixture. The
probability comes from the record by logistic regression, or from the context of the language model in MODELS. The same
mixture with the probability times 2 to 16 shows what guidance, which exaggerates, can add. The follow-ups that MODELS
generates are read for comparison.

    python benchmarks/limits.py DATASET MODELS OUT      (MODELS with unet_unconditional.safetensors)

The training is kept in OUT, and reused by the next call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from monai.bundle import run
from readers import Readers, crops, outcomes
from recipes import CONFIGS, RUNS, STEPS, start_from
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.comparators.record import record_regression
from scripts.data.datalist import load_datalist, pairs
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel, load_progression_model
from scripts.ehr.encoding import records

WORDS = {0.0: "Benign.", 1.0: "Malignant."}
ARGUMENTS: dict[str, Any] = {"llm": "embedded", "num_prompt_sets": 1, "prompt_length": 0, "components": 1}
EXAGGERATIONS = (1, 2, 4, 8, 16)
GUIDANCES = (2.0, 3.0, 4.0, 6.0)


def told(dataset: Path, section: str) -> list[dict[str, Any]]:
    """The cases of a section with their outcome in place of the report."""
    return [item | {"report": WORDS[item["malignant"]]} for item in pairs(dataset, section)]


def context_risk(model: ProgressionModel, dataset: Path, section: str) -> np.ndarray:
    """Probabilities of malignancy (cases,), by logistic regression on the model's contexts of the training section."""
    training = load_datalist(dataset)["training"]
    reports = {each: [item["report"] for item in pairs(dataset, each)] for each in ("training", section)}
    contexts = {each: model.denoiser.conditioner.encode(found).flatten(1).numpy() for each, found in reports.items()}
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    search = GridSearchCV(
        LogisticRegression(max_iter=3000), {"C": np.logspace(-6, 2, 17)}, cv=folds, scoring="neg_log_loss"
    )
    patients = [case["patient_id"] for case in training]
    return search.fit(contexts["training"], outcomes(dataset, "training"), groups=patients).predict_proba(
        contexts[section]
    )[:, 1]


def main(
    dataset: Path,
    models: Path,
    out: Path,
    section: Annotated[str, typer.Option(help="cases to read")] = "validation",
    guidance_scale: Annotated[list[float] | None, typer.Option(help="of what MODELS generates")] = None,
) -> None:
    """Prints the table."""
    start_from(models, out)
    sections = {"train": "training", "validate": "validation"}
    data = {f"{stage}::dataset::data": told(dataset, each) for stage, each in sections.items()}
    settings: dict[str, Any] = {"conditioner_arguments": ARGUMENTS, "condition_dropout": 0.0}
    run("training", config_file=CONFIGS, dataset_dir=str(dataset), output_dir=str(out), **settings, **data)
    informed, released = load_progression_model(out / "models", **ARGUMENTS), load_progression_model(models)
    readers, real, truth = Readers(dataset, models), crops(dataset, section), outcomes(dataset, section)
    inferer = ProgressionInferer(STEPS, RUNS)
    benign, malignant = (
        readers.read(inferer(real["baseline"], informed, [words] * len(truth))) for words in WORDS.values()
    )
    risks = {
        "record": record_regression(dataset).predict_proba(records(load_datalist(dataset)[section]))[:, 1],
        "context": context_risk(released, dataset, section),
    }
    reports = [item["report"] for item in pairs(dataset, section)]
    found = {
        "real baseline": readers.read(real["baseline"]),
        "real follow-up": readers.read(real["follow_up"]),
        "told the outcome": np.where(truth, malignant, benign),
        **{
            f"told the {source}'s risk, x {times}": benign + times * risk * (malignant - benign)
            for source, risk in risks.items()
            for times in EXAGGERATIONS
        },
        **{
            f"generated, guidance {each:g}": readers.read(
                ProgressionInferer(STEPS, RUNS, guidance_scale=each)(real["baseline"], released, reports)
            )
            for each in guidance_scale or GUIDANCES
        },
    }
    table = Table(f"{len(truth)} {section} cases, {RUNS} runs", "AUROC: judge", "probe")
    for title, each in found.items():
        table.add_row(title, *(f"{roc_auc_score(truth, score):.3f}" for score in each))
    for source, risk in risks.items():
        table.add_row(f"no image: the {source}'s risk", f"{roc_auc_score(truth, risk):.3f}", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
