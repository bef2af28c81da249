"""What a stage leaves to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import Dataset
from safetensors.torch import load_file

from scripts.data.datalist import crops
from scripts.data.transforms import preprocessing
from scripts.fingerprint import digest_weights
from scripts.losses import AutoencoderLoss
from scripts.networks.autoencoder import AlignedAutoencoder, StableDiffusionAutoencoder
from scripts.networks.classifiers import ResNetClassifier
from scripts.networks.perceptual import PerceptualDistance
from scripts.networks.texture import lost_power
from scripts.training.publishing import publish, publish_autoencoder, publish_conditional
from scripts.weights.checkpoints import read_metadata
from tests.bundle.training.helpers import differences, load


def test_latent_scale_makes_the_training_latents_unit_variance(trained: Path, tiny_dataset: Path) -> None:
    from scripts.weights.checkpoints import load_network

    autoencoder = load_network(trained / "models" / "autoencoder.safetensors")
    dataset = Dataset(crops(tiny_dataset, "training"), preprocessing(["image"], 32))
    images = torch.stack([item["image"].as_tensor() for item in dataset])
    with torch.no_grad():
        latents = autoencoder.encode_stage_2_inputs(images)
    assert len(images) == 13 and latents.std().item() == pytest.approx(1.0, abs=1e-4)
    assert autoencoder.latent_scale.item() != 1.0


@pytest.mark.parametrize("stage", ["autoencoder", "unconditional", "conditional", "classifier"])
def test_what_is_published_is_the_best_average(trained: Path, stage: str) -> None:
    best = load(trained / stage / "best.pt")
    name, key, prefix = {
        "autoencoder": ("autoencoder", "network", "autoencoder."),
        "classifier": ("classifier", "network", ""),
    }.get(stage, (f"unet_{stage}", "unet", ""))
    published = load_file(trained / "models" / f"{name}.safetensors")
    assert {prefix + part for part in published} <= best[key].keys()
    assert all(torch.equal(best[key][prefix + part], published[part]) for part in published if part != "latent_scale")
    extra = read_metadata(trained / "models" / f"{name}.safetensors")["extra"]
    numbers = {"epoch": best["progress"]["best_epoch"], "val_loss": best["progress"]["best_value"]}
    assert extra.items() >= numbers.items() and extra["record"].items() >= best["record"].items()
    assert math.isfinite(extra["val_loss"])


@pytest.mark.parametrize("stage", ["unconditional", "conditional"])
def test_the_best_weights_are_the_average_and_not_the_last_steps(trained: Path, stage: str) -> None:
    """In the last epoch, which is the best one of both, the run's own state has them beside each other."""
    best, last = (load(trained / stage / f"{name}.pt") for name in ("best", "last"))
    assert best["progress"]["best_epoch"] == last["progress"]["epoch"] == 2
    averages = {name.removeprefix("module."): each for name, each in last["ema"].items() if name != "n_averaged"}
    assert not differences(best["unet"], averages)
    assert differences(best["unet"], {name: last["network"][f"unet.{name}"] for name in averages})


def test_the_perceptual_distance_that_was_really_taken_is_told(trained: Path, tmp_path: Path) -> None:
    """Settings say ``alex`` of LPIPS and of what stands in for it; without a perceptual term nothing is said."""
    extra = read_metadata(trained / "models" / "autoencoder.safetensors")["extra"]
    assert extra["perceptual"] == PerceptualDistance("alex").name and "lpips-alex" in extra["perceptual"]
    network = AlignedAutoencoder(StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4), 16)
    items = [{"image": torch.rand(1, 16, 16), "attributes": torch.zeros(5), "malignant": torch.tensor(0.0)}]
    for weight in (1.0, 0.0):
        loss, path = AutoencoderLoss("alex", perceptual_weight=weight), tmp_path / "a.safetensors"
        if loss.perceptual is not None:
            loss.perceptual.name = "another"
        publish_autoencoder(Best(tmp_path), network, items, path, loss=loss)  # type: ignore[arg-type]
        assert read_metadata(path)["extra"].get("perceptual") == ("another" if weight else None)


