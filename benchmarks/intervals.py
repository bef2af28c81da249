"""Asked for 6, 12 and 24 months, do generated nodules grow as true ones, told the interval in words or as a number?

A phantom whose follow-ups come after 3 to 36 months, its patients divided into training, validation and unseen ones.
The bundle's autoencoder and one unconditional stage are shared; the conditional stage has the size of from_nothing.yaml
and with small.yaml's context of 12 components, as it is and with ``interval_number``, on records as they are and on
records that tell the growth (the age is that of a nodule that grows so fast), which shows what the record leaves open.
For unseen nodules that truly grow, follow-ups after 6, 12 and 24 months are generated from the baseline and its record:

- the share of nodules whose median size rises from each to the next;
- the slope of predicted (log of the median size over the baseline's, measured) on true log-growth (by the nodule's own
  doubling time, which is even in the phantom), over nodules and intervals, with its interval over patients;
- the same of what cannot be done better: of the law's own median, for who knows the record or the outcome.

    python benchmarks/intervals.py OUT [--until unconditional]

Phantom, dataset and trainings are kept in OUT, and reused by the next call, so that it can be made in parts. Until
``read-out`` it prints how well the interval can be read from contexts of the language model, by ridge regression.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from matplotlib.figure import Figure
from monai.bundle import run
from recipes import PLAIN, start_from
from rich.console import Console
from rich.table import Table
from scipy.stats import linregress

import data_prep  # noqa: F401 (puts the bundle on the path)
from data_prep.cohort import build
from data_prep.phantom.cohort import make
from data_prep.phantom.growth import STABLE_LOG, growth
from scripts.arrays import Array
from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.context import ContextNormaliser
from scripts.conditioning.interval import interval_days_of
from scripts.data.datalist import load_datalist, pairs
from scripts.data.transforms import preprocessing
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.ehr.encoding import record_numbers
from scripts.ehr.report import radiology_report
from scripts.evaluation.nodules.growth import YEAR, measure
from scripts.weights.checkpoints import load_network

CONFIGS = Path(__file__).parents[1] / "bundle" / "configs"
MODELS = Path(__file__).parents[1] / "bundle" / "models"
SHARES = {"training": 0.62, "validation": 0.08}
"""Of the patients; the rest is unseen."""
MONTHS = {6: 182, 12: 365, 24: 730}
"""Asked for, and their days."""
ARMS = ("told, text", "told, number", "text", "number")
"""Records that tell the growth or do not, and the interval in words alone or as a number too."""
SCHEDULES: dict[str, dict[str, Any]] = {
    "unconditional": {"max_epochs": 15, "batch_size": 16, "decay_steps": 360},
    "conditional": {"max_epochs": 33, "batch_size": 16, "decay_steps": 360},
}
"""As many steps as from_nothing.yaml's, whose 43 pairs make fewer an epoch."""
GROWS = float(np.exp(3 * STABLE_LOG))
"""A benign nodule that has grown by more is none of the stable ones."""
RUNS, CALLS, SEED, DRAWS = 20, 12, 19, 2000
console = Console(width=120)


def prepare(out: Path, patients: int) -> Path:
    """The dataset of a phantom with varied intervals, its patients in sections by their order."""
    dataset = out / "dataset"
    if not (dataset / "datalist.json").is_file():
        if not (out / "phantom" / "cohort.csv").is_file():
            make(out / "phantom", patients, SEED, (3.0, 36.0))
        table = pd.read_csv(out / "phantom" / "cohort.csv")
        rank = table["patient_id"].rank(method="dense", pct=True)
        ends = np.cumsum([*SHARES.values()])
        table["split"] = np.select([rank <= end for end in ends], [*SHARES], "test")
        table.to_csv(out / "phantom" / "divided.csv", index=False)
        build(out / "phantom" / "divided.csv", dataset, name="phantom", keep_ids=True)
    return dataset


def train(dataset: Path, out: Path, stage: str, **settings: Any) -> None:
    """Trains a stage, unless it has been, and logs the seconds of CPU time."""
    if (out / "models" / f"unet_{stage}.safetensors").is_file():
        return
    files = [str(CONFIGS / f"{name}.yaml") for name in (f"train_{stage}", "small", "from_nothing")]
    start = time.process_time()
    run("training", config_file=files, dataset_dir=str(dataset), output_dir=str(out), **SCHEDULES[stage], **settings)
    (out / f"{stage}_seconds.json").write_text(json.dumps(time.process_time() - start))


