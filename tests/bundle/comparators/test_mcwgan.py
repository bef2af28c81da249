"""McWGAN: a Lipschitz critic of pairs, five of whose steps go with one of the predictor, and three terms of images."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigWorkflow
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from scripts import comparators
from scripts.comparators.batches import PairBatch
from scripts.comparators.generator import WEIGHTS, load_generator
from scripts.comparators.mcwgan import ImageLoss, McWGAN, PairCritic, WassersteinTrainer, gradient_penalty
from scripts.networks.classifiers import ResNetClassifier
from scripts.training.engines import distribute, start_process_group, stop_process_group
from scripts.weights.checkpoints import read_metadata, save_network
from tests.bundle.comparators.toy import Pairs, batches, discs, errors, fit
from tests.bundle.helpers import CONFIGS, count, refusal, stirred
from tests.bundle.training.helpers import differences, forked, load

Make = Callable[..., Any]
READER = {"channels": [4, 4, 8, 8], "blocks": [2, 2, 2, 2]}


def trainer(pairs: Pairs, steps: int, rate: float = 1e-4, critic_steps: int = 5) -> WassersteinTrainer:
    torch.manual_seed(0)
    network, critic = McWGAN((8, 16)), PairCritic(16, (8, 16))
    return WassersteinTrainer(
        critic_steps=critic_steps,
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=list(batches(pairs, 4, steps)),
        g_network=network,
        g_optimizer=torch.optim.Adam(network.parameters(), rate, betas=(0.5, 0.9)),
        recon_loss_function=ImageLoss(),
        d_network=critic,
        d_optimizer=torch.optim.Adam(critic.parameters(), 1e-4, betas=(0.5, 0.9)),
        prepare_batch=PairBatch(pairs.cases()),
        decollate=False,
    )


def test_the_penalty_of_a_linear_critic_is_known_by_hand() -> None:
    """C(x0, x) = <v, x0> + <w, x> has the gradient w everywhere, whatever x0 weighs: (|w| - 1)^2."""
    generator = torch.Generator().manual_seed(0)
    v, w = torch.randn(2, 64, generator=generator, dtype=torch.float64) / 4
    baseline, real, fake = torch.randn(3, 5, 1, 8, 8, generator=generator, dtype=torch.float64)
    share = torch.rand(5, 1, 1, 1, generator=generator, dtype=torch.float64)
    penalty = gradient_penalty(lambda a, b: a.flatten(1) @ v + b.flatten(1) @ w, baseline, real, fake, share)
    assert penalty.item() == pytest.approx((w.norm().item() - 1.0) ** 2, rel=1e-10)


def test_the_penalty_is_taken_between_real_and_fake() -> None:
    """Of C = x^2 / 2 the gradient is x itself: the mix, half way between -1 and 3."""
    real, fake, share = torch.full((2, 1, 1, 1), -1.0), torch.full((2, 1, 1, 1), 3.0), torch.full((2, 1, 1, 1), 0.5)
    penalty = gradient_penalty(lambda a, b: 0.5 * b.square().flatten(1).sum(1), real, real, fake, share)
    assert penalty.item() == pytest.approx((1.0 - 1.0) ** 2)
    share.fill_(0.25)
    penalty = gradient_penalty(lambda a, b: 0.5 * b.square().flatten(1).sum(1), real, real, fake, share)
    assert penalty.item() == pytest.approx((2.0 - 1.0) ** 2)


def test_three_terms_vanish_where_the_follow_up_is_met() -> None:
    torch.manual_seed(0)
    loss, pairs = ImageLoss(ResNetClassifier(16, (4, 4, 8, 8))), discs(3)
    assert loss(pairs.follow_up, pairs.follow_up).item() == pytest.approx(0.0, abs=1e-5)
    loss(pairs.baseline, pairs.follow_up)
    assert loss.terms.keys() == {"l1", "ssim", "perceptual"} and all(term > 1e-4 for term in loss.terms.values())
    whole = loss(pairs.baseline, pairs.follow_up)
    expected = 100 * loss.terms["l1"] + 10 * loss.terms["ssim"] + 10 * loss.terms["perceptual"]
    assert whole.item() == pytest.approx(expected.item(), rel=1e-6)


def test_structure_is_compared_by_wangs_formula() -> None:
    """(2 m n + c1) (2 s_xy + c2) / ((m^2 + n^2 + c1) (s_x^2 + s_y^2 + c2)) in Gaussian windows (Wang et al. 2004)."""

    def mean(image: Any) -> Any:
        return gaussian_filter(image, 1.5, radius=5)[5:-5, 5:-5]

    pairs, loss, values = discs(3), ImageLoss(), []
    loss(pairs.baseline, pairs.follow_up)
    c1, c2 = (0.01 * 2.0) ** 2, (0.03 * 2.0) ** 2
    for x, y in zip(pairs.baseline[:, 0].double().numpy(), pairs.follow_up[:, 0].double().numpy(), strict=True):
        m, n = mean(x), mean(y)
        covariance, spread = mean(x * y) - m * n, mean(x * x) - m**2 + mean(y * y) - n**2
        values.append(((2 * m * n + c1) * (2 * covariance + c2) / ((m**2 + n**2 + c1) * (spread + c2))).mean())
    assert loss.terms["ssim"].item() == pytest.approx(1.0 - sum(values) / 3, abs=1e-4)


def test_padded_pixels_are_left_out() -> None:
    pairs = discs(2)
    target = pairs.follow_up.clone()
    target[:, :, :4] = torch.nan
    loss = ImageLoss()
    loss(pairs.baseline, target)
    expected = (pairs.baseline - pairs.follow_up)[:, :, 4:].abs().mean()
    assert loss.terms["l1"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_critic_normalises_nothing_and_sees_the_baseline() -> None:
    critic = stirred(PairCritic(16, (4, 8, 8, 16)))
    assert not [each for each in critic.modules() if "Norm" in type(each).__name__]
    pairs = discs(3)
    numbers = critic(pairs.baseline, pairs.follow_up)
    assert numbers.shape == (3, 1)
    assert not torch.allclose(critic(pairs.baseline.roll(1, 0), pairs.follow_up), numbers, atol=1e-4)
    torch.testing.assert_close(critic(pairs.baseline[:1], pairs.follow_up[:1]), numbers[:1])


def test_sizes() -> None:
    """The numbers of parameters of the two sizes in the overlay."""
    with torch.device("meta"):
        assert [count(McWGAN()), count(McWGAN((32, 64, 128, 256)))] == [3_269_139, 818_451]
        assert (
            count(PairCritic(64, (32, 64, 128, 256)))
            == sum(16 * a * b + b for a, b in pairwise((2, 32, 64, 128, 256))) + 4097
        )


def test_it_passes_on_each_crops_own_level_and_contrast() -> None:
    """Two pairs that differ by an offset and a gain alone are both met, far nearer than by the copy."""
    one = discs(1)
    level, gain = torch.tensor([-0.5, 0.3333])[:, None, None, None], torch.tensor([0.5, 0.6667])[:, None, None, None]
    baseline, follow_up = (level + gain * each for each in (one.baseline, one.follow_up))
    pairs = Pairs(baseline, follow_up, one.conditions * 2)
    torch.manual_seed(0)
    network = McWGAN((8, 16))
    fit(network, lambda batch: F.l1_loss(network(batch["baseline"]), batch["follow_up"]), batches(pairs, 2, 300), 1e-2)
    error, copied = errors(network.eval(), pairs)
    assert error < 0.2 * copied


def test_five_steps_of_the_critic_on_five_batches_go_with_one_of_the_predictor() -> None:
    pairs = discs(16)
    engine = trainer(pairs, steps=12)
    network, critic = engine.state.g_network, engine.state.d_network
    seen: list[tuple[bool, bool]] = []
    before: dict[str, list[Tensor]] = {}

    def keep() -> None:
        before.update({name: [p.clone() for p in each.parameters()] for name, each in parts.items()})

    parts: dict[str, nn.Module] = {"predictor": network, "critic": critic}
    keep()

    def note() -> None:
        moved = [
            any(not torch.equal(a, b) for a, b in zip(before[name], each.parameters(), strict=True))
            for name, each in parts.items()
        ]
        seen.append((moved[0], moved[1]))
        keep()

    from ignite.engine import Events

    ids: list[tuple[str, ...]] = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, note)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: ids.append(tuple(engine.state.batch["case_id"])))
    engine.run()
    assert seen == [(step % 5 == 4, True) for step in range(12)]
    assert len(set(ids)) == 12


def test_the_generator_step_leaves_no_gradient_of_its_own_in_the_critics_step() -> None:
    """With a critic's rate of 0 it stays, though the predictor moves."""
    engine = trainer(discs(16), steps=5)
    engine.state.d_optimizer.param_groups[0]["lr"] = 0.0
    before = [each.clone() for each in engine.state.d_network.parameters()]
    engine.run()
    assert all(torch.equal(a, b) for a, b in zip(before, engine.state.d_network.parameters(), strict=True))