def test_published_prompts_are_the_best_ones(trained: Path) -> None:
    best = load(trained / "conditional" / "best.pt")["conditioner"]
    folder = trained / "models" / "conditioner"
    for index, prompts in enumerate(best["prompts"]):
        saved = load_file(folder / f"set_{index}" / "adapter_model.safetensors")["prompt_embeddings"]
        assert torch.equal(saved, prompts)
    statistics = load_file(folder / "context_statistics.safetensors")
    assert torch.equal(statistics["mean"], best["normaliser.mean"]) and torch.equal(
        statistics["std"], best["normaliser.std"]
    )


def test_a_run_shorter_than_its_validation_interval_is_validated_at_its_end(
    make_workflow: Callable[..., Any], tmp_path: Path
) -> None:
    make_workflow("train_classifier", tmp_path, "small", max_epochs=2, val_interval=5).run()
    assert read_metadata(tmp_path / "models" / "classifier.safetensors")["extra"]["epoch"] == 2


# --- publishing by itself


class Best:
    """A checkpoint whose best epoch's weights are those that the network has."""

    def __init__(self, folder: Path) -> None:
        self.loaded, self.folder, self.record = 0, folder / "stage", {"seed": 1}

    def load_best(self) -> dict[str, Any]:
        self.loaded += 1
        return {"epoch": 3, "val_loss": 0.25}


def test_other_ranks_load_the_best_and_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading waits for all processes, so each must."""
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    best: Any = Best(tmp_path)
    network = ResNetClassifier(32, (4, 4, 8, 8))
    publish(best, network, tmp_path / "a.safetensors")
    publish_conditional(best, network, None, tmp_path)  # type: ignore[arg-type]
    publish_autoencoder(best, network, None, tmp_path / "b.safetensors")
    assert best.loaded == 3 and not list(tmp_path.iterdir())


def test_weights_are_published_in_the_precision_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, best, network = (
        tmp_path / "deep" / "classifier.safetensors",
        Best(tmp_path),
        ResNetClassifier(32, (4, 4, 8, 8)),
    )
    with caplog.at_level("INFO"):
        publish(best, network, path, dtype="float16")  # type: ignore[arg-type]
    assert {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()} == {torch.float16}
    assert read_metadata(path)["extra"] == {"epoch": 3, "val_loss": 0.25, "record": {"seed": 1}}
    noted = json.loads((tmp_path / "stage" / "published.json").read_text())
    assert noted["files"] == {path.name: digest_weights(path)} and noted["record"] == {"seed": 1}
    assert f"Best epoch 3 (val_loss 0.25); wrote {path}" in caplog.text


def test_the_latent_scale_is_of_the_crops_given(tmp_path: Path) -> None:
    """The reciprocal of their latents' standard deviation, over batches; the file says so."""
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder((8, 8), num_res_blocks=1, norm_num_groups=4)
    network = AlignedAutoencoder(autoencoder, 16)
    crops = torch.rand(70, 1, 16, 16) * 2 - 1
    with torch.no_grad():
        expected = 1 / autoencoder.eval().encode(crops)[0].std()
    batch = {"attributes": torch.zeros(5), "malignant": torch.tensor(0.0)}
    publish_autoencoder(
        Best(tmp_path), network, [{"image": crop, **batch} for crop in crops], tmp_path / "a.safetensors"
    )  # type: ignore[arg-type]
    assert load_file(tmp_path / "a.safetensors")["latent_scale"].item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.no_grad():
        decoded = autoencoder.decode(autoencoder.encode(crops)[0])
    texture = read_metadata(tmp_path / "a.safetensors")["config"]["texture"]
    assert texture == pytest.approx(lost_power(crops, decoded), rel=1e-4) and any(texture)
