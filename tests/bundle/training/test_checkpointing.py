"""Checkpoints: an interrupted run ends as one that was not."""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from safetensors.torch import load_file
from torch import nn

from scripts.training import checkpointing
from scripts.training.checkpointing import Checkpoint
from scripts.training.handlers import ExponentialAverage, GradientClip
from scripts.weights.checkpoints import read_metadata
from tests.bundle.helpers import refusal
from tests.bundle.training.helpers import differences, forked, load

# --- resume equals uninterrupted


FLOWS = {"channels": [4, 8], "attention": 1, "norm_num_groups": 4, "num_steps": 2}
RECORDS = {"channels": [8, 16], "num_res_blocks": 1, "norm_num_groups": 4, "head_channels": 8, "context": 16}
RESUMED: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "autoencoder": ("autoencoder", [], {}),
    "unconditional": ("unconditional", [], {}),
    "conditional, prompts learning": ("conditional", [], {}),
    "conditional, prompts frozen before the interruption": ("conditional", [], {"prompt_steps": 2}),
    "conditional, prompts frozen after the interruption": ("conditional", [], {"prompt_steps": 5}),
    "conditional, from the prompts of another seed": ("conditional", [], {"seed": 24}),
    "classifier": ("classifier", [], {}),
    "classifier, without average": ("classifier", [], {"ema_decay": 0.0}),
    "classifier, two workers": ("classifier", [], {"num_workers": 2}),
    "ImageFlowNet, which predicts from the second epoch on": (
        *("conditional", ["compare_crops", "compare_imageflownet"]),
        {"shape": FLOWS, "threshold": -100.0},
    ),
    "DDL-CXR": ("conditional", ["compare_ddl_cxr"], {"shape": RECORDS}),
}
"""By name, a stage, its overlays and its settings."""


