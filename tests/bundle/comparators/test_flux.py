"""Flux: its own schedule, direction, patches and layout, against diffusers and MONAI; and it learns a growing disc."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.schedulers import RFlowScheduler
from safetensors.torch import save_file
from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.comparators.flux import (
    FlowInferer,
    FlowPrepareBatch,
    Flux,
    FluxVelocity,
    initial_velocity,
    patches,
    schedule,
    shift,
    shifted,
    unpatched,
)
from scripts.comparators.generator import load_generator
from scripts.comparators.text import TextEncoder
from scripts.diffusion.noise import CaseNoise
from scripts.errors import UserError
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.weights.checkpoints import save_network
from tests.bundle.comparators.lossless import Lossless
from tests.bundle.comparators.tiny_flux import SHAPE, small
from tests.bundle.comparators.toy import batches, discs, errors, fit
from tests.bundle.helpers import count, stirred


def test_four_steps_are_the_published_ones() -> None:
    """Of 16 tokens, and of 4,096, where mu is 1.15."""
    times = schedule(4, shift(torch.zeros(1, 16, 8, 8)))
    np.testing.assert_allclose(times, [1, 0.82606, 0.61287, 0.34542, 0], atol=5e-6)
    assert np.log(shift(torch.zeros(1, 16, 128, 128))) == pytest.approx(1.15)


def test_time_runs_from_noise_at_one_to_data_at_zero() -> None:
    x, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    def network(noisy: Tensor, times: Tensor, concat: Any, condition: Any) -> Tensor:
        seen.append(noisy)
        return noisy

    for time in (1.0, 0.0, 0.25):
        FlowInferer()(x, network, noise, torch.full((3,), time), [""] * 3)  # type: ignore[arg-type]
    assert torch.equal(seen[0], noise) and torch.equal(seen[1], x)
    torch.testing.assert_close(seen[2], 0.75 * x + 0.25 * noise)
    target = FlowPrepareBatch().get_target(x, noise, torch.ones(3))
    torch.testing.assert_close(noise - 1.0 * target, x)  # one Euler step from 1 to 0 with the true velocity
    mixed = RFlowScheduler(num_train_timesteps=1000).add_noise(x, noise, torch.full((3,), 250.0))
    torch.testing.assert_close(seen[2], mixed, atol=1e-3, rtol=0)  # MONAI's t = 1000 is noise too


def test_monai_takes_the_opposite_velocity() -> None:
    """Its target is data - noise: by -v it comes from the noise to the data, as ours does by v."""
    x, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = RFlowScheduler(num_train_timesteps=1000)
    theirs.set_timesteps(4)
    sample = noise
    for time, after in zip(theirs.timesteps, [*theirs.timesteps[1:], torch.tensor(0.0)], strict=True):
        sample, _ = theirs.step(-FlowPrepareBatch().get_target(x, noise, time), time, sample, after)
    torch.testing.assert_close(sample, x, atol=1e-5, rtol=0)


def test_patches_invert_and_have_the_published_order() -> None:
    latents = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).view(2, 3, 4, 6)
    tokens = patches(latents)
    assert tokens.shape == (2, 6, 12) and torch.equal(unpatched(tokens, 2, 3), latents)
    assert torch.equal(tokens[0, 4].view(3, 2, 2), latents[0, :, 2:4, 2:4]), "(channel, row, column), rows first"
    from diffusers import FluxPipeline

    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 3, 4, 6))


@pytest.mark.parametrize(("guidance", "expected"), [(3.5, 11_901_408_320), (None, 11_891_178_560)])
def test_the_published_layout_to_the_parameter(guidance: float | None, expected: int) -> None:
    with torch.device("meta"):
        assert count(FluxVelocity(guidance=guidance, baseline=False)) == expected


def test_a_new_network_gives_zero_and_learns() -> None:
    velocity, latent = small(), torch.randn(2, 4, 8, 8)
    out = velocity(latent, torch.tensor([0.2, 0.9]), latent, torch.randn(2, 5, 16))
    assert not out.any()
    (out - latent).square().mean().backward()
    assert velocity.transformer.proj_out.weight.grad.any()


@torch.no_grad()
def test_sampling_equals_the_loop_of_diffusers_pipeline(tiny_llm: Path) -> None:
    """The same noise, network and text through FlowMatchEulerDiscreteScheduler as FluxPipeline calls it."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    method = Flux(Lossless(), stirred(small(latent_channels=16)), TextEncoder(str(tiny_llm), 24), num_steps=5).eval()
    pairs = discs(3, 32)
    made = method.sample(pairs.baseline, pairs.conditions, CaseNoise(pairs.baseline, 1))
    noise = CaseNoise(pairs.baseline, 1)((16, 8, 8))
    known = method.autoencoder.encode_stage_2_inputs(pairs.baseline)
    from scripts.ehr.report import radiology_report

    text = method.text([radiology_report(*each) for each in pairs.conditions])
    tokens = FluxPipeline._pack_latents(noise, 3, 16, 8, 8)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 5, 5), mu=calculate_shift(16))
    for step in scheduler.timesteps:
        velocity = method.velocity.transformer(
            hidden_states=torch.cat([tokens, FluxPipeline._pack_latents(known, 3, 16, 8, 8)], dim=2),
            timestep=step.expand(3) / 1000,
            pooled_projections=text.mean(dim=1),
            encoder_hidden_states=text,
            txt_ids=torch.zeros(24, 3),
            img_ids=FluxPipeline._prepare_latent_image_ids(3, 4, 4, "cpu", torch.float32),
            return_dict=False,
        )[0]
        tokens = scheduler.step(velocity, step, tokens, return_dict=False)[0]
    expected = method.autoencoder.decode_stage_2_outputs(FluxPipeline._unpack_latents(tokens, 8, 8, 1))
    torch.testing.assert_close(made, expected.clamp(-1, 1), atol=2e-5, rtol=1e-4)
    assert float(made.std()) > 0.1


