"""The two recipes, the paper's and that of the weights in the bundle: composed, held against their numbers, trained."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from safetensors.torch import load_file

from scripts.data.transforms import from_hu, preprocessing
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.weights.checkpoints import read_metadata
from tests.bundle.helpers import BUNDLE, CONFIGS

STAGES = ("autoencoder", "unconditional", "conditional", "classifier")
OVERLAYS = [("paper",), ("small", "paper"), ("small", "from_nothing", "paper"), ("small", "demo", "paper")]


def composed(*names: str, **options: Any) -> ConfigWorkflow:
    files = [str(CONFIGS / f"{name}.yaml") for name in names]
    workflow = ConfigWorkflow(files, logging_file=False, **options)
    workflow.initialize()
    return workflow


def value(workflow: ConfigWorkflow, key: str) -> Any:
    return workflow.parser.get_parsed_content(key)


@contextmanager
def refused(message: str) -> Iterator[None]:
    """What is raised is, or comes of, a UserError of one line with this message."""
    with pytest.raises(Exception) as caught:  # noqa: B017 (MONAI's, around ours)
        yield
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    assert cause is not None and re.search(message, str(cause)) and "\n" not in str(cause), caught.value


# --- the paper's, composed

NUMBERS: dict[str, dict[str, Any]] = {
    "autoencoder": {
        **{"max_epochs": 200, "batch_size": 64, "learning_rate": 5e-5, "betas": [0.5, 0.9]},
        **{"warmup_steps": 0, "decay_steps": 0, "attribute_metric": "raw"},
        "loss": {
            **{"perceptual": "vgg", "perceptual_samples": 0, "perceptual_weight": 1.0, "kl_weight": 1e-6},
            **{"alignment_weight": 1.0, "prediction_weight": 0.2},
        },
    },
    "unconditional": {
        **{"max_epochs": 1000, "batch_size": 16, "learning_rate": 1e-4, "warmup_steps": 4000, "decay_steps": 100000},
        "sample_latents": False,
    },
    "conditional": {
        **{"max_epochs": 60, "batch_size": 8, "learning_rate": 2e-5, "warmup_steps": 0, "decay_steps": 0},
        **{"condition_dropout": 0.0, "guidance_scale": 1.0, "prompt_steps": -1, "keep_input_weights": False},
        **{"report_interval": False, "sample_latents": False, "weights_dtype": "float32"},
    },
    "classifier": {
        **{"max_epochs": 100, "batch_size": 64, "learning_rate": 1e-4, "warmup_steps": 0, "decay_steps": 0},
        **{"classifier_network": "ViTClassifier", "augmentation": [], "weight_decay": 0.01},
    },
}
"""method.md's numbers, stage by stage."""

EVERYWHERE = {
    **{"seed": 23, "image_size": 64, "rotations": [0, 45, 90, 135, 180], "ema_decay": 0.0, "patience": 0},
    **{"val_interval": 1, "precision": "float32", "accumulation_steps": 1},
}

MEDGEMMA = {"llm": "google/medgemma-1.5-4b-it", "num_prompt_sets": 2, "prompt_length": 8, "standardise": False}


@pytest.mark.parametrize("overlays", OVERLAYS, ids=" ".join)
@pytest.mark.parametrize("stage", STAGES)
def test_the_papers_numbers(stage: str, overlays: tuple[str, ...]) -> None:
    workflow = composed(f"train_{stage}", *overlays)
    expected = {**EVERYWHERE, **NUMBERS[stage]}
    if stage in ("unconditional", "conditional"):
        expected["conditioner_arguments"] = MEDGEMMA
    assert {key: value(workflow, key) for key in expected} == expected
    if stage == "unconditional":
        kinds = {"prediction_type": "epsilon", "beta_schedule": "scaled_linear"}
        assert value(workflow, "unet_shape").items() >= kinds.items()
    if stage == "classifier":
        assert value(workflow, "classifier_shape").get("dropout_rate", 0.5) == 0.5