@pytest.mark.parametrize("name", RESUMED)
def test_a_killed_run_goes_on_to_the_very_same_weights(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In the middle of a step in the middle of the second and last epoch."""
    stage, overlays, settings = RESUMED[name]

    def start(folder: str, seed: int) -> Any:
        torch.manual_seed(seed)  # another process has another generator
        return make_workflow(f"train_{stage}", tmp_path / folder, "small", *overlays, **settings)

    shutil.copytree(trained / "models", tmp_path / "killed" / "models")
    straight = trained
    if settings:
        straight = tmp_path / "straight"
        shutil.copytree(trained / "models", straight / "models")
        start("straight", 1).run()
    killed = start("killed", 2)
    own = killed.parser.get_parsed_content("stage")
    length = len(killed.parser.get_parsed_content("train::dataloader"))
    assert length >= 3
    clip = GradientClip.__call__

    def kill(self: GradientClip, engine: Engine) -> None:
        clip(self, engine)
        if engine.state.iteration == length + 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GradientClip, "__call__", kill)
        killed.run()
    assert load(tmp_path / "killed" / own / "last.pt")["progress"]["epoch"] == 1
    again = start("killed", 3)
    again.run()
    assert again.trainer.state.epoch == 2 and again.trainer.state.iteration == 2 * length

    folders = straight, tmp_path / "killed"
    for file in ("last.pt", "best.pt"):
        assert not differences(*(load(folder / own / file) for folder in folders))
    published = [
        {file.relative_to(folder): load_file(file) for file in (folder / "models").rglob("*.safetensors")}
        for folder in folders
    ]
    assert len(published[0]) == 4 + 3 + bool(overlays) and not differences(*published)


@pytest.mark.processes
def test_two_processes_go_on_to_the_very_same_weights(make_workflow: Callable[..., Any], tmp_path: Path) -> None:
    """And one process alone goes on where two have begun, with the whole batch of both, but not with another."""

    def train(folder: str, epochs: int, batch_size: int = 4) -> None:
        settings = {"batch_size": batch_size, "max_epochs": epochs}
        make_workflow("train_classifier", tmp_path / folder, "small", "multi_gpu", **settings).run()

    for folder, epochs in (("straight", 2), ("again", 1), ("again", 2)):
        forked(2, partial(train, folder, epochs))
    for file in ("last.pt", "best.pt"):
        states = [load(tmp_path / run / "classifier" / file) for run in ("straight", "again")]
        assert {state.pop("record")["global_batch"] for state in states} == {4}
        assert not differences(*states)
    forked(1, partial(train, "again", 3))
    assert load(tmp_path / "again" / "classifier" / "last.pt")["progress"]["epoch"] == 3
    other = make_workflow("train_classifier", tmp_path / "again", "small", batch_size=2)
    assert "global_batch was 4, is 2" in refusal(other.run)


def test_killed_between_the_two_files_of_an_epoch(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, names = Checkpoint._write, []

    def die_at_the_second_last(self: Checkpoint, name: str, objects: Any) -> None:
        names.append(name)
        if names.count("last.pt") == 2:
            raise KeyboardInterrupt
        write(self, name, objects)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "_write", die_at_the_second_last)
        make_workflow("train_classifier", tmp_path / "killed", "small").run()
    make_workflow("train_classifier", tmp_path / "killed", "small").run()
    for file in ("last.pt", "best.pt"):
        assert not differences(*(load(run / "classifier" / file) for run in (trained, tmp_path / "killed")))


def test_the_seed_decides_everything(make_workflow: Callable[..., Any], tmp_path: Path) -> None:
    states = []
    for seed, state in ((5, 1), (5, 2), (6, 1)):
        torch.manual_seed(state)
        folder = tmp_path / f"{seed}-{state}"
        make_workflow("train_classifier", folder, "small", seed=seed, max_epochs=1).run()
        states.append(load(folder / "classifier" / "last.pt")["network"])
    assert not differences(states[0], states[1])
    assert differences(states[0], states[2])


def test_early_stopping_survives_an_interruption_and_a_second_start(
    make_workflow: Callable[..., Any], tmp_path: Path
) -> None:
    """A ViT learns nothing at a rate of zero (a ResNet's norms do): the first epoch is best, and the third the last."""
    shape = {"hidden_size": 16, "num_layers": 1, "mlp_dim": 16, "num_heads": 2}
    settings = {"learning_rate": 0.0, "max_epochs": 9, "patience": 2}
    settings |= {"classifier_network": "ViTClassifier", "classifier_shape": shape}
    workflow = make_workflow("train_classifier", tmp_path, "small", **settings)

    @workflow.trainer.on(Events.EPOCH_STARTED(once=3))
    def kill() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        workflow.run()
    for _ in range(2):
        again = make_workflow("train_classifier", tmp_path, "small", **settings)
        seen: list[int] = []
        again.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine, seen=seen: seen.append(engine.state.epoch))
        again.run()
        progress = load(tmp_path / "classifier" / "last.pt")["progress"]
        assert (progress["epoch"], progress["best_epoch"], progress["stopped"]) == (3, 1, True)
    assert not seen, "a finished run is not trained any further"
    assert read_metadata(tmp_path / "models" / "classifier.safetensors")["extra"]["epoch"] == 1


def test_a_longer_run_goes_on_from_a_finished_one(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path
) -> None:
    for epochs in (1, 2):
        make_workflow("train_classifier", tmp_path, "small", max_epochs=epochs).run()
    assert not differences(*(load(run / "classifier" / "last.pt") for run in (trained, tmp_path)))


def test_patience_may_be_raised_when_it_was_exhausted(make_workflow: Callable[..., Any], tmp_path: Path) -> None:
    """The run goes on where it had stopped."""
    losses = [1.0, 2.0, 2.0, 0.5, 2.0]
    for patience, epoch in ((2, 3), (2, 3), (3, 5)):
        with training(tmp_path, losses, patience) as (trainer, _, checkpoint):
            trainer.run([0], max_epochs=5)
            assert load(tmp_path / "last.pt")["progress"]["epoch"] == epoch
    assert checkpoint.load_best()["epoch"] == 4


# --- checkpoints by themselves


@contextlib.contextmanager
def training(
    folder: Path, losses: list[float] | None = None, patience: int = 0, **keeping: Any
) -> Iterator[tuple[Engine, nn.Linear, Checkpoint]]:
    """One weight that counts the epochs, judged by given validation losses."""
    network, validator = nn.Linear(1, 1, bias=False), Engine(lambda engine, batch: None)
    nn.init.zeros_(network.weight)
    trainer = Engine(lambda engine, batch: network.weight.data.add_(1.0))
    trainer.state.device = torch.device("cpu")
    if losses is not None:

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine: Engine) -> None:
            validator.state.metrics["val_loss"] = losses[engine.state.epoch - 1]

    checkpoint = Checkpoint(
        folder,
        {"network": network},
        {"network": network},
        evaluator=None if losses is None else validator,
        patience=patience,
        **keeping,
    )
    checkpoint.attach(trainer)
    yield trainer, network, checkpoint


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    with training(tmp_path, [3.0, 1.0, 2.0, 1.0]) as (trainer, network, checkpoint):
        trainer.run([0], max_epochs=4)
        assert network.weight.item() == 4.0
        assert checkpoint.load_best() == {"epoch": 2, "val_loss": 1.0}
        assert network.weight.item() == 2.0
    assert load(tmp_path / "last.pt")["network"]["weight"].item() == 4.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_minutes_pass_between_two_writings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is killed in between goes on from the last writing, with the best epoch of that time, to the same end."""
    clock = Clock(monkeypatch)
    ends = []
    for killed in (True, False):
        with training(tmp_path, [3.0, 2.0, 2.5, 1.0, 2.0], minutes=4) as (trainer, network, checkpoint):
            trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: clock.advance(60))
            if killed:
                trainer.add_event_handler(Events.EPOCH_STARTED(once=5), lambda engine: engine.terminate())
            trainer.run([0], max_epochs=5)
            ends.append((load(tmp_path / "last.pt")["progress"]["epoch"], checkpoint.load_best()["epoch"]))
    assert ends == [(1, 1), (5, 4)] and network.weight.item() == 4.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_slow_writing_takes_a_hundredth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch takes a minute, and a file nine seconds; without --checkpoint_minutes each epoch is written anyway."""
    clock, write = Clock(monkeypatch), Checkpoint._write
    times: list[float] = []

    def slowly(self: Checkpoint, name: str, state: Any) -> None:
        write(self, name, state)
        clock.advance(9)
        times.extend([clock.now] * (name == "last.pt"))

    monkeypatch.setattr(Checkpoint, "_write", slowly)
    for minutes, count in ((1, 8), (0, 100)):
        times.clear()
        with training(tmp_path / str(minutes), [float(-epoch) for epoch in range(100)], minutes=minutes) as (
            trainer,
            *_,
        ):
            trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: clock.advance(60))
            trainer.run([0], max_epochs=100)
        assert len(times) == pytest.approx(count, abs=4)
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert min(gaps[:-1]) >= (1800 if minutes else 60)


