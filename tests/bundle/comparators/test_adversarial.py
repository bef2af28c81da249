"""Adversarial autoencoders: weights by hand, the hinge, and who learns when."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from torch import Tensor

from scripts.comparators.adversarial import (
    MAX_WEIGHT,
    AdversarialAutoencoderTrainer,
    FromStart,
    begins_in_time,
    discriminator,
    fooling_loss,
    gradient_ratio,
    hinge_loss,
)
from scripts.errors import UserError
from scripts.losses import AutoencoderLoss, known_cross_entropy
from scripts.networks.autoencoder import AlignedAutoencoder, StableDiffusionAutoencoder
from scripts.training.batches import prepare_crop_batch
from scripts.training.engines import distribute, start_process_group, stop_process_group
from tests.bundle.comparators.toy import discs
from tests.bundle.helpers import CONFIGS, refusal
from tests.bundle.training.helpers import differences, forked, load

SD15, DDL_CXR = "compare_sd15_autoencoder", "compare_ddl_cxr_autoencoder"


def test_the_ratio_of_gradients_by_hand() -> None:
    """Of <a, w> and 2 <b, w> the gradients are a and 2 b."""
    a, b, w = torch.tensor([3.0, 4.0]), torch.tensor([0.6, 0.8]), torch.zeros(2, requires_grad=True)
    ratio = gradient_ratio((a * w).sum(), 2.0 * (b * w).sum(), w)
    assert ratio.item() == pytest.approx(5.0 / (2.0 + 1e-4), rel=1e-6) and not ratio.requires_grad
    assert gradient_ratio((1e3 * a * w).sum(), (0.0 * w).sum(), w).item() == MAX_WEIGHT


def test_the_ratio_is_that_of_the_whole_batch_in_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """This rank's gradients are (3, 4) and (0, 2), the other's (1, 0) and (0, 0)."""
    w, others = torch.zeros(2, requires_grad=True), iter([torch.tensor([1.0, 0.0]), torch.zeros(2)])
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("ignite.distributed.all_reduce", lambda own: own + next(others))
    ratio = gradient_ratio((torch.tensor([3.0, 4.0]) * w).sum(), (torch.tensor([0.0, 2.0]) * w).sum(), w)
    assert ratio.item() == pytest.approx(math.hypot(2.0, 2.0) / (1.0 + 1e-4), rel=1e-6)


def test_the_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert hinge_loss(real, fake).item() == pytest.approx(0.5 * 0.25 + 0.5 * 0.75)
    assert fooling_loss(fake).item() == pytest.approx(1.25)


def test_the_discriminator_is_the_published_one() -> None:
    """CompVis' NLayerDiscriminator: 4 x 4 kernels, biases at both ends, batch normalisation in between."""
    network = discriminator()
    inner = sum(16 * width * 2 * width + 2 * 2 * width for width in (64, 128, 256))
    assert sum(weights.numel() for weights in network.parameters()) == (16 + 1) * 64 + inner + 16 * 512 + 1
    assert network(torch.zeros(2, 1, 64, 64))[-1].shape == (2, 1, 6, 6)


def trainer(steps: int, start: int, **options: Any) -> AdversarialAutoencoderTrainer:
    torch.manual_seed(0)
    network = AlignedAutoencoder(StableDiffusionAutoencoder((8, 8, 16), 1, 4, 4), 32)
    adversary, pairs = discriminator(8, 2), discs(8, 32)
    batch = {"image": pairs.baseline, "malignant": torch.tensor([1.0, 0.0] * 4)}
    return AdversarialAutoencoderTrainer(
        autoencoder=network.autoencoder,
        start=start,
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch] * steps,
        g_network=network,
        g_optimizer=torch.optim.Adam(network.parameters(), 1e-3),
        recon_loss_function=AutoencoderLoss(
            perceptual_weight=0.0, kl_weight=0.0, alignment_weight=0, prediction_weight=0
        ),
        d_network=adversary,
        d_optimizer=torch.optim.Adam(adversary.parameters(), 1e-3),
        prepare_batch=prepare_crop_batch,
        decollate=False,
        **options,
    )


def test_the_discriminator_waits_for_its_start() -> None:
    engine = trainer(3, start=2)
    adversary = engine.state.d_network
    before = [weights.clone() for weights in adversary.parameters()]
    seen: list[tuple[bool, bool]] = []

    def note(engine: Any) -> None:
        same = all(map(torch.equal, before, adversary.parameters()))
        seen.append((same, "adversarial" in engine.terms))

    engine.add_event_handler(Events.ITERATION_COMPLETED, note)
    engine.run()
    assert seen == [(True, False), (True, False), (False, True)]
    assert engine.state.output["loss"].isfinite() and "discriminator_loss" in engine.state.output


