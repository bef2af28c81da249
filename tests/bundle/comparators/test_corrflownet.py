"""CorrFlowNet: correlation of latents, the Brownian bridge between them, and the solvers of ODE and SDE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from scipy.special import gamma, hyp2f1
from torch import Tensor

from scripts.comparators.contract import Condition
from scripts.comparators.corrflownet import (
    BridgeBatch,
    CorrelationLoss,
    CorrFlowNet,
    PairAutoencoder,
    bridge,
    correlation,
    flow,
    prepare_both_times,
)
from scripts.comparators.generation import MethodInferer
from scripts.comparators.generator import load_generator
from scripts.errors import UserError
from scripts.losses import AutoencoderLoss
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.perceptual import PerceptualDistance
from scripts.weights.checkpoints import load_network, read_metadata
from tests.bundle.comparators.lossless import Lossless
from tests.bundle.comparators.toy import batches, discs, errors, fit
from tests.bundle.helpers import CONFIGS, count, stirred

Make = Callable[..., Any]
AUTOENCODER = {"channels": [8, 8, 16], "num_res_blocks": 1, "latent_channels": 4, "norm_num_groups": 4}
UNET = {"channels": [8, 16], "num_res_blocks": 1, "num_heads": 2, "norm_num_groups": 4}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Draw:
    """Gaussian noise of n rows, and how often it was asked for."""

    def __init__(self, rows: int, seed: int = 0) -> None:
        self.rows, self.calls = rows, 0
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, shape: Sequence[int]) -> Tensor:
        self.calls += 1
        return torch.randn(self.rows, *shape, generator=self.generator)


# --- correlation


def test_correlation_of_lines_and_of_what_is_independent() -> None:
    z = noise(64, 4, 2, 2)
    assert correlation(z, 3.0 * z + 2.0).item() == pytest.approx(1.0, abs=1e-5)
    assert correlation(z, -0.5 * z + 2.0).item() == pytest.approx(-1.0, abs=1e-5)
    assert correlation(noise(20_000, 2, 2, 2), noise(20_000, 2, 2, 2, seed=1)).item() == pytest.approx(0.0, abs=0.01)
    other = 0.3 * z + noise(64, 4, 2, 2, seed=1)
    pairs = zip(z.flatten(1).T.numpy(), other.flatten(1).T.numpy(), strict=True)
    expected = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    assert correlation(z, other).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.9])
def test_the_correlation_of_eight_pairs_tells_that_of_all(rho: float) -> None:
    """Its mean over samples is Hotelling's (1953); of two pairs it is 1 or -1, and has no gradient."""
    first = noise(100, 8, 1024, 1, 1).double()
    second = (rho * first + (1 - rho**2) ** 0.5 * noise(100, 8, 1024, 1, 1, seed=1)).requires_grad_(True)
    value = torch.stack([correlation(one, other, 0.0) for one, other in zip(first, second, strict=True)]).mean()
    expected = 2 / 7 * (gamma(4.0) / gamma(3.5)) ** 2 * rho * hyp2f1(0.5, 0.5, 4.5, rho**2)
    assert value.item() == pytest.approx(expected, abs=4 * (1 - rho**2) / (7 * 102_400) ** 0.5)
    assert 0.93 * rho < expected < rho
    eight, two = (torch.autograd.grad(each, second)[0] for each in (value, correlation(first[0, :2], second[0, :2])))
    assert two[0, :2].abs().median() < 1e-6 * eight.abs().median()


def test_correlation_is_finite_for_constants_and_single_cases() -> None:
    constant, varying = torch.ones(5, 4, 2, 2, requires_grad=True), noise(5, 4, 2, 2).requires_grad_(True)
    for first, second in ((constant, varying), (constant, constant), (varying[:1], varying[1:2])):
        value = correlation(first, second)
        gradients = torch.autograd.grad(value, [constant, varying], allow_unused=True)
        assert value.item() == pytest.approx(0.0, abs=1e-5)
        assert all(each.isfinite().all() for each in gradients if each is not None)


