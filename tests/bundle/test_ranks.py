"""Several ranks compute what one does with the same batch."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from scripts import ranks
from scripts.errors import UserError
from scripts.losses import AutoencoderLoss, OutcomeLoss
from tests.bundle.helpers import BUNDLE
from tests.bundle.training.helpers import DRAWN, differences, forked, load, torchrun


def test_the_overlay_of_several_processes_does_what_its_files_do() -> None:
    """It has whole lists of theirs, with the group started before and ended after, and a barrier before results."""
    whole = {path.stem: yaml.safe_load(path.read_text()) for path in (BUNDLE / "configs").glob("*.yaml")}
    stages = [content["training"] for name, content in whole.items() if name.startswith("train_")]
    first, *training, last = whole["multi_gpu"]["training"]
    assert (first, last) == ("$training.start_process_group()", "$training.stop_process_group()")
    assert len(stages) == 4 and all(training == each for each in stages)
    first, *inference, last = whole["multi_gpu"]["inference"]
    assert (first, last) == ("$training.start_process_group()", "$training.stop_process_group()")
    barrier = inference.index("$idist.barrier()")
    assert inference[barrier - 1].startswith("$@evaluator.run()") and inference[barrier + 1] == "$@write_results()"
    inference.pop(barrier)
    assert inference == whole["inference"]["inference"]


def test_a_batch_is_shared_equally_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ranks.share(7) == 7
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: 4)
    assert ranks.share(8) == 2
    for batch, near in ((10, "8 or 12"), (3, "4, or another number of processes")):
        with pytest.raises(UserError, match=f"batch_size is {batch}, which 4 processes .* --batch_size {near}"):
            ranks.share(batch)


def shared(monkeypatch: pytest.MonkeyPatch, parts: list[Tensor], loss: Any) -> list[Tensor]:
    """The average over ranks of the gradients of each rank's part; ``loss`` is called with rank and part."""
    gradients = []
    monkeypatch.setattr("ignite.distributed.get_world_size", lambda: len(parts))
    for rank, part in enumerate(parts):
        monkeypatch.setattr("ignite.distributed.get_rank", lambda rank=rank: rank)
        gradients.append(torch.autograd.grad(loss(rank, part.requires_grad_()), part)[0] / len(parts))
    return gradients


def test_a_loss_over_gathered_samples_has_the_gradients_of_one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    expected = torch.autograd.grad(torch.pdist(whole).square().sum(), whole)[0]
    monkeypatch.setattr("ignite.distributed.all_gather", lambda part: whole.detach())
    parts = [part.detach() for part in whole.chunk(3)]
    found = shared(monkeypatch, parts, lambda rank, part: torch.pdist(ranks.gathered(part)).square().sum())
    torch.testing.assert_close(torch.cat(found), expected)
    with torch.no_grad():
        assert ranks.gathered(parts[0]) is parts[0], "in validation every rank has all samples"


def test_unknown_outcomes_weigh_alike_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of four are known, one of them on the first rank."""
    logits = torch.tensor([[0.3], [-1.0], [0.5], [2.0]], requires_grad=True)
    outcome = torch.tensor([1.0, torch.nan, 0.0, 1.0])
    expected = torch.autograd.grad(OutcomeLoss()(logits, {"malignant": outcome}), logits)[0]
    monkeypatch.setattr("ignite.distributed.all_reduce", lambda part: torch.tensor(0.5 + 1.0))
    parts, known = [part.detach() for part in logits.chunk(2)], outcome.chunk(2)
    found = shared(monkeypatch, parts, lambda rank, part: OutcomeLoss()(part, {"malignant": known[rank]}))
    torch.testing.assert_close(torch.cat(found), expected)


def test_ranks_share_the_samples_of_the_perceptual_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, seen = AutoencoderLoss("alex", 4, alignment_weight=0.0, prediction_weight=0.0), []
    monkeypatch.setattr(loss.perceptual, "forward", lambda made, real: seen.append(len(made)) or made.sum()[None])
    monkeypatch.setattr("ignite.distributed.all_reduce", lambda part: 2.0 * part)
    crops = torch.zeros(8, 1, 32, 32, requires_grad=True)
    prediction = {"reconstruction": crops, "mean": crops, "std": crops + 1.0, "latent": crops}
    for count in (1, 2):
        monkeypatch.setattr("ignite.distributed.get_world_size", lambda count=count: count)
        loss(prediction, {"image": crops.detach()})
    assert seen == [4, 2]


# --- whole stages

DRAWS = """
+imports:
- $import tests.bundle.training.helpers as helpers
initialize:
- $helpers.settle()
condition_dropout: 0.0
optimizer: {_target_: torch.optim.SGD, params: $@network.parameters(), lr: '@learning_rate'}
"""
"""No random numbers, which each rank draws for itself; and steps as long as gradients are, which AdamW's are not."""

