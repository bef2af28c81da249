"""Training: an interrupted run ends as one that was not, and each handler does what it says."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import RandLambda
from safetensors.torch import load_file
from torch import Tensor, nn

import scripts.training as engines
from scripts.data.datalist import crops
from scripts.data.transforms import preprocessing
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.training.batches import LatentPrepareBatch, prepare_baseline_batch, prepare_crop_batch
from scripts.training.checkpointing import Checkpoint
from scripts.training.engines import epoch_sampler, hu_error, validation_loss, warmup_cosine
from scripts.training.handlers import EpochSeed, ExponentialAverage, FreezePrompts, GradientClip, Validation
from scripts.weights.checkpoints import read_metadata

CONFIGS = Path(__file__).resolve().parents[2] / "bundle" / "configs"


def load(path: Path) -> Any:
    return torch.load(path, weights_only=True)


def differences(first: Any, second: Any, where: str = "") -> list[str]:
    """Where two nested states differ, in any bit."""
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{where}: {first.keys() ^ second.keys()}"]
        return [found for key in first for found in differences(first[key], second[key], f"{where}/{key}")]
    if isinstance(first, (list, tuple)):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)}"]
        pairs = enumerate(zip(first, second, strict=True))
        return [found for index, (a, b) in pairs for found in differences(a, b, f"{where}/{index}")]
    same = torch.equal(first, second) if isinstance(first, Tensor) else first == second
    return [] if same else [where]


# --- resume equals uninterrupted

RESUMED = {
    "autoencoder": ("autoencoder", {}),
    "unconditional": ("unconditional", {}),
    "conditional, prompts learning": ("conditional", {}),
    "conditional, prompts frozen before the interruption": ("conditional", {"prompt_steps": 2}),
    "conditional, prompts frozen after the interruption": ("conditional", {"prompt_steps": 5}),
    "conditional, prompts never learning": ("conditional", {"prompt_steps": 0}),
    "classifier": ("classifier", {}),
    "classifier, without average": ("classifier", {"ema_decay": 0.0}),
    "classifier, two workers": ("classifier", {"num_workers": 2}),
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_killed_run_goes_on_to_the_very_same_weights(
    make_workflow: Callable[..., Any], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stage, settings = RESUMED[name]
    settings = {"max_epochs": 3, **settings}

    def start(folder: str, seed: int) -> Any:
        torch.manual_seed(seed)  # another process has another generator
        return make_workflow(f"train_{stage}", tmp_path / folder, "small", **settings)

    for folder in ("straight", "killed"):
        shutil.copytree(trained / "models", tmp_path / folder / "models")
    straight = start("straight", 1)
    straight.run()
    length = straight.trainer.state.epoch_length
    assert length >= 3
    clip = GradientClip.__call__

    def kill(self: GradientClip, engine: Engine) -> None:
        clip(self, engine)
        if engine.state.iteration == length + 2:  # in the middle of a step in the middle of the second epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GradientClip, "__call__", kill)
        start("killed", 2).run()
    assert load(tmp_path / "killed" / stage / "last.pt")["progress"]["epoch"] == 1
    again = start("killed", 3)
    again.run()
    assert again.trainer.state.epoch == 3 and again.trainer.state.iteration == 3 * length

    for file in ("last.pt", "best.pt"):
        assert not differences(*(load(tmp_path / folder / stage / file) for folder in ("straight", "killed")))
    published = [
        {file.relative_to(models): load_file(file) for file in models.rglob("*.safetensors")}
        for models in (tmp_path / "straight" / "models", tmp_path / "killed" / "models")
    ]
    assert len(published[0]) == 4 + 3 and not differences(*published)


def test_killed_between_the_two_files_of_an_epoch(
    make_workflow: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_workflow("train_classifier", tmp_path / "straight", "small").run()
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
        assert not differences(*(load(tmp_path / run / "classifier" / file) for run in ("straight", "killed")))


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


def test_a_longer_run_goes_on_from_a_finished_one(make_workflow: Callable[..., Any], tmp_path: Path) -> None:
    make_workflow("train_classifier", tmp_path / "once", "small", max_epochs=3).run()
    for epochs in (1, 2, 3):
        make_workflow("train_classifier", tmp_path / "thrice", "small", max_epochs=epochs).run()
    assert not differences(*(load(tmp_path / run / "classifier" / "last.pt") for run in ("once", "thrice")))


def test_another_shape_is_refused_with_advice(make_workflow: Callable[..., Any], tmp_path: Path) -> None:
    make_workflow("train_classifier", tmp_path, "small", max_epochs=1).run()
    shape = {"channels": [4, 4, 8, 16]}
    with pytest.raises(RuntimeError) as error:
        make_workflow("train_classifier", tmp_path, "small", classifier_shape=shape).run()
    text = str(error.value.__cause__)
    assert text.startswith(f"{tmp_path}/classifier/last.pt: does not fit this configuration (")
    assert "--output_dir" in text


# --- several processes


def test_two_processes_train_one_network(tiny_dataset: Path, tmp_path: Path) -> None:
    """With torchrun and gloo: equal weights on both ranks, averages too, and everything written once."""
    (tmp_path / "spy.yaml").write_text(
        "training:\n"
        "- $training.start_process_group()\n"
        "- '@prepare'\n"
        "- $@train::trainer.run()\n"
        "- \"$torch.save({'network': @network.state_dict(), 'ema': @ema.state_dict(), 'best': @checkpoint.progress,"
        " 'image': @train::trainer.state.batch['image'].as_tensor()},"
        " @output_dir + '/rank' + str(torch.distributed.get_rank()) + '.pt')\"\n"
        "- '@publish'\n"
        "- $training.stop_process_group()\n"
    )
    files = [CONFIGS / f"{name}.yaml" for name in ("train_autoencoder", "small", "multi_gpu")] + [tmp_path / "spy.yaml"]
    shape = "{'channels': [8, 8, 16], 'num_res_blocks': 1, 'norm_num_groups': 4}"
    settings = {"dataset_dir": tiny_dataset, "output_dir": tmp_path / "run", "autoencoder_shape": shape}
    settings |= {"image_size": 32, "max_epochs": 2, "batch_size": 2, "val_interval": 1}
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    config = ["-m", "monai.bundle", "run", "training", "--config_file", str([str(file) for file in files])]
    overrides = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(
        [*launch, *config, *overrides], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    ranks = [load(tmp_path / "run" / f"rank{rank}.pt") for rank in (0, 1)]
    images = [rank.pop("image") for rank in ranks]
    assert not differences(*ranks) and not torch.equal(*images)
    initial = StableDiffusionAutoencoder(channels=[8, 8, 16], num_res_blocks=1, norm_num_groups=4).state_dict()
    assert len(initial) < len(ranks[0]["network"]) < len(ranks[0]["ema"])
    assert result.stdout.count("wrote") + result.stderr.count("wrote") == 1
    last = load(tmp_path / "run" / "autoencoder" / "last.pt")
    assert not differences(last["network"], ranks[0]["network"]) and last["progress"]["epoch"] == 2
    published = load_file(tmp_path / "run" / "models" / "autoencoder.safetensors")
    best = load(tmp_path / "run" / "autoencoder" / "best.pt")["network"]
    assert all(
        torch.equal(tensor, best[f"autoencoder.{name}"]) for name, tensor in published.items() if name != "latent_scale"
    )


def test_ranks_share_out_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 2)
    orders = []
    for rank in (0, 1):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        torch.manual_seed(rank)
        orders.append(list(epoch_sampler(range(10), seed=3)))
    assert sorted(orders[0] + orders[1]) == list(range(10))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = epoch_sampler(range(20), seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    first = order(3, 1)
    torch.manual_seed(99)
    assert order(3, 1) == first and sorted(first) == list(range(20))
    assert order(3, 2) != first and order(4, 1) != first


# --- what a stage leaves to the next


def test_latent_scale_makes_the_training_latents_unit_variance(trained: Path, tiny_dataset: Path) -> None:
    from scripts.weights.checkpoints import load_network

    autoencoder = load_network(trained / "models" / "autoencoder.safetensors")
    dataset = Dataset(crops(tiny_dataset, "training"), preprocessing(["image"], 32))
    images = torch.stack([item["image"].as_tensor() for item in dataset])
    with torch.no_grad():
        latents = autoencoder.encode_stage_2_inputs(images)
    assert len(images) == 13 and latents.std().item() == pytest.approx(1.0, abs=1e-4)
    assert autoencoder.latent_scale.item() != 1.0


@pytest.mark.parametrize("stage", ["autoencoder", "unconditional", "conditional", "classifier"])
def test_what_is_published_is_the_best_average(trained: Path, stage: str) -> None:
    best = load(trained / stage / "best.pt")
    name, key, prefix = {
        "autoencoder": ("autoencoder", "network", "autoencoder."),
        "classifier": ("classifier", "network", ""),
    }.get(stage, (f"unet_{stage}", "unet", ""))
    published = load_file(trained / "models" / f"{name}.safetensors")
    assert {prefix + part for part in published} <= best[key].keys()
    assert all(torch.equal(best[key][prefix + part], published[part]) for part in published if part != "latent_scale")
    extra = read_metadata(trained / "models" / f"{name}.safetensors")["extra"]
    assert extra == {"epoch": best["progress"]["best_epoch"], "val_loss": best["progress"]["best_value"]}
    assert math.isfinite(extra["val_loss"])


def test_published_prompts_are_the_best_ones(trained: Path) -> None:
    best = load(trained / "conditional" / "best.pt")["conditioner"]
    folder = trained / "models" / "conditioner"
    for index, prompts in enumerate(best["prompts"]):
        saved = load_file(folder / f"set_{index}" / "adapter_model.safetensors")["prompt_embeddings"]
        assert torch.equal(saved, prompts)
    statistics = load_file(folder / "context_statistics.safetensors")
    assert torch.equal(statistics["mean"], best["normaliser.mean"]) and torch.equal(
        statistics["std"], best["normaliser.std"]
    )


def test_a_run_shorter_than_its_validation_interval_is_validated_at_its_end(
    make_workflow: Callable[..., Any], tmp_path: Path
) -> None:
    make_workflow("train_classifier", tmp_path, "small", max_epochs=2, val_interval=5).run()
    assert read_metadata(tmp_path / "models" / "classifier.safetensors")["extra"]["epoch"] == 2


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


# --- checkpoints by themselves


@contextlib.contextmanager
def training(
    folder: Path, losses: list[float] | None = None, patience: int = 0
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
        with pytest.raises(ValueError, match=r"last.pt: does not fit this configuration \(.*--output_dir"):
            trainer.run([0], max_epochs=2)


# --- handlers by themselves


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


@pytest.mark.parametrize(("warmup", "decay"), [(0, 0), (5, 0), (0, 20), (5, 20), (1, 2)])
def test_learning_rate_in_closed_form(warmup: int, decay: int) -> None:
    peak = 3e-3

    def expected(step: int) -> float:
        if step < warmup:
            return peak * (0.01 + 0.99 * step / warmup)
        if not decay:
            return peak
        done = min(1.0, (step - warmup) / (decay - warmup))
        return peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))

    def make() -> tuple[Any, Any]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
        return optimizer, warmup_cosine(optimizer, peak, warmup, decay)

    optimizer, schedule = make()
    for step in range(50):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected(step), rel=1e-6), step
        optimizer.step()
        schedule.step()
        if step in (2, 7, 19, 30):  # interrupted here
            states = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))
            optimizer, schedule = make()
            optimizer.load_state_dict(states[0])
            schedule.load_state_dict(states[1])


# --- batches


def test_crop_batch() -> None:
    batch = {"image": torch.rand(2, 1, 4, 4), "attributes": torch.rand(2, 5), "malignant": torch.rand(2), "x": ["a"]}
    image, target = prepare_crop_batch(batch, "cpu")
    assert torch.equal(image, batch["image"]) and target.keys() == {"image", "attributes", "malignant"}


def test_baseline_batch_takes_the_report_as_condition() -> None:
    image, label, arguments, keywords = prepare_baseline_batch({"image": torch.rand(2, 1, 4, 4), "report": ["a", "b"]})
    assert image.shape == (2, 1, 4, 4) and label is None and arguments == ()
    assert keywords == {"condition": ["a", "b"]}


def test_training_noise_is_drawn_and_validation_noise_is_fixed() -> None:
    batch = {"follow_up": torch.rand(8, 4, 4, 4), "baseline": torch.rand(8, 4, 4, 4), "report": ["r"] * 8}
    torch.manual_seed(0)
    drawn = LatentPrepareBatch(concat_key="baseline", condition_key="report")
    first, second = drawn(batch, "cpu"), drawn(batch, "cpu")
    for latents, target, _, keywords in (first, second):
        assert torch.equal(latents, batch["follow_up"]) and torch.equal(target, keywords["noise"])
        assert torch.equal(keywords["concat"], batch["baseline"]) and keywords["condition"] == batch["report"]
    assert not torch.equal(first[1], second[1]) and not torch.equal(first[3]["timesteps"], second[3]["timesteps"])

    fixed = LatentPrepareBatch(fixed=True)
    state = torch.get_rng_state()
    one, other = fixed(batch, "cpu")[3], fixed(batch, "cpu")[3]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one["noise"], other["noise"]) and one["concat"] is None and one["condition"] is None
    assert sorted(one["timesteps"].tolist()) == [62, 187, 312, 437, 562, 687, 812, 937]
    assert torch.equal(one["timesteps"], other["timesteps"])


@pytest.mark.parametrize("count", [1, 2, 7, 14, 32])
def test_validation_timesteps_cover_the_schedule(count: int) -> None:
    steps = LatentPrepareBatch(fixed=True).get_timesteps(torch.zeros(count, 1)).tolist()
    assert sorted(steps) == [int((index + 0.5) * 1000 / count) for index in range(count)]


def test_validation_loss_is_averaged_over_samples_not_batches() -> None:
    pred = torch.arange(5.0)
    parts = [(pred[:4], torch.zeros(4)), (pred[4:], torch.zeros(1))]
    engine = Engine(lambda engine, batch: {"pred": batch[0], "label": batch[1]})
    validation_loss(nn.MSELoss()).attach(engine, "val_loss")
    assert engine.run(parts).metrics["val_loss"] == pytest.approx((0 + 1 + 4 + 9 + 16) / 5)


def test_reconstruction_error_is_in_hounsfield_units() -> None:
    image = torch.zeros(2, 1, 4, 4)
    engine = Engine(lambda engine, batch: {"pred": {"reconstruction": image + 0.1}, "label": {"image": image}})
    hu_error().attach(engine, "val_mae_hu")
    assert engine.run([0]).metrics["val_mae_hu"] == pytest.approx(0.1 * 1400 / 2, rel=1e-5)


def test_one_process_needs_no_wrapper() -> None:
    network = nn.Linear(1, 1)
    assert engines.distribute(network) is network
