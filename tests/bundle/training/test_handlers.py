"""Each handler does what it says."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import RandLambda
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from scripts.provenance import Provenance
from scripts.training.checkpointing import Checkpoint
from scripts.training.handlers import (
    EpochSeed,
    ExponentialAverage,
    FreezePrompts,
    GradientClip,
    Handlers,
    LossTerms,
    Validation,
    train_handlers,
    validation_handlers,
)


def test_validation_is_due_at_the_interval_and_at_the_end() -> None:
    epochs: list[int] = []

    class Validator(Engine):
        def run(self, global_epoch: int) -> None:
            epochs.append(global_epoch)

    engine = Engine(lambda engine, batch: None)
    from monai.engines import Evaluator

    validator = Evaluator("cpu", [0])
    validator.run = Validator.run.__get__(validator)
    Validation(interval=3, validator=validator).attach(engine)
    engine.run([0], max_epochs=8)
    assert epochs == [3, 6, 8]


def test_average_is_exponential_with_a_warm_up() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.register_buffer("count", torch.zeros(()))
    ema = ExponentialAverage(network, decay=0.6)
    values = [1.0, 4.0, -2.0, 5.0, 7.0, 0.5, 3.0]
    expected = values[0]
    for update, value in enumerate(values):
        network.weight.data.fill_(value)
        network.count.fill_(update)
        ema(None)
        if update:
            decay = min(0.6, (1 + update) / (10 + update))
            expected = decay * expected + (1 - decay) * value
    averaged: Any = ema.module
    assert averaged is not network and averaged.weight.item() == pytest.approx(expected, rel=1e-6)
    assert averaged.count.item() == len(values) - 1, "buffers are those of the last step"


def test_average_of_decay_zero_is_the_network_itself() -> None:
    network = nn.Linear(1, 1)
    ema = ExponentialAverage(network)
    ema(None)
    assert ema.module is network and ema.state_dict() == {}


@pytest.mark.parametrize("max_norm", [0.5, 1e9])
def test_gradients_are_clipped_before_the_step(max_norm: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    image, label = torch.randn(5, 3), 10 * torch.randn(5, 2)
    reference = copy.deepcopy(network)
    nn.functional.mse_loss(reference(image), label).backward()
    raw = [parameter.grad for parameter in reference.parameters()]
    norm = math.sqrt(sum(float(grad.square().sum()) for grad in raw if grad is not None))
    assert norm > 1.0
    used: list[Tensor] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            used.extend(parameter.grad.clone() for group in self.param_groups for parameter in group["params"])

    SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": image, "label": label}],
        network=network,
        optimizer=Spy(network.parameters(), lr=1.0),
        loss_function=nn.MSELoss(),
        train_handlers=[GradientClip(network, max_norm)],
        decollate=False,
    ).run()
    for clipped, grad in zip(used, raw, strict=True):
        torch.testing.assert_close(clipped, grad * min(1.0, max_norm / norm), rtol=1e-4, atol=1e-6)


def test_scaled_gradients_are_clipped_as_unscaled_ones() -> None:
    """Under amp, MONAI's engine fires the event while gradients are multiplied by the loss scale."""
    layer = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
    state = SimpleNamespace(iteration=1, epoch_length=1)
    engine: Any = SimpleNamespace(scaler=scaler, optimizer=optimizer, state=state)
    scaler.scale(layer(torch.tensor([[0.3, 0.0, 0.4]])).sum()).backward()
    GradientClip(layer, 1.0)(engine)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.3, 0.0, 0.4]]))


def test_every_random_number_is_a_function_of_seed_epoch_and_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset([0], RandLambda(func=lambda x: x + np.random.rand(), prob=0.5))

    def draw(seed: int, epochs: range, rank: int = 0) -> list[tuple[float, ...]]:
        monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
        engine, drawn = Engine(lambda engine, batch: None), []
        EpochSeed(seed, dataset).attach(engine)

        @engine.on(Events.EPOCH_STARTED)
        def numbers() -> None:
            transform = float(dataset.transform.R.rand())
            drawn.append((random.random(), np.random.rand(), torch.rand(()).item(), transform))

        for epoch in epochs:
            engine.state.epoch = epoch
            engine.fire_event(Events.EPOCH_STARTED)
        return drawn

    whole = draw(1, range(1, 5))
    random.seed(9), np.random.seed(9), torch.manual_seed(9), dataset.transform.set_random_state(9)
    assert draw(1, range(3, 5)) == whole[2:]
    for column in zip(*whole, *draw(2, range(1, 5)), strict=True):
        assert len(set(column)) == len(column)
    assert len({number for rank in (0, 1) for row in draw(1, range(1, 5), rank) for number in row}) == 32