SPY = """
training:
- $training.start_process_group()
- $monai.utils.set_determinism(seed=@seed)
- '@prepare'
- $@train::trainer.run()
- "$torch.save({'network': @network.state_dict(), 'ema': @ema.state_dict(), 'best': @checkpoint.progress},
  @output_dir + '/rank' + str(torch.distributed.get_rank()) + '.pt')"
- '@publish'
- $training.stop_process_group()
"""


@pytest.mark.processes
@pytest.mark.parametrize("stage", ["autoencoder", "conditional"])
def test_two_ranks_train_the_network_of_one(
    make_workflow: Callable[..., Any],
    tiny_settings: dict[str, Any],
    trained: Path,
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """With gloo, prompts included, one stage by torchrun: equal weights and averages, and everything written once."""
    for owner, name in DRAWN:  # restored afterwards
        monkeypatch.setattr(owner, name, getattr(owner, name))
    for name, text in {"draws": DRAWS, "spy": SPY}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    for number in "12":
        shutil.copytree(trained / "models", tmp_path / number / "models")
    settings = {
        "batch_size": 4,
        "learning_rate": 0.1,
        "warmup_steps": 0,
        "decay_steps": 0,
        "keep_interval": 1,
        "rotations": [0],
    }
    settings |= {"loss::alignment_weight": 1.0} if stage == "autoencoder" else {}
    make_workflow(f"train_{stage}", tmp_path / "1", "small", str(tmp_path / "draws"), **settings).run()
    overlays = [str(tmp_path / name) for name in ("draws", "spy")]
    if stage == "autoencoder":
        for name in ("image_size", "max_epochs", "val_interval", "autoencoder_shape"):
            settings[name] = tiny_settings[name]
        monkeypatch.setenv("PYTHONPATH", f"{BUNDLE.parent}{os.pathsep}{BUNDLE}")
        settings |= {"dataset_dir": tiny_dataset, "output_dir": tmp_path / "2"}
        assert torchrun("train_autoencoder", tmp_path, 2, *overlays, **settings).count("wrote") == 1
    else:
        overlays.insert(0, "multi_gpu")
        forked(2, lambda: make_workflow("train_conditional", tmp_path / "2", "small", *overlays, **settings).run())

    both = [load(tmp_path / "2" / f"rank{rank}.pt") for rank in (0, 1)]
    last = [load(tmp_path / number / stage / "last.pt") for number in "12"]
    assert not differences(*both) and not differences(last[1]["network"], both[0]["network"])
    iterations = {state["progress"]["iteration"] for state in last}
    assert iterations == {2 * 3 if stage == "autoencoder" else 2 * 1}
    epochs = (load(tmp_path / run / stage / f"epoch_{epoch}.pt") for run, epoch in ("11", "21", "12", "22"))
    before, before_two, one, two = epochs
    moved = {part: distance(one[part], before[part]) for part in one if part in ("network", "unet", "conditioner")}
    assert len(moved) == (1 if stage == "autoencoder" else 2)
    for part, way in moved.items():
        assert distance(before[part], before_two[part]) < 1e-3 * way
        assert distance(one[part], two[part]) < 1e-2 * way  # by now rounding may have turned the sign of an L1 loss
    assert distance(last[0]["network"], last[1]["network"]) < 1e-2 * max(moved.values())
    if stage == "autoencoder":
        published = load_file(tmp_path / "2" / "models" / "autoencoder.safetensors")
        best = load(tmp_path / "2" / "autoencoder" / "best.pt")["network"]
        assert all(
            torch.equal(each, best[f"autoencoder.{name}"]) for name, each in published.items() if name != "latent_scale"
        )


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The Euclidean distance between two states."""
    return math.sqrt(sum(float((first[name] - second[name]).double().square().sum()) for name in first))