def test_the_loss_sums_both_times_and_adds_the_correlation() -> None:
    pairs = discs(3)
    batch = pairs.batch() | {"malignant": torch.tensor([1.0, torch.nan, 0.0])}
    crops, target = prepare_both_times(batch)
    assert torch.equal(crops, torch.cat([pairs.baseline, pairs.follow_up], dim=1))
    assert torch.equal(target["image"][0::2], pairs.baseline) and torch.equal(target["image"][1::2], pairs.follow_up)
    assert target["malignant"].tolist()[:2] == [1.0, 1.0] and target["malignant"][2:4].isnan().all()

    network = PairAutoencoder(stirred(StableDiffusionAutoencoder(**AUTOENCODER)), 16)
    torch.manual_seed(0)
    made = network(crops)
    settings: dict[str, Any] = {"perceptual_weight": 0.0, "alignment_weight": 0.0, "prediction_weight": 0.2}
    loss = CorrelationLoss(0.1, **settings)
    value = loss(made, target)

    def of(time: int) -> Tensor:
        some = {name: each[time::2] for name, each in made.items()}
        return AutoencoderLoss(**settings)(some, {name: each[time::2] for name, each in target.items()})

    rho = correlation(made["mean"][0::2], made["mean"][1::2])
    assert value.item() == pytest.approx((of(0) + of(1) + 0.1 * (1 - rho)).item(), rel=1e-5)
    assert loss.terms.keys() == {"reconstruction", "kl", "prediction", "decorrelation"}


def test_the_perceptual_distance_that_trains_is_told_where_weights_are_published() -> None:
    loss = CorrelationLoss(perceptual="alex")
    assert isinstance(loss.perceptual, PerceptualDistance) and loss.perceptual is loss.each.perceptual
    assert CorrelationLoss(perceptual_weight=0.0).perceptual is None


# --- bridge and solvers


def test_with_the_true_displacement_any_number_of_steps_agrees() -> None:
    start, true = noise(3, 4, 8, 8), noise(3, 4, 8, 8, seed=1)
    for steps in (1, 7, 50):
        for made in (flow(lambda z, t: true, start, steps), flow(lambda z, t: true, start, steps, "rk4")):
            torch.testing.assert_close(made, start + true, atol=1e-5, rtol=0)
        made = bridge(lambda z, t: true, start, steps, 0.1, Draw(3))
        torch.testing.assert_close(made, start + true, atol=1e-5, rtol=0)


def test_euler_and_runge_kutta_converge_as_they_should() -> None:
    """On dz/dt = z, whose solution is e z0, and dz/dt = t z: errors fall as h and as h^4."""
    start = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for solver, order in (("euler", 1), ("rk4", 4)):
        wrong = [abs(flow(lambda z, t: z, start, n, solver).item() - np.e) for n in (10, 20)]
        assert wrong[0] / wrong[1] == pytest.approx(2**order, rel=0.1)
    timed = flow(lambda z, t: z * t[:, None, None, None], start, 20, "rk4").item()
    assert timed == pytest.approx(np.exp(0.5), abs=1e-6)


def test_without_noise_the_sde_is_the_ode() -> None:
    """On z1 = a z0, where z0 follows from z_t: d = (a - 1) z0 = (a - 1) z_t / (1 + (a - 1) t), whatever is read."""
    start, a = noise(3, 4, 8, 8), 1.7

    def displacement(z: Tensor, t: Tensor) -> Tensor:
        return (a - 1.0) * z / (1.0 + (a - 1.0) * t[:, None, None, None])

    for made in (bridge(displacement, start, 50, 0.0, Draw(3)), flow(displacement, start, 50)):
        torch.testing.assert_close(made, a * start, atol=1e-4, rtol=0)


RHO = 0.6
"""Correlation of Gaussian pairs of variance 1: z1 = rho z0 + sqrt(1 - rho^2) e, and d = z1 - z0."""


def slope(t: Tensor) -> Tensor:
    """Of E[d | z_t] = cov(d, z_t) / var(z_t) z_t, with var(z_t) = (1 - t)^2 + t^2 + 2 t (1 - t) rho."""
    return (1 - RHO) * (2 * t - 1) / ((1 - t) ** 2 + t**2 + 2 * t * (1 - t) * RHO)


def test_a_rectified_flow_that_does_not_read_the_baseline_keeps_the_marginal_variance() -> None:
    """E[d | z_t] leads to a z1 of variance 1; E[d | z_t, z0], which is (z_t - z0) / t but at 0, to one of rho^2."""
    start = noise(20_000, 1, 1, 1)
    end = flow(lambda z, t: slope(t)[:, None, None, None] * z, start, 50, "rk4")
    torch.testing.assert_close(end, start, atol=1e-4, rtol=0)
    end = flow(lambda z, t: slope(t)[:, None, None, None] * z, start, 50)
    assert (end.var() / start.var()).item() == pytest.approx(1.0, abs=0.02)  # of Euler's 50 steps
    told = flow(lambda z, t: (RHO - 1) * start if t[0] == 0 else (z - start) / t[0], start, 50)
    torch.testing.assert_close(told, RHO * start, atol=1e-4, rtol=0)
    assert (told.var() / start.var()).item() == pytest.approx(RHO**2, rel=1e-3)