class Prompts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prompts = nn.Parameter(torch.ones(1))
        self.encoded: list[list[str]] = []

    def encode(self, reports: list[str]) -> None:
        assert not self.prompts.requires_grad
        self.encoded.append(reports)


@pytest.mark.parametrize(("steps", "last"), [(-1, 6), (0, 0), (1, 1), (4, 4), (6, 6), (7, 6)])
def test_prompts_learn_for_so_many_steps(steps: int, last: int) -> None:
    conditioner, moved = Prompts(), []
    optimizer = torch.optim.AdamW(conditioner.parameters(), lr=0.1)  # its decay and momentum would go on moving them

    def step(engine: Engine, batch: Any) -> None:
        before = conditioner.prompts.detach().clone()
        if conditioner.prompts.requires_grad:
            optimizer.zero_grad()
            conditioner.prompts.square().sum().backward()
        optimizer.step()
        if not torch.equal(before, conditioner.prompts):
            moved.append(engine.state.iteration)

    engine = Engine(step)
    FreezePrompts(conditioner, steps, ["a", "b"]).attach(engine)
    engine.run([0, 0, 0], max_epochs=2)
    assert moved == list(range(1, last + 1))
    assert conditioner.encoded == ([["a", "b"]] if 0 <= steps <= 6 else [])


def test_reports_are_read_before_the_first_step_where_no_prompt_learns() -> None:
    """All at once, as a run that goes on reads them."""
    conditioner, seen = Prompts(), []
    conditioner.requires_grad_(False)
    engine = Engine(lambda engine, batch: seen.append([*conditioner.encoded]))
    FreezePrompts(conditioner, -1, ["a", "b"]).attach(engine)
    engine.run([0, 0])
    assert seen == [[["a", "b"]]] * 2


def test_handlers_attach_in_their_order() -> None:
    class Recorder:
        def __init__(self, name: str) -> None:
            self.name = name

        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.STARTED, lambda: seen.append(self.name))

    seen: list[str] = []
    engine = Engine(lambda engine, batch: None)
    Handlers([Recorder("first"), Recorder("second"), Recorder("third")]).attach(engine)
    engine.run([0])
    assert seen == ["first", "second", "third"]


@pytest.mark.parametrize("rank", [0, 1])
def test_only_the_first_rank_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """Every rank seeds, clips, averages, validates and loads; seeds come first, then the checkpoint, then the extra."""
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    network = nn.Linear(2, 1)
    average, extra = ExponentialAverage(network, 0.9), FreezePrompts(Prompts(), 1)
    checkpoint: Any = Checkpoint(tmp_path / "stage", {"network": network}, {"network": network})
    handlers = train_handlers(tmp_path / "stage", 1, None, network, None, checkpoint, ema=average, extra=[extra])
    assert isinstance(handlers[0], EpochSeed) and handlers[-2:] == [checkpoint, extra]
    everywhere = [each for each in handlers if isinstance(each, (EpochSeed, GradientClip, ExponentialAverage))]
    assert len(everywhere) == 3 and (len(handlers) == 5) == (rank == 1)
    assert everywhere[1].max_norm == 1.0, "unless a configuration says otherwise"
    assert any(isinstance(each, Provenance) for each in handlers) == (rank == 0)
    assert bool(validation_handlers(tmp_path / "stage")) == (rank == 0)


def test_parts_of_a_loss_are_curves(tmp_path: Path) -> None:
    loss = SimpleNamespace(terms={})
    engine = Engine(lambda engine, batch: loss.terms.update(kl=torch.tensor(float(batch))))
    LossTerms(loss, tmp_path).attach(engine)
    engine.run([1, 2, 4])
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss_kl")
    assert [(event.step, event.value) for event in events] == [(1, 1.0), (2, 2.0), (3, 4.0)]
