"""The handler: what it gathers is the dataset's, in its order and geometry, and no row is named twice."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset

from scripts import networks
from scripts.comparators.tables import write_table
from scripts.data.datalist import pairs
from scripts.data.transforms import preprocessing
from scripts.errors import UserError
from scripts.evaluation import handler
from scripts.evaluation.handler import Evaluation
from scripts.evaluation.judge import Bootstrap
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.classifiers import ResNetClassifier
from tests.bundle.conftest import MakeWorkflow

RUNS = np.zeros((2, 3, 1, 32, 32))


class Judge:
    """Reads 0.25 from every image."""

    def __init__(self, study: Any, classify: Any, **options: Any) -> None:
        self.study = study

    def classify(self, images: np.ndarray, name: str) -> np.ndarray:
        return np.full(images.shape[:2], 0.25)


@pytest.fixture
def make(tiny_dataset: Path, tmp_path: Path) -> Any:
    """An evaluation of the tiny dataset's test section by small networks."""

    def make(**options: Any) -> Evaluation:
        torch.manual_seed(23)
        datalist = json.loads((tiny_dataset / "datalist.json").read_text())
        autoencoder = StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4)
        classifier = ResNetClassifier(32, (4, 4, 8, 8))
        return Evaluation(datalist, "test", tmp_path, tmp_path / "out", classifier, autoencoder, **options)

    return make