def arguments(arm: str) -> dict[str, Any]:
    """Of an arm's conditioner."""
    number = {"interval_number": True} if arm.endswith("number") else {}
    return {"llm": "embedded", "components": 12, "components_by": "record", **PLAIN, **number}


def told(case: dict[str, Any]) -> dict[str, Any]:
    """The record of a case with an age that tells its growth in a year, 60 for none."""
    yearly = np.log(case["truth"]["simulated_growth"]) * YEAR / case["interval_days"]
    return {**case["ehr"], "age": round(60.0 + 25.0 * float(np.clip(yearly, -0.2, 0.6)), 1)}


def with_told(dataset: Path, folder: Path) -> Path:
    """The dataset with records that tell the growth, in another folder."""
    datalist = load_datalist(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "crops").exists():
        (folder / "crops").symlink_to((dataset / "crops").resolve())
    for section in ("training", "validation", "test"):
        datalist[section] = [{**case, "ehr": told(case)} for case in datalist[section]]
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


@dataclass
class Unseen:
    """Unseen nodules that truly grow, N of them; growth is the logarithm of a factor of diameters."""

    cases: list[dict[str, Any]]
    baseline: torch.Tensor
    spacing: Array
    before: Array
    """Measured mean diameter at baseline (N,), mm."""
    measured: Array
    """Growth as measured on the real follow-up, after each nodule's own interval (N,)."""
    coded: Array
    """The same of the real follow-up through the autoencoder."""

    def truth(self, days: float) -> Array:
        """True growth after so many days (N,)."""
        return np.array(
            [np.log(case["truth"]["simulated_growth"]) * days / case["interval_days"] for case in self.cases]
        )

    def take(self, of: Array) -> Unseen:
        """Some of them."""
        rows = np.flatnonzero(of)
        parts = {name: values[rows] for name, values in vars(self).items() if name != "cases"}
        return Unseen(cases=[self.cases[row] for row in rows], **parts)


def unseen(dataset: Path) -> Unseen:
    """The nodules of the test section that grow, and whose real images can be measured."""
    entries = load_datalist(dataset)["test"]
    load, items = preprocessing(["baseline", "follow_up"], 64), pairs(dataset, "test")
    chosen = [
        index for index, case in enumerate(entries) if case["malignant"] or case["truth"]["simulated_growth"] > GROWS
    ]
    crops = [load(items[index]) for index in chosen]
    spacing = np.full((len(crops), 2), load_datalist(dataset)["pixel_mm"])
    images = {name: torch.stack([crop[name].as_tensor() for crop in crops]) for name in ("baseline", "follow_up")}
    autoencoder: Any = load_network(MODELS / "autoencoder.safetensors", "LatentAutoencoder").eval()
    with torch.inference_mode():
        coded = autoencoder.decode_stage_2_outputs(autoencoder.encode_stage_2_inputs(images["follow_up"]))
    sizes = {name: measure(each[None].numpy(), spacing) for name, each in {**images, "coded": coded}.items()}
    fits = ~np.any([sizes[name].cut[0] | ~sizes[name].found[0] for name in images], axis=0)
    console.print(f"{len(entries)} unseen pairs, {len(chosen)} grow, {fits.sum()} of these are measurable")
    mean = {name: each.mean[0][fits] for name, each in sizes.items()}
    return Unseen(
        [entries[index] for index, fit in zip(chosen, fits, strict=True) if fit],
        images["baseline"][torch.as_tensor(fits)],
        spacing[fits],
        mean["baseline"],
        np.log(mean["follow_up"] / mean["baseline"]),
        np.log(mean["coded"] / mean["baseline"]),
    )


def generate(out: Path, arm: str, nodules: Unseen, guidance_scale: float) -> dict[int, Array]:
    """Mean diameters of generated follow-ups (R, N), by months; kept in OUT."""
    path = out / arm / f"sizes_{guidance_scale:g}.npy"
    if not path.is_file():
        start, model, made = time.process_time(), load_progression_model(out / arm / "models"), []
        for days in MONTHS.values():
            records = [told(case) if arm.startswith("told") else case["ehr"] for case in nodules.cases]
            inferer = ProgressionInferer(CALLS, RUNS, guidance_scale=guidance_scale, solver="dpmpp")
            images = inferer(nodules.baseline, model, [radiology_report(record, days) for record in records])
            made.append(measure(images.transpose(0, 1)[:, :, None].numpy(), nodules.spacing).mean)
        np.save(path, np.stack(made))
        console.print(
            f"{arm}, guidance {guidance_scale:g}: sampling took {time.process_time() - start:.0f} s of CPU time"
        )
    return dict(zip(MONTHS, np.load(path), strict=True))


