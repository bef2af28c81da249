"""A picture of a dataset: baseline and follow-up of some cases side by side, single crops alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from data_prep.check import load
from data_prep.errors import DataError
from data_prep.padding import Box, crops_of
from data_prep.schema import LISTS
from scripts.files import write_atomically

LUNG_WINDOW = (-1350.0, 150.0)
"""Level -600, width 1500 HU."""

COLUMNS = 4
OUTCOMES = {0: "benign", 1: "malignant", None: "outcome unknown"}


def draw_sample(dataset: Path, target: Path, seed: int = 0, count: int = 12) -> None:
    """Draws a random sample of a dataset's cases, pairs and single crops, into a PNG.

    Args:
        dataset: the folder.
        target: the PNG to write.
        seed: of the sample.
        count: of cases.

    Raises:
        DataError: no datalist, or none of its cases has its crops.
    """
    datalist = load(dataset)
    cases = [
        (section, case)
        for section in LISTS
        for case in datalist.get(section, [])
        if (crops := crops_of([case])) and all((dataset / crop).is_file() for crop in crops)
    ]
    if not cases:
        raise DataError(f"{dataset}: no case with its crops; nothing to draw.")
    chosen = np.random.default_rng(seed).permutation(len(cases))[:count]
    rows = -(-len(chosen) // COLUMNS)
    figure = Figure(figsize=(4.0 * COLUMNS, 2.5 * rows + 0.4), dpi=100, layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, index in zip(grid.flat, sorted(chosen), strict=False):
        section, case = cases[index]
        _draw_case(axes, dataset, section, case, datalist.get("unpadded", {}))
    if datalist.get("unpadded"):
        figure.supxlabel("Dashed: beyond it there is no image; mirrored, or air", fontsize=8)
    if datalist.get("simulated"):
        figure.suptitle(f"SIMULATED: {datalist['simulated']}", color="crimson")
    with write_atomically(target) as path:
        figure.savefig(path, format="png", metadata={"Software": None})


def _draw_case(axes: Axes, dataset: Path, section: str, case: dict[str, Any], unpadded: dict[str, Box]) -> None:
    """One case, baseline on the left, above it who, and what became of the nodule; a frame about what is not padded."""
    crops = crops_of([case])
    for number, crop in enumerate(crops):
        pixels = np.asanyarray(nib.Nifti1Image.from_filename(dataset / crop).dataobj)[..., 0]
        # Array axes run to the patient's left and back; pictures have rows first. A gap of 5 % stands between.
        extent = (1.05 * number, 1.05 * number + 1.0, 1.0, 0.0)
        axes.imshow(pixels.T, cmap="gray", vmin=LUNG_WINDOW[0], vmax=LUNG_WINDOW[1], extent=extent)
        if crop in unpadded:
            (low, high), (left, right) = np.array(unpadded[crop]).reshape(2, 2) / len(pixels)
            place = (extent[0] + low, left), high - low, right - left
            axes.add_patch(Rectangle(*place, fill=False, edgecolor="gold", linestyle="--", linewidth=0.8))
    axes.set_xlim(0.0, 2.05) if len(crops) > 1 else axes.set_xlim(-0.525, 1.525)  # a single one in the middle
    facts = [_size(case.get("ehr", {})), "no follow-up"]
    if len(crops) > 1:
        facts = [f"{facts[0]} | {_size(case.get('follow_up_attributes', {}))}", f"{case.get('interval_days')} days"]
    facts.append(OUTCOMES.get(case.get("malignant"), ""))
    axes.set_title(f"{case.get('case_id', crops[0])} ({section})\n{', '.join(facts)}", fontsize=8)


def _size(features: dict[str, Any]) -> str:
    """Both diameters, as far as they are known."""
    longest, across = (features.get(name, "?") for name in ("sct_long_dia", "sct_perp_dia"))
    return f"{longest} x {across} mm"
