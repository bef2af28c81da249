"""Draws the README's picture: the first test case of a dataset, with what was generated for it.

python -m data_prep phantom PHANTOM
python -m data_prep cohort PHANTOM/cohort.csv --out DATASET --name phantom --keep-ids
python -m monai.bundle run --config_file bundle/configs/inference.yaml --dataset_dir DATASET --output_dir OUT
python benchmarks/readme_picture.py DATASET OUT/predictions bundle/docs/phantom_case.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from matplotlib.figure import Figure

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.datalist import load_datalist, pairs
from scripts.data.transforms import preprocessing, to_hu
from scripts.pictures import scale_bar, show
from scripts.predictions import read_predictions

SAMPLES = 2
"""Number of runs that are drawn as images of their own."""


def main(dataset: Path, predictions: Path, target: Path, image_size: int = 64) -> None:
    """Baseline, two samples, mean and standard deviation over all runs, and the real follow-up, as one PNG."""
    case, entry = pairs(dataset, "test")[0], load_datalist(dataset)["test"][0]
    crops = preprocessing(["baseline", "follow_up"], image_size)(case)
    runs = read_predictions(predictions, [case["case_id"]])[:, 0, 0]
    deviation = to_hu(runs).std(axis=0)

    figure = Figure(figsize=(10.2, 2.05), layout="constrained")
    axes = figure.subplots(1, SAMPLES + 4)
    show(axes[0], crops["baseline"][0].numpy())
    scale_bar(axes[0], runs[0], float(np.linalg.norm(crops["baseline"].meta["original_affine"][:3, 0])))
    for axis, run in zip(axes[1:-3], runs, strict=False):
        show(axis, run, synthetic=True)
    show(axes[-3], runs.mean(axis=0), synthetic=True)
    show(axes[-2], deviation, synthetic=True, cmap="magma", limits=(0.0, float(deviation.max())))
    scale = figure.colorbar(axes[-2].images[0], ax=axes[-2], shrink=0.8)
    scale.ax.tick_params(labelsize=6)
    scale.set_label("HU", fontsize=7)
    show(axes[-1], crops["follow_up"][0].numpy())
    titles = [
        "baseline\nsimulated",
        *[f"sample {number + 1} of {len(runs)}\ngenerated" for number in range(SAMPLES)],
        f"mean of {len(runs)}\ngenerated",
        "standard deviation\ngenerated",
        f"follow-up, day {entry['interval_days']}\nsimulated",
    ]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=8)
    figure.savefig(target, dpi=110, metadata={"Comment": "SIMULATED phantom, SYNTHETIC follow-ups: research only"})


if __name__ == "__main__":
    typer.run(main)