def test_what_is_judged_is_the_section(make: Any, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of two batches, spacing of the files, records of the datalist, a reconstruction of the follow-ups."""
    given: dict[str, Any] = {}

    def evaluate(study: Any, methods: Any, judge: Any, output_dir: Path, **more: Any) -> dict[str, Any]:
        given.update(more, study=study, methods=methods)
        return {"n_cases": 3}

    monkeypatch.setattr(handler, "evaluate", evaluate)
    monkeypatch.setattr(handler, "Judge", Judge)
    monkeypatch.setattr(handler, "read_predictions", lambda folder, ids: RUNS)
    monkeypatch.setattr(handler, "read_table", lambda path, ids: np.full((1, len(ids)), 0.5))
    monkeypatch.setattr(handler, "read_scored", lambda path, ids, judge: np.full((1, len(ids)), 0.5))
    record = {"validation_predictions": {"NAMD": "made otherwise"}}
    evaluation = make(
        batch_size=2, tables={"table": "table.csv"}, compared={"other": "elsewhere"}, record=lambda: record
    )
    items = Dataset(pairs(tiny_dataset, "test"), preprocessing(["baseline", "follow_up"], 32))
    engine = Engine(lambda engine, batch: None)
    evaluation.attach(engine)
    engine.run(DataLoader(items, batch_size=2))
    study = given["study"]
    assert engine.state.metrics["evaluation"] == {"n_cases": 3}
    assert study.cases.ids == [item["case_id"] for item in pairs(tiny_dataset, "test")]
    for key in ("baseline", "follow_up"):
        np.testing.assert_array_equal(getattr(study, key), np.stack([item[key].numpy() for item in items]))
        np.testing.assert_allclose(study.spacing[key], [[0.6, 0.7]] * 3, rtol=1e-6)
    assert given["record"] == record | {"published": {}} and given["thresholds"] == {
        "NAMD": "made otherwise",
        "other": {"sensitive": 0.25, "youden": 0.25},
        "table": {"sensitive": 0.5, "youden": 0.5},
    }
    assert (
        list(given["methods"]) == ["NAMD", "other", "table"] and study.dataset == "ellipses" and study.simulated is True
    )
    assert list(given["encoders"]) == ["this model"]
    with torch.no_grad():
        latents = evaluation.autoencoder.encode_stage_2_inputs(torch.from_numpy(study.follow_up))
        expected = evaluation.autoencoder.decode_stage_2_outputs(latents).clamp(-1, 1)
    np.testing.assert_allclose(given["reconstruction"], expected, atol=1e-4)


def test_another_autoencoder_is_compared_by_its_own_latents(make: Any) -> None:
    torch.manual_seed(1)
    other = StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4)
    encoders, crops = make(unaligned=other).encoders, torch.rand(2, 1, 32, 32)
    assert list(encoders) == ["this model", "not aligned"] and not other.training
    with torch.no_grad():
        found, expected = encoders["not aligned"](crops), other.encode_stage_2_inputs(crops)
        assert torch.equal(found, expected) and not torch.allclose(found, encoders["this model"](crops), atol=0.01)


def test_what_evaluate_yaml_is_asked_for_arrives(
    make_workflow: MakeWorkflow, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option where it is used; whatever reads weights of others is given their names."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(networks, "PerceptualDistance", lambda *settings: given.update(perceptual=settings))
    monkeypatch.setattr(networks, "FeatureExtractor", lambda *settings, **more: given.update(features=(settings, more)))
    models, pages = trained / "models", ["patient-9_n1"]
    options: dict[str, Any] = {"lpips_network": "vgg", "lpips_weights": "vgg.pth", "fid_weights": "inception.pth"}
    options |= {"thresholds": {"NAMD": 0.3}, "resamples": 77, "stratified": False, "case_pages": pages, "strict": True}
    options |= {"unaligned": str(models / "autoencoder.safetensors"), "models_dir": str(models), "batch_size": 5}
    workflow = make_workflow("evaluate", tmp_path, **options)
    (*_, evaluation) = workflow.parser.get_parsed_content("handlers")
    assert given == {"perceptual": ("vgg", "vgg.pth", True), "features": (("inception.pth",), {"strict": True})}
    assert (evaluation.thresholds, evaluation.case_pages) == ({"NAMD": 0.3}, pages)
    assert evaluation.judging["bootstrap"] == Bootstrap(77, False) and evaluation.judging["batch_size"] == 5
    assert list(evaluation.encoders) == ["this model", "not aligned"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compared": {"NAMD": "elsewhere"}}, "compared: 'NAMD' is what another row is called; give elsewhere"),
        ({"compared": {"x": "elsewhere"}, "tables": {"x": "x.csv"}}, "tables: 'x' is what another row is called"),
        ({"name": "mine", "tables": {"mine": "x.csv"}}, "give x.csv another name"),
    ],
)
def test_two_rows_of_one_name_are_refused(make: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(**options)


def test_an_empty_training_section_is_none(make: Any) -> None:
    """Nothing is fitted on it; and a threshold may be given where there is no validation section."""
    evaluation = make(open_section=lambda name: pytest.fail(name), thresholds={"NAMD": 0.3})
    evaluation.datalist |= {"training": [], "validation": []}
    evaluation.real = {key: [np.zeros((3, 1, 32, 32))] for key in evaluation.real}
    evaluation.spacing = {key: [np.ones((3, 2))] for key in evaluation.spacing}
    assert evaluation.study().training is None
    samples = evaluation._validation_samples({})
    assert evaluation._thresholds(Judge(None, None), samples) == {
        "real_baseline": "the dataset has no validation section, and none were published with the weights",
        "NAMD": {"given": 0.3},
    }
    assert evaluation._sections(samples) == {
        name: f"the dataset has no {name} section" for name in ("training", "validation")
    }


def test_thresholds_of_the_weights_are_those_of_this_methods_images(make: Any) -> None:
    """Asked for by how the predictions were made; not where the dataset has a validation section."""
    asked: list[Any] = []

    def published(made: Any) -> Any:
        asked.append(made)
        return "cases of old", {"generated": {"youden": 0.4}, "real_baseline": {"youden": 0.6}}

    evaluation = make(name="mine", published_thresholds=published)
    record = {"predictions": {"mine": {"guidance_scale": 6.0, "weights": {}}}, "weights": {"classifier": "c"}}
    assert evaluation._published_thresholds(record) == ("", {}) and not asked
    evaluation.datalist |= {"validation": []}
    on, found = evaluation._published_thresholds(record)
    assert on == "cases of old" and asked == [{"guidance_scale": 6.0, "weights": {"classifier": "c"}}]
    assert evaluation._thresholds(Judge(None, None), evaluation._validation_samples(record), found) == {
        "mine": {"published_youden": 0.4}
    }


def test_thresholds_of_the_real_baselines_and_of_a_table_that_lacks_them(make: Any, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("case_id,run,probability\npatient-9_n1,0,0.5\n")
    evaluation = make(tables={"short": tmp_path / "table.csv"}, open_section=opened)
    samples = evaluation._validation_samples({"validation_predictions": {"NAMD": "none"}})
    found = evaluation._thresholds(Judge(None, None), samples)
    assert found == {
        "real_baseline": {"sensitive": 0.25, "youden": 0.25},
        "NAMD": "none",
        "short": "its table lacks cases of the validation section",
    }


def test_other_sections_are_opened_once_and_what_they_lack_is_said(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    monkeypatch.setattr(handler, "read_predictions", lambda folder, ids: read.append(folder) or RUNS)
    evaluation = make(open_section=lambda name: read.append(name) or opened(name), compared={"other": "elsewhere"})
    samples = evaluation._validation_samples({"validation_predictions": {"other": "made otherwise"}})
    for _ in range(2):
        found = evaluation._sections(samples)
        assert found["validation"].generated["other"] == "made otherwise" and found["training"].generated == {}
        np.testing.assert_array_equal(found["validation"].generated["NAMD"], RUNS)
        samples("NAMD")
    assert sorted(map(str, read)) == sorted([str(evaluation.folders["NAMD"]), "training", "validation"])
    evaluation.section = "validation"
    assert evaluation._sections(samples)["validation"] == "the evaluated section is the validation section"
    assert make()._sections(samples)["training"] == "the training section was not given"


def opened(name: str) -> Any:
    """A section whose crops are black."""
    return SimpleNamespace(baseline=np.zeros((3, 1, 32, 32)), cases=None)


class Half:
    """A method beside the weights."""

    reads = frozenset({"record"})
    stochastic = False

    def probability(self, baseline: torch.Tensor, condition: Any, draw: Any) -> torch.Tensor:
        return torch.full((len(condition),), 0.5)


def test_methods_beside_the_weights_are_judged_but_where_a_table_has_them(
    make: Any, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(handler, "evaluate", lambda study, methods, *rest, **more: given.update(more, methods=methods))
    monkeypatch.setattr(handler, "Judge", Judge)
    monkeypatch.setattr(handler, "read_predictions", lambda folder, ids: RUNS)
    evaluation = make(published={"half": Half()}, open_section=opened)
    evaluation.real = {key: [np.zeros((3, 1, 32, 32), np.float32)] for key in evaluation.real}
    evaluation.spacing = {key: [np.ones((3, 2))] for key in evaluation.spacing}
    evaluation.judge(Engine(lambda engine, batch: None))
    np.testing.assert_array_equal(given["methods"]["half"], np.full((1, 3), 0.5))
    assert given["thresholds"]["half"] == {"sensitive": 0.5, "youden": 0.5}
    assert given["record"]["published"] == {"half": {"method": "Half"}}
    write_table(tmp_path / "mine.csv", 0, ["patient-9_n1"], [0.5], {"method": "Half"})
    assert make(published={"half": Half()}, tables={"mine": tmp_path / "mine.csv"}).published == {}
    assert make(published={"half": Half()}, compared={"half": "elsewhere"}).published == {}