@pytest.mark.parametrize("overlays", OVERLAYS, ids=" ".join)
def test_the_papers_sampling(overlays: tuple[str, ...]) -> None:
    expected = {"num_runs": 20, "num_steps": 50, "solver": "ddim", "guidance_scale": 1.0, "seed": 23, "texture": False}
    workflow = composed("inference", *overlays)
    assert {key: value(workflow, key) for key in expected} == expected


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_is_left_of_small_but_sizes(stage: str) -> None:
    """Every setting of the stage is the same with small.yaml and without; of the shapes, what is no size."""
    with_small, without = composed(f"train_{stage}", *OVERLAYS[-1]), composed(f"train_{stage}", *OVERLAYS[0])
    content = yaml.safe_load((CONFIGS / f"train_{stage}.yaml").read_text())
    sizes = {"autoencoder_shape", "unet_shape", "classifier_shape", "pretrained"}
    settings = [name for name, plain in content.items() if is_plain(plain) and name not in sizes]
    assert len(settings) > 15
    assert {name: value(with_small, name) for name in settings} == {name: value(without, name) for name in settings}
    for shape in sizes & content.keys() - {"pretrained"}:
        known = {"channels", "num_res_blocks", "norm_num_groups", "hidden_size", "num_layers", "mlp_dim", "num_heads"}
        rest = {name: each for name, each in value(with_small, shape).items() if name not in known}
        assert rest == value(without, shape) or (shape, rest) == ("classifier_shape", {"dropout_rate": 0.5})


def is_plain(content: Any) -> bool:
    """No expression, reference or component."""
    if isinstance(content, (dict, list)):
        return "_target_" not in content and all(
            map(is_plain, content.values() if isinstance(content, dict) else content)
        )
    return not (isinstance(content, str) and content.startswith(("$", "@", "%")))


@pytest.mark.parametrize(("stage", "file"), [("autoencoder", "autoencoder"), ("unconditional", "unet_unconditional")])
def test_the_paper_starts_from_published_weights(stage: str, file: str) -> None:
    with refused(f"Give --pretrained sd15/{file}.safetensors"):
        value(composed(f"train_{stage}", "small", "paper"), "pretrained")
    assert value(composed(f"train_{stage}", "small", "paper", pretrained="mine.safetensors"), "pretrained")


def test_one_argument_is_changed_by_its_own_name() -> None:
    """Without dropping the others, as a whole dictionary would; the README's MedGemma line is of this kind."""
    workflow = composed("train_conditional", "small", "paper", **{"conditioner_arguments::llm": "mine"})
    assert value(workflow, "conditioner_arguments") == {**MEDGEMMA, "llm": "mine"}


# --- the paper's, trained


@pytest.fixture(scope="module")
def paper_sizes(gemma_folder: Path, tiny_settings: dict[str, Any]) -> dict[str, Any]:
    """Sizes, and a tiny Gemma 3 with vision in MedGemma's place."""
    vit = {"hidden_size": 16, "num_layers": 1, "mlp_dim": 16, "num_heads": 2}
    unet = {"channels": [8, 16], "norm_num_groups": 4, "num_heads": 2}
    return {
        **{name: tiny_settings[name] for name in ("image_size", "autoencoder_shape")},
        **{f"unet_shape::{name}": size for name, size in unet.items()},
        **{f"classifiers::ViTClassifier::shape::{name}": size for name, size in vit.items()},
        **{"conditioner_arguments::llm": str(gemma_folder), "pretrained": False, "max_epochs": 1, "batch_size": 2},
    }


@pytest.fixture(scope="module")
def paper(
    paper_sizes: dict[str, Any], tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, ConfigWorkflow]]:
    """The output folder of all stages, trained by small.yaml and paper.yaml for an epoch, and what trained them."""
    folder, workflows = tmp_path_factory.mktemp("paper"), {}
    for stage in STAGES:
        options = {"dataset_dir": str(tiny_dataset), "output_dir": str(folder), **paper_sizes}
        workflows[stage] = composed(f"train_{stage}", "small", "paper", **options)
        workflows[stage].run()
    return folder, workflows


