"""What a finished model brings of its training, and which options contradict it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.diffusion.sampler import load_progression_model
from scripts.diffusion.settings import sampling_settings
from scripts.errors import UserError
from scripts.weights.checkpoints import CheckpointError, load_network, read_metadata, save_network
from tests.bundle.helpers import BUNDLE

TOLD: dict[str, Any] = {
    **{"image_size": 48, "pixel_mm": 0.7, "report_interval": False},
    **{"condition_dropout": 0.2, "guidance_scale": 3.0},
}


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained weights."""
    return Path(shutil.copytree(trained / "models", tmp_path / "models"))


def tell(models: Path, **sampling: Any) -> Path:
    """The weights again, with these settings in place of theirs; without any, as versions before 0.7 wrote them."""
    path = models / "unet_conditional.safetensors"
    extra = {name: value for name, value in read_metadata(path)["extra"].items() if name != "sampling"}
    save_network(load_network(path), path, {**extra, **({"sampling": sampling} if sampling else {})})
    return models


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the bundle logged; transformers reports on the language model."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("scripts.")]


def test_settings_are_the_weights(models: Path) -> None:
    stored = json.loads((models / "conditioner" / "settings.json").read_text())
    expected = {**TOLD, "conditioner_arguments": stored}
    assert sampling_settings(tell(models, **TOLD)) == expected
    assert sampling_settings(models, 48, 3.0, {"components": 2}) == expected
    assert sampling_settings(models, guidance_scale=1.0) == {**expected, "guidance_scale": 1.0}


@pytest.mark.parametrize("image_size", [32, 64])
def test_another_size_is_refused(models: Path, image_size: int) -> None:
    with pytest.raises(CheckpointError, match=f"trained on crops of 48 px, but --image_size is {image_size}"):
        sampling_settings(tell(models, **TOLD), image_size)


@pytest.mark.parametrize("guidance_scale", [6.0, 0.0, 1.5])
def test_guidance_needs_left_out_reports(models: Path, guidance_scale: float) -> None:
    tell(models, **{**TOLD, "condition_dropout": 0.0, "guidance_scale": 1.0})
    assert sampling_settings(models)["guidance_scale"] == sampling_settings(models, guidance_scale=1)["guidance_scale"]
    with pytest.raises(CheckpointError, match=r"condition_dropout 0\).*--guidance_scale is " + str(guidance_scale)):
        sampling_settings(models, guidance_scale=guidance_scale)


def test_another_context_is_refused(models: Path) -> None:
    with pytest.raises(UserError, match="components is 5, but was 2 in training"):
        sampling_settings(models, conditioner_arguments={"components": 5})
    with pytest.raises(UserError, match="standardise is False, but was True in training"):
        load_progression_model(models, standardise=False)


def test_older_weights_open_with_one_warning(
    models: Path, tiny_llm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tell(models)
    (models / "conditioner" / "settings.json").unlink()
    settings = sampling_settings(models, conditioner_arguments={"llm": str(tiny_llm)})
    load_progression_model(models, **settings["conditioner_arguments"])
    assert (settings["image_size"], settings["guidance_scale"], settings["report_interval"]) == (64, 6.0, True)
    (warning,) = ours(caplog)
    assert "assumed: image_size 64, guidance_scale 6.0, dtype of the checkpoint, standardise True" in warning
    assert str(models) in warning and "\n" not in warning
    asked = sampling_settings(models, 32, 2.0, {"llm": "x", "dtype": "float32", "standardise": True})
    assert (asked["image_size"], asked["guidance_scale"]) == (32, 2.0) and len(ours(caplog)) == 1, "nothing assumed"


def test_weights_that_are_not_there_are_named_by_who_opens_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert sampling_settings(tmp_path, image_size=32)["image_size"] == 32 and not ours(caplog)
    with pytest.raises(CheckpointError, match="no such weights file"):
        load_progression_model(tmp_path)


def test_the_bundles_weights_bring_their_settings(caplog: pytest.LogCaptureFixture) -> None:
    settings = sampling_settings(BUNDLE / "models")
    arguments = settings.pop("conditioner_arguments")
    assert settings == {
        **{"image_size": 64, "pixel_mm": 0.5, "report_interval": True},
        **{"condition_dropout": 0.15, "guidance_scale": 1.0},
    }
    assert arguments == {
        **{"llm": "embedded", "dtype": "float32", "quantization": None, "lora": None},
        **{"num_prompt_sets": 1, "prompt_length": 0, "end_token": False},
        **{"standardise": True, "components": 12, "components_by": "record", "noise": 0.0},
    }
    assert not ours(caplog)
