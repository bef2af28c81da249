"""Pictures: the radiologist's way up, and what was generated marked."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from scripts.pictures import png, show


@pytest.mark.parametrize("synthetic", [True, False])
def test_what_was_generated_bears_the_mark_and_nothing_else_does(synthetic: bool) -> None:
    axis = Figure().subplots()
    show(axis, np.zeros((4, 6)), synthetic=synthetic)
    assert ("SYNTHETIC" in [text.get_text() for text in axis.texts]) == synthetic


def test_x_runs_to_the_right_and_the_window_is_fixed() -> None:
    axis, image = Figure().subplots(), np.linspace(-0.5, 0.5, 24).reshape(4, 6)
    show(axis, image)
    (shown,) = axis.images
    np.testing.assert_array_equal(shown.get_array(), image.T)
    assert shown.get_clim() == (-1, 1) and shown.get_interpolation() == "nearest"


def test_what_does_not_vary_is_drawn_too() -> None:
    axis = Figure().subplots()
    show(axis, np.zeros((4, 4)), limits=(0.0, 0.0))
    low, high = axis.images[0].get_clim()
    assert low < high


def test_a_figure_is_a_png_file_of_its_size() -> None:
    content = png(Figure(figsize=(2, 1)), dpi=50)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == "PNG" and picture.size == (100, 50)
        assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
