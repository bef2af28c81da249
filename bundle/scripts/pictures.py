"""Drawing crops: in radiological orientation, and with a mark in the image itself where it is synthetic."""

from __future__ import annotations

import io
from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke

from scripts.arrays import Array
from scripts.data.transforms import HU_PER_UNIT, HU_WINDOW

OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
"""For each letter of a patient's side (left, posterior, superior, ...) the opposite one."""


def show(
    axis: Axes, image: Array, synthetic: bool = False, cmap: str = "gray", limits: tuple[float, float] = (-1.0, 1.0)
) -> AxesImage:
    """Shows an image (H, W) with its first axis, NIfTI's x, to the right; a synthetic one is marked as such.

    Args:
        limits: values of the first and of the last colour.
    """
    shown = axis.imshow(image.T, cmap=cmap, vmin=limits[0], vmax=max(limits[1], limits[0] + 1e-6))
    shown.set_interpolation("nearest")
    axis.set(xticks=[], yticks=[])
    if synthetic:
        _write(axis, 0.5, 0.03, "SYNTHETIC", va="bottom", size=6, weight="bold")
    return shown


def scale_bar(axis: Axes, image: Array, pixel_mm: float) -> None:
    """Draws a bar of 10 mm at the top left of a shown image (H, W), or of 5 mm if 10 would take almost half its width.

    Args:
        pixel_mm: width of a pixel.
    """
    length = 10 if 10 / pixel_mm <= 0.45 * len(image) else 5
    axis.plot([2, 2 + length / pixel_mm], [2.5, 2.5], color="white", linewidth=2)
    axis.text(2 + length / pixel_mm / 2, 4.5, f"{length} mm", color="white", size=5.5, ha="center", va="top")
    axis.set(xlim=(-0.5, image.shape[0] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))


def directions(axis: Axes, towards: Sequence[str]) -> None:
    """Draws the letters of the patient's sides (L, R, A, P, S, I) at the four sides of a shown image.

    Args:
        towards: sides that the array's two axes point to, such as ("L", "P") for crops of :mod:`data_prep`.
    """
    right, bottom = towards[:2]
    for x, y, letter in ((0.04, 0.5, OPPOSITE[right]), (0.96, 0.5, right), (0.5, 0.94, OPPOSITE[bottom])):
        _write(axis, x, y, letter, va="center", size=8, weight="bold")
    _write(axis, 0.5, 0.06, bottom, va="center", size=8, weight="bold")


def panel(
    baseline: Array,
    samples: Array,
    name: str,
    pixel_mm: float,
    towards: Sequence[str],
    interval: str = "",
    num_samples: int = 4,
) -> Figure:
    """A case in one figure: baseline, some generated follow-ups, and mean and standard deviation of all.

    Args:
        baseline: (H, W) in [-1, 1].
        samples: (runs, H, W) in [-1, 1]; a single one has no mean and no standard deviation.
        name: of the case.
        pixel_mm: width of a pixel.
        towards: see :func:`directions`.
        interval: to the follow-up, as a sentence.
        num_samples: how many of the follow-ups are shown.
    """
    shown = samples[:num_samples]
    figure, axes = _tiles(len(shown) + 1 + 2 * (len(samples) > 1))
    titles = ["baseline", *(f"sample {run}" for run in range(1, len(shown) + 1)), f"mean of {len(samples)} samples"]
    images = [baseline, *shown, samples.mean(axis=0)]
    for index, (axis, title, image) in enumerate(zip(axes, titles, images, strict=False)):
        show(axis, image, synthetic=index > 0)
        axis.set_title(title, fontsize=8)
        scale_bar(axis, image, pixel_mm)
    directions(axes[0], towards)
    if len(samples) > 1:
        deviation = samples.std(axis=0) * HU_PER_UNIT
        colours = show(axes[-1], deviation, synthetic=True, cmap="magma", limits=(0.0, float(np.max(deviation))))
        axes[-1].set_title("standard deviation", fontsize=8)
        scale_bar(axes[-1], deviation, pixel_mm)
        bar = figure.colorbar(colours, cax=axes[-1].inset_axes((1.04, 0.0, 0.06, 1.0)))
        bar.ax.set_title("HU", fontsize=7)
        bar.ax.tick_params(labelsize=7)
    title = fill(f"{name}: generated follow-up, synthetic, for research only", int(10 * figure.get_figwidth()))
    figure.suptitle(title, fontsize=9, weight="bold", y=0.99)
    low, high = HU_WINDOW
    figure.supxlabel(f"Window {low:.0f} to {high:.0f} HU. {interval}".strip(), fontsize=7, x=0.01, ha="left")
    return figure


def _tiles(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with square axes in a row, room for two lines and titles above, a line below, a colour bar at the right.

    Their places are computed here, since matplotlib's layout engine draws all of it twice to find them.
    """
    side, gap, below, above, bar = 1.6, 0.12, 0.3, 0.6, 0.6  # inches
    width, height = max(count * (side + gap) + bar, 6.0), below + side + above
    figure = Figure(figsize=(width, height))
    left = gap + (width - count * (side + gap) - bar) / 2
    places = (left + index * (side + gap) for index in range(count))
    return figure, [figure.add_axes((x / width, below / height, side / width, side / height)) for x in places]


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def _write(axis: Axes, x: float, y: float, text: str, va: str, size: float, weight: str) -> None:
    """Writes white letters with a black edge, legible on any image; x and y are fractions of the axes."""
    mark = axis.text(x, y, text, transform=axis.transAxes, ha="center", va=va, color="white", size=size, weight=weight)
    mark.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