def test_the_paper_trains_as_composed(paper: tuple[Path, dict[str, ConfigWorkflow]]) -> None:
    folder, workflows = paper
    loss = value(workflows["autoencoder"], "loss_function")
    assert loss.weights == {"reconstruction": 1, "perceptual": 1, "kl": 1e-6, "alignment": 1, "prediction": 0.2}
    assert (loss.alignment.tau_features, loss.alignment.tau_latents, loss.alignment.spatial) == (16, 1, False)
    assert loss.perceptual.network == "vgg" and loss.perceptual_samples is None
    rates = {"autoencoder": (5e-5, (0.5, 0.9)), "conditional": (2e-5, (0.9, 0.999)), "classifier": (1e-4, (0.9, 0.999))}
    for stage, workflow in workflows.items():
        (group,) = value(workflow, "optimizer").param_groups
        assert group["weight_decay"] == 0.01 and value(workflow, "ema").averaged is None
        assert (group["lr"], group["betas"]) == rates.get(stage, (group["lr"], (0.9, 0.999)))
    denoiser = value(workflows["conditional"], "network")
    assert denoiser.condition_dropout == 0 and denoiser.conditioner.normaliser is None
    assert denoiser.conditioner.prompts.requires_grad, "to the end"
    assert denoiser.conditioner.llm_name == "tiny-gemma" and len(denoiser.conditioner.prompts) == 2
    judge = read_metadata(folder / "models" / "classifier.safetensors")
    assert (judge["network"], judge["config"]["dropout_rate"]) == ("ViTClassifier", 0.5)
    first, second = (
        load_file(folder / "models" / f"unet_{name}.safetensors")["conv_in.conv.weight"]
        for name in ("unconditional", "conditional")
    )
    assert not torch.allclose(first, second[:, :4], atol=0.01), "drawn anew"


def test_its_weights_bring_its_settings(paper: tuple[Path, Any], tiny_dataset: Path, tmp_path: Path) -> None:
    """inference.yaml with no option opens the context as it is and guides by nothing."""
    folder, _ = paper
    options = {"dataset_dir": str(tiny_dataset), "models_dir": str(folder / "models"), "num_runs": 2, "num_steps": 3}
    workflow = composed("inference", output_dir=str(tmp_path), **options)
    workflow.run()
    reader = workflow.network_def.denoiser.conditioner
    assert reader.normaliser is None and workflow.network_def.prediction_type == "epsilon"
    inferer = value(workflow, "inferer")
    assert inferer.guidance_scale == 1.0 and inferer.interval_days is None
    model = load_progression_model(folder / "models")
    case = json.loads((tiny_dataset / "datalist.json").read_text())["test"][0]
    crop = preprocessing(["image"], 32)({"image": str(tiny_dataset / case["baseline"])})["image"][None]
    expected = ProgressionInferer(3, 2)(crop, model, [radiology_report(case["ehr"])])[0]
    samples = nib.load(tmp_path / "predictions" / case["case_id"] / "samples.nii.gz").get_fdata()[:, :, 0]
    np.testing.assert_allclose(from_hu(np.moveaxis(samples, -1, 0)), expected, atol=1.01 / 700)


@pytest.mark.parametrize(
    ("overlays", "options", "message"),
    [
        ((), {"image_size": 64}, "trained on crops of 32 px, but --image_size is 64"),
        ((), {"guidance_scale": 6.0}, "--guidance_scale is 6.0"),
        ((), {"conditioner_arguments::standardise": True}, "standardise is True, but was False in training"),
        (("small",), {}, "components is 12, but was 0 in training"),
    ],
)
def test_what_contradicts_its_weights_is_refused(
    paper: tuple[Path, Any],
    tiny_dataset: Path,
    tmp_path: Path,
    overlays: tuple[str, ...],
    options: dict[str, Any],
    message: str,
) -> None:
    places = {"dataset_dir": str(tiny_dataset), "output_dir": str(tmp_path), "models_dir": str(paper[0] / "models")}
    for name in ("inference", "steering"):
        with refused(message):
            composed(name, *overlays, **places, **options).run()
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_the_judge_brings_its_size(paper: tuple[Path, Any], tiny_dataset: Path, tmp_path: Path) -> None:
    places = {"dataset_dir": str(tiny_dataset), "output_dir": str(tmp_path), "models_dir": str(paper[0] / "models")}
    assert value(composed("evaluate", **places), "crop_size") == 32
    with refused("classifier.safetensors: trained on crops of 32 px, but --image_size is 64"):
        value(composed("evaluate", image_size=64, **places), "dataset")


