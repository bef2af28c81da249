"""What keeps the regret of generated follow-ups near the baseline's: the generator, the judge, or the number of pairs?

The generator of `folds.py` is replaced by a perfect one, as faithful as can be: the simulation itself, which grows each
baseline by the law, as a benign and as a malignant nodule, each by 10 evenly spaced quantiles of growth. With the two
weighted by the oracle's probability (record and rating) this is the mean over endless runs of a generator that knows
all there is to know. Its follow-ups are read out of fold in two ways: by the fold's judge, and by their mean measured
growth, which a logistic regression on the other folds reads beside the judge's log odds and the size of the baseline.
How much growth can be learnt from this many pairs is told by a ridge regression on record and size in its place.

    python benchmarks/fold_limits.py COHORT DATASET WORK [--tables OUT]

COHORT is the table that `data_prep progression` wrote and DATASET was made from. The folds' judges are trained in WORK,
a minute each, and the simulation's follow-ups kept there; each judge's epoch was chosen on the cases that it reads.
With the tables of all folds in OUT, what was generated stands beside, read by OUT's own judges, and the direct
classifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
import typer
from fold_choice import interval, read, trained, varied
from fold_sizes import OutOfFold
from folds import DIRECT, SEEDS, fold_dataset, judged, train_stage
from numpy.random import Generator
from readers import IMAGE_SIZE, crops
from rich.console import Console
from rich.table import Table
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import data_prep  # noqa: F401 (puts the bundle on the path)
from data_prep.images.content import HU_RANGE
from data_prep.images.crops import cut
from data_prep.progression import laws
from data_prep.progression.baselines import Baseline, crop_of
from data_prep.progression.baselines import read as read_baselines
from data_prep.progression.growth import Mixture
from data_prep.progression.warp import follow_up
from scripts.arrays import Array
from scripts.data.datalist import load_datalist, pairs
from scripts.data.digest import digest_dataset
from scripts.data.transforms import preprocessing
from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.statistics.calibration import log_odds_of
from scripts.evaluation.statistics.folds import FOLDS
from scripts.evaluation.statistics.metrics import auroc, weighted_mean
from scripts.evaluation.statistics.regret import divergence
from scripts.files import write_atomically

RUNS = 10
"""Of the simulation, for each outcome."""
FACTORS = np.linspace(0.2, 6.0, 5801)
"""Where the law's distribution of growth is looked up."""
OUTCOMES, SECTIONS = (0, 1), ("training", "validation")
FOLLOW_UP, LAW, GROWTH = "follow-up", "the law's follow-ups", "judge, size and growth"
OWN = "judge of OUT's folds"
"""Another machine's judge differs from the one that is trained here."""


