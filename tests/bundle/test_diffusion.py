"""Diffusion: the schedule in closed form, the sampler against diffusers', and whose samples depend on what."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from monai.data import MetaTensor
from torch import Tensor, nn

from scripts.conditioning.language_models import ConditionerError
from scripts.diffusion.denoiser import ConditionalDiffusionInferer, Denoiser
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel, load_progression_model
from scripts.diffusion.schedules import sampling_scheduler, training_scheduler
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import PREDICTION_TYPES, StableDiffusionUNet
from scripts.training.batches import LatentPrepareBatch
from scripts.weights.checkpoints import CheckpointError


class Reader(nn.Module):
    """In the conditioner's place: the context is a function of the report's characters."""

    def null_context(self, batch_size: int) -> Tensor:
        return torch.full((batch_size, 2, 6), -0.3)

    def forward(self, reports: Sequence[str]) -> Tensor:
        return torch.stack([torch.sin(torch.arange(12.0) * len(text)).view(2, 6) for text in reports])


class ToyAutoencoder(nn.Module):
    """8 x 8 crops to four channels and back, small enough that nothing is clamped."""

    def encode_stage_2_inputs(self, x: Tensor) -> Tensor:
        return torch.cat([x, 2 * x, x.square(), 1 - x], dim=1)

    def decode_stage_2_outputs(self, z: Tensor) -> Tensor:
        return 0.002 * z.sum(dim=1, keepdim=True)


class ToyUNet(nn.Module):
    """Depends on latent, baseline, timestep and context; remembers its inputs."""

    def __init__(self, prediction_type: str = "epsilon") -> None:
        super().__init__()
        self.prediction_type = prediction_type
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        self.seen.append(x)
        latent, baseline = x.chunk(2, dim=1)
        time = torch.cos(timesteps / 300.0).view(-1, 1, 1, 1)
        return (
            torch.tanh(latent + 0.5 * latent.roll(1, dims=1)) * time
            + 0.1 * baseline
            + context.mean((1, 2))[:, None, None, None]
        )


def toy(prediction_type: str = "epsilon") -> ProgressionModel:
    return ProgressionModel(ToyAutoencoder(), Denoiser(ToyUNet(prediction_type), Reader()))


@pytest.fixture(scope="module")
def model() -> ProgressionModel:
    """Real networks, tiny and random."""
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder(channels=(8, 8, 16), num_res_blocks=1, norm_num_groups=4)
    unet = StableDiffusionUNet(in_channels=8, channels=(8, 16), context_dim=6, num_heads=2, norm_num_groups=4)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return ProgressionModel(autoencoder, Denoiser(unet, Reader())).eval()


def crops(count: int, size: int = 32) -> Tensor:
    return torch.rand((count, 1, size, size), generator=torch.Generator().manual_seed(3)) * 2 - 1


REPORTS = ["short", "a longer report", "the longest of these reports"]


# --- the denoiser


def test_a_share_of_the_reports_is_left_out_in_training_alone() -> None:
    class Echo(nn.Module):
        def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
            return context

    denoiser = Denoiser(Echo(), Reader(), condition_dropout=0.25)  # type: ignore[arg-type]
    batch = (torch.zeros(4000, 4, 2, 2), torch.zeros(4000), ["a report"] * 4000)
    written, null = denoiser.context(["a report"], 1)[0], denoiser.context(None, 1)[0]
    assert torch.equal(denoiser.eval()(*batch), written.expand(4000, -1, -1))
    torch.manual_seed(0)
    found = denoiser.train()(*batch)
    left_out = (found == null).flatten(1).all(1)
    assert 0.22 < left_out.float().mean() < 0.28
    assert torch.equal(found[~left_out], written.expand(int((~left_out).sum()), -1, -1))
    denoiser.condition_dropout = 0.0
    assert torch.equal(denoiser(*batch), written.expand(4000, -1, -1)), "none by default"


# --- the schedule


def test_schedule_is_linear_in_the_square_root_of_beta() -> None:
    steps = np.arange(1000)
    betas = (np.sqrt(0.00085) + steps / 999 * (np.sqrt(0.012) - np.sqrt(0.00085))) ** 2
    for scheduler in (training_scheduler(), sampling_scheduler()):
        assert scheduler.num_train_timesteps == 1000
        np.testing.assert_allclose(scheduler.betas, betas, rtol=1e-5)
        np.testing.assert_allclose(scheduler.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)


def test_training_noises_by_the_closed_form_and_appends_the_baseline() -> None:
    betas = (np.linspace(0.00085**0.5, 0.012**0.5, 1000)) ** 2
    kept = torch.tensor(np.cumprod(1 - betas)[[0, 499, 999]]).float().view(3, 1, 1, 1)
    latent, noise, baseline = (torch.randn(3, 4, 8, 8) for _ in range(3))
    seen: dict[str, Any] = {}

    def network(x: Tensor, timesteps: Tensor, condition: Any) -> Tensor:
        seen.update(x=x, timesteps=timesteps, condition=condition)
        return noise

    timesteps = torch.tensor([0, 499, 999])
    ConditionalDiffusionInferer()(latent, network, noise, timesteps, condition=REPORTS, concat=baseline)
    expected = torch.cat([kept.sqrt() * latent + (1 - kept).sqrt() * noise, baseline], dim=1)
    torch.testing.assert_close(seen["x"], expected, atol=1e-5, rtol=1e-4)
    assert seen["timesteps"] is timesteps and seen["condition"] is REPORTS
    ConditionalDiffusionInferer()(latent, network, noise, timesteps)
    assert seen["x"].shape == latent.shape and seen["condition"] is None


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_what_is_learnt_is_what_diffusers_learns(kind: str) -> None:
    """The target of training, noise or v, from which with the noisy latent the clean one comes back."""
    latent, noise, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 499, 999])
    target = LatentPrepareBatch(prediction_type=kind).get_target(latent, noise, timesteps)
    theirs = diffusers_ddim(50)
    expected = noise if kind == "epsilon" else theirs.get_velocity(latent, noise, timesteps)
    torch.testing.assert_close(target, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="prediction_type is 'sample', expected epsilon or v_prediction"):
        StableDiffusionUNet(channels=(8, 8), norm_num_groups=4, prediction_type="sample")


# --- the sampler


def diffusers_ddim(num_steps: int, prediction_type: str = "epsilon") -> DDIMScheduler:
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=prediction_type,
    )
    scheduler.set_timesteps(num_steps)
    return scheduler


def test_fifty_steps_are_981_to_1() -> None:
    assert sampling_scheduler().timesteps.tolist() == list(range(981, 0, -20))


@pytest.mark.parametrize("num_steps", [1, 3, 20, 50, 333, 600, 999])
def test_timesteps_are_diffusers(num_steps: int) -> None:
    assert sampling_scheduler(num_steps).timesteps.tolist() == diffusers_ddim(num_steps).timesteps.tolist()


@pytest.mark.parametrize("num_steps", [0, -1, 1000])
def test_impossible_numbers_of_steps_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_steps is {num_steps}"):
        sampling_scheduler(num_steps)


@pytest.mark.parametrize("num_steps", [1, 7, 50])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_samples_are_those_of_diffusers_ddim(num_steps: int, guidance_scale: float, kind: str) -> None:
    """From the noise that the inferer started with, diffusers' scheduler comes to the same images."""
    network, baseline = toy(kind), crops(2, 8)
    images = ProgressionInferer(num_steps, num_runs=3, guidance_scale=guidance_scale)(baseline, network, REPORTS[:2])
    unet, scheduler = ToyUNet(), diffusers_ddim(num_steps, kind)
    latents, encoded = network.denoiser.unet.seen[0].chunk(2, dim=1)
    torch.testing.assert_close(encoded, network.autoencoder.encode_stage_2_inputs(baseline).repeat_interleave(3, 0))
    context, free = Reader()(REPORTS[:2]).repeat_interleave(3, 0), Reader().null_context(6)
    for step in scheduler.timesteps:
        both = [unet(torch.cat([latents, encoded], 1), step.expand(6), each) for each in (free, context)]
        latents = scheduler.step(both[0] + guidance_scale * (both[1] - both[0]), step, latents, eta=0.0).prev_sample
    expected = network.autoencoder.decode_stage_2_outputs(latents).view(2, 3, 8, 8)
    assert expected.abs().max() < 1.0
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)


