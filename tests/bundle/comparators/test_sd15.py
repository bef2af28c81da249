"""SD1.5: no prompts, a plain context, the U-Net of diffusers; NAMD's own sampler; and it learns a growing disc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.comparators.generator import load_generator
from scripts.comparators.sd15 import StableDiffusion
from scripts.comparators.text import TextEncoder
from scripts.diffusion.denoiser import ConditionalDiffusionInferer, Denoiser
from scripts.diffusion.noise import CaseNoise
from scripts.diffusion.sampler import ProgressionInferer
from scripts.ehr.report import radiology_report
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.training.batches import LatentPrepareBatch
from scripts.weights.checkpoints import save_network
from scripts.weights.key_maps import DIFFUSERS, key_maps_of
from tests.bundle.comparators.lossless import Lossless
from tests.bundle.comparators.toy import batches, discs, errors, fit
from tests.bundle.helpers import stirred, their_unet


def unet(in_channels: int = 8, **changes: Any) -> StableDiffusionUNet:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"channels": (8, 16), "num_res_blocks": 1, "num_heads": 2, "norm_num_groups": 4}
    return StableDiffusionUNet(in_channels, **{**shape, "context_dim": 16, **changes})


@torch.no_grad()
def test_the_samples_are_those_of_namds_sampler_given_the_plain_context(tiny_llm: Path) -> None:
    torch.manual_seed(0)
    text, pairs = TextEncoder(str(tiny_llm), 60), discs(2)
    autoencoder = StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4).eval()
    method = StableDiffusion(autoencoder, stirred(unet()), text, 3, guidance_scale=2.0).eval()
    conditions = [Condition({"age": 61}, 365), Condition({"sct_long_dia": 9}, None)]
    rows: list[int] = []
    method.model.denoiser.unet.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    made = method.sample(pairs.baseline, conditions, CaseNoise(pairs.baseline, 3))
    assert sum(rows) == 2 * method.network_calls == 2 * 3 * 2, "two cases, three steps, with the report and without it"
    context = text([radiology_report(*each) for each in conditions])
    sampler = ProgressionInferer(3, num_runs=1, guidance_scale=2.0)
    expected = sampler(pairs.baseline, method.model, context, CaseNoise(pairs.baseline, 3))
    assert torch.equal(made, expected) and context.shape == (2, 60, 16)
    unguided = StableDiffusion(autoencoder, method.model.denoiser.unet, text, 3).eval()
    assert unguided.network_calls == 3
    assert not torch.equal(unguided.sample(pairs.baseline, conditions, CaseNoise(pairs.baseline, 3)), made)


def test_there_are_no_prompts(tiny_llm: Path) -> None:
    method = StableDiffusion(StableDiffusionAutoencoder((8, 8), 1, 4, 4), unet(), TextEncoder(str(tiny_llm)))
    parts = {
        name.split(".")[1] if name.startswith("model.autoencoder") else name.split(".")[2]
        for name in method.state_dict()
    }
    assert parts == {"autoencoder", "unet"} and not list(method.model.denoiser.conditioner.parameters())


@torch.no_grad()
def test_the_unet_is_diffusers_given_all_states(tiny_llm: Path) -> None:
    """A context of 40 vectors, where NAMD has two."""
    theirs, ours = stirred(their_unet()), unet(4, context_dim=6)
    table = key_maps_of(ours)[DIFFUSERS]
    ours.load_state_dict(
        {name: theirs.state_dict()[other].reshape(ours.state_dict()[name].shape) for name, other in table.items()}
    )
    x, context = torch.randn(2, 4, 8, 8), torch.randn(2, 40, 6)
    expected = theirs(x, torch.tensor([7, 900]), context).sample
    torch.testing.assert_close(ours.eval()(x, torch.tensor([7, 900]), context), expected, atol=1e-5, rtol=1e-4)


def test_weights_come_back(tiny_llm: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4)
    method = StableDiffusion(autoencoder, stirred(unet()), TextEncoder(str(tiny_llm), 60), 3, 2.0).eval()
    save_network(method, tmp_path / "generator.safetensors")
    again = load_generator(tmp_path)
    baseline, conditions = discs(2).baseline, [Condition({"age": 61}, 365), Condition({}, None)]
    made = [each.sample(baseline, conditions, CaseNoise(baseline, 3)) for each in (method, again)]
    assert torch.equal(*made) and again.config == method.config


@pytest.mark.table1
@pytest.mark.parametrize("count", [4, 64])
def test_it_overfits_four_pairs_and_learns_that_discs_grow(count: int, tiny_llm: Path) -> None:
    pairs, autoencoder, text = discs(count), Lossless(), TextEncoder(str(tiny_llm), 8)
    network = unet(32, channels=(64,), out_channels=16, prediction_type="v_prediction")
    denoiser: Any = Denoiser(network, text)  # type: ignore[arg-type]
    batch = LatentPrepareBatch(concat_key="baseline", prediction_type="v_prediction")

    def loss(latents: dict[str, Any]) -> Tensor:
        inputs, target, _, passed = batch(latents)
        passed["condition"] = [""] * len(inputs)
        return (ConditionalDiffusionInferer()(inputs, denoiser, **passed) - target).square().mean()

    torch.manual_seed(0)
    fit(network, loss, batches(autoencoder.latents(pairs), 16, 400), 3e-3)
    method = StableDiffusion(autoencoder, network.eval(), text, 10).eval()
    made, copied = errors(method, pairs if count == 4 else discs(12, seed=9), 8)
    assert made < 0.9 * copied


@pytest.mark.table1
def test_its_overlays_train_and_generate(applied: Any) -> None:
    stages = {"autoencoder": "compare_sd15_autoencoder", "unconditional": "compare_sd15_unconditional"}
    stages |= {"conditional": "compare_sd15"}
    folder = applied(stages, autoencoder={"adversary": {"channels": 4, "start": 1}})
    made = load_generator(folder / "models")
    assert isinstance(made, StableDiffusion) and made.network_calls == 8 and made.config["guidance_scale"] == 6.0
    assert nib.load(folder / "predictions" / "patient-9_n1" / "samples.nii.gz").shape == (32, 32, 1, 2)
