"""Weights of all cases: without a validation section, for a fixed number of epochs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scripts.comparators.imageflownet import needs_validation
from scripts.errors import UserError
from scripts.training.cases import trained_on
from scripts.weights.checkpoints import read_metadata
from tests.bundle.helpers import CONFIGS, refusal

STAGES = {
    "autoencoder": "autoencoder",
    "unconditional": "unet_unconditional",
    "conditional": "unet_conditional",
    "classifier": "classifier",
}


@pytest.fixture(scope="module")
def all_in_training(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny dataset with its validation cases among those of training."""
    folder = tmp_path_factory.mktemp("all")
    shutil.copytree(tiny_dataset, folder, dirs_exist_ok=True)
    datalist = json.loads((folder / "datalist.json").read_text())
    datalist |= {"training": datalist["training"] + datalist["validation"], "validation": []}
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def test_every_stage_publishes_its_last_epoch(
    all_in_training: Path, make_workflow: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And notes that all cases trained it. Fewer epochs than were trained are refused, unless it is restarted."""
    cases = json.loads((all_in_training / "datalist.json").read_text())["training"]
    for stage, weights in STAGES.items():
        overlays, settings = ("small", "no_validation"), {"dataset_dir": str(all_in_training), "max_epochs": 2}
        caplog.clear()
        with caplog.at_level("INFO"):
            make_workflow(f"train_{stage}", tmp_path, *overlays, **settings).run()
        extra = read_metadata(tmp_path / "models" / f"{weights}.safetensors")["extra"]
        assert extra["epoch"] == 2 and "val_loss" not in extra and "Epoch 2, by no validation; wrote" in caplog.text
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name != ".lock"}
    fewer = make_workflow("train_classifier", tmp_path, *overlays, **settings | {"max_epochs": 1})
    message = refusal(fewer.run)
    assert message.startswith(f"{tmp_path / 'classifier' / 'last.pt'}: epoch 2 of 2 would be published")
    assert "Give --max_epochs 2" in message and "--restart true, which clears" in message
    assert files == {path: path.stat().st_mtime_ns for path in files}, "nothing was touched"
    make_workflow("train_classifier", tmp_path, *overlays, **settings | {"max_epochs": 1, "restart": True}).run()
    assert read_metadata(tmp_path / "models" / "classifier.safetensors")["extra"]["epoch"] == 1
    seen = trained_on(all_in_training, cases, tmp_path / "models")
    assert seen == {"n_cases": 9, "n_trained": 9, "unknown": []}


def test_the_number_of_epochs_must_be_given(all_in_training: Path) -> None:
    """And ImageFlowNet, which looks at validation to begin to predict, is not trained without."""
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train_autoencoder", "small", "no_validation")]
    parser = ConfigParser(ConfigParser.load_config_files(files))
    with pytest.raises(RuntimeError) as failed:
        parser.get_parsed_content("max_epochs")
    assert "--max_epochs is missing" in str(cause(failed.value))
    with pytest.raises(UserError, match="ImageFlowNet learns to predict once .* leave no_validation.yaml out"):
        needs_validation(None)
    names = ("train_conditional", "small", "compare_crops", "compare_imageflownet", "no_validation")
    raw = ConfigParser(ConfigParser.load_config_files([str(CONFIGS / f"{name}.yaml") for name in names]))
    assert raw["prepare"] == "$comparators.needs_validation(@train::handlers::0::validator)"
    assert raw["train::handlers::0::validator"] == "$None"


@pytest.mark.parametrize("stage", ["autoencoder", "classifier"])
def test_an_empty_validation_section_is_refused_before_the_first_step(
    stage: str, all_in_training: Path, make_workflow: Any, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError) as failed:
        make_workflow(f"train_{stage}", tmp_path, "small", dataset_dir=str(all_in_training)).run()
    message = "validation section is empty, expected cases .* compose no_validation.yaml last, and give --max_epochs"
    assert re.search(message, str(cause(failed.value)))
    assert not list(tmp_path.rglob("*.pt"))


def cause(error: BaseException) -> BaseException:
    """What MONAI's errors were raised from in the end."""
    return error if error.__cause__ is None else cause(error.__cause__)
