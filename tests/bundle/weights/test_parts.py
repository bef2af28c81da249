"""Parts that were not trained with each other do not make a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scripts.conditioning.settings import read_settings
from scripts.diffusion.sampler import load_progression_model
from scripts.errors import UserError
from scripts.fingerprint import digest_weights
from scripts.weights.checkpoints import CheckpointError, load_network, read_metadata, save_network
from scripts.weights.parts import check_parts, conditioner_arguments, digest_parts, image_size


@pytest.fixture
def models(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "models", tmp_path / "models"))


def again(path: Path, change: Callable[[Any, dict[str, Any]], None] = lambda network, extra: None) -> None:
    """Saves a network with its record once more, changed."""
    network, extra = load_network(path), read_metadata(path)["extra"]
    with torch.no_grad():
        change(network, extra)
    save_network(network, path, extra)


def refused(models: Path, llm: Path, *said: str) -> None:
    """By the check, and by whatever opens the model."""
    for start in (lambda: check_parts(models, str(llm)), lambda: load_progression_model(models, llm=str(llm))):
        with pytest.raises(CheckpointError) as caught:
            start()
        assert all(each in str(caught.value) for each in said) and "\n" not in str(caught.value)


def test_parts_of_one_training_belong_together(models: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """However often they are saved, and with a language model that has moved."""
    for name in ("autoencoder", "unet_conditional"):
        again(models / f"{name}.safetensors")
    llm = shutil.copytree(tiny_llm, tmp_path / "elsewhere" / tiny_llm.name)
    check_parts(models, str(llm))
    load_progression_model(models, llm=str(llm))


def test_another_autoencoder_is_refused(models: Path, tiny_llm: Path) -> None:
    path = models / "autoencoder.safetensors"
    was = digest_weights(path)[:12]
    again(path, lambda network, extra: network.latent_scale.mul_(0.5))
    refused(models, tiny_llm, f"{path}: not the autoencoder that unet_conditional.safetensors was trained with", was)


@pytest.mark.parametrize("part", ["set_1/adapter_model", "context_statistics"])
def test_another_conditioner_is_refused(models: Path, tiny_llm: Path, part: str) -> None:
    path = models / "conditioner" / f"{part}.safetensors"
    save_file({name: tensor + 1e-3 for name, tensor in load_file(path).items()}, path)
    refused(models, tiny_llm, f"{models / 'conditioner'}: not the conditioner that")


def test_another_language_model_of_the_same_name_is_refused(models: Path, tiny_llm: Path, tmp_path: Path) -> None:
    llm = Path(shutil.copytree(tiny_llm, tmp_path / "elsewhere" / tiny_llm.name))
    weights = load_file(llm / "model.safetensors")
    save_file({name: 1.1 * each for name, each in weights.items()}, llm / "model.safetensors", {"format": "pt"})
    refused(models, llm, f"trained with the language model {tiny_llm.name} (", f"opened with {llm.name} (")


def test_networks_of_another_image_size_are_refused(models: Path, tiny_llm: Path) -> None:
    """The autoencoder's values are the same; only its record tells."""
    assert image_size(models / "autoencoder.safetensors") == image_size(models / "unet_conditional.safetensors") == 32

    def larger(network: Any, extra: dict[str, Any]) -> None:
        extra["record"]["settings"]["image_size"] = 64

    again(models / "autoencoder.safetensors", larger)
    refused(models, tiny_llm, "autoencoder.safetensors: trained on crops of 64 px, but unet_conditional.safetensors on")


def test_weights_without_record_are_taken_as_they_are(models: Path, tiny_llm: Path) -> None:
    again(models / "autoencoder.safetensors", lambda network, extra: network.latent_scale.mul_(0.5))
    again(models / "unet_conditional.safetensors", lambda network, extra: extra.pop("record"))
    check_parts(models, str(tiny_llm))
    assert image_size(models / "unet_conditional.safetensors") is None


def test_each_part_has_its_digest(models: Path) -> None:
    found = digest_parts(models)
    assert found.keys() == {"autoencoder", "unet_conditional", "conditioner"} and len(set(found.values())) == 3
    shutil.rmtree(models / "conditioner")
    assert digest_parts(models) == {name: found[name] for name in ("autoencoder", "unet_conditional")}


def test_a_training_opens_the_conditioner_that_it_goes_on_from(models: Path, tiny_llm: Path, tmp_path: Path) -> None:
    """With the arguments of its training, wherever its language model lies now; no autoencoder is needed there."""
    stored = read_settings(models / "conditioner")
    (models / "autoencoder.safetensors").unlink()
    assert stored is not None and conditioner_arguments({}, models) == conditioner_arguments({"noise": 0.0}, models)
    llm = str(shutil.copytree(tiny_llm, tmp_path / "moved" / tiny_llm.name))
    assert conditioner_arguments({"llm": llm}, models) == {**stored, "llm": llm}
    assert conditioner_arguments({"components": 3}) == {"components": 3}, "where there is none"
    assert conditioner_arguments({}, models, seed=24) == conditioner_arguments({}, models), "prompts come of the model"


def test_a_training_refuses_another_conditioner_than_it_goes_on_from(models: Path, make_gemma: Any) -> None:
    with pytest.raises(UserError, match="end_token is True, but was False in training. Leave --conditioner_arg"):
        conditioner_arguments({"end_token": True}, models)
    with pytest.raises(CheckpointError, match=r"with the language model tiny-llama .*, opened with tiny-gemma"):
        conditioner_arguments({"llm": str(make_gemma(False, True))}, models)
