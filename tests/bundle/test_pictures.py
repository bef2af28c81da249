"""Pictures: the radiologist's way up, and what was generated marked."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from scripts.pictures import panel, png, scale_bar, show


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


@pytest.mark.parametrize(("pixel_mm", "length"), [(0.5, 10), (0.7, 10), (0.2, 5)])
def test_the_bar_has_the_length_that_it_says(pixel_mm: float, length: int) -> None:
    axis, image = Figure().subplots(), np.zeros((64, 64))
    show(axis, image)
    scale_bar(axis, image, pixel_mm)
    (bar,) = axis.lines
    assert np.ptp(bar.get_xdata()) * pixel_mm == pytest.approx(length)
    assert [text.get_text() for text in axis.texts] == [f"{length} mm"]
    assert axis.get_xlim() == (-0.5, 63.5) and axis.get_ylim() == (63.5, -0.5), "the image is not moved"


def texts(axis: Axes) -> list[str]:
    return [text.get_text() for text in axis.texts]


def test_a_panel_says_all_that_is_needed_to_read_it() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (6, 32, 32))
    figure = panel(np.zeros((32, 32)), samples, "case-1", 0.7, ("L", "P"), "Follow-up after 12 months.")
    baseline, *generated = figure.axes
    assert len(generated) == 4 + 2, "four samples, mean and standard deviation"
    assert all("SYNTHETIC" in texts(axis) for axis in generated) and "SYNTHETIC" not in texts(baseline)
    assert all("10 mm" in texts(axis) for axis in figure.axes)
    places = {text.get_text(): text.get_position() for text in baseline.texts}
    assert places["R"][0] < 0.1 and places["L"][0] > 0.9 and places["A"][1] > 0.9 and places["P"][1] < 0.1
    said = " ".join(figure.get_suptitle().split()) + " " + " ".join(figure.get_supxlabel().split())
    for part in ("case-1", "synthetic, for research only", "Window -1000 to 400 HU", "Follow-up after 12 months."):
        assert part in said
    (colours,) = (child for child in generated[-1].child_axes)
    assert colours.get_title() == "HU"
    assert colours.get_ylim()[1] == pytest.approx(700 * samples.std(axis=0).max()), "in HU"


def test_letters_follow_the_affine() -> None:
    figure = panel(np.zeros((8, 8)), np.zeros((2, 8, 8)), "case-1", 0.7, ("R", "A"))
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert places["L"][0] < 0.1 and places["R"][0] > 0.9 and places["P"][1] > 0.9 and places["A"][1] < 0.1


def test_a_single_sample_has_no_mean() -> None:
    figure = panel(np.zeros((8, 8)), np.zeros((1, 8, 8)), "case-1", 0.7, ("L", "P"))
    assert [axis.get_title() for axis in figure.axes] == ["baseline", "sample 1"]
