"""The sampler: against diffusers, and whose samples belong to which case."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from scripts.conditioning.language_models import ConditionerError
from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel, load_progression_model
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import PREDICTION_TYPES
from scripts.weights.checkpoints import CheckpointError
from tests.bundle.diffusion.helpers import (
    REPORTS,
    Reader,
    ToyUNet,
    crops,
    diffusers_ddim,
    generate,
    toy,
)


@pytest.mark.parametrize("num_steps", [2, 7, 50])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_samples_are_those_of_diffusers_ddim(num_steps: int, guidance_scale: float, kind: str) -> None:
    """From the noise that the inferer started with, diffusers' scheduler comes to the same images."""
    network, baseline = toy(kind), crops(2, 8)
    images = ProgressionInferer(num_steps, num_runs=3, guidance_scale=guidance_scale)(baseline, network, REPORTS[:2])
    unet, scheduler = ToyUNet(), diffusers_ddim(num_steps, kind)
    latents, encoded = network.denoiser.unet.seen[0][:6].chunk(2, dim=1)  # guided, the free half repeats the first
    torch.testing.assert_close(encoded, network.autoencoder.encode_stage_2_inputs(baseline).repeat_interleave(3, 0))
    context, free = Reader()(REPORTS[:2]).repeat_interleave(3, 0), Reader().null_context(6)
    for step in scheduler.timesteps:
        both = [unet(torch.cat([latents, encoded], 1), step.expand(6), each) for each in (free, context)]
        latents = scheduler.step(both[0] + guidance_scale * (both[1] - both[0]), step, latents, eta=0.0).prev_sample
    expected = network.autoencoder.decode_stage_2_outputs(latents).view(2, 3, 8, 8)
    assert expected.abs().max() < 1.0
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=1e-5)


def test_the_schedule_is_the_one_that_the_network_was_trained_by() -> None:
    """As above, by diffusers' scheduler with betas that are linear."""
    network, baseline = toy(), crops(1, 8)
    network.denoiser.unet.beta_schedule = "linear"
    images = ProgressionInferer(7, num_runs=1)(baseline, network, REPORTS[:1])
    latents, encoded = network.denoiser.unet.seen[0].chunk(2, dim=1)
    unet, scheduler = ToyUNet(), diffusers_ddim(7, beta_schedule="linear")
    for step in scheduler.timesteps:
        output = unet(torch.cat([latents, encoded], 1), step.expand(1), Reader()(REPORTS[:1]))
        latents = scheduler.step(output, step, latents, eta=0.0).prev_sample
    torch.testing.assert_close(images[0], network.autoencoder.decode_stage_2_outputs(latents)[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(images, ProgressionInferer(7, num_runs=1)(baseline, toy(), REPORTS[:1]), atol=1e-3)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp"])
def test_guidance_is_the_same_call_with_twice_the_latents(solver: str) -> None:
    """Which are two evaluations a step."""
    for scale, rows in ((1.0, 1), (2.0, 2), (0.0, 2)):
        network, inferer = toy(), ProgressionInferer(5, num_runs=1, guidance_scale=scale, solver=solver)
        inferer(crops(1, 8), network, REPORTS[:1])
        assert [len(x) for x in network.denoiser.unet.seen] == [rows] * 5 and inferer.network_calls == 5 * rows


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


# --- what a condition may be


def test_conditions(model: ProgressionModel) -> None:
    images, ehr = crops(2), [{"age": 60}, {"age": 70, "gender": 1}]
    from_ehr = generate(model, images, ehr)
    assert torch.equal(from_ehr, generate(model, images, [radiology_report(record) for record in ehr]))
    assert torch.equal(from_ehr, generate(model, images, Reader()([radiology_report(record) for record in ehr])))
    without = generate(model, images, None)
    assert torch.equal(without, generate(model, images, Reader().null_context(2)))
    assert not torch.allclose(without, from_ehr, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("given", [REPORTS[:1], [{"age": 60}] * 3, torch.zeros(1, 2, 6)], ids=["text", "ehr", "vector"])
def test_every_crop_has_a_condition_of_its_own(given: Any, scale: float) -> None:
    """One is not taken for all of them, as broadcasting would."""
    network = toy()
    with pytest.raises(UserError, match=rf"^{len(given)} reports or records for 4 crops; expected one for each crop"):
        ProgressionInferer(2, num_runs=1, guidance_scale=scale)(crops(4, 8), network, given)
    assert not network.denoiser.unet.seen


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_runs": 0}, "num_runs is 0, expected 1 or more"),
        ({"guidance_scale": -3.0}, "guidance_scale is -3.0, expected 1"),
        ({"solver": "foo"}, "solver is 'foo', expected ddim or dpmpp"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProgressionInferer(**options)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_crops_that_are_not_finite_are_refused_by_name(value: float) -> None:
    baseline = crops(2, 8)
    baseline[1, 0, 3, 3] = value
    named = MetaTensor(baseline, meta={"filename_or_obj": ["first.nii.gz", "second.nii.gz"]})
    for images, name in ((named, "second.nii.gz"), (baseline, "the baseline")):
        network = toy()
        with pytest.raises(UserError, match=f"^{name}: holds values that are NaN or infinite"):
            generate(network, images, REPORTS[:2])
        assert not network.denoiser.unet.seen


def test_images_that_came_out_not_finite_are_refused() -> None:
    """As files they would be 0 HU everywhere."""
    network = toy()
    network.autoencoder.decode_stage_2_outputs = lambda z: z.sum(dim=1, keepdim=True) * torch.nan
    with pytest.raises(UserError, match="Generated images hold NaN"):
        generate(network, crops(1, 8), REPORTS[:1])


def test_crops_that_the_autoencoder_cannot_halve_are_refused() -> None:
    autoencoder = StableDiffusionAutoencoder(channels=(8, 8, 16), num_res_blocks=1, norm_num_groups=4)
    network = ProgressionModel(autoencoder, toy().denoiser)
    with pytest.raises(UserError, match="image_size is 30, expected a multiple of 4"):
        generate(network, crops(1, 30), REPORTS[:1])


def test_texture_is_added_where_it_is_asked_for() -> None:
    """White noise of the spectrum in the weights, another in every run, the same in every call; none is no spectrum."""
    network: Any = toy()
    plain, textured = (ProgressionInferer(2, num_runs=40, texture=each) for each in (False, True))
    with pytest.raises(UserError, match="brings no texture"):
        textured(crops(1, 8), network, REPORTS[:1])
    network.autoencoder.config = {"texture": [0.01] * 24}
    added = textured(crops(2, 8), network, REPORTS[:2]) - plain(crops(2, 8), network, REPORTS[:2])
    assert added.std().item() == pytest.approx(0.1, rel=0.1) and abs(added.mean().item()) < 0.01
    assert added.flatten(0, 1).flatten(1).corrcoef().fill_diagonal_(0).abs().max() < 0.7
    torch.testing.assert_close(
        added[1:], textured(crops(2, 8)[1:], network, REPORTS[1:2]) - plain(crops(2, 8)[1:], network, REPORTS[1:2])
    )
