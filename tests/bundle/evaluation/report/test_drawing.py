"""Which figures are drawn: those that the results allow, and none that would mislead."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest

from scripts.evaluation.judge import Method
from scripts.evaluation.report import drawing
from scripts.evaluation.report.drawing import draw_growth, draw_methods, draw_training
from scripts.evaluation.report.training_log import Stage
from scripts.evaluation.study import Cases

ALL = ["curves", "calibration", "gallery", "error_variance", "running_variance", "latent_map"]


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the figures show is tested in ``test_figures.py``."""
    monkeypatch.setattr(drawing, "figures", Mock())


def drawn(labels: list[float | None], runs: int = 3, main: str | None = "NAMD", latents: bool = True) -> list[str]:
    """Names of the figures of so many cases."""
    rng, count = np.random.default_rng(0), len(labels)
    entries = [{"case_id": f"c{i}", "patient_id": f"p{i}", "malignant": label} for i, label in enumerate(labels)]
    for index, entry in enumerate(entries):
        entry["ehr"] = {"sct_long_dia": 5.0 + index}
    images = rng.uniform(-1, 1, (runs, count, 1, 16, 16))
    methods = {name: Method(rng.uniform(size=(1, count)), images[:1]) for name in ("real_baseline", "real_follow_up")}
    methods["NAMD"] = Method(rng.uniform(size=(runs, count)), images)
    maps = {"aligned": rng.normal(size=(count, 8))} if latents else {}
    return [name for name, _ in draw_methods(methods, Cases.of(entries), maps, main)]


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        ({}, set()),
        ({"runs": 2}, {"running_variance"}),
        ({"runs": 1}, {"running_variance", "error_variance"}),
        ({"main": None}, {"gallery", "error_variance", "running_variance"}),
        ({"latents": False}, {"latent_map"}),
    ],
)
def test_what_the_results_do_not_allow_is_not_drawn(arguments: dict, absent: set[str]) -> None:
    assert drawn([0, 1, 0, 1, None], **arguments) == [name for name in ALL if name not in absent]


def test_without_both_outcomes_no_curve() -> None:
    assert drawn([0, 0, None, 0, 0]) == ["gallery", "error_variance", "running_variance", "latent_map"]
    assert drawn([None] * 5) == ["gallery", "running_variance", "latent_map"]
    assert "latent_map" not in drawn([0, 1, 0, 1]), "four points are no map"


def test_nothing_measured_and_nothing_trained() -> None:
    cases = Cases.of([{"case_id": "a", "patient_id": "a"}])
    assert list(draw_growth(None, cases, "NAMD")) == [] == list(draw_training([]))


def test_training_is_drawn_where_a_stage_left_a_curve() -> None:
    bare, full = (Stage("classifier", {}, training) for training in ([], [(1, 0.5), (2, 0.25)]))
    assert list(draw_training([bare])) == []
    assert [name for name, _ in draw_training([bare, full])] == ["training"]
