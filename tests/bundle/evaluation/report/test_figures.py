"""Figures: what they show is computed right, nothing generated goes unmarked, and degenerate studies still draw."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from scripts.evaluation.report import figures
from scripts.pictures import png


def texts(figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def study_arrays(runs: int = 4, count: int = 9) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "probabilities": generator.uniform(size=(runs, count)),
        "labels": np.array([1.0, 0, 0, 1, 0, 0, 1, 0, np.nan])[:count],
        "generated": generator.uniform(-1, 1, (runs, count, 1, 16, 16)),
        "follow_up": generator.uniform(-1, 1, (count, 1, 16, 16)),
        "case_ids": np.array([f"case-{index}" for index in range(count)]),
    }


def test_gallery_marks_all_that_is_generated_and_nothing_else():
    arrays = study_arrays()
    arrays.pop("probabilities")
    figure = figures.gallery(baseline=arrays["follow_up"], **arrays)
    axes = np.array(figure.axes).reshape(6, 7)
    for row in axes:
        marked = ["SYNTHETIC" in [text.get_text() for text in axis.texts] for axis in row]
        assert marked == [False, True, True, True, True, True, False]
    shown = axes[0][1].images[0].get_array()
    np.testing.assert_array_equal(shown, arrays["generated"][0, 0, 0].T)  # NIfTI's first axis runs to the right
    labels = [row[0].get_ylabel() for row in axes]
    assert [label.split("\n")[1] for label in labels] == ["malignant"] * 3 + ["benign"] * 3
    assert labels[0].startswith("case-0")


def test_a_figure_of_simulated_data_says_so():
    assert figures.marked(Figure(), True).get_suptitle() == "Data in part simulated"
    assert figures.marked(Figure(), False).get_suptitle() == ""


@pytest.mark.parametrize(("runs", "columns"), [(1, 3), (2, 6), (9, 7)])
def test_gallery_has_the_columns_that_the_runs_allow(runs, columns):
    arrays = study_arrays(runs, count=2)
    arrays.pop("probabilities")
    assert len(figures.gallery(baseline=arrays["follow_up"], **arrays).axes) == 2 * columns


def test_error_variance_names_other_cases_and_marks_generated_maps():
    arrays = study_arrays()
    figure = figures.error_and_variance(**arrays)
    assert texts(figure).count("SYNTHETIC") == 9
    error = np.array([0.05, 0.5, 0.95, np.nan])
    variance = np.array([0.001, 0.2, 0.002, 0.9])
    assert figures.exemplary_cases(error, variance) == {"confident, right": 0, "unsure": 1, "confident, wrong": 2}
    assert len(figures.exemplary_cases(error[:1], variance[:1])) == 1


def test_running_variance_ends_at_the_variance_over_all_runs():
    probabilities = study_arrays(runs=6)["probabilities"]
    axis = figures.running_variance(probabilities).axes[0]
    mean = axis.lines[-1]
    np.testing.assert_array_equal(mean.get_xdata(), [2, 3, 4, 5, 6])
    np.testing.assert_allclose(mean.get_ydata()[-1], probabilities.var(axis=0, ddof=1).mean())
    np.testing.assert_allclose(axis.lines[0].get_ydata()[0], probabilities[:2, 0].var(ddof=1))


def test_area_under_the_drawn_roc_curve_is_the_auroc():
    arrays = study_arrays()
    roc = figures.curves({"NAMD": arrays["probabilities"]}, arrays["labels"]).axes[0]
    known = np.isfinite(arrays["labels"])
    expected = roc_auc_score(arrays["labels"][known], arrays["probabilities"].mean(axis=0)[known])
    assert np.trapezoid(roc.lines[0].get_ydata(), roc.lines[0].get_xdata()) == pytest.approx(expected)


def test_calibration_curve_shows_shares_of_known_cases():
    labels = np.array([0.0, 1, 0, 1, np.nan])
    figure = figures.calibration({"NAMD": np.array([0.11, 0.13, 0.81, 0.85, 0.5])}, labels)
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.12, 0.83])
    np.testing.assert_allclose(line.get_ydata(), [0.5, 0.5])
    assert figure.axes[1].patches[0].get_xy()[:, 1].max() == 2


def test_latent_map_keeps_neighbours_and_shows_unknown_diameters():
    generator = np.random.default_rng(0)
    cluster = np.repeat([0.0, 50.0], 10)[:, None]
    latents = cluster + generator.normal(size=(20, 6))
    diameters = np.r_[np.full(10, 5.0), np.full(9, 20.0), np.nan]
    figure = figures.latent_map({"aligned": latents, "not aligned": latents[::-1]}, diameters)
    unknown, known = figure.axes[0].collections
    assert len(unknown.get_offsets()) == 1 and len(known.get_offsets()) == 19
    places = np.asarray(known.get_offsets())
    apart = np.linalg.norm(places[:10].mean(axis=0) - places[10:].mean(axis=0))
    assert apart > 2 * max(places[:10].std(), places[10:].std())
    assert png(figures.latent_map({"all unknown": latents}, np.full(20, np.nan))).startswith(b"\x89PNG")
