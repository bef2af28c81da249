"""What the engines are made of: processes, the order of an epoch, learning rates, errors."""

from __future__ import annotations

import copy
import math
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from torch import nn

import scripts.training as engines
from scripts.conditioning.null import NullConditioner
from scripts.diffusion.denoiser import Denoiser
from scripts.errors import UserError
from scripts.networks.unet import StableDiffusionUNet
from scripts.training.engines import (
    accelerate,
    epoch_sampler,
    start_process_group,
    stepped,
    steps_taken,
    stop_process_group,
    warmup_cosine,
)
from scripts.training.handlers import ExponentialAverage, GradientClip, LearningRate
from tests.bundle.training.helpers import differences, load


def test_ranks_share_out_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    orders = []
    for rank in (0, 1):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        torch.manual_seed(rank)
        orders.append(list(epoch_sampler(range(10), seed=3)))
    assert sorted(orders[0] + orders[1]) == list(range(10))


def test_batches_of_two_ranks_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 13 samples one is left out on both, and none comes twice."""

    def loader(ranks: int) -> DataLoader:
        return DataLoader(range(13), batch_size=4 // ranks, sampler=epoch_sampler(range(13), 3), drop_last=True)

    def batches(ranks: int) -> list[list[int]]:
        monkeypatch.setattr("ignite.distributed.get_world_size", lambda: ranks)
        shares = []
        for rank in range(ranks):
            monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
            shares.append(list(loader(ranks)))
        return [sorted(torch.cat(parts).tolist()) for parts in zip(*shares, strict=True)]

    assert batches(2) == batches(1) and len(batches(1)) == 3


def test_under_slurm_the_local_rank_stays_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignite would put SLURM's in its place, by which every process of a node has the first GPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    names = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, text in {**names, "SLURM_JOB_ID": "7", "SLURM_LOCALID": "0"}.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    start_process_group()
    try:
        assert idist.get_world_size() == 1 and os.environ["LOCAL_RANK"] == "3"
    finally:
        stop_process_group()
    assert idist.get_rank() == 0 and idist.backend() is None, "Ignite knows that the group is gone"


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = epoch_sampler(range(20), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = order(3, 1)
    torch.manual_seed(99)
    assert order(3, 1) == first and sorted(first) == list(range(20))
    assert order(3, 2) != first and order(4, 1) != first


@pytest.mark.parametrize("end", [0.1, 0.0])
@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (5, 0), (0, 20), (5, 20), (1, 2)])
def test_learning_rate_in_closed_form(warmup: int, decay: int, end: float) -> None:
    peak = 3e-3

    def expected(step: int) -> float:
        if step < warmup:
            return peak * (0.01 + 0.99 * step / warmup)
        if not decay:
            return peak
        done = min(1.0, (step - warmup) / (decay - warmup))
        return peak * (end + (1 - end) * 0.5 * (1 + math.cos(math.pi * done)))

    def make() -> tuple[Any, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
        return optimizer, warmup_cosine(optimizer, peak, warmup, decay, end)

    optimizer, schedule = make()
    for step in range(50):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected(step), rel=1e-6, abs=1e-12), step
        optimizer.step()
        schedule.step()
        if step in (2, 7, 19, 30):  # interrupted here
            states = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
            optimizer, schedule = make()
            optimizer.load_state_dict(states[0])
            schedule.load_state_dict(states[1])


@pytest.mark.parametrize("decay", [5, 1])
def test_a_decay_that_ends_within_the_warm_up_is_refused(decay: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(UserError, match=f"^decay_steps is {decay}, but warmup_steps is 5: .*--decay_steps, or 0 .*$"):
        warmup_cosine(optimizer, 0.1, 5, decay)


def test_one_process_needs_no_wrapper() -> None:
    network = nn.Linear(1, 1)
    assert engines.distribute(network) is network


def test_bfloat16_is_of_the_forward_pass_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 1))
    x = torch.randn(16, 8)
    half = accelerate(network, "bfloat16")
    exact, rounded = network(x), half(x)
    assert rounded.dtype == torch.float32 and 0 < float((rounded - exact).abs().max()) < 0.05
    assert list(half.parameters())[0] is network[0].weight and network[0].weight.dtype == torch.float32
    rounded.sum().backward()
    assert network[0].weight.grad is not None and network[0].weight.grad.dtype == torch.float32


def test_bfloat16_keeps_a_dictionary_of_outputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"a": self.layer(x), "b": x}

    made = accelerate(Two(), "bfloat16")(torch.ones(1, 2))
    assert {name: each.dtype for name, each in made.items()} == {"a": torch.float32, "b": torch.float32}


def test_settings_of_speed_are_named() -> None:
    network = nn.Linear(1, 1)
    assert accelerate(network) is network
    with pytest.raises(ValueError, match="precision is 'float16', expected float32, tf32 or bfloat16"):
        accelerate(network, "float16")
    with pytest.raises(ValueError, match="compile_mode is 'fast', expected null, default, reduce-overhead"):
        accelerate(network, compile_mode="fast")


def test_tf32_is_of_matrix_products(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    accelerate(nn.Linear(1, 1))
    assert asked == []
    accelerate(nn.Linear(1, 1), "tf32")
    assert asked == ["high"]


def test_channels_last_changes_no_value() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 2, 3))
    x, state = torch.randn(2, 3, 9, 9), copy.deepcopy(network.state_dict())
    expected = network(x)
    torch.testing.assert_close(accelerate(network, channels_last=True)(x), expected, rtol=1e-5, atol=1e-6)
    assert network[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not differences(state, network.state_dict())


def test_the_unet_alone_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the names of its checkpoint; nothing is compiled before the first call."""
    modes: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda call, mode: modes.append(mode) or call)
    unet = StableDiffusionUNet(8, channels=(8, 16), context_dim=8, num_heads=2, norm_num_groups=4)
    denoiser = Denoiser(unet, NullConditioner(torch.zeros(1, 1, 8), 2))  # type: ignore[arg-type]
    names = list(denoiser.state_dict())
    assert accelerate(denoiser, compile_mode="reduce-overhead") is denoiser
    assert modes == ["reduce-overhead"] and list(denoiser.state_dict()) == names
    assert unet._compiled_call_impl is not None and denoiser._compiled_call_impl is None
    assert denoiser(torch.zeros(1, 8, 8, 8), torch.tensor([1]), torch.zeros(1, 2, 8)).shape == (1, 4, 8, 8)