def test_training_asks_for_the_rectified_flow() -> None:
    """Least squares of the batches' target on what the ODE's network reads is E[d | z_t], within 4 sd."""
    first, count_ = noise(20_000, 1, 1, 1), 20_000
    second = RHO * first + (1 - RHO**2) ** 0.5 * noise(20_000, 1, 1, 1, seed=1)
    prepare = BridgeBatch()
    for t in torch.tensor([0.1, 0.5, 0.8]):
        prepare.times = lambda latents, t=t: t.expand(len(latents))  # type: ignore[method-assign, misc]
        z, target, _, _ = prepare({"baseline": first, "follow_up": second})
        found = (z * target).mean() / z.square().mean()
        assert abs(float(found - slope(t))) < 4 * float(target.std() / z.std()) / count_**0.5


def test_the_bridges_mean_and_variance() -> None:
    """sigma^2 / 4 half way and 0 at the end, as the batches of training have it and as the solver passes it."""
    count_, sigma, seen = 20_000, 0.5, {}
    start, true = torch.full((count_, 1, 1, 1), -1.0), torch.full((count_, 1, 1, 1), 3.0)

    def displacement(z: Tensor, t: Tensor) -> Tensor:
        seen[round(float(t[0]), 4)] = z.clone()
        return true

    draw = Draw(count_)
    end = bridge(displacement, start, 50, sigma, draw)
    assert draw.calls == 49
    half = seen[0.5]
    assert half.mean().item() == pytest.approx(0.5, abs=0.01) and end.std().item() == pytest.approx(0.0, abs=1e-5)
    assert half.var().item() == pytest.approx(sigma**2 / 4, rel=0.05)
    assert end.mean().item() == pytest.approx(2.0, abs=1e-5)

    torch.manual_seed(0)
    prepare = BridgeBatch(sigma)
    prepare.times = lambda latents: torch.full((len(latents),), 0.5)  # type: ignore[method-assign]
    z, target, (first, time), _ = prepare({"baseline": start, "follow_up": start + true})
    assert z.mean().item() == pytest.approx(0.5, abs=0.01) and z.var().item() == pytest.approx(sigma**2 / 4, rel=0.05)
    assert torch.equal(first, start) and torch.equal(target, true) and time.shape == (count_,)


@pytest.mark.parametrize(("sigma", "kept"), [(0.1, {0.5: 0.79, 1.0: 0.46}), (None, {0.5: 0.98, 1.0: 0.96})])
def test_fifty_even_steps_keep_the_spread_of_displacements(sigma: float | None, kept: dict[float, float]) -> None:
    """For Gaussian d of sd s, E[d | z_t, z0] = s^2 (z_t - z0) / (t s^2 + (1 - t) sigma^2), and each step is linear.

    ``kept`` is of the variance s^2, by the overlay's sigma and by a smaller one. Simulation and recursion agree within
    4 sd of a variance of as many samples.
    """
    sigma = sigma or yaml.safe_load((CONFIGS / "compare_corrflownet_sde.yaml").read_text())["sigma"]
    count_, steps, gains = 20_000, 50, [0.0]
    start = noise(count_, 1, 1, 1)

    def exact(z: Tensor, t: Tensor) -> Tensor:
        return gains[round(float(t[0]) * steps)] * (z - start)

    for spread, share in kept.items():
        gains[:] = [spread**2 / (k / steps * spread**2 + (1 - k / steps) * sigma**2) for k in range(steps)]
        variance = 0.0
        for step, gain in enumerate(gains):
            variance = variance * (1.0 + (gain - 1.0) / (steps - step)) ** 2
            variance += sigma**2 / steps if step < steps - 1 else 0.0
        assert variance / spread**2 == pytest.approx(share, abs=0.005)
        end = bridge(exact, start, steps, sigma, Draw(count_, 1))
        assert (end - start).var().item() == pytest.approx(variance, rel=4 * (2 / count_) ** 0.5)


