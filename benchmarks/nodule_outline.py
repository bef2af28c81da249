"""How well do the evaluation's outlines agree with radiologists' outlines, and its diameters with theirs?

    python benchmarks/nodule_outline.py                       # training and validation sections
    python benchmarks/nodule_outline.py --section test        # for the final numbers, not to choose constants
    python benchmarks/nodule_outline.py --picture sheet.png   # the worst and some others of the last section

Real baselines of LIDC-progression with their masks (../shared/data or NAMD_SHARED_DATA), in crops of 64 pixels as in
the evaluation. Nodules whose mask is wider than the crop are left out, as there. The constants of
`scripts.evaluation.nodules.outline.Settings` are options, to choose them on the training section.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import pandas as pd
import typer
from matplotlib.figure import Figure
from matplotlib.path import Path as Polygon
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.data.transforms import HU_WINDOW
from scripts.evaluation.nodules.growth import diameters, of_mask
from scripts.evaluation.nodules.outline import Settings, outline

DATA = Path(os.environ.get("NAMD_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SIZE, SPACING = 64, 0.5
ATTENUATION = {1: "solid", 2: "ground glass", 3: "part-solid"}


def view(array: np.ndarray, **padding: Any) -> np.ndarray:
    """The central pixels."""
    padded = np.pad(array, SIZE // 2, **padding)
    start = [length // 2 for length in array.shape]
    return padded[start[0] : start[0] + SIZE, start[1] : start[1] + SIZE]


def main(
    section: Annotated[list[str] | None, typer.Option(help="training, validation or test; several allowed")] = None,
    picture: Annotated[Path | None, typer.Option(help="a contact sheet, readers green, ours red")] = None,
    fraction: Annotated[float, typer.Option()] = Settings.fraction,
    softness: Annotated[float, typer.Option()] = Settings.softness,
    bend: Annotated[float, typer.Option()] = Settings.bend,
) -> None:
    """Prints a row for each section and attenuation."""
    cohort = pd.read_csv(DATA / "lidc_progression" / "cohort.csv").query("study_yr == 0")
    table = Table(
        "section", "nodules", "n", "Dice", "median", "long: MAE (mm)", "median", "bias", "perp.: MAE (mm)", box=SIMPLE
    )
    settings = replace(Settings(), fraction=fraction, softness=softness, bend=bend)
    for name in section or ["training", "validation"]:
        rows = cohort[cohort.split == name]
        hu, masks, sizes = (list(each) for each in zip(*map(read, rows.image, rows["mask"]), strict=True))
        points = outline(np.stack(hu), np.full((len(hu), 2), SPACING), settings).points
        dice = np.array([overlap(*pair) for pair in zip(points, masks, strict=True)])
        errors = np.array([diameters(each) for each in points]) - np.array(sizes)[:, :2]
        seen = np.array([size[0] < SIZE * SPACING for size in sizes])
        kinds = {"all": seen} | {word: seen & (rows.sct_pre_att == code) for code, word in ATTENUATION.items()}
        for kind, chosen in kinds.items():
            long, perpendicular = errors[chosen].T
            numbers = (dice[chosen].mean(), np.median(dice[chosen]), np.abs(long).mean(), np.median(np.abs(long)))
            more = (long.mean(), np.abs(perpendicular).mean())
            table.add_row(name, kind, str(int(chosen.sum())), *(f"{number:.2f}" for number in (*numbers, *more)))
        if picture is not None:
            draw(picture, hu, masks, points, dice)
    Console().print(table)


def read(image: str, mask: str) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """HU and mask of what is seen, and the size of the whole mask; beyond its edge a file is mirrored, as in crops."""
    hu, inside = (np.asarray(nib.load(DATA / "lidc_progression" / path).dataobj)[..., 0] for path in (image, mask))
    crop = view(np.clip(hu, *HU_WINDOW).astype(float), mode="reflect")
    return crop, view(inside > 0), of_mask(inside > 0, (SPACING, SPACING))


def overlap(points: np.ndarray, mask: np.ndarray) -> float:
    """Dice of an outline and a mask."""
    places = np.argwhere(np.ones_like(mask)) * SPACING
    ours = Polygon(points).contains_points(places).reshape(mask.shape)
    return float(2 * (ours & mask).sum() / (ours.sum() + mask.sum()))


def draw(path: Path, hu: list[np.ndarray], masks: list[np.ndarray], points: np.ndarray, dice: np.ndarray) -> None:
    """The twelve worst cases, and twelve of the rest."""
    order = np.argsort(dice)
    figure = Figure(figsize=(18, 12.5), layout="constrained")
    axes = figure.subplots(4, 6).ravel()
    for axis, case in zip(axes, [*order[:12], *order[12 :: len(order) // 12]], strict=False):
        axis.imshow(hu[case].T, cmap="gray", vmin=HU_WINDOW[0], vmax=HU_WINDOW[1])
        axis.contour(masks[case].T, [0.5], colors="lime", linewidths=1)
        axis.plot(*(np.vstack([points[case], points[case][:1]]) / SPACING).T, color="red", linewidth=1.2)
        axis.set_title(f"Dice {dice[case]:.2f}")
        axis.set_axis_off()
    figure.savefig(path, dpi=70)


if __name__ == "__main__":
    typer.run(main)