@pytest.mark.processes
def test_two_ranks_train_one_critic_and_one_predictor(tmp_path: Path) -> None:
    """With gloo; each has other pairs, and both take the steps of the averaged gradients."""

    def work() -> None:
        start_process_group()
        rank = torch.distributed.get_rank()
        shared, alone = (trainer(discs(16, seed=rank), steps=6, critic_steps=2) for _ in range(2))
        networks = {"predictor": shared.state.g_network, "critic": shared.state.d_network}
        networks["alone"] = alone.state.d_network
        shared.state.g_network, shared.state.d_network = map(distribute, (networks["predictor"], networks["critic"]))
        shared.run()
        alone.run()
        torch.save({name: network.state_dict() for name, network in networks.items()}, tmp_path / f"{rank}.pt")
        stop_process_group()

    forked(2, work)
    first, second = (load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert not differences(first["critic"], second["critic"])
    assert not differences(first["predictor"], second["predictor"])
    assert differences(first["alone"], second["alone"]), "unwrapped, each trains its own"
    assert differences(first["critic"], trainer(discs(1), 0).state.d_network.state_dict()), "it has learnt"


@pytest.mark.processes
def test_the_critics_gradient_in_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    """The penalty's too, which is of second order."""
    critic, pairs = stirred(PairCritic(16, (8, 16))).double(), discs(8)
    baseline, real = pairs.baseline.double(), pairs.follow_up.double()
    fake, share = baseline.flip(0), torch.linspace(0.0, 1.0, 8).double()[:, None, None, None]

    def gradient(network: nn.Module, part: slice) -> list[Tensor]:
        parts = [each[part] for each in (baseline, real, fake, share)]
        loss = (network(parts[0], parts[2]) - network(parts[0], parts[1])).mean()
        (loss + 10.0 * gradient_penalty(network, *parts)).backward()
        return [each.grad for each in network.parameters() if each.grad is not None]

    def work() -> None:
        start_process_group()
        rank = torch.distributed.get_rank()
        torch.save(gradient(distribute(critic), slice(4 * rank, 4 * rank + 4)), tmp_path / f"{rank}.pt")
        stop_process_group()

    forked(2, work)
    expected = gradient(critic, slice(None))
    for rank in (0, 1):
        torch.testing.assert_close(load(tmp_path / f"{rank}.pt"), expected)


def test_where_the_follow_up_is_padded_the_critic_is_shown_the_baseline() -> None:
    """Of real and fake and of their mix, in both networks' steps: no seam tells them apart."""

    class Seeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.critic = PairCritic(16, (8, 16))
            self.seen: list[tuple[Tensor, Tensor]] = []

        def forward(self, baseline: Tensor, follow_up: Tensor) -> Tensor:
            self.seen.append((baseline, follow_up.detach()))
            return self.critic(baseline, follow_up)

    pairs = discs(4)
    engine = trainer(pairs, steps=1, critic_steps=1)
    engine.state.d_network = critic = Seeing()
    real = torch.ones_like(pairs.follow_up, dtype=torch.bool)
    real[:2, :, :, 10:] = False
    engine.data_loader = [pairs.batch() | {"follow_up_real": real}]
    engine.run()
    fake, shown, mix, predicted = (follow_up for _, follow_up in critic.seen)
    for baseline, follow_up in critic.seen:
        torch.testing.assert_close(follow_up[~real], baseline[~real])
    assert torch.equal(shown[real], pairs.follow_up[real]) and torch.equal(predicted, fake)
    assert not any(torch.equal(each[real], pairs.baseline[real]) for each in (fake, mix))
    output = engine.state.output[0] if isinstance(engine.state.output, list) else engine.state.output
    expected = (output["pred"] - pairs.follow_up)[real].abs().mean()
    assert output["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.table1
@pytest.mark.parametrize(("count_", "tolerance"), [(4, 0.8), (48, 0.8)])
def test_it_overfits_four_pairs_and_learns_the_growth(count_: int, tolerance: float) -> None:
    """With one step of the critic for one of the predictor, to be short."""
    engine = trainer(discs(count_), steps=200, rate=1e-2, critic_steps=1)
    engine.run()
    error, copied = errors(engine.state.g_network.eval(), discs(4) if count_ == 4 else discs(16, seed=1))
    assert error < tolerance * copied


def composed(**options: Any) -> ConfigWorkflow:
    names = ("train_conditional", "small", "compare_crops", "compare_mcwgan")
    workflow = ConfigWorkflow([str(CONFIGS / f"{name}.yaml") for name in names], logging_file=False, **options)
    workflow.initialize()
    return workflow


def test_at_small_the_predictor_has_a_rate_of_its_own() -> None:
    parser = composed().parser
    rates = {name: parser.get_parsed_content(name).param_groups[0]["lr"] for name in ("optimizer", "critic_optimizer")}
    assert rates == {"optimizer": 1e-3, "critic_optimizer": 1e-4}


def test_batches_are_not_accumulated(make_workflow: Make, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    save_network(ResNetClassifier(32, (4, 4, 8, 8)), tmp_path / "models" / "perceptual.safetensors")
    options = {"shape": {"channels": [4, 8, 8], "num_res_units": 1}, "accumulation_steps": 4}
    overlays = ("small", "compare_crops", "compare_mcwgan")
    message = refusal(make_workflow("train_conditional", tmp_path, *overlays, **options).run)
    assert message == (
        "accumulation_steps is 4, but WassersteinTrainer steps on every batch. Leave it at 1, and give a larger "
        "--batch_size instead."
    )


def test_several_processes_share_predictor_and_critic() -> None:
    networks = composed().parser["train::trainer"]
    assert all(networks[name].startswith("$training.distribute(") for name in ("g_network", "d_network"))


def test_the_epoch_is_chosen_by_the_image_terms_as_they_are_trained(tmp_path: Path) -> None:
    """By a loss of its own, so that what is logged as terms of training is not of validation."""
    path = save_network(ResNetClassifier(64, (4, 4, 8, 8)), tmp_path / "perceptual.safetensors")
    parser = composed(perceptual=str(path), device="$torch.device('cpu')").parser
    training = parser.get_parsed_content("loss_function")
    criterion = parser.get_parsed_content("validate::key_metric::val_loss")._loss_fn
    assert isinstance(criterion, ImageLoss) and criterion is not training
    assert criterion.reader is training.reader and criterion.weights == training.weights
    assert criterion.weights == {"l1": 100.0, "ssim": 10.0, "perceptual": 10.0}


def test_the_overlays_train_and_generate(make_workflow: Make, tmp_path: Path) -> None:
    """From the datalist to follow-ups on disk; a second call has nothing to do, and other settings are refused."""
    shape = {"channels": [4, 8, 8], "num_res_units": 1}
    make_workflow(
        "train_classifier", tmp_path, "small", "compare_mcwgan_perceptual", seed=1023, classifier_shape=READER
    ).run()
    reader = read_metadata(tmp_path / "models" / "perceptual.safetensors")
    assert reader["config"]["blocks"] == [2, 2, 2, 2] and reader["extra"]["record"]["seed"] == 1023

    def train(**options: Any) -> None:
        overlays = ("small", "compare_crops", "compare_mcwgan")
        make_workflow("train_conditional", tmp_path, *overlays, shape=shape, **options).run()

    train()
    method = load_generator(tmp_path / "models")
    assert isinstance(method, McWGAN) and method.config == shape
    extra = read_metadata(tmp_path / "models" / WEIGHTS, known=comparators)["extra"]
    assert extra["sampling"]["image_size"] == 32 and math.isfinite(extra["val_loss"])
    settings = extra["record"]["settings"]
    assert (settings["max_epochs"], settings["critic_steps"], settings["loss"]["l1_weight"]) == (2, 5, 100.0)
    assert extra["record"]["built_on"].keys() == {"perceptual"}
    said = refusal(lambda: train(critic_steps=2))
    assert "critic_steps was 5, is 2" in said
    options = {"num_steps": None, "image_size": None}
    make_workflow("inference", tmp_path, "small", "compare_generate", **options).run()
    assert len(list((tmp_path / "predictions").glob("*/samples.nii.gz"))) == 3