# --- the released weights'


def test_the_suite_trains_the_released_recipe(tiny_settings: dict[str, Any], tiny_llm: Path, trained: Path) -> None:
    """What makes the networks of the tests small changes nothing of small.yaml but sizes, and where the models are.

    The released ones have no prompts, and guidance 1, beside it.
    """
    sizes = {
        "conditioner_arguments": {"llm", "components"},
        "unet_shape": {"channels", "norm_num_groups", "num_heads"},
        "autoencoder_shape": {"channels"},
    }
    small = yaml.safe_load((CONFIGS / "small.yaml").read_text())
    for name, own in sizes.items():
        ours, theirs = (
            {key: each for key, each in part[name].items() if key not in own} for part in (tiny_settings, small)
        )
        assert ours == theirs
    schedule = {"max_epochs", "batch_size", "warmup_steps", "decay_steps", "val_interval", "prompt_steps"}
    judge = {"classifier_network", "classifier_shape"}
    assert tiny_settings.keys() & small.keys() <= {*sizes, *schedule, *judge, "weights_dtype"}
    assert tiny_settings["classifier_network"] == small["classifier_network"]
    told = read_metadata(trained / "models" / "unet_conditional.safetensors")
    released = read_metadata(BUNDLE / "models" / "unet_conditional.safetensors")
    varied = {"image_size": 32, "pixel_mm": None, "guidance_scale": 6.0}
    assert told["extra"]["sampling"] == {**released["extra"]["sampling"], **varied}
    assert told["config"]["prediction_type"] == released["config"]["prediction_type"] == "v_prediction"
    settings = [
        json.loads((folder / "conditioner" / "settings.json").read_text())
        for folder in (trained / "models", BUNDLE / "models")
    ]
    prompts = {"num_prompt_sets": 2, "prompt_length": 8}
    assert settings[0] == {**settings[1], **prompts, "llm": str(tiny_llm), "components": 2}


@pytest.mark.parametrize(("dropout", "chosen", "published"), [(0.15, 4.0, 4.0), (0.0, 4.0, 1.0)])
def test_guidance_is_published_with_weights_of_which_reports_were_left_out(
    dropout: float, chosen: float, published: float
) -> None:
    workflow = composed("train_conditional", "small", condition_dropout=dropout, guidance_scale=chosen)
    assert value(workflow, "sampling::guidance_scale") == published
    assert value(composed("train_conditional", "small"), "sampling::guidance_scale") == 6.0
    assert value(composed("inference", "small"), "guidance_scale") is None, "the weights' own"


def test_the_settings_reach_what_computes(
    tiny_dataset: Path, trained: Path, tiny_settings: dict[str, Any], gemma_folder: Path, tmp_path: Path
) -> None:
    """The options that read the paper otherwise, all together, in one short training and its inference."""
    shutil.copytree(trained / "models", tmp_path / "models")
    options: dict[str, Any] = {**tiny_settings, "max_epochs": 2, "dataset_dir": str(tiny_dataset)}
    options |= {"output_dir": str(tmp_path), "models_dir": str(tmp_path / "models")}
    options["unet_shape"] = {**tiny_settings["unet_shape"], "beta_schedule": "linear"}
    readings = {"sample_latents": True, "deterministic": True, "keep_interval": 1, "publish_epoch": 1}
    try:
        composed("train_unconditional", "small", **options, **readings).run()
        arguments = {**tiny_settings["conditioner_arguments"], "llm": str(gemma_folder), "end_token": True}
        options |= {"conditioner_arguments": arguments, "report_interval": False}
        workflow = composed("train_conditional", "small", **options, **readings)
        workflow.run()
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert value(workflow, "train::dataset").sampled and not value(workflow, "validate::dataset").sampled
    assert read_metadata(tmp_path / "models" / "unet_conditional.safetensors")["extra"]["epoch"] == 1
    model = load_progression_model(tmp_path / "models")
    assert model.beta_schedule == "linear" and model.denoiser.conditioner.settings["end_token"]
    inference = composed("inference", models_dir=str(tmp_path / "models"), dataset_dir=str(tiny_dataset))
    assert not any("Follow-up after" in item["report"] for item in value(inference, "items"))