class Clock:
    """The time that checkpoints see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(checkpointing.time, "monotonic", lambda: self.now)

    def advance(self, seconds: float) -> None:
        self.now += seconds


def test_of_the_kept_epochs_the_last_ones_stay(tmp_path: Path) -> None:
    """And the one that will be published."""
    losses = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    with training(tmp_path, losses, keep_interval=1, keep_last=2, published=2) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=6)
        assert checkpoint.load_best()["epoch"] == 2
    assert sorted(path.name for path in tmp_path.glob("epoch_*")) == ["epoch_2.pt", "epoch_5.pt", "epoch_6.pt"]


def test_a_resumed_optimiser_leaves_the_file(tmp_path: Path) -> None:
    """Its averages are read from the file where they lie, which the next epoch replaces."""
    network = nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 300)).sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(tmp_path, {"optimizer": optimizer}, {})
    checkpoint.save(Engine(lambda engine, batch: None))
    checkpoint.resume(Engine(lambda engine, batch: None))
    assert str(tmp_path / "last.pt") not in Path("/proc/self/maps").read_text()
    optimizer.step()


@pytest.mark.parametrize("turned", [False, True])
def test_a_run_goes_on_with_its_channels_in_another_order(tmp_path: Path, turned: bool) -> None:
    """To the weights, moments and averages of an optimiser that heeds the order in memory."""
    layouts = (torch.contiguous_format, torch.channels_last)
    for fused in (True, False):
        for layout in layouts[::-1] if turned else layouts:
            torch.manual_seed(0)
            network = nn.Conv2d(3, 4, 3).to(memory_format=layout)  # type: ignore[call-overload]
            optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused)
            ema, engine = ExponentialAverage(network, 0.5), Engine(lambda engine, batch: None)
            objects = {"network": network, "optimizer": optimizer, "ema": ema}
            checkpoint = Checkpoint(tmp_path / str(fused), objects, {})
            checkpoint.resume(engine)
            network(torch.randn(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
            ema(engine)
            checkpoint.save(engine)
    one, other = (load(tmp_path / str(fused) / "last.pt") for fused in (True, False))
    for name in ("network", "ema"):
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one["optimizer"]["state"], other["optimizer"]["state"], atol=1e-5, rtol=1e-5)


def test_epochs_are_kept_to_be_published_in_its_place(tmp_path: Path) -> None:
    """The paper's "right before overfitting" need not be the epoch of the lowest loss."""
    losses = [3.0, 2.0, 1.5, 1.0, 2.0, 9.0]
    with training(tmp_path, losses, keep_interval=2) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=6)
        assert checkpoint.load_best() == {"epoch": 4, "val_loss": 1.0}
    assert sorted(path.name for path in tmp_path.glob("epoch_*")) == ["epoch_2.pt", "epoch_4.pt", "epoch_6.pt"]
    with training(tmp_path, losses, published=2) as (trainer, network, checkpoint):
        trainer.run([0], max_epochs=6)  # finished already
        assert checkpoint.load_best() == {"epoch": 2, "val_loss": 2.0} and network.weight.item() == 2.0