def test_guidance_of_one_runs_the_network_once_a_step() -> None:
    network, guided = toy(), toy()
    ProgressionInferer(5, num_runs=1)(crops(1, 8), network, REPORTS[:1])
    ProgressionInferer(5, num_runs=1, guidance_scale=2.0)(crops(1, 8), guided, REPORTS[:1])
    counts = [len(each.denoiser.unet.seen) for each in (network, guided)]
    assert counts == [5, 10]


# --- samples belong to their case


def generate(model: ProgressionModel, images: Tensor, reports: Any, **settings: Any) -> Tensor:
    return ProgressionInferer(**{"num_steps": 4, "num_runs": 3, **settings})(images, model, reports)


def test_samples_do_not_depend_on_batch_or_order(model: ProgressionModel) -> None:
    images = crops(3)
    together = generate(model, images, REPORTS)
    assert together.shape == (3, 3, 32, 32) and together.min() >= -1 and together.max() <= 1
    for index in range(3):
        alone = generate(model, images[[index]], [REPORTS[index]])
        torch.testing.assert_close(alone[0], together[index], atol=1e-5, rtol=0)
    turned = generate(model, images.flip(0), REPORTS[::-1])
    torch.testing.assert_close(turned.flip(0), together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_samples_do_not_depend_on_how_they_are_split(model: ProgressionModel, batch_size: int) -> None:
    whole = generate(model, crops(3), REPORTS)
    torch.testing.assert_close(generate(model, crops(3), REPORTS, batch_size=batch_size), whole, atol=1e-5, rtol=0)


def test_fewer_runs_are_the_first_of_more(model: ProgressionModel) -> None:
    torch.testing.assert_close(
        generate(model, crops(2), REPORTS[:2], num_runs=2),
        generate(model, crops(2), REPORTS[:2])[:, :2],
        atol=1e-5,
        rtol=0,
    )


def test_runs_cases_and_seeds_have_their_own_noise() -> None:
    """Independent standard normal numbers: no two of them correlate."""
    noise = []
    for seed in (23, 24):
        network = toy()
        ProgressionInferer(1, num_runs=4, seed=seed)(crops(2, 32), network)
        noise.append(network.denoiser.unet.seen[0][:, :4])
    rows = torch.cat(noise).flatten(1)
    assert rows.shape == (16, 4 * 32 * 32)
    correlation = torch.corrcoef(rows) - torch.eye(16)
    assert correlation.abs().max() < 0.08
    assert rows.mean().item() == pytest.approx(0.0, abs=0.02) and rows.std().item() == pytest.approx(1.0, abs=0.02)


def test_noise_depends_on_the_seed_alone(model: ProgressionModel) -> None:
    """Neither on the global generator nor does it touch it; and equal seeds give equal samples."""
    torch.manual_seed(1)
    first = generate(model, crops(1), REPORTS[:1])
    after = torch.random.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(after, torch.random.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(generate(model, crops(1), REPORTS[:1]), first)
    assert not torch.allclose(generate(model, crops(1), REPORTS[:1], seed=24), first, atol=1e-2)


def test_rounding_of_pixels_does_not_change_the_noise() -> None:
    noise = []
    for shift in (0.0, 1e-7):
        network = toy()
        ProgressionInferer(1, num_runs=1)(torch.full((1, 1, 8, 8), 0.25) + shift, network)
        noise.append(network.denoiser.unet.seen[0][:, :4])
    assert torch.equal(*noise)


# --- what a condition may be


def test_conditions(model: ProgressionModel) -> None:
    images, ehr = crops(2), [{"age": 60}, {"age": 70, "gender": 1}]
    from_ehr = generate(model, images, ehr)
    assert torch.equal(from_ehr, generate(model, images, [radiology_report(record) for record in ehr]))
    assert torch.equal(from_ehr, generate(model, images, Reader()([radiology_report(record) for record in ehr])))
    without = generate(model, images, None)
    assert torch.equal(without, generate(model, images, Reader().null_context(2)))
    assert not torch.allclose(without, from_ehr, atol=1e-3)


def test_the_baseline_matters(model: ProgressionModel) -> None:
    images = crops(1)
    context = Reader()(REPORTS[:1])
    network = ProgressionModel(model.autoencoder, model.denoiser)
    latents = [network.autoencoder.encode_stage_2_inputs(image) for image in (images, -images)]
    noise = torch.randn(1, 4, 8, 8)
    outputs = [network.denoiser(torch.cat([noise, z], 1), torch.tensor([500]), context) for z in latents]
    assert not torch.allclose(*outputs, atol=1e-3)


def test_meta_tensors_become_plain_tensors(model: ProgressionModel) -> None:
    images = generate(model, MetaTensor(crops(1)), REPORTS[:1])
    assert type(images) is Tensor and torch.equal(images, generate(model, crops(1), REPORTS[:1]))


def test_the_model_alone_takes_an_image_and_gives_one(model: ProgressionModel) -> None:
    """As the Model Zoo's and MONAI Label's checks call it."""
    images = model(crops(2))
    assert images.shape == (2, 1, 32, 32)
    torch.testing.assert_close(images, ProgressionInferer(num_runs=1)(crops(2), model), atol=1e-6, rtol=0)


# --- from the files of a training


def test_loaded_model_is_the_trained_one(trained: Path, tiny_llm: Path) -> None:
    from safetensors.torch import load_file

    loaded = load_progression_model(trained / "models", llm=tiny_llm)
    assert not loaded.training and not any(p.requires_grad for p in loaded.denoiser.conditioner.parameters())
    for network, name in ((loaded.autoencoder, "autoencoder"), (loaded.denoiser.unet, "unet_conditional")):
        state = load_file(trained / "models" / f"{name}.safetensors")
        assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())
    prompts = [load_file(trained / "models" / "conditioner" / f"set_{m}" / "adapter_model.safetensors") for m in (0, 1)]
    assert torch.equal(
        loaded.denoiser.conditioner.prompts, torch.stack([each["prompt_embeddings"] for each in prompts])
    )


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ("autoencoder.safetensors", CheckpointError),
        ("unet_conditional.safetensors", CheckpointError),
        ("conditioner", ConditionerError),
    ],
)
def test_a_missing_part_is_named(
    trained: Path, tiny_llm: Path, tmp_path: Path, part: str, error: type[Exception]
) -> None:
    shutil.copytree(trained / "models", tmp_path / "models")
    (tmp_path / "models" / part).rename(tmp_path / "elsewhere")
    with pytest.raises(error, match=part):
        load_progression_model(tmp_path / "models", llm=tiny_llm)