@pytest.mark.parametrize("stage", ["autoencoder", "unconditional", "conditional", "classifier"])
def test_a_stage_hands_its_settings_on(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Those of speed to the trainer, with gradients clipped at 1; the average is what is validated and kept as best."""
    given: list[tuple[Any, ...]] = []
    monkeypatch.setattr(engines, "accelerate", lambda network, *settings: given.append(settings) or network)
    settings = {"precision": "bfloat16", "channels_last": True, "compile_mode": "default", "accumulation_steps": 2}
    again = {"gradient_checkpointing": True} if stage.endswith("conditional") else {}  # U-Nets alone can
    models = str(trained / "models")
    workflow = make_workflow(f"train_{stage}", tmp_path, "small", models_dir=models, **settings, **again)
    value = workflow.parser.get_parsed_content
    assert value("train::trainer").accumulation_steps == 2
    assert given == [("bfloat16", True, "default", *again.values())]
    (clip,) = (each for each in value("train::handlers")[0] if isinstance(each, GradientClip))
    assert clip.max_norm == 1.0 and clip.network is value("network")
    average, validated = value("ema").module, value("validate::evaluator").network
    assert average is not value("ema").source and value("ema").source is value("network_def" if again else "network")
    assert (validated.unet if again else validated) is average
    assert value("checkpoint").best["unet" if again else "network"] is average


class Line(torch.utils.data.Dataset):
    """Points of a line."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        x = torch.linspace(-1.0, 1.0, 8)[index].reshape(1)
        return {"image": x, "label": 3.0 * x + 1.0}


def train_line(batch_size: int, accumulation_steps: int) -> dict[str, Any]:
    """Two epochs with clipping, an average and a falling rate."""
    torch.manual_seed(0)
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    rate = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    average = ExponentialAverage(network, 0.5)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=DataLoader(Line(), batch_size=batch_size),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[GradientClip(network, 1.0), LearningRate(rate), average],
        decollate=False,
        accumulation_steps=accumulation_steps,
    )
    trainer.run()
    return {"network": network.state_dict(), "average": average.module.state_dict(), "rate": rate.get_last_lr()[0]}


def test_accumulated_batches_are_one_batch() -> None:
    """Clipping, averages and learning rates count steps, not batches."""
    whole, parts = train_line(4, 1), train_line(2, 2)
    assert parts["rate"] == whole["rate"] == pytest.approx(0.1 * 0.9**4)
    for name in ("network", "average"):
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-6, atol=1e-7)
    assert train_line(2, 1)["rate"] == pytest.approx(0.1 * 0.9**8)


def test_activations_computed_again_train_the_same_network(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Denoiser] = []
    own = Denoiser.checkpoint_gradients
    monkeypatch.setattr(Denoiser, "checkpoint_gradients", lambda denoiser: asked.append(denoiser) or own(denoiser))
    for again in (False, True):
        shutil.copytree(trained / "models", tmp_path / str(again) / "models")
        make_workflow("train_conditional", tmp_path / str(again), "small", gradient_checkpointing=again).run()
        assert len(asked) == again
    states = [load(tmp_path / str(again) / "conditional" / "last.pt")["network"] for again in (False, True)]
    assert not differences(*states)
    with pytest.raises(ValueError, match="gradient_checkpointing: Linear keeps all its activations"):
        accelerate(nn.Linear(1, 1), gradient_checkpointing=True)


@given(length=st.integers(1, 7), every=st.integers(1, 5), epochs=st.integers(1, 3))
def test_steps_are_counted_as_monai_takes_them(length: int, every: int, epochs: int) -> None:
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    taken: list[int] = []
    optimizer.register_step_post_hook(lambda *_: taken.append(1))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": torch.ones(1, 1), "label": torch.ones(1, 1)}] * length,  # type: ignore[arg-type]
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        decollate=False,
        accumulation_steps=every,
    )
    steps: list[bool] = []

    def check(engine: Engine) -> None:
        steps.append(stepped(engine))
        assert steps_taken(engine) == len(taken) == sum(steps)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, check)
    trainer.run()
    assert len(steps) == length * epochs