def test_each_baseline_stays_with_its_own_follow_up() -> None:
    """Targets permute with the batch; nothing is paired anew."""
    latents = {"baseline": noise(8, 4, 4, 4), "follow_up": noise(8, 4, 4, 4, seed=1)}
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    _, target, _, _ = BridgeBatch(0.1)(latents)
    assert torch.equal(target, latents["follow_up"] - latents["baseline"])
    _, turned, _, _ = BridgeBatch(0.1)({name: each[order] for name, each in latents.items()})
    assert torch.equal(turned, target[order])


def test_validation_has_the_same_times_and_noise_in_every_call() -> None:
    latents = {"baseline": noise(8, 4, 4, 4), "follow_up": noise(8, 4, 4, 4, seed=1)}
    before = torch.get_rng_state()
    one, other = (BridgeBatch(0.1, fixed=True)(latents) for _ in range(2))
    assert torch.equal(one[0], other[0]) and torch.equal(torch.get_rng_state(), before)
    assert one[2][1].sort().values.tolist() == pytest.approx(((torch.arange(8) + 0.5) / 8).tolist(), abs=1e-3)
    first, second = (BridgeBatch(0.1)(latents)[2][1] for _ in range(2))
    assert not torch.equal(first, second) and bool((first < 1).all())


def test_padded_latents_are_no_target() -> None:
    real = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    real[0, :, 0] = False
    latents = {"baseline": noise(2, 4, 4, 4), "follow_up": noise(2, 4, 4, 4, seed=1), "follow_up_real": real}
    z, target, _, _ = BridgeBatch()(latents)
    assert z.isfinite().all() and torch.equal(target.isnan(), ~real.expand_as(target))


# --- the method


def method(sigma: float, steps: int = 5, solver: str = "euler") -> CorrFlowNet:
    torch.manual_seed(0)
    autoencoder = stirred(StableDiffusionAutoencoder(**AUTOENCODER))
    autoencoder.latent_scale.fill_(0.7)
    return CorrFlowNet.of(autoencoder, UNET, sigma=sigma, num_steps=steps, solver=solver)


def test_ode_and_sde_are_called_what_they_are() -> None:
    ode, sde, rk4 = method(0.0), method(0.1), method(0.0, solver="rk4")
    assert (ode.title, ode.stochastic) == ("CorrFlowNet ODE (reconstructed)", False)
    assert (sde.title, sde.stochastic) == ("CorrFlowNet SDE (reconstructed)", True)
    assert (ode.network_calls, sde.network_calls, rk4.network_calls) == (5, 5, 20)
    for wrong in ({"sigma": -1.0}, {"num_steps": 0}, {"solver": "heun"}, {"sigma": 0.1, "solver": "rk4"}):
        with pytest.raises(UserError, match="expected a sigma of 0"):
            CorrFlowNet(AUTOENCODER, UNET, **wrong)  # type: ignore[arg-type]


def test_the_odes_network_reads_no_baseline_beside() -> None:
    """Which would tell it the displacement; the SDE's reads one, and a file of either says which it is."""
    z, one, other, time = (*(noise(2, 4, 8, 8, seed=seed) for seed in range(3)), torch.tensor([0.2, 0.7]))
    for sigma, channels in ((0.0, 4), (0.5, 8)):
        network = stirred(method(sigma)).eval()
        assert network.unet.conv_in.conv.in_channels == channels
        with torch.no_grad():
            assert torch.equal(network(z, one, time), network(z, other, time)) != network.stochastic
        again = CorrFlowNet(**network.config)
        again.load_state_dict(network.state_dict())


def test_untrained_it_gives_the_reconstruction() -> None:
    """MONAI's U-Net begins at zero: nothing is displaced."""
    network, crops = method(0.0), discs(2).baseline
    with torch.no_grad():
        made = network.sample(crops, [Condition({})] * 2, Draw(2))
        latent = network.autoencoder.encode_stage_2_inputs(crops)
        torch.testing.assert_close(made, network.autoencoder.decode_stage_2_outputs(latent).clamp(-1, 1))


def test_sizes() -> None:
    with torch.device("meta"):
        small = CorrFlowNet(
            {"channels": [16, 32, 64, 128], "num_res_blocks": 1, "norm_num_groups": 4},
            {"channels": [32, 64, 96], "num_res_blocks": 1, "norm_num_groups": 8},
        )
        noisy = CorrFlowNet(**{**small.config, "sigma": 0.5})
        full = CorrFlowNet({}, {})
    assert (count(small.autoencoder), count(small.unet)) == (2_725_045, 1_757_700)
    assert count(noisy.unet) - count(small.unet) == 9 * 4 * 32  # z0's part of the first convolution
    assert count(full.unet) > 5e8 and not any(each.requires_grad for each in full.autoencoder.parameters())


