"""DDL-CXR: its schedule, its loss and its sampler by hand and against MONAI; and it learns a growing disc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn

from scripts.comparators.contract import Condition
from scripts.comparators.ddl_cxr import (
    DDLCXR,
    EHREncoder,
    Ramp,
    RecordBatch,
    RecordDenoiser,
    RecordInferer,
    RecordLoss,
    alphas,
    ddim_step,
    with_unet,
)
from scripts.comparators.generator import generator_metadata, load_generator
from scripts.comparators.numbers import ConditionNumbers
from scripts.diffusion.noise import CaseNoise
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.training.stage import read_checkpoint
from scripts.weights.checkpoints import save_network
from tests.bundle.comparators.lossless import Lossless
from tests.bundle.comparators.toy import Pairs, batches, discs, errors, fit
from tests.bundle.helpers import count, stirred

SHAPE: dict[str, Any] = {
    **{"channels": (16, 32), "num_res_blocks": 1, "norm_num_groups": 4, "head_channels": 8, "context": 16},
}


def known(pairs: Pairs) -> ConditionNumbers:
    return ConditionNumbers.of(pairs.conditions)


def network(numbers: ConditionNumbers, latent_channels: int = 16) -> RecordDenoiser:
    torch.manual_seed(0)
    return RecordDenoiser(numbers.width, latent_channels, **SHAPE)


def test_the_schedule_is_the_published_one() -> None:
    share = 1.0 - alphas()
    assert [round(float(share[step]), 4) for step in (0, 500)] == [0.0015, 0.8851]
    assert float(share[999]) == pytest.approx(0.99986, abs=5e-6)
    snr = (1 - share) / share
    torch.testing.assert_close(share, 1 / (1 + snr))


def test_the_published_sizes() -> None:
    """The encoder by hand; heads of 16 channels at all three levels, 14, 28 and 56 of them."""
    with torch.device("meta"):
        published = RecordDenoiser(30)
    width, mlp = 128, 256
    attention = 4 * width * width + 4 * width
    expected = 31 * width + width + attention + 2 * width * mlp + mlp + width + 2 * 2 * width
    assert count(published.record) == expected
    heads = {m.num_heads for m in published.unet.modules() if hasattr(m, "num_heads")}
    assert heads == {14, 28, 56} and count(published.outcome) == 129
    assert published.unet.conv_in.conv.weight.shape == (224, 8, 3, 3)


class Stub(nn.Module):
    """Given as the outputs of the network."""

    def __init__(self, noise: Tensor, perturbed: Tensor, logit: Tensor) -> None:
        super().__init__()
        self.outputs = {"noise": noise, "perturbed": perturbed, "logit": logit}


@pytest.mark.parametrize(("epoch", "step"), [(0, 999), (50, 0), (50, 499), (200, 999)])
def test_the_loss_by_hand(epoch: int, step: int) -> None:
    """Two samples of two numbers: errors 1, 4 and 0, 0 with the record; 1, 1 and 9, 0 without it."""
    noise = torch.zeros(2, 2, 1, 1)
    own = torch.tensor([[1.0, 2.0], [0.0, 0.0]])[:, :, None, None]
    other = torch.tensor([[1.0, 1.0], [3.0, 0.0]])[:, :, None, None]
    outputs = Stub(own, other, torch.tensor([[0.0], [5.0]])).outputs
    share = float(1.0 - alphas()[step])
    target = {"image": noise, "malignant": torch.tensor([1.0, torch.nan]), "share": torch.full((2,), share)}
    loss = RecordLoss(ramp=200)
    loss.epoch = epoch
    contrast = ((0.2 + 3.2) / 2 + (0.0 + 0.2) / 2) / 2
    expected = 5 / 4 + 1.4 * 0.693147 + epoch / 200 * share * contrast
    assert loss(outputs, target).item() == pytest.approx(expected, rel=1e-5)
    assert loss(own, target).item() == pytest.approx(5 / 4), "validation: the squared error alone"
    target["image"] = torch.tensor([[0.0, torch.nan], [0.0, 0.0]])[:, :, None, None]
    contrast = (0.2 + (0.0 + 0.2) / 2) / 2
    expected = 1 / 3 + 1.4 * 0.693147 + epoch / 200 * share * contrast
    for each in outputs.values():
        each.requires_grad_()
    padded = loss(outputs, target)
    assert padded.item() == pytest.approx(expected, rel=1e-5), "what is padded is left out"
    padded.backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in outputs.values())
    assert outputs["noise"].grad[0, 1] == 0


def test_the_ramp_follows_the_epochs() -> None:
    from ignite.engine import Engine, Events

    loss, seen = RecordLoss(), []
    engine = Engine(lambda engine, batch: seen.append(loss.epoch))
    Ramp(loss).attach(engine)
    engine.run([0], max_epochs=3)
    assert seen == [0, 1, 2] and engine.has_event_handler(engine._event_handlers[Events.EPOCH_STARTED][0][0])


def test_gradients_reach_the_encoder_by_both_terms() -> None:
    pairs = discs(4)
    model, numbers = network(known(pairs)).train(), known(pairs)
    record = numbers(pairs.conditions)
    outputs: Any = stirred(model).train()(torch.randn(4, 32, 8, 8), torch.tensor([5, 300, 600, 990]), record)
    for term in (outputs["noise"].square().mean(), outputs["logit"].square().mean()):
        model.zero_grad()
        term.backward(retain_graph=True)
        assert model.record.project.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert not torch.equal(outputs["noise"], outputs["perturbed"])


def test_the_unet_alone_is_averaged(make_workflow: Any, tmp_path: Path) -> None:
    """What is published is what was validated: the averaged U-Net with the raw EHR encoder and its statistics."""
    torch.manual_seed(0)
    autoencoder = StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4)
    save_network(autoencoder, tmp_path / "models" / "autoencoder.safetensors")
    options: dict[str, Any] = {"shape": SHAPE, "val_interval": 2}  # the last epoch is the best
    workflow = make_workflow("train_conditional", tmp_path, "small", "compare_ddl_cxr", **options)
    workflow.run()
    made, state = load_generator(tmp_path / "models"), read_checkpoint(tmp_path / "ddl_cxr" / "last.pt")
    assert isinstance(made, DDLCXR)
    raw, averaged = state["network"], state["ema"]
    for name, value in made.denoiser.state_dict().items():
        expected = averaged[f"module.{name.removeprefix('unet.')}"] if name.startswith("unet.") else raw[name]
        assert torch.equal(value, expected), name
    assert not torch.equal(made.denoiser.unet.conv_in.conv.weight, raw["unet.conv_in.conv.weight"])
    assert int(made.denoiser.record.norms[0].num_batches_tracked) == 6, "two epochs of three batches"
    evaluator = workflow.parser.get_parsed_content("validate::evaluator")
    evaluator.network = made.denoiser
    evaluator.run()
    published = generator_metadata(tmp_path / "models")["extra"]
    assert evaluator.state.metrics["val_loss"] == pytest.approx(published["val_loss"], rel=1e-6)


def test_another_unet_leaves_the_denoiser_as_it_is() -> None:
    model = network(known(discs(2)))
    own, other = model.unet, network(known(discs(2))).unet
    made = with_unet(model, other)
    assert model.unet is own and made.unet is other
    assert made.record is model.record and made.outcome is model.outcome and made.config == model.config


def test_the_encoder_normalises_by_batch_and_has_the_learnt_token_first() -> None:
    torch.manual_seed(0)
    encoder = EHREncoder(5, 16, 4, 32, dropout=0.0).train()
    series = torch.randn(6, 3, 5)
    normal: list[Tensor] = []
    encoder.norms[1].register_forward_hook(lambda module, inputs, output: normal.append(output))
    tokens = encoder(series)
    assert tokens.shape == (6, 4, 16)
    torch.testing.assert_close(normal[0].mean(dim=(0, 1)), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal[0].var(dim=(0, 1), correction=0), torch.ones(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(tokens, torch.nn.functional.gelu(normal[0]))
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(series)[2:3], encoder(series[2:3]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("step", [1, 500, 999])
def test_eta_one_is_the_posterior_of_ddpm(step: int) -> None:
    """One timestep at a time: mean and variance of MONAI's DDPM step, whose variance is the posterior's."""
    x, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    settings: dict[str, Any] = {"num_train_timesteps": 1000, "schedule": "scaled_linear_beta", "clip_sample": False}
    theirs = DDPMScheduler(beta_start=0.0015, beta_end=0.0195, **settings)
    share = alphas().double()
    mean = ddim_step(x, noise, float(share[step]), float(share[step - 1]), torch.zeros_like(x))
    spread = ddim_step(x, noise, float(share[step]), float(share[step - 1]), torch.ones_like(x)) - mean
    clean = (x - (1 - share[step]).sqrt() * noise) / share[step].sqrt()
    expected = theirs._get_mean(step, clean, x) if hasattr(theirs, "_get_mean") else None
    beta = 1 - share[step] / share[step - 1]
    posterior = (share[step - 1].sqrt() * beta * clean + (1 - beta).sqrt() * (1 - share[step - 1]) * x) / (
        1 - share[step]
    )
    torch.testing.assert_close(mean, posterior if expected is None else expected, atol=1e-6, rtol=1e-5)
    variance = float(theirs._get_variance(step))
    assert float(spread.square().mean()) == pytest.approx(variance, rel=1e-4)
    eta = DDIMScheduler(beta_start=0.0015, beta_end=0.0195, set_alpha_to_one=False, **settings)
    eta.set_timesteps(1000)
    found, _ = eta.step(noise, step, x, eta=1.0, generator=torch.Generator().manual_seed(0))
    fresh = (found - mean) / variance**0.5
    assert abs(float(fresh.mean())) < 0.1 and float(fresh.std()) == pytest.approx(1.0, abs=0.1)


def test_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    pairs = discs(2)
    autoencoder = StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4)
    numbers = known(pairs)
    method = DDLCXR(autoencoder, stirred(network(numbers, 4)), numbers, num_steps=4).eval()
    save_network(method, tmp_path / "generator.safetensors")
    again = load_generator(tmp_path)
    conditions = [Condition({"age": 61}, 365), Condition({}, None)]
    made = [each.sample(pairs.baseline, conditions, CaseNoise(pairs.baseline, 3)) for each in (method, again)]
    assert torch.equal(*made) and again.config == method.config and again.network_calls == 4


@pytest.mark.table1
@pytest.mark.parametrize("count_", [4, 64])
def test_it_overfits_four_pairs_and_learns_that_discs_grow(count_: int) -> None:
    """With the whole loss; noise and baseline have 8 channels, the U-Net 32."""
    pairs, autoencoder, steps = discs(count_), Lossless(2), 500
    numbers, loss = known(pairs), RecordLoss(ramp=steps)
    torch.manual_seed(0)
    model = RecordDenoiser(numbers.width, autoencoder.latent_channels, **{**SHAPE, "channels": (32,)}).train()
    prepare, infer = RecordBatch(pairs.cases(), numbers), RecordInferer()

    def value(latents: dict[str, Any]) -> Tensor:
        diameters = torch.tensor([each.record["sct_long_dia"] for each in prepare.pairs.condition(latents)])
        inputs, target, _, passed = prepare(latents | {"malignant": (diameters > 6.0).float()})
        loss.epoch += 1
        return loss(infer(inputs, model, **passed), target)

    fit(model, value, batches(autoencoder.latents(pairs), 16, steps), 3e-3)
    method = DDLCXR(autoencoder, model, numbers, num_steps=50).eval()
    made, copied = errors(method, pairs if count_ == 4 else discs(12, seed=9))
    assert made < 0.7 * copied


@pytest.mark.table1
def test_its_overlays_train_and_generate(applied: Any) -> None:
    stages = {"autoencoder": "compare_ddl_cxr_autoencoder", "conditional": "compare_ddl_cxr"}
    folder = applied(stages, autoencoder={"adversary": {"channels": 4, "start": 1}}, conditional={"shape": SHAPE})
    made = load_generator(folder / "models")
    assert isinstance(made, DDLCXR) and made.network_calls == 4
    assert nib.load(folder / "predictions" / "patient-9_n1" / "samples.nii.gz").shape == (32, 32, 1, 2)