def slope(predicted: Array, true: Array, patients: list[str]) -> tuple[float, float, float]:
    """Of predicted on true growth (T, N), and the 95 % interval of 2,000 resamples of patients."""
    rows = pd.Series(range(true.shape[1])).groupby(patients).apply(list).tolist()
    rng, slopes = np.random.default_rng(0), []
    for _ in range(2000):
        drawn = np.concatenate([rows[index] for index in rng.integers(len(rows), size=len(rows))])
        slopes.append(linregress(true[:, drawn].ravel(), predicted[:, drawn].ravel()).slope)
    return linregress(true.ravel(), predicted.ravel()).slope, *np.quantile(slopes, [0.025, 0.975])


def by_law(nodules: Unseen, known: str) -> dict[int, Array]:
    """The law's median growth for who knows the record (and so the chance of cancer), or the outcome, by months."""
    made: dict[int, list[float]] = {months: [] for months in MONTHS}
    for index, case in enumerate(nodules.cases):
        ehr, risk = case["ehr"], float(case["malignant"]) if known == "outcome" else case["truth"]["oracle"]
        for months, days in MONTHS.items():
            rng = np.random.default_rng(index)  # the same nodules at each time
            malignant = rng.uniform(size=DRAWS) < risk
            known_of = (ehr["sct_pre_att"], ehr["sct_long_dia"], days)
            factors = np.array([growth(bool(each), *known_of, rng) for each in malignant])
            made[months].append(float(np.log(np.median(factors[factors > 0]))))
    return {months: np.array(each) for months, each in made.items()}


def scores(predicted: dict[int, Array], nodules: Unseen) -> list[str]:
    """Cells of a table for predicted growth (N,) by months."""
    stacked = np.stack([predicted[months] for months in MONTHS])
    true = np.stack([nodules.truth(days) for days in MONTHS.values()])
    rising = float((np.diff(stacked, axis=0) > 0).all(axis=0).mean())
    each = slope(stacked, true, [case["patient_id"] for case in nodules.cases])
    means = linregress(true.mean(axis=1), stacked.mean(axis=1)).slope
    factors = " / ".join(f"{np.exp(value):.2f}" for value in np.median(stacked, axis=1))
    return [f"{rising:.0%}", "{:.2f} [{:.2f}, {:.2f}]".format(*each), f"{means:.2f}", factors]


def draw(made: dict[str, dict[int, Array]], nodules: Unseen, path: Path) -> None:
    """Size against time: the nodules' medians over runs, their median and bands over nodules, beside the true."""
    figure = Figure(figsize=(4.0 * len(made), 3.6), layout="constrained")
    axes = figure.subplots(1, len(made), sharey=True, squeeze=False)[0]
    months = np.array([0, *MONTHS])
    true = np.stack([np.zeros(len(nodules.before)), *(nodules.truth(days) for days in MONTHS.values())])
    for each, (title, sizes) in zip(axes, made.items(), strict=True):
        ratio = np.stack([np.median(sizes[month], axis=0) / nodules.before for month in MONTHS])
        factors = np.vstack([np.ones(len(nodules.before)), ratio])
        for values, colour, label in ((np.exp(true), "0.4", "true"), (factors, "tab:blue", "generated")):
            for ends, shade in (((0.05, 0.95), 0.15), ((0.25, 0.75), 0.25)):
                low, high = np.quantile(values, ends, axis=1, method="weibull")
                each.fill_between(months, low, high, color=colour, alpha=shade, linewidth=0)
            each.plot(months, np.median(values, axis=1), color=colour, marker="o", markersize=4, label=label)
        each.set(title=title, xlabel="months", xticks=months)
    axes[0].set_ylabel("diameter over that at baseline")
    axes[0].legend(frameon=False, loc="upper left")
    words = "Simulated phantom, synthetic follow-ups.\nNodules that grow: median, 50 % and 90 % of them."
    figure.suptitle(words, size=8)
    figure.savefig(path, dpi=110)