@pytest.mark.processes
def test_two_ranks_have_one_autoencoder_one_discriminator_and_one_weight_of_each_term(tmp_path: Path) -> None:
    """With gloo; each has other crops, and the discriminator comes in after the second step."""

    def work() -> None:
        start_process_group()
        rank = torch.distributed.get_rank()
        engine = trainer(4, start=2, label=True)
        for batch in engine.data_loader:
            batch["image"] = batch["image"].roll(rank, 2) * (1.0 - 0.5 * rank)
        networks = {"autoencoder": engine.state.g_network, "discriminator": engine.state.d_network}
        engine.state.g_network, engine.state.d_network = map(distribute, networks.values())
        engine.run()
        parts: dict[str, dict[str, Tensor]] = {
            name: dict(network.named_parameters()) for name, network in networks.items()
        }
        torch.save({**parts, "terms": engine.terms}, tmp_path / f"{rank}.pt")
        stop_process_group()

    forked(2, work)
    first, second = (load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    unlike = ["reconstruction", "kl", "adversarial", "label"]
    assert differences(first, second) == [f"/terms/{name}" for name in unlike]


def test_epochs_before_the_start_are_infinitely_bad() -> None:
    engine, values = trainer(3, start=2), []
    chosen_by = FromStart(lambda prediction, target: (prediction - target).square().mean(), 2)
    chosen_by.attach(engine)
    given = torch.tensor([3.0]), torch.tensor([1.0])
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: values.append(chosen_by(*given).item()))
    assert chosen_by(*given).item() == math.inf, "also of a run that has just been taken up"
    engine.run()
    assert values == [math.inf, math.inf, 4.0]


@pytest.mark.parametrize("overlay", [SD15, DDL_CXR])
def test_what_is_published_had_a_discriminator(make_workflow: Any, tmp_path: Path, overlay: str) -> None:
    """Validation loss of the first epoch is made the best; it has six steps."""

    def train(**options: Any) -> None:
        options = {"adversary": {"channels": 4, "start": 7}, "max_epochs": 2, **options}
        workflow = make_workflow("train_autoencoder", tmp_path, "small", overlay, **options)
        workflow.parser.get_parsed_content("chosen_by").loss = lambda *_: torch.tensor(float(next(values)))
        workflow.run()

    values = iter(range(99))
    train()
    progress = load(tmp_path / "autoencoder" / "last.pt")["progress"]
    assert progress["iteration"] == 12 and progress["best_epoch"] == 2
    message = refusal(lambda: train(max_epochs=1, restart=True))
    assert message == (
        "adversary::start is 7, but max_epochs 1 ends after 6 steps, so that no epoch could be published. Give "
        "--adversary::start 2, as by default, or more --max_epochs."
    )


def test_both_rates_fall_alike_and_a_resumed_run_ends_the_same(
    make_workflow: Any, tmp_path: Path, recwarn: Any
) -> None:
    rates: list[list[float]] = []

    def train(folder: str, epochs: int) -> dict[str, Any]:
        torch.manual_seed(0)  # what is asked for below is built before the stage's own seed
        options = {"adversary": {"channels": 4, "start": 5}, "max_epochs": epochs, "decay_steps": 11}
        workflow = make_workflow("train_autoencoder", tmp_path / folder, "small", SD15, **options)
        both = [workflow.parser.get_parsed_content(name) for name in ("optimizer", "discriminator_optimizer")]
        workflow.trainer.add_event_handler(
            Events.ITERATION_STARTED, lambda _: rates.append([each.param_groups[0]["lr"] for each in both])
        )
        workflow.run()
        return load(tmp_path / folder / "autoencoder" / "last.pt")

    straight = train("straight", 2)
    assert len(rates) == 12 and len({rate for rate, _ in rates}) > 9 and all(a == b for a, b in rates)
    assert straight["discriminator_lr_scheduler"] and straight["discriminator_optimizer"]["state"]
    train("resumed", 1)
    assert not differences(straight, train("resumed", 2)) and rates[:12] == rates[12:]
    assert not [each for each in recwarn if "lr_scheduler.step()" in str(each.message)]


def test_both_overlays_train_their_discriminator_alike() -> None:
    """At full size with a constant rate, as the autoencoder's."""
    names = ("discriminator_optimizer", "discriminator_lr_scheduler", "chosen_by", "prepare", "checkpoint")
    names += ("train::handlers::0::extra", "validate::key_metric")
    made = []
    for overlay in (SD15, DDL_CXR):
        workflow = ConfigWorkflow(
            [str(CONFIGS / f"{name}.yaml") for name in ("train_autoencoder", overlay)], logging_file=False
        )
        workflow.initialize()
        assert [workflow.parser.get_parsed_content(name) for name in ("warmup_steps", "decay_steps")] == [0, 0]
        made.append({name: workflow.parser[name] for name in names})
    assert made[0] == made[1]


