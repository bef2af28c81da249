"""What files say beside their tensors is taken, and contradictions are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, PNDMScheduler
from safetensors.torch import save_file

from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights.checkpoints import CheckpointError, save_network
from scripts.weights.pretrained import initial_autoencoder, initial_unet, start_unet
from scripts.weights.stated import agreed, stated_arguments
from tests.bundle.helpers import BUNDLE, their_autoencoder, their_unet

SHAPE: dict[str, Any] = {"channels": (8, 16), "num_res_blocks": 1, "norm_num_groups": 4}
OURS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The folder of a tiny Stable Diffusion that predicts v, with two heads."""
    with torch.random.fork_rng():
        unet, vae = their_unet(), their_autoencoder()
    unet.save_pretrained(tmp_path / "unet")
    vae.save_pretrained(tmp_path / "vae")
    DDIMScheduler(**OURS, prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    return tmp_path


def change(path: Path, **entries: Any) -> None:
    """Replaces entries of a JSON file; those that are None are removed."""
    content = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def test_the_schedules_numbers_stand_once() -> None:
    files = [path.name for path in (BUNDLE / "scripts").rglob("*.py") if "0.00085," in path.read_text()]
    assert files == ["unet.py"]


@pytest.mark.parametrize("place", ["", "unet", "unet/diffusion_pytorch_model.safetensors"])
def test_diffusers_files_say_what_no_tensor_shows(pipeline: Path, place: str) -> None:
    assert stated_arguments(pipeline / place, "unet") == {
        **{"num_heads": 2, "norm_num_groups": 4, "norm_eps": 1e-5},
        **{"prediction_type": "v_prediction", "beta_schedule": "scaled_linear"},
    }
    unet = initial_unet({"channels": (8, 16), "num_res_blocks": 1}, 6, pipeline / place)
    assert (unet.prediction_type, unet.config["num_heads"], unet.config["norm_num_groups"]) == ("v_prediction", 2, 4)


def test_the_schedule_and_the_groups_travel(pipeline: Path) -> None:
    change(pipeline / "scheduler" / "scheduler_config.json", beta_schedule="linear")
    assert initial_unet({**SHAPE, "num_heads": 2}, 6, pipeline).config["beta_schedule"] == "linear"
    assert initial_autoencoder({"channels": (8, 8), "num_res_blocks": 1}, pipeline).config["norm_num_groups"] == 4


def test_stable_diffusions_own_scheduler_predicts_the_noise(pipeline: Path) -> None:
    """Its file does not say so, and older diffusers wrote no more than this."""
    PNDMScheduler(**OURS).save_pretrained(pipeline / "scheduler")
    change(pipeline / "scheduler" / "scheduler_config.json", prediction_type=None, num_train_timesteps=None)
    assert stated_arguments(pipeline, "unet")["prediction_type"] == "epsilon"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prediction_type": "epsilon"}, "prediction_type 'v_prediction', not 'epsilon'"),
        ({"num_heads": 8}, "num_heads 2, not 8"),
        (
            {"beta_schedule": "linear", "norm_eps": 1e-6},
            "norm_eps 1e-05, not 1e-06; beta_schedule 'scaled_linear', not",
        ),
    ],
)
def test_arguments_that_contradict_the_weights_are_refused(
    pipeline: Path, arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=f"{said}.*Leave that out of unet_shape"):
        start_unet({**SHAPE, **arguments, "context_dim": 6}, pipeline)
    same = {"prediction_type": "v_prediction", "num_heads": 2}
    assert agreed(same, pipeline, "unet").items() >= same.items()


