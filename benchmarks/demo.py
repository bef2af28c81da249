"""What `make demo` ends in, against what is there to be known: texture, likeness, and controls.

Texture is the power of crops, under a Hann window, beyond half a cycle a millimetre, over that of the real follow-ups.
Likeness is the perceptual distance of evaluation to the real follow-up, beside two floors: the same follow-up scanned
again with other noise alone; and with another position, breath, kernel and noise, which no baseline tells.

    python benchmarks/demo.py look RUN
    python benchmarks/demo.py control RUN OUT told        (or permuted)

A control is the conditional stage trained and judged with other records, all else as in RUN: ``told``, the lobe is an
upper one where the nodule is malignant alone; ``permuted``, records change places within a section.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import typer
from monai.bundle import run
from readers import IMAGE_SIZE, crops
from rich.console import Console
from rich.table import Table
from torch import Tensor

import data_prep  # noqa: F401 (puts the bundle on the path)
from data_prep.images import crops as cutting
from data_prep.phantom import cohort, scanner
from data_prep.phantom.patients import draw_patients
from data_prep.progression import Control
from data_prep.single import cut_single
from data_prep.spacing import PIXEL_MM
from scripts.data.datalist import load_datalist, pairs
from scripts.data.transforms import preprocessing
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.diffusion.settings import sampling_settings
from scripts.evaluation.statistics.differences import auroc_difference
from scripts.evaluation.statistics.metrics import patient_resamples
from scripts.networks.perceptual import PerceptualDistance
from scripts.predictions import read_predictions
from scripts.weights.checkpoints import load_network

CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"
HIGH = 0.5
"""Cycles a millimetre."""
UPPER, LOWER = 1, 3
"""Codes of lobes."""
app = typer.Typer()
console = Console(width=120)


def high_power(images: Tensor) -> np.ndarray:
    """Mean power beyond :data:`HIGH` of crops (.., H, W) of :data:`PIXEL_MM`, (..)."""
    side = images.shape[-1]
    window = torch.hann_window(side, periodic=False)
    spectrum = torch.fft.fft2(images * window[:, None] * window).abs().square()
    frequency = torch.fft.fftfreq(side, PIXEL_MM)
    return spectrum[..., torch.hypot(frequency[:, None], frequency) > HIGH].mean(dim=-1).numpy()


@contextmanager
def other_noise() -> Iterator[None]:
    """Scans are what they are but for their noise."""
    drawn, rng = scanner._noise, np.random.default_rng(1)
    with patch.object(scanner, "_noise", lambda grain, deviation, _: drawn(grain, deviation, rng)):
        yield


@contextmanager
def another_day() -> Iterator[None]:
    """Patients lie and breathe otherwise, and slices, kernel and noise are others."""

    def again(chest: Any, lesions: Any, place: Any, pixel: float, rng: np.random.Generator) -> scanner.Scan:
        return scanner.scan(chest, lesions, place, pixel, rng.spawn(1)[0])

    with patch.object(cohort, "scan", again):
        yield


def scanned_again(cases: list[Mapping[str, Any]], patients: int, change: Callable[[], Any]) -> Tensor:
    """The follow-ups of cases of the phantom of seed 0 (cases, 1, H, W), scanned again under a change."""
    load, made = preprocessing(["image"], IMAGE_SIZE), {}
    wanted = {case["patient_id"] for case in cases}
    with tempfile.TemporaryDirectory() as folder, change():
        for person in draw_patients(patients, 0):
            for finding in cohort._scan_patient(person, Path(folder), 0) if str(person.pid) in wanted else ():
                if finding.year == 1:
                    crop = cut_single(Path(folder) / finding.image, tuple(finding.centre), 128, PIXEL_MM)
                    cutting.save(crop, Path(folder) / "crop.nii.gz")
                    image = load({"image": str(Path(folder) / "crop.nii.gz")})["image"].as_tensor()
                    made[str(person.pid), str(finding.nodule.number)] = image
    return torch.stack([made[case["patient_id"], str(case["nodule_id"])] for case in cases])


@app.command()
@torch.no_grad()
def look(run_dir: Path, patients: int = 160, limit: int = 40) -> None:
    """Prints texture and likeness of the first test cases."""
    cases = load_datalist(run_dir / "dataset")["test"][:limit]
    real = {time: images[:limit] for time, images in crops(run_dir / "dataset", "test").items()}
    samples = read_predictions(run_dir / "predictions", [case["case_id"] for case in cases])
    autoencoder: Any = load_network(run_dir / "models" / "autoencoder.safetensors", "LatentAutoencoder")
    coded = autoencoder.decode_stage_2_outputs(autoencoder.encode_stage_2_inputs(real["follow_up"])).clamp(-1, 1)
    rows = {
        "generated": torch.as_tensor(samples),
        "follow-up through the autoencoder": coded[None],
        "copy of the baseline": real["baseline"][None],
        "follow-up, other noise": scanned_again(cases, patients, other_noise)[None],
        "follow-up, scanned another day": scanned_again(cases, patients, another_day)[None],
    }
    distance, power = PerceptualDistance("alex"), high_power(real["follow_up"]).mean()
    likeness = {
        name: np.mean([distance(run, real["follow_up"]).mean().item() for run in runs]) for name, runs in rows.items()
    }
    table = Table(f"{len(cases)} test cases", "high frequencies", "LPIPS", "of other noise's", title=distance.name)
    for name, runs in rows.items():
        share = likeness[name] / likeness["follow-up, other noise"]
        texture = high_power(runs).mean() / power
        table.add_row(name, f"{texture:.2f}", f"{likeness[name]:.4f}", f"{share:.2f}")
    console.print(table)


def controlled(datalist: dict[str, Any], control: Control) -> dict[str, Any]:
    """The datalist with records that tell the outcome, or nothing."""
    rng = np.random.default_rng(0)
    for section in ("training", "validation", "test"):
        cases = [{key: each for key, each in case.items() if key != "truth"} for case in datalist[section]]
        if control is Control.PERMUTED:
            records = [cases[place]["ehr"] for place in rng.permutation(len(cases))]
        else:
            records = [case["ehr"] | {"sct_epi_loc": UPPER if case["malignant"] else LOWER} for case in cases]
        datalist[section] = [case | {"ehr": record} for case, record in zip(cases, records, strict=True)]
    return datalist


@app.command()
def control(run_dir: Path, out: Path, which: Control, runs: int = 10) -> None:
    """Trains and judges a control, and prints the share of the gap that is closed."""
    dataset, models = out / "dataset", out / "models"
    dataset.mkdir(parents=True, exist_ok=True)
    models.mkdir(exist_ok=True)
    if not (dataset / "crops").exists():
        (dataset / "crops").symlink_to((run_dir / "dataset" / "crops").resolve())
    (dataset / "datalist.json").write_text(json.dumps(controlled(load_datalist(run_dir / "dataset"), which)))
    for name in ("autoencoder", "classifier"):
        shutil.copy(run_dir / "models" / f"{name}.safetensors", models)
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train_conditional", "small", "demo")]
    run("training", config_file=files, dataset_dir=str(dataset), output_dir=str(out))
    judge: Any = load_network(models / "classifier.safetensors", "NoduleClassifier")
    real, items, cases = crops(dataset, "test"), pairs(dataset, "test"), load_datalist(dataset)["test"]
    scale = sampling_settings(models)["guidance_scale"]
    inferer = ProgressionInferer(12, runs, guidance_scale=scale, solver="dpmpp", texture=True)
    samples = inferer(real["baseline"], load_progression_model(models), [item["report"] for item in items])
    images = {"baseline": real["baseline"], "follow-up": real["follow_up"], "generated": samples}
    with torch.no_grad():
        scores = {
            name: torch.sigmoid(judge(each.reshape(-1, 1, *each.shape[-2:])))
            .reshape(len(items), -1)
            .mean(dim=1)
            .numpy()
            for name, each in images.items()
        }
    truth, patients = (np.array([case[key] for case in cases]) for key in ("malignant", "patient_id"))
    weights = patient_resamples(list(patients), truth.astype(float), resamples=2000, seed=0)
    gain, gap = (
        auroc_difference(scores[name], scores["baseline"], truth.astype(float), list(patients), weights)
        for name in ("generated", "follow-up")
    )
    for name, each in (("generated", gain), ("follow-up", gap)):
        console.print(f"{which}: {name}'s AUROC less the baseline's {each['mean']:+.3f} {np.round(each['ci95'], 3)}")
    console.print(f"{which}: {gain['mean'] / gap['mean']:.0%} of the gap, {len(items)} cases, {runs} runs")


if __name__ == "__main__":
    app()