def test_a_training_that_ends_before_its_discriminator_begins_is_refused() -> None:
    begins_in_time(17, 6, 3)
    begins_in_time(2000, 106, 60, patience=19)
    begins_in_time(0, 1, 1)
    with pytest.raises(UserError, match=r"start is 18, but max_epochs 3 ends after 18 steps"):
        begins_in_time(18, 6, 3)
    with pytest.raises(UserError, match=r"patience of 18 epochs, 1908 steps, .* Give --patience 0 or at least 19\."):
        begins_in_time(2000, 106, 60, patience=18)


@pytest.mark.parametrize("overlay", [SD15, DDL_CXR])
def test_batches_are_not_accumulated(make_workflow: Any, tmp_path: Path, overlay: str) -> None:
    options = {"adversary": {"channels": 4, "start": 1}, "accumulation_steps": 4}
    message = refusal(make_workflow("train_autoencoder", tmp_path, "small", overlay, **options).run)
    assert message == (
        "accumulation_steps is 4, but AdversarialAutoencoderTrainer steps on every batch. Leave it at 1, and give a "
        "larger --batch_size instead."
    )


@pytest.mark.parametrize("crops", [854, 2242], ids=["LIDC", "NLST"])
@pytest.mark.parametrize("between", [[], ["small"]], ids=["full", "small"])
@pytest.mark.parametrize("overlay", [SD15, DDL_CXR])
def test_by_the_overlays_the_discriminator_starts_before_the_end(overlay: str, between: list[str], crops: int) -> None:
    files = [str(CONFIGS / f"{name}.yaml") for name in ("train_autoencoder", *between, overlay)]
    workflow = ConfigWorkflow(files, logging_file=False, **{"train::dataset": f"$range({crops})"})
    workflow.initialize()
    start, epochs, batch = map(workflow.parser.get_parsed_content, ("adversary::start", "max_epochs", "batch_size"))
    assert start == min(2000 if between else 10_000, crops // batch * epochs // 3)


def test_what_is_padded_looks_alike_to_the_discriminator() -> None:
    engine = trainer(2, start=1)
    real = torch.ones(8, 1, 32, 32, dtype=torch.bool)
    real[:4, :, :12] = False
    for batch in engine.data_loader:
        batch["image_real"] = real
    seen: list[Tensor] = []
    engine.state.d_network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0].detach()))
    engine.run()
    fooling, shown, fake = seen
    for each in (fooling, fake):
        assert torch.equal(each[~real], shown[~real]) and not torch.isclose(each[real], shown[real]).any()
    assert all(weights.isfinite().all() for weights in engine.state.g_network.parameters())


def test_the_weights_are_those_of_the_last_layers() -> None:
    """Every term's gradient taken anew, by a backward pass of its own."""
    engine = trainer(1, start=0, summed=True, label=True)
    torch.manual_seed(7)
    inputs, target = prepare_crop_batch(next(iter(engine.data_loader)))
    prediction = engine.state.g_network(inputs)
    loss = engine._loss(prediction, target, prediction["reconstruction"])

    def norm(term: Tensor, layer: Tensor) -> float:
        engine.state.g_network.zero_grad()
        term.backward(retain_graph=True)
        return float(layer.grad.norm())  # type: ignore[union-attr]

    autoencoder = engine.state.g_network.autoencoder
    first, last = autoencoder.encoder.blocks[-1].conv.weight, autoencoder.decoder.blocks[-1].conv.weight
    reconstruction = (prediction["reconstruction"] - inputs).abs().sum() / len(inputs)
    fooled = -engine.state.d_network(prediction["reconstruction"])[-1].mean()
    label = known_cross_entropy(prediction["logit"], target["malignant"])
    adversarial_weight = 0.5 * norm(reconstruction, last) / (norm(fooled, last) + 1e-4)
    label_weight = norm(reconstruction, first) / (norm(label, first) + 1e-4)
    assert float(engine.terms["adversarial_weight"]) == pytest.approx(adversarial_weight, rel=1e-4)
    assert float(engine.terms["label_weight"]) == pytest.approx(label_weight, rel=1e-4)
    variance = prediction["std"].square()
    kl = 0.5 * (prediction["mean"].square() + variance - 1 - variance.log()).sum() / len(inputs)
    expected = reconstruction + 1e-6 * kl + adversarial_weight * fooled + label_weight * label
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
