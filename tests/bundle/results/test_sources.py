"""Tables of a cross-validation: read as the images they speak of, refused where they cannot be right."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.comparators.tables import ComparatorError
from scripts.data.digest import digest_dataset
from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.nodules.growth import measure
from scripts.evaluation.sections import open_sections
from scripts.files import write_json
from scripts.results.publish import publish_reference
from scripts.results.reference import FILES, REFERENCE, PublishedReferenceError
from scripts.results.sources import SECTIONS, by_scale, measured_by_tables, sampling_of
from tests.bundle.results.conftest import FOLDS, SIZE, say_trained_on

GUIDANCE = 6.0
"""That the tiny weights bring."""
MADE = {"num_runs": 20, "num_steps": 12, "solver": "dpmpp", "guidance_scale": GUIDANCE, "image_size": SIZE}

PROMPTS, NO_PROMPTS = {"num_prompt_sets": 2, "prompt_length": 8}, {"num_prompt_sets": 1, "prompt_length": 0}

WriteSizes = Callable[..., Path]


@pytest.fixture(scope="module")
def images(cohort: Path) -> np.ndarray:
    """20 runs of each case of training and validation: its follow-up, brighter and darker."""
    study = open_sections(cohort, SECTIONS, SIZE)
    return np.stack([np.clip(study.follow_up + shift, -1, 1) for shift in np.linspace(-0.05, 0.05, 20)])


@pytest.fixture(scope="module")
def diameters(cohort: Path, images: np.ndarray) -> pd.DataFrame:
    """Of these images, a row for each run and case."""
    study = open_sections(cohort, SECTIONS, SIZE)
    assert study.spacing is not None
    found = measure(images, study.spacing["baseline"])
    index = pd.MultiIndex.from_product([range(20), study.cases.ids], names=["run", "case_id"])
    columns = {"long": found.long.ravel(), "perpendicular": found.perpendicular.ravel()}
    return pd.DataFrame(columns, index=index).reset_index()


@pytest.fixture
def write_sizes(diameters: pd.DataFrame, tmp_path: Path) -> WriteSizes:
    """A table of the images' diameters, with changes, made at a guidance scale."""

    def write(scale: float, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table, **known: Any) -> Path:
        path = tmp_path / f"sizes_{scale:g}.csv"
        change(diameters).to_csv(path, index=False)
        write_json(path.with_suffix(".json"), {"sampling": MADE | {"guidance_scale": scale}} | known)
        return path

    return write