# --- MONAI Label's and MONAI Deploy's way in: the EHR travels with the image


def with_meta(images: Tensor, **meta: Any) -> MetaTensor:
    return MetaTensor(images, meta=meta)


def test_an_ehr_in_the_images_meta_data_is_read(model: ProgressionModel) -> None:
    ehr = {"age": 70, "gender": 1}
    inferer = ProgressionInferer(num_steps=4, num_runs=3, interval_days=400)
    images = inferer(with_meta(crops(1), ehr=ehr), model)
    assert torch.equal(images, inferer(crops(1), model, [radiology_report(ehr, 400)]))
    assert torch.equal(images, inferer(crops(1), model, [ehr])), "as a condition it has the same interval"
    assert not torch.equal(images, inferer(crops(1), model))
    spoken = inferer(with_meta(crops(1), ehr=ehr), model, ["another report"])
    assert torch.equal(spoken, inferer(crops(1), model, ["another report"])), "what is asked for counts"


@pytest.mark.parametrize(("count", "ehr"), [(2, {"age": 70}), (1, ["age", 70])])
def test_an_ehr_that_belongs_to_nobody_is_refused(model: ProgressionModel, count: int, ehr: Any) -> None:
    with pytest.raises(UserError, match=f"'ehr' of type {type(ehr).__name__} for {count} images"):
        generate(model, with_meta(crops(count), ehr=ehr), None)
