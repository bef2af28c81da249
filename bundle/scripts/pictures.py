"""How crops are drawn: the radiologist's way up, and what was generated marked in the picture itself."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from scripts.arrays import Array


def show(
    axis: Axes, image: Array, synthetic: bool = False, cmap: str = "gray", limits: tuple[float, float] = (-1.0, 1.0)
) -> None:
    """Shows (H, W), NIfTI's x to the right; what was generated bears the mark in the picture itself."""
    axis.imshow(image.T, cmap=cmap, vmin=limits[0], vmax=max(limits[1], limits[0] + 1e-6), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    if synthetic:
        mark = axis.text(0.5, 0.03, "SYNTHETIC", transform=axis.transAxes, ha="center", va="bottom", color="white")
        mark.set(fontsize=6, weight="bold", path_effects=[withStroke(linewidth=1.5, foreground="black")])


def panel(baseline: Array, samples: Array, num_samples: int = 4) -> Figure:
    """A case at one look: baseline, some of its generated follow-ups, and their mean and standard deviation.

    Args:
        baseline: (H, W) in [-1, 1].
        samples: (runs, H, W) in [-1, 1].
    """
    shown = samples[:num_samples]
    figure = Figure(figsize=(1.7 * (len(shown) + 3), 2.1), layout="constrained")
    axes = figure.subplots(1, len(shown) + 3)
    show(axes[0], baseline)
    axes[0].set_title("baseline", fontsize=8)
    for run, (axis, sample) in enumerate(zip(axes[1:-2], shown, strict=True), start=1):
        show(axis, sample, synthetic=True)
        axis.set_title(f"sample {run}", fontsize=8)
    deviation = samples.std(axis=0)
    show(axes[-2], samples.mean(axis=0), synthetic=True)
    axes[-2].set_title(f"mean of {len(samples)}", fontsize=8)
    show(axes[-1], deviation, synthetic=True, cmap="magma", limits=(0.0, float(np.max(deviation))))
    axes[-1].set_title("standard deviation", fontsize=8)
    figure.suptitle("Generated follow-up: synthetic, for research only", fontsize=8)
    return figure


def png(figure: Figure, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()