@pytest.mark.table1
@pytest.mark.parametrize(("sigma", "count", "tolerance"), [(0.1, 4, 0.7), (0.0, 48, 0.8)])
def test_it_overfits_four_pairs_and_learns_the_growth(sigma: float, count: int, tolerance: float) -> None:
    """Where latents lose nothing; with an autoencoder that is learnt too, benchmarks/toy_progression.py."""
    torch.manual_seed(0)
    model = CorrFlowNet(AUTOENCODER, UNET, sigma=sigma, num_steps=8)
    del model.autoencoder
    model.autoencoder = Lossless(2)  # type: ignore[assignment]
    pairs, prepare = discs(count), BridgeBatch(sigma)

    def loss(batch: dict[str, Any]) -> Tensor:
        z, target, arguments, _ = prepare(batch)
        return (model(z, *arguments) - target).square().mean()

    fit(model.unet, loss, batches(Lossless(2).latents(pairs), 8, 150), 1e-2)
    unseen = pairs if count == 4 else discs(16, seed=1)
    error, copied = errors(model.eval(), unseen)
    assert error < tolerance * copied


# --- the overlays


@pytest.mark.parametrize(("overlays", "weight"), [((), 0.2), (("small",), 0.05)])
def test_the_outcome_does_not_choose_the_autoencoders_epoch(overlays: tuple[str, ...], weight: float) -> None:
    """Validation has a loss of its own, without the prediction term; all else is as in training."""
    names = ("train_autoencoder", *overlays, "compare_corrflownet_autoencoder")
    files = [str(CONFIGS / f"{name}.yaml") for name in names]
    workflow = ConfigWorkflow(files, logging_file=False, **{"loss::perceptual_weight": 0.0})
    workflow.initialize()
    training = workflow.parser.get_parsed_content("loss_function")
    criterion = workflow.parser.get_parsed_content("validate::key_metric::val_loss")._loss_fn
    assert isinstance(criterion, CorrelationLoss) and criterion is not training
    assert training.each.weights["prediction"] == weight
    assert criterion.each.weights == {**training.each.weights, "prediction": 0.0}
    assert criterion.correlation_weight == training.correlation_weight == 0.1


@pytest.mark.table1
def test_the_overlays_train_and_generate(make_workflow: Make, tmp_path: Path) -> None:
    make_workflow("train_autoencoder", tmp_path, "small", "compare_corrflownet_autoencoder").run()
    autoencoder = load_network(tmp_path / "models" / "autoencoder.safetensors", "LatentAutoencoder")
    extra = read_metadata(tmp_path / "models" / "autoencoder.safetensors")["extra"]
    assert extra["perceptual"] == PerceptualDistance("alex").name
    settings = extra["record"]["settings"]
    assert settings["loss"].items() >= {"alignment_weight": 0.0, "correlation_weight": 0.1}.items()
    settings = {"shape": UNET, "steps": 3}
    overlays = ("small", "compare_corrflownet", "compare_corrflownet_sde")
    make_workflow("train_conditional", tmp_path, *overlays, **settings).run()
    network = load_generator(tmp_path / "models")
    assert isinstance(network, CorrFlowNet) and network.config["sigma"] == 0.5 and network.config["num_steps"] == 3
    state = autoencoder.state_dict()
    assert all(torch.equal(state[name], each) for name, each in network.autoencoder.state_dict().items())
    assert network.autoencoder.latent_scale != 1.0
    options = {"num_steps": None, "image_size": None, "num_runs": 2}
    workflow = make_workflow("inference", tmp_path, "small", "compare_generate", **options)
    workflow.run()
    assert len(list((tmp_path / "predictions").glob("*/samples.nii.gz"))) == 3


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_a_checkpoint_samples_the_same(sigma: float, tmp_path: Path) -> None:
    from scripts.comparators.generator import WEIGHTS
    from scripts.weights.checkpoints import save_network

    network, pairs = stirred(method(sigma)), discs(2)
    save_network(network, tmp_path / WEIGHTS)
    made = [MethodInferer(2)(pairs.baseline, each, pairs.conditions) for each in (network, load_generator(tmp_path))]
    assert torch.equal(*made)
    assert made[0].shape[1] == 1 or not torch.equal(made[0][:, 0], made[0][:, 1])