def test_a_finished_stage_publishes_a_kept_epoch(make_workflow: Callable[..., Any], tmp_path: Path) -> None:
    path, epochs = tmp_path / "models" / "classifier.safetensors", []
    for options in ({"keep_interval": 1}, {"publish_epoch": 1}, {"publish_epoch": 2}, {}):
        make_workflow("train_classifier", tmp_path, "small", **options).run()
        epochs.append(read_metadata(path)["extra"]["epoch"])
        kept = load(tmp_path / "classifier" / f"epoch_{epochs[-1]}.pt")["network"]
        assert all(torch.equal(tensor, kept[name]) for name, tensor in load_file(path).items())
    assert epochs[1:3] == [1, 2] and epochs[0] == epochs[3], "the best, where no other is asked for"


@pytest.mark.parametrize(("epoch", "interval"), [(3, 2), (4, 0)])
def test_an_epoch_that_is_not_kept_is_refused_before_training(tmp_path: Path, epoch: int, interval: int) -> None:
    with training(tmp_path, [1.0, 2.0], keep_interval=2) as (trainer, _, _):
        trainer.run([0], max_epochs=2)
    refused = pytest.raises(ValueError, match=f"epoch_{epoch}.pt: epoch {epoch} was not kept; kept are 2.")
    with refused, training(tmp_path, [], keep_interval=interval, published=epoch):
        pass


def test_without_validation_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    with training(tmp_path) as (trainer, network, checkpoint):
        trainer.run([0], max_epochs=3)
        assert checkpoint.load_best()["epoch"] == 3


def test_patience_counts_epochs_since_the_best(tmp_path: Path) -> None:
    with training(tmp_path, [3.0, 1.0, 2.0, 2.0, 0.5, 0.4], patience=3) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=6)
        assert trainer.state.epoch == 6
    with training(tmp_path / "b", [3.0, 1.0, 2.0, 2.0, 0.5, 0.4], patience=2) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=6)
        assert trainer.state.epoch == 4 and checkpoint.load_best()["epoch"] == 2


def test_an_older_best_epoch_is_not_this_runs(tmp_path: Path) -> None:
    """Where last.pt was deleted to begin again, and the new run learns nothing."""
    with training(tmp_path, [1.0]) as (trainer, _, _):
        trainer.run([0], max_epochs=1)
    (tmp_path / "last.pt").unlink()
    with training(tmp_path, [math.nan]) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=1)
        with pytest.raises(ValueError, match=r"best.pt: not there"):
            checkpoint.load_best()


def test_a_checkpoint_of_another_record_is_refused(tmp_path: Path) -> None:
    """By the handler itself, where a configuration does not open the stage."""
    with training(tmp_path) as (trainer, _, checkpoint):
        checkpoint.record = {"seed": 1, "version": "1"}
        trainer.run([0], max_epochs=1)
    assert load(tmp_path / "best.pt")["record"] == {"seed": 1, "version": "1"}
    with training(tmp_path) as (trainer, _, checkpoint):
        checkpoint.record = {"seed": 2, "version": "2"}
        with pytest.raises(ValueError, match=r"last.pt: cannot go on, since seed was 1, is 2\. "):
            trainer.run([0], max_epochs=2)


def test_a_loss_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    with training(tmp_path, [math.nan, 2.0, math.nan]) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=3)
        assert checkpoint.load_best()["epoch"] == 2
    with training(tmp_path / "b", [math.nan]) as (trainer, _, checkpoint):
        trainer.run([0], max_epochs=1)
        with pytest.raises(ValueError, match=r"best.pt: not there, because no validation gave a finite val_loss"):
            checkpoint.load_best()


@pytest.mark.parametrize("change", ["another shape", "another object"])
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path, change: str) -> None:
    with training(tmp_path) as (trainer, _, _):
        trainer.run([0], max_epochs=1)
    with training(tmp_path) as (trainer, network, checkpoint):
        if change == "another shape":
            checkpoint.objects["network"] = nn.Linear(2, 1, bias=False)
        else:
            checkpoint.objects["ema"] = ExponentialAverage(network, 0.9)
        with pytest.raises(ValueError, match=r"last.pt: does not fit this configuration \(.*--restart true"):
            trainer.run([0], max_epochs=2)