def simulated(cohort: Path, dataset: Path, law: str, path: Path) -> dict[str, Array]:
    """Follow-ups (2, RUNS, 64, 64) in [-1, 1] of each case, grown by the law as benign and as malignant."""
    datalist = load_datalist(dataset)
    cases = [(case, item) for part in SECTIONS for case, item in zip(datalist[part], pairs(dataset, part), strict=True)]
    if not path.exists():
        growth, load = laws.read(law).growth, preprocessing(["follow_up"], IMAGE_SIZE)
        baselines = {(row.patient_id, row.nodule_id): Baseline.of(row) for row in read_baselines(cohort).itertuples()}
        images = np.empty((len(cases), len(OUTCOMES), RUNS, IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
        for number, (case, item) in enumerate(cases):
            factors = [quantiles(growth[outcome], case["interval_days"]) for outcome in OUTCOMES]
            nodule, rng = baselines[case["patient_id"], case["nodule_id"]], np.random.default_rng(number)
            with TemporaryDirectory() as folder:
                made = grown(nodule, np.ravel(factors), rng, datalist["crop_size"], datalist["pixel_mm"], Path(folder))
                for place, crop in zip(np.ndindex(len(OUTCOMES), RUNS), made, strict=True):
                    images[number][place] = load(item | {"follow_up": str(crop)})["follow_up"][0]
        with write_atomically(path) as partial:
            np.save(partial.open("wb"), images)
    return {case["case_id"]: each for (case, _), each in zip(cases, np.load(path), strict=True)}


def quantiles(growth: Mixture, days: float) -> Array:
    """Evenly spaced quantiles (RUNS,) of the factor of the diameter."""
    return np.interp((np.arange(RUNS) + 0.5) / RUNS, growth.cdf(FACTORS, days), FACTORS)


def grown(nodule: Baseline, factors: Array, rng: Generator, size: int, pixel_mm: float, folder: Path) -> list[Path]:
    """Crops of a dataset's kind of one nodule's follow-ups, grown by factors of its diameter."""
    image, mask = crop_of(nodule)
    hu, (x, y) = np.asarray(image.dataobj, dtype=np.float32)[..., 0], np.linalg.norm(image.affine[:3, :2], axis=0)
    made = []
    for number, factor in enumerate(factors):
        pixels, _ = follow_up(hu, mask, factor, (x, y), rng)
        scan, crop = folder / "scan.nii", folder / f"{number}.nii"
        nib.save(nib.Nifti1Image(np.rint(pixels.clip(*HU_RANGE))[..., None].astype(np.int16), image.affine), scan)
        nib.save(cut(scan, None, size, pixel_mm), crop)
        made.append(crop)
    return made


def read_by_judges(found: OutOfFold, dataset: Path, images: dict[str, Array], work: Path) -> dict[str, Array]:
    """Probabilities (N,) of the real crops and of the simulation's follow-ups by outcome, by the folds' judges."""
    parts = []
    for number in np.unique(found.fold):
        folder = work / f"fold_{number}"
        data = fold_dataset(dataset, int(number), folder / "dataset")
        train_stage("classifier", data, folder, ())
        cases = [item["case_id"] for item in pairs(data, "validation")]
        grown = torch.from_numpy(np.stack([images[case] for case in cases]))
        seen = crops(data, "validation") | {str(outcome): grown[:, outcome] for outcome in OUTCOMES}
        parts.append(pd.DataFrame(judged(seen, {"": folder / "models" / "classifier.safetensors"}), index=cases))
    table = pd.concat(parts).loc[found.ids]
    return {name: table[name].to_numpy() for name in table}


def growth_of(images: dict[str, Array], found: OutOfFold, datalist: Mapping[str, Any]) -> Array:
    """Mean measured log growth (2, N) of the simulation's runs, by outcome."""
    runs = np.stack([images[case] for case in found.ids], axis=2)[:, :, :, None]
    means = []
    for each in runs:
        sizes = measure(each, np.full((len(found.ids), 2), datalist["pixel_mm"]))
        means.append(np.log(sizes.long / found.before).mean(axis=0))
    return np.stack(means)


def learnt(found: OutOfFold) -> Array:
    """Log growth (N,) that a ridge regression on record and size, fitted on the other folds, expects beyond their mean.

    The mean itself says which fold a case is in, and so how many of the others are malignant.
    """
    growth, expected = np.log(found.truth / found.before), np.empty(len(found.truth))
    for fit, left in found.splits():
        model = make_pipeline(SimpleImputer(), StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
        expected[left] = model.fit(found.known[fit], growth[fit]).predict(found.known[left]) - growth[fit].mean()
    return expected


def read_beside(found: OutOfFold, *features: Array) -> Array:
    """Probabilities (N,) of a logistic regression on features (N,), each fold's by the other folds."""
    columns, probabilities = np.column_stack(features), np.empty(len(found.labels))
    for fit, left in found.splits():
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1e6, max_iter=1000))
        probabilities[left] = model.fit(columns[fit], found.labels[fit]).predict_proba(columns[left])[:, 1]
    return probabilities


def readings(found: OutOfFold, judge: dict[str, Array], grew: Array) -> dict[tuple[str, str], list[list[Array]]]:
    """By reader and images, what is read of them in each training: features (N,)."""
    drawn = np.stack([1.0 - found.oracle, found.oracle])
    images = {"baseline": judge["baseline"], FOLLOW_UP: judge["follow_up"]}
    images[LAW] = (drawn * np.stack([judge[str(each)] for each in OUTCOMES])).sum(axis=0)
    growth = {
        "none": [np.zeros(len(found.ids))],
        FOLLOW_UP: [np.log(found.truth / found.before)],
        LAW: [(drawn * grew).sum(axis=0)],
        "ridge regression": [learnt(found)],
    }
    read_as = {("judge", name): [[log_odds_of(values)]] for name, values in images.items()}
    if found.out is not None:
        read_as |= tabled(found, found.out)
        growth |= {each.name: [found.growth(each, seed) for seed in SEEDS] for each in trained(found.out)}
    beside = log_odds_of(judge["baseline"]), np.log(found.before)
    return read_as | {(GROWTH, name): [[*beside, each] for each in values] for name, values in growth.items()}


def tabled(found: OutOfFold, out: Path) -> dict[tuple[str, str], list[list[Array]]]:
    """The same of what the folds' own judges read of what was generated, and of their direct classifiers."""
    cases, known = read(out)
    rows = pd.Index(cases["case_id"]).get_indexer(found.ids)
    direct = pd.concat([pd.read_csv(out / f"fold_{fold}" / DIRECT) for fold in range(FOLDS)]).set_index("case_id")
    names = ["baseline", *(each.name for each in trained(out))]
    read_as = {(OWN, name): [[log_odds_of(values)] for values in known[name][:, rows]] for name in names}
    read_as["direct classifier", "baseline"] = [[log_odds_of(direct.loc[found.ids, "probability"].to_numpy())]]
    return read_as


def main(
    cohort: Path,
    dataset: Path,
    work: Path,
    tables: Annotated[Path | None, typer.Option(help="OUT of folds.py, all folds")] = None,
    law: Annotated[str, typer.Option(help="that the cohort was drawn by")] = "real",
    resamples: int = 2000,
) -> None:
    """Prints the table."""
    found = OutOfFold(dataset, tables)
    images = simulated(cohort, dataset, law, work / f"{Path(law).stem}_{digest_dataset(dataset)[:12]}.npy")
    judge, grew = read_by_judges(found, dataset, images, work), growth_of(images, found, load_datalist(dataset))
    benign, malignant = (judge[str(outcome)].mean() for outcome in OUTCOMES)
    print(f"{LAW}: the judges' mean probability is {benign:.3f} grown as benign, {malignant:.3f} as malignant nodules.")
    told = {
        name: np.stack([read_beside(found, *each) for each in trainings])
        for name, trainings in readings(found, judge, grew).items()
    }
    told["oracle", "record and rating"] = found.oracle[None]

    def auc(values: Array, weights: Array | None) -> Array:
        return auroc(values, found.labels, weights)

    def lost(values: Array, weights: Array | None) -> Array:
        return weighted_mean(divergence(found.oracle, values), weights)

    patients = list(found.patients)
    telling = varied(told, auc, patients, found.labels, resamples)
    regret = varied(told, lost, patients, found.labels, resamples, stratified=False)
    title = f"{len(found.ids)} nodules of {len(set(patients))} patients, recalibrated out of fold"
    table = Table("read by", "images of", "AUROC", "less baseline", "regret", "of baseline's", title=title)
    for name in told:
        base = (OWN if name[0] == OWN else "judge", "baseline")
        row = [interval(telling[name]), interval(telling[name] - telling[base])]
        knows_more = name[1] == FOLLOW_UP  # growth, which this oracle does not know
        row += ["-", "-"] if knows_more else [interval(regret[name]), interval(regret[name] / regret[base])]
        table.add_row(*name, *row)
    Console(width=200).print(table)


if __name__ == "__main__":
    typer.run(main)