def read_out(dataset: Path) -> None:
    """Prints how much of the logarithm of the interval ridge regression reads from contexts, on unseen reports."""
    from sklearn.linear_model import RidgeCV

    entries = load_datalist(dataset)
    reports = {name: [item["report"] for item in pairs(dataset, name)] for name in ("training", "test")}
    days = {name: np.log([interval_days_of(report) or np.nan for report in each]) for name, each in reports.items()}
    conditioner = ReportConditioner("embedded", **PLAIN)
    shape = (conditioner.num_prompt_sets, conditioner.context_dim)
    numbers = record_numbers(entries["training"])
    kinds: dict[str, tuple[Any, Any]] = {"whole": (0, "variance"), "12 by variance": (12, "variance")}
    for title, (count, by) in (kinds | {"12 by record": (12, "record"), "16 by record": (16, "record")}).items():
        conditioner.normaliser = ContextNormaliser(shape, count, by)
        conditioner.fit_statistics(reports["training"], numbers)
        inputs = {name: conditioner.encode(each).flatten(1).numpy() for name, each in reports.items()}
        found = RidgeCV(np.logspace(-4, 6, 21)).fit(inputs["training"], days["training"])
        console.print(f"{title}: R² {found.score(inputs['test'], days['test']):.3f} on {len(days['test'])} reports")


def main(
    out: Path,
    patients: Annotated[int, typer.Option(min=20, help="of the phantom")] = 280,
    guidance_scale: Annotated[list[float] | None, typer.Option(help="1 is none")] = None,
    until: Annotated[str, typer.Option(help="dataset, read-out, unconditional, or an arm")] = "the end",
) -> None:
    """Prints the tables and draws OUT/intervals.png."""
    dataset = prepare(out, patients)
    if until == "dataset":
        return
    if until == "read-out":
        read_out(dataset)
        return
    shared = out / "shared"
    (shared / "models").mkdir(parents=True, exist_ok=True)
    shutil.copy(MODELS / "autoencoder.safetensors", shared / "models")
    train(dataset, shared, "unconditional")
    for arm in ARMS:
        if until == "unconditional":
            return
        start_from(shared / "models", out / arm)
        data = with_told(dataset, out / "told") if arm.startswith("told") else dataset
        train(data, out / arm, "conditional", conditioner_arguments=arguments(arm), prompt_steps=0)
        if until == arm:
            break
    evaluate(dataset, out, guidance_scale or [1.0])


def evaluate(dataset: Path, out: Path, guidance_scale: list[float]) -> None:
    """Generates for the unseen nodules, prints the tables and draws the figure."""
    nodules, made = unseen(dataset), {}
    for arm in ARMS:
        for scale in guidance_scale if (out / arm / "models" / "unet_conditional.safetensors").is_file() else ():
            made[f"{arm}, guidance {scale:g}"] = generate(out, arm, nodules, scale)
    predicted = {
        title: {months: np.log(np.median(each, axis=0) / nodules.before) for months, each in sizes.items()}
        for title, sizes in made.items()
    }
    for known in ("record", "outcome"):
        predicted[f"the law's median, {known} known"] = by_law(nodules, known)
    predicted["the truth"] = {months: nodules.truth(days) for months, days in MONTHS.items()}
    malignant = np.array([bool(case["malignant"]) for case in nodules.cases])
    for title, of in (("all that grow", np.ones_like(malignant)), ("cancers alone", malignant)):
        table = Table(f"{title} ({of.sum()})", "rises", "slope", "slope of means", "median factor, 6 / 12 / 24 months")
        for name, each in predicted.items():
            table.add_row(name, *scores({months: values[of] for months, values in each.items()}, nodules.take(of)))
        console.print(table)
    own = np.array([np.log(case["truth"]["simulated_growth"]) for case in nodules.cases])[None]
    ids = [case["patient_id"] for case in nodules.cases]
    for title, growths in (("real follow-ups", nodules.measured), ("through the autoencoder", nodules.coded)):
        found = "{:.2f} [{:.2f}, {:.2f}]".format(*slope(growths[None], own, ids))
        console.print(f"slope of measured on true growth, {title}: {found}")
    draw(made, nodules, out / "intervals.png")


if __name__ == "__main__":
    typer.run(main)