def test_diameters_of_a_table_are_those_of_its_images(
    cohort: Path, images: np.ndarray, write_sizes: WriteSizes
) -> None:
    by_images = Section(open_sections(cohort, SECTIONS, SIZE), {"3": images}).measured()
    by_table = measured_by_tables(cohort, SIZE, {"3": write_sizes(3)}, "any")
    np.testing.assert_array_equal(by_images.measurable, by_table.measurable)
    assert by_images.cases.ids == by_table.cases.ids and len(by_table.cases.ids) == 160
    for name in ("real_baseline", "real_follow_up", "3"):
        np.testing.assert_allclose(by_images.measured[name].mean, by_table.measured[name].mean, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_impossible_diameters_are_named(cohort: Path, write_sizes: WriteSizes, value: float) -> None:
    def spoil(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(perpendicular=table["perpendicular"].mask(table["case_id"] == "c7", value))

    with pytest.raises(PublishedReferenceError, match="sizes_3.csv: expected diameters in mm above 0; those of c7"):
        measured_by_tables(cohort, SIZE, {"3": write_sizes(3, spoil)}, "any")


def test_tables_that_do_not_fit_are_named(cohort: Path, write_sizes: WriteSizes, tmp_path: Path) -> None:
    path = write_sizes(3)
    with pytest.raises(ComparatorError, match=r"sizes_3.csv: not made from these: .*guidance_scale"):
        measured_by_tables(cohort, SIZE, {"6": path}, "any")
    with pytest.raises(ComparatorError, match="run 0 has no long for 1 of 160 cases: c3"):
        measured_by_tables(cohort, SIZE, {"3": write_sizes(3, lambda table: table[table["case_id"] != "c3"])}, "any")
    with pytest.raises(ComparatorError, match="no column perpendicular"):
        measured_by_tables(
            cohort, SIZE, {"3": write_sizes(3, lambda table: table.drop(columns="perpendicular"))}, "any"
        )
    write_json(path.with_suffix(".json"), {"sampling": {"guidance_scale": 3}})
    with pytest.raises(PublishedReferenceError, match="sizes_3.json: sampling has no num_runs, num_steps, solver, ima"):
        sampling_of(path)
    path.with_suffix(".json").unlink()
    assert sampling_of(path) is None


def test_weights_of_all_patients_are_published_by_tables_alone(
    cohort: Path, weights: Path, tmp_path: Path, write_sizes: WriteSizes
) -> None:
    """Where the validation section is empty; without a table of a method nothing is said of it.

    What does not go together, with each other or the weights, is refused.
    """
    datalist = json.loads((cohort / "datalist.json").read_text())
    cases = datalist["training"] + datalist["validation"]
    data = shutil.copytree(cohort, tmp_path / "all")
    (data / "datalist.json").write_text(json.dumps(datalist | {"training": cases, "validation": []}))
    models = shutil.copytree(weights / "models", tmp_path / "models")
    digest = digest_dataset(data)
    say_trained_on(models, digest)
    values = np.linspace(0.01, 0.99, 160)
    table = pd.DataFrame({"case_id": [case["case_id"] for case in cases], "run": 0, "probability": values})
    table.to_csv(tmp_path / "generated.csv", index=False)
    write_json(tmp_path / "generated.json", {"sampling": MADE})
    tables = {"generated": tmp_path / "generated.csv"}
    arguments: Any = (data, models, tmp_path / "no predictions", tmp_path / "none", tables, FOLDS, 20)
    with pytest.raises(PublishedReferenceError, match="^size_predictions: .*generated.csv tells of other cases"):
        publish_reference(*arguments, size_predictions=["runs/unguided"])
    write_json(tmp_path / "generated.json", {"sampling": MADE | {"guidance_scale": 3.0}})
    with pytest.raises(PublishedReferenceError, match="made at guidance_scale 3.0, but the weights in .* bring 6.0"):
        publish_reference(*arguments)
    write_json(tmp_path / "generated.json", {"sampling": MADE, "dataset": "another"})
    with pytest.raises(ComparatorError, match="generated.csv: not made from these: dataset was 'another'"):
        publish_reference(*arguments)
    write_json(tmp_path / "generated.json", {"sampling": MADE, "conditioner": NO_PROMPTS})
    with pytest.raises(PublishedReferenceError, match="generated.csv: of weights trained with .*models have 2. Train"):
        publish_reference(*arguments)
    told = {"sampling": MADE, "conditioner": PROMPTS, "dataset": digest, "note": "chosen among 6"}
    write_json(tmp_path / "generated.json", told)
    sizes = {6: write_sizes(6, dataset=digest), 1: write_sizes(1, conditioner=NO_PROMPTS)}
    with pytest.raises(PublishedReferenceError, match="sizes_1.csv: of weights trained with num_prompt_sets 1, but th"):
        publish_reference(*arguments, size_tables=sizes)
    sizes[1] = write_sizes(1, sampling=MADE | {"guidance_scale": 1, "num_runs": 10})
    with pytest.raises(ComparatorError, match="sizes_1.csv: not made from these: sampling::num_runs was 10, is 20"):
        publish_reference(*arguments, size_tables=sizes)
    assert not (models / FILES["record_only"]).exists(), "nothing is half-written"
    wrong = write_sizes(1, lambda table: table.assign(long=table["long"] * 1.3))
    sizes = {6: write_sizes(6, dataset=digest, note="epochs by these"), "1.0": wrong}
    publish_reference(*arguments, size_tables=sizes)
    content = json.loads((models / REFERENCE).read_text())
    assert content["methods"].keys() == {"generated", "record_only"}
    held_out = content["methods"]["generated"]["held_out"]
    assert held_out["n"] == content["compared"]["n"] == 160
    assert held_out["on"] == "out-of-fold table over training and validation; chosen among 6"
    assert content["thresholds"]["on"].startswith("cross-validation over training and validation of discs (160 cases, ")
    assert content["thresholds"]["on"].endswith(" malignant: generated; all of it; chosen among 6)"), "and the note"
    assert content["thresholds"]["methods"].keys() == {"generated", "record_only"}
    assert content["made_from"]["sampling"] == MADE
    on = "out-of-fold table over training and validation; epochs by these"
    chosen = f"{on}; of 2 guidance scales chosen on these nodules, so that its figures are optimistic"
    assert content["growth"]["on"] == on, "and what the table notes"
    assert content["size"]["guidance_scale"] == 6 and content["size"]["growth"] == content["growth"] | {"on": chosen}
    assert content["growth"]["factors"]["long"].keys() == {"interval50", "interval90"}
    assert content["size"]["sampling"]["1"] == {"solver": "dpmpp", "num_steps": 12}
    publish_reference(*arguments, size_tables={6: sizes[6]})
    again = json.loads((models / REFERENCE).read_text())
    assert "size" not in again and again["growth"] == content["growth"]


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"three": "a"}, "size_tables: 'three' is no guidance scale; expected a number"),
        ({3: "a", "3.0": "b"}, "size_tables: two tables of guidance scale 3; expected one"),
        ({1: "a", 6: "b"}, "size_tables: none of guidance scale 3, that of the outcome; expected it among 1, 6"),
    ],
)
def test_scales_that_cannot_be_meant_are_refused(tables: dict[Any, str], message: str) -> None:
    with pytest.raises(PublishedReferenceError, match=message):
        by_scale(tables, 3.0)
    assert list(by_scale({"1": "a", 3.0: "b"}, 3.0).items()) == [("3", "b"), ("1", "a")]