def test_a_training_may_go_on_to_something_else_aloud(pipeline: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked = {"prediction_type": "epsilon", "beta_schedule": "linear"}
    assert initial_unet({**SHAPE, **asked}, 6, pipeline).config.items() >= asked.items()
    assert "prediction_type 'v_prediction', not 'epsilon'; beta_schedule 'scaled_linear', not 'linear'" in caplog.text
    with pytest.raises(CheckpointError, match="num_heads 2, not 8. Leave that out"):
        initial_unet({**SHAPE, **asked, "num_heads": 8}, 6, pipeline)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"beta_end": 0.02}, "beta_end is 0.02, expected 0.012"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule is 'squaredcos_cap_v2', expected scaled_linear or"),
        ({"num_train_timesteps": 100}, "num_train_timesteps is 100, expected 1000"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True, expected False"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas is .0.1, 0.2., expected None"),
        ({"beta_start": None, "beta_end": None}, "beta_start is 0.0001, expected 0.00085; beta_end is 0.02"),
        ({"prediction_type": "sample"}, "prediction_type is 'sample', expected epsilon or v_prediction"),
    ],
)
def test_another_noise_is_refused(pipeline: Path, entries: dict[str, Any], said: str) -> None:
    change(pipeline / "scheduler" / "scheduler_config.json", **entries)
    with pytest.raises(CheckpointError, match=f"scheduler_config.json: {said}"):
        initial_unet(SHAPE, 6, pipeline)
    initial_autoencoder({"channels": (8, 8), "num_res_blocks": 1}, pipeline)


@pytest.mark.parametrize(
    ("file", "entries", "said"),
    [
        ("unet", {"attention_head_dim": [2, 4]}, r"has \[2, 4\] attention heads a level, ours one number"),
        ("unet", {"freq_shift": 1}, "freq_shift is 1, expected 0"),
        ("unet", {"act_fn": "gelu", "flip_sin_to_cos": False}, "act_fn is 'gelu'.*; flip_sin_to_cos is False"),
        ("vae", {"act_fn": "mish"}, "act_fn is 'mish', expected 'silu'"),
        ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1, expected None"),
    ],
)
def test_networks_that_compute_otherwise_are_refused(
    pipeline: Path, file: str, entries: dict[str, Any], said: str
) -> None:
    change(pipeline / file / "config.json", **entries)
    with pytest.raises(CheckpointError, match=f"config.json: .*{said}"):
        initial_unet(SHAPE, 6, pipeline) if file == "unet" else initial_autoencoder({"norm_num_groups": 4}, pipeline)


def test_one_number_of_heads_for_every_level(pipeline: Path) -> None:
    change(pipeline / "unet" / "config.json", attention_head_dim=[2, 2])
    assert stated_arguments(pipeline, "unet")["num_heads"] == 2


@pytest.mark.parametrize("content", ["{", "[]", '"text"', "\xff"])
@pytest.mark.parametrize("file", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_damaged_descriptions_are_named(pipeline: Path, file: str, content: str) -> None:
    (pipeline / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=f"{file}: "):
        initial_unet(SHAPE, 6, pipeline)


def test_our_own_files_say_it_too(tmp_path: Path) -> None:
    network = StableDiffusionUNet(context_dim=6, num_heads=2, prediction_type="v_prediction", **SHAPE)
    path = save_network(network, tmp_path / "unet_unconditional.safetensors")
    again = initial_unet({"channels": (8, 16), "num_res_blocks": 1}, 6, path)
    assert again.config == network.config
    with pytest.raises(CheckpointError, match="unet_unconditional.safetensors: its network has prediction_type"):
        start_unet({**SHAPE, "prediction_type": "epsilon", "context_dim": 6}, path)


def test_our_files_of_another_network_say_nothing_of_this_one(tmp_path: Path) -> None:
    network = StableDiffusionAutoencoder((8, 8), 1, norm_num_groups=4)
    path = save_network(network, tmp_path / "autoencoder.safetensors")
    assert stated_arguments(path, "autoencoder") == {"norm_num_groups": 4}
    assert stated_arguments(path, "unet") == {}


def test_where_nothing_is_said_it_is_assumed_aloud(
    pipeline: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alone = tmp_path / "elsewhere" / "unet.safetensors"
    alone.parent.mkdir()
    (pipeline / "unet" / "diffusion_pytorch_model.safetensors").rename(alone)
    assert stated_arguments(alone, "unet") == {}
    assert initial_unet({**SHAPE, "num_heads": 2}, 6, alone).prediction_type == "epsilon"
    assert "nothing says what this U-Net predicts" in caplog.text
    caplog.clear()
    initial_unet({**SHAPE, "num_heads": 2, "prediction_type": "v_prediction"}, 6, alone)
    assert "nothing says" not in caplog.text


def test_a_description_of_another_class_is_not_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", "norm_num_groups": 7}))
    assert stated_arguments(tmp_path / "weights.safetensors", "unet") == {}
