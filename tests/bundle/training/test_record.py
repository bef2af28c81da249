"""A run goes on only as what it was: what else is asked for is refused, before any work, in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.conditioning import ReportConditioner
from scripts.errors import UserError
from scripts.fingerprint import digest_weights
from scripts.training.record import MAY_CHANGE, composed_settings, refuse_another
from scripts.weights.checkpoints import load_network, read_metadata, save_network
from tests.bundle.helpers import refusal
from tests.bundle.training.helpers import load

Make = Callable[..., Any]


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the four trained stages."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def other_dataset(tiny_dataset: Path, tmp_path: Path) -> Path:
    """The same cases, of which one crop was cut anew."""
    folder = Path(shutil.copytree(tiny_dataset, tmp_path / "other"))
    shutil.copy(folder / "1_t0.nii.gz", folder / "0_t0.nii.gz")
    return folder


def record(workflow: Any) -> dict[str, Any]:
    """Of the stage that a configuration would train."""
    return dict(workflow.parser.get_parsed_content("record"))


REFUSED = {
    "batch size": ("classifier", {"batch_size": 3}, "global_batch was 2, is 3"),
    "accumulated batches": ("classifier", {"accumulation_steps": 2}, "accumulation_steps was 1, is 2"),
    "rate": ("classifier", {"learning_rate": 0.125}, "learning_rate was 0.002, is 0.125"),
    "rate, of the optimiser itself": (
        "classifier",
        {"optimizer::lr": 0.5},
        "optimizer::lr was '@learning_rate', is 0.5",
    ),
    "schedule": ("unconditional", {"decay_steps": 7}, "decay_steps was 6, is 7"),
    "loss": ("autoencoder", {"loss": {"perceptual_weight": 0.5}}, "loss::perceptual_weight was 0.1, is 0.5"),
    "another loss": (
        "unconditional",
        {"loss_function": {"_target_": "torch.nn.L1Loss"}},
        "loss_function::_target_ was 'scripts.losses.DenoisingLoss', is 'torch.nn.L1Loss'",
    ),
    "metric of attributes": ("autoencoder", {"attribute_metric": "raw"}, "was 'standardised', is 'raw'"),
    "metric of the best epoch": (
        "autoencoder",
        {"checkpoint::key_metric": "val_mae_hu"},
        "checkpoint::key_metric was None, is 'val_mae_hu'",
    ),
    "seed": ("classifier", {"seed": 24}, "seed was 23, is 24"),
    "several at once": ("classifier", {"seed": 24, "rotations": [0]}, "rotations::1 was 45, is None"),
    "shape": ("classifier", {"classifier_shape": {"channels": [4, 4, 8, 16]}}, "channels::3 was 8, is 16"),
    "prompts": ("conditional", {"prompt_steps": 1}, "prompt_steps was -1, is 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_recipe_is_refused(make_workflow: Make, run: Path, name: str) -> None:
    stage, changes, said = REFUSED[name]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    message = refusal(make_workflow(f"train_{stage}", run, "small", **changes).run)
    assert message.startswith(f"{run / stage / 'last.pt'}: cannot go on, since ") and said in message
    assert "Give the settings of then" in message and "--restart true, which clears" in message
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == {path: time for path, time in before.items() if path.name != ".lock"}, "nothing was touched"


COMPARED = {
    "adversary::start": ("train_autoencoder", "compare_sd15_autoencoder"),
    "adversary::channels": ("train_autoencoder", "compare_ddl_cxr_autoencoder"),
    "text::max_tokens": ("train_unconditional", "compare_sd15_unconditional"),
    "num_steps": ("train_conditional", "compare_sd15"),
    "ramp": ("train_conditional", "compare_ddl_cxr"),
}
"""Settings that overlays of compared methods add to a stage, by name."""


@pytest.mark.parametrize("name", COMPARED)
def test_what_an_overlay_adds_is_a_setting_too(
    make_workflow: Make, trained: Path, tiny_llm: Path, tmp_path: Path, name: str
) -> None:
    stage, overlay = COMPARED[name]

    def made(value: int) -> dict[str, Any]:
        text = {"text": {"llm": str(tiny_llm), "max_tokens": 60}} if overlay.startswith("compare_sd15") else {}
        options = {"models_dir": str(trained / "models"), **text, name: value}
        return record(make_workflow(stage, tmp_path, "small", overlay, **options))

    message = refusal(lambda: refuse_another(tmp_path, made(7), made(8)))
    assert f"cannot go on, since {name} was 7, is 8. Give" in message


def test_more_epochs_do_not_stretch_ddl_cxrs_ramp(make_workflow: Make, trained: Path, tmp_path: Path) -> None:
    """Which is max_epochs where the run begins; its own is given when it goes on to more."""

    def made(epochs: int, **given: int) -> dict[str, Any]:
        options = {"models_dir": str(trained / "models"), "max_epochs": epochs, **given}
        return record(make_workflow("train_conditional", tmp_path, "small", "compare_ddl_cxr", **options))

    message = refusal(lambda: refuse_another(tmp_path, made(120), made(240)))
    assert "cannot go on, since ramp was 120, is 240. Give" in message
    refuse_another(tmp_path, made(120), made(240, ramp=120))


def test_the_plain_text_encoders_model_is_known_by_its_weights(
    make_workflow: Make, trained: Path, tiny_llm: Path, make_gemma: Any, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(tiny_llm, tmp_path / tiny_llm.name))
    for stage, overlay in (COMPARED["text::max_tokens"], COMPARED["num_steps"]):

        def made(llm: Path, stage: str = stage, overlay: str = overlay) -> dict[str, Any]:
            options = {"models_dir": str(trained / "models"), "text": {"llm": str(llm), "max_tokens": 60}}
            return record(make_workflow(stage, tmp_path, "small", overlay, **options))

        own, other = made(tiny_llm), made(make_gemma(False, True))
        assert own == made(moved) and own["settings"]["text"] == {"max_tokens": 60}
        assert "language_model::digest was " in refusal(partial(refuse_another, tmp_path, own, other))


def test_prompts_begin_by_the_trainings_seed_which_no_other_setting_notices(
    make_workflow: Make, trained: Path, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    """What lies beside the weights, and what a run that goes on is compared with, are as they were."""
    arguments = tiny_settings["conditioner_arguments"]

    def made(training: int, **given: Any) -> tuple[Any, dict[str, Any]]:
        options = {
            "seed": training,
            "conditioner_arguments": {**arguments, **given},
            "models_dir": str(trained / "models"),
        }
        workflow = make_workflow("train_conditional", tmp_path, "small", **options)
        return workflow.parser.get_parsed_content("conditioner"), record(workflow)

    first, other, given = made(23), made(24), made(24, seed=23)
    prompts = ReportConditioner(**arguments).prompts
    assert torch.equal(first[0].prompts, prompts) and torch.equal(given[0].prompts, prompts)
    assert not torch.isclose(other[0].prompts, prompts).any()
    assert first[0].settings == other[0].settings == given[0].settings
    assert first[1] | {"seed": 24} == other[1] and "seed" not in other[1]["settings"]["conditioner_arguments"]


def test_another_dataset_is_refused(make_workflow: Make, run: Path, other_dataset: Path) -> None:
    for stage in ("classifier", "conditional"):
        message = refusal(make_workflow(f"train_{stage}", run, "small", dataset_dir=str(other_dataset)).run)
        assert "since dataset was " in message and message.count(" was ") == 1


def test_a_copied_dataset_and_language_model_are_the_same(
    make_workflow: Make, run: Path, tiny_dataset: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    dataset, llm = (
        shutil.copytree(tiny_dataset, tmp_path / "moved"),
        shutil.copytree(tiny_llm, tmp_path / tiny_llm.name),
    )
    arguments = {"dataset_dir": str(dataset), "conditioner_arguments::llm": str(llm), "max_epochs": 3}
    make_workflow("train_conditional", run, "small", **arguments).run()
    assert load(run / "conditional" / "last.pt")["progress"]["epoch"] == 3


def test_another_autoencoder_under_the_unets_is_refused(make_workflow: Make, run: Path) -> None:
    path = run / "models" / "autoencoder.safetensors"
    autoencoder = load_network(path)
    save_network(autoencoder, path)
    make_workflow("train_unconditional", run, "small").run()  # the same, written again
    autoencoder.latent_scale.mul_(1.5)
    save_network(autoencoder, path)
    message = refusal(make_workflow("train_unconditional", run, "small").run)
    assert "since built_on::autoencoder was " in message
    message = refusal(make_workflow("train_conditional", run, "small").run)
    assert message.startswith(f"{run}/models/unet_unconditional.safetensors: not trained on {path} (autoencoder)")


def test_another_language_model_is_refused(make_workflow: Make, run: Path, make_gemma: Any) -> None:
    """Before it is opened; its hidden size is the same."""
    message = refusal(
        make_workflow(
            "train_conditional", run, "small", conditioner_arguments={"llm": str(make_gemma(False, True))}
        ).run
    )
    assert "language_model::digest was " in message


def test_networks_of_another_size_of_crops_are_no_foundation(make_workflow: Make, run: Path) -> None:
    shutil.rmtree(run / "unconditional")
    message = refusal(make_workflow("train_unconditional", run, "small", image_size=64).run)
    assert message.endswith("trained on crops of 32 px, but image_size is 64. Give --image_size 32.")


def test_weights_that_are_missing_are_named(make_workflow: Make, tmp_path: Path) -> None:
    message = refusal(make_workflow("train_unconditional", tmp_path, "small").run)
    assert message.startswith(f"{tmp_path}/models/autoencoder.safetensors: no such weights")


@pytest.mark.parametrize(
    "changes", [{"max_epochs": 3}, {"max_epochs": 3, "num_workers": 1, "patience": 9, "val_interval": 2}]
)
def test_what_may_change_goes_on(make_workflow: Make, run: Path, changes: dict[str, Any]) -> None:
    assert changes.keys() <= MAY_CHANGE
    make_workflow("train_classifier", run, "small", **changes).run()
    state = load(run / "classifier" / "last.pt")
    assert state["progress"]["epoch"] == 3 and state["record"]["settings"]["max_epochs"] == 3


def test_a_checkpoint_without_record_is_refused(tmp_path: Path) -> None:
    for was in (None, {}):
        with pytest.raises(UserError, match=r"last.pt: has no record .*--restart true"):
            refuse_another(tmp_path / "last.pt", was, {"seed": 1})


@pytest.mark.parametrize("stage", ["autoencoder", "unconditional", "conditional", "classifier"])
def test_one_record_goes_with_all_that_is_made(trained: Path, stage: str) -> None:
    records = [load(trained / stage / name)["record"] for name in ("last.pt", "best.pt")]
    records.append(json.loads((trained / stage / "provenance.json").read_text())["record"])
    name = {"unconditional": "unet_unconditional", "conditional": "unet_conditional"}.get(stage, stage)
    published = read_metadata(trained / "models" / f"{name}.safetensors")["extra"]["record"]
    if stage == "conditional":
        conditioner = trained / "models" / "conditioner"
        assert published.pop("conditioner") == digest_weights(conditioner)
        records.append(json.loads((conditioner / "record.json").read_bytes()))
    assert records == [published] * len(records)
    assert len(published["dataset"]) == 64 and (published["seed"], published["global_batch"]) == (23, 2)
    foundations = {"unconditional": ["autoencoder"], "conditional": ["autoencoder", "unet_unconditional"]}
    built_on = {each: digest_weights(trained / "models" / f"{each}.safetensors") for each in foundations.get(stage, ())}
    assert published["built_on"] == built_on and ("language_model" in published) == bool(built_on)
    assert published["version"] and "commit" in published


def test_settings_are_those_composed(trained: Path) -> None:
    """Looked up, given and left alone; overlays' tables and places are no settings."""
    settings = load(trained / "classifier" / "last.pt")["record"]["settings"]
    assert (settings["learning_rate"], settings["ema_decay"], settings["weight_decay"]) == (2e-3, 0.99, 0.01)
    assert (
        settings["classifier_shape"] == {"channels": [4, 4, 8, 8]} and settings["optimizer"]["lr"] == "@learning_rate"
    )
    assert len(settings["augmentation"]) == 3
    assert not settings.keys() & {"schedules", "classifiers", "dataset_dir", "output_dir", "seed", "batch_size"}
    with pytest.raises(RuntimeError, match="those of a MONAI configuration"):
        composed_settings()