def test_training_times_are_logit_normal_and_shifted() -> None:
    batch, latents = FlowPrepareBatch(), torch.zeros(20_000, 4, 8, 8)
    torch.manual_seed(0)
    times = batch.get_timesteps(latents)
    factor = shift(latents)
    normal = torch.logit(times / (factor - (factor - 1) * times))  # undone
    assert abs(float(normal.mean())) < 0.02 and abs(float(normal.std()) - 1.0) < 0.02
    fixed = FlowPrepareBatch(fixed=True).get_timesteps(latents[:500])
    quantiles = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(fixed.quantile(quantiles), times.quantile(quantiles), atol=0.01, rtol=0)
    assert float(shifted(torch.tensor(0.5), factor)) == pytest.approx(0.6129, abs=1e-4)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_it_starts_from_published_weights(prefix: str, tmp_path: Path) -> None:
    """By the original's names: the text's layers are new where its width differs, the baseline's columns zero."""
    from scripts.weights.flux_names import original_source

    theirs = stirred(small(baseline=False))
    tensors: dict[str, list[Any]] = {}
    for name, tensor in theirs.transformer.state_dict().items():
        source = original_source(name)
        parts = tensors.setdefault(prefix + source.name, [None] * source.total)
        for index, part in zip(source.parts, tensor.chunk(len(source.parts)), strict=True):
            parts[index] = part
    save_file({name: torch.cat(parts) for name, parts in tensors.items()}, tmp_path / "flux.safetensors")
    started = initial_velocity(SHAPE, 4, 16, tmp_path / "flux.safetensors").eval()
    x, text = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 16)
    with torch.no_grad():
        expected = theirs(x, torch.tensor([0.3, 0.7]), None, text)
        torch.testing.assert_close(started(x, torch.tensor([0.3, 0.7]), torch.randn_like(x), text), expected)
    wide = initial_velocity(SHAPE, 4, 20, tmp_path / "flux.safetensors")
    assert wide.transformer.context_embedder.weight.shape == (32, 20)
    theirs.transformer.save_pretrained(tmp_path / "pipeline" / "transformer")
    again = initial_velocity(SHAPE, 4, 16, tmp_path / "pipeline")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), started.parameters(), strict=True))
    with pytest.raises(UserError, match="do not fit this Flux"):
        initial_velocity({**SHAPE, "num_layers": 2}, 4, 16, tmp_path / "flux.safetensors")


def test_weights_come_back(tiny_llm: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4)
    method = Flux(autoencoder, stirred(small()), TextEncoder(str(tiny_llm), 300), num_steps=3).eval()
    save_network(method, tmp_path / "generator.safetensors")
    again = load_generator(tmp_path)
    baseline, known = discs(2).baseline, [Condition({"age": 61}, 365), Condition({}, None)]
    made = [each.sample(baseline, known, CaseNoise(baseline, 3)) for each in (method, again)]
    assert torch.equal(*made) and again.config == method.config and again.network_calls == 3


@pytest.mark.table1
@pytest.mark.parametrize("count", [4, 64])
def test_it_overfits_four_pairs_and_learns_that_discs_grow(count: int, tiny_llm: Path) -> None:
    pairs, autoencoder, batch = discs(count), Lossless(), FlowPrepareBatch(concat_key="baseline")
    velocity, text = small(latent_channels=16, num_single_layers=1, num_heads=4), TextEncoder(str(tiny_llm), 8)
    states = text([""])

    def loss(latents: dict[str, Any]) -> Tensor:
        inputs, target, _, passed = batch(latents)
        inferer: Callable[..., Tensor] = FlowInferer()
        passed["condition"] = states.expand(len(inputs), -1, -1)
        return (inferer(inputs, velocity, **passed) - target).square().mean()

    torch.manual_seed(0)
    fit(velocity, loss, batches(autoencoder.latents(pairs), 16, 1200), 3e-3)
    method = Flux(autoencoder, velocity.eval(), text, num_steps=10)
    made, copied = errors(method, pairs if count == 4 else discs(12, seed=9), 8)
    assert made < 0.85 * copied


@pytest.mark.table1
def test_its_overlays_train_and_generate(applied: Any) -> None:
    stages = {"autoencoder": "compare_flux_autoencoder", "conditional": "compare_flux"}
    shape = {"channels": [8, 8, 16], "num_res_blocks": 1, "norm_num_groups": 4, "latent_channels": 16}
    folder = applied(stages, autoencoder_shape=shape, conditional={"shape": SHAPE})
    made = load_generator(folder / "models")
    assert isinstance(made, Flux) and made.network_calls == 4 and made.config["autoencoder"]["latent_channels"] == 16
    assert nib.load(folder / "predictions" / "patient-9_n1" / "samples.nii.gz").shape == (32, 32, 1, 2)
