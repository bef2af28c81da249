"""What is shown of one case in the evaluation page."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from scripts.data.transforms import MARK
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.evaluation.judge import REAL, Method
from scripts.evaluation.nodules.growth import Growth, measure_all
from scripts.evaluation.report.case_view import browser, case_studies, chosen, course, diameters, spread_limit, sprite
from tests.bundle.evaluation.studies import study_of


@pytest.fixture
def studies(study):
    return case_studies(study_of(study), methods(study["generated"]["NAMD"]), None, "NAMD")


def methods(generated):
    """Its runs scored 0, 1/3, 2/3 and 1, the real images 0.2 and 0.7."""
    scores = np.tile(np.linspace(0, 1, len(generated))[:, None], (1, 12))
    real = {name: Method(np.full((1, 12), score)) for name, score in zip(REAL, (0.2, 0.7), strict=True)}
    return {**real, "NAMD": Method(scores, generated)}


def test_a_study_is_its_case(study, studies):
    third = studies[3]
    assert third.case_id == "case-03" and third.outcome == "malignant" and studies[4].outcome == "benign"
    assert third.record == radiology_report(study["cases"][3]["ehr"])
    assert np.array_equal(third.samples, study["generated"]["NAMD"][:, 3, 0])
    assert third.real_scores == (0.2, 0.7) and third.scores.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_every_generated_tile_is_marked_and_no_real_one(studies):
    tiles = studies[0].tiles()
    assert [tile.title for tile in tiles if not tile.synthetic] == ["baseline", "follow-up (data set)"]
    assert len(tiles) == 2 + 2 + 4


def test_one_run_has_no_mean(study):
    (first, *_) = case_studies(study_of(study), methods(study["generated"]["NAMD"][:1]), None, "NAMD")
    assert [tile.title for tile in first.tiles()] == ["baseline", "sample 1", "follow-up (data set)"]


def test_the_sprite_holds_the_tiles(studies):
    """x to the right; grey levels as the colour map of 256 steps has them; the mark in the file's own metadata."""
    image = Image.open(io.BytesIO(sprite(studies[2], spread_limit(studies))))
    assert image.size == (8 * 64, 64) and image.getexif()[0x010E] == MARK
    pixels = np.asarray(image.convert("L"), dtype=float)
    assert np.abs(pixels[:, :64] - (studies[2].baseline.T + 1) / 2 * 255).max() < 2
    assert np.abs(pixels[:, 3 * 64 : 4 * 64] - (studies[2].follow_up.T + 1) / 2 * 255).max() < 2


def test_the_browser_is_json_of_every_case(studies):
    shown = json.loads(json.dumps(browser(studies)))
    assert [case["id"] for case in shown["cases"]] == [study.case_id for study in studies]
    assert browser([]) is None


def test_what_was_not_measured_says_so(studies):
    nothing = np.full(4, np.nan)
    known = type(studies[0])(**{**vars(studies[0]), "long_mm": (8.0, nothing, np.nan)})
    assert diameters(known) == "baseline 8.0 mm, generated not measurable, follow-up not measurable"
    known = type(studies[0])(**{**vars(studies[0]), "long_mm": (8.0, np.array([7.0, np.nan, 9.0, 12.0]), 10.0)})
    assert (
        diameters(known) == "baseline 8.0 mm, generated median 9.0 mm (7.0 to 12.0) in 3 of 4 runs, follow-up 10.0 mm"
    )


def test_a_nodule_that_is_not_shown_or_larger_than_its_crop_is_not_measurable(study):
    """A flat follow-up, a generated image without a nodule, and a baseline that is all nodule."""
    follow_up, baseline = study["follow_up"].copy(), study["baseline"].copy()
    generated = study["generated"]["NAMD"].copy()
    follow_up[1], generated[0, 1], baseline[2] = -0.8, -0.8, 0.4
    spacing = {name: np.full((12, 2), 0.5) for name in ("baseline", "follow_up")}
    known = study_of(study | {"follow_up": follow_up, "baseline": baseline, "spacing": spacing})
    images = {REAL[0]: known.baseline[None], REAL[1]: known.follow_up[None], "NAMD": generated}
    growth = Growth(measure_all(images, spacing), known, None)
    shown, flat, full, *_ = case_studies(known, methods(generated), growth, "NAMD")
    assert "not measurable" not in str(diameters(shown)) and np.isfinite(shown.long_mm[1]).all()
    assert str(diameters(flat)).endswith("in 3 of 4 runs, follow-up not measurable")
    assert str(diameters(full)).startswith("baseline not measurable")


def test_the_course_is_of_what_was_measured(studies):
    sizes = (8.0, np.array([7.0, np.nan, 9.0]), np.nan)
    known = type(studies[0])(**{**vars(studies[0]), "long_mm": sizes, "days": 365.0})
    assert course(known) == {"days": 365, "baseline": 8.0, "runs": [7.0, 9.0], "follow_up": None}
    for absent in ({"days": None}, {"long_mm": None}, {"long_mm": (np.nan, *sizes[1:])}):
        assert course(type(known)(**{**vars(known), **absent})) is None


def test_pages_are_chosen_by_name(studies):
    ids = [study.case_id for study in studies]
    assert chosen(ids, "all") == ids and chosen(ids, "case-01") == ["case-01"] and chosen(ids, []) == []
    with pytest.raises(UserError, match="no such case: case-99, x; the first of this section is case-00"):
        chosen(ids, ["case-99", "case-01", "x"])
