"""What the caption of Table 1 says of a size is what its configurations do."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import yaml

from scripts.comparators.imageflownet import ImageFlowNet
from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import EMBEDDED_NAME
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from tests.workflow.plans import PLAN, every_plan

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"


@every_plan
def test_the_caption_says_which_guidance_a_size_has(plan: dict[str, Any]) -> None:
    """Of what small.yaml gives to NAMD, its ablation and SD1.5 alone."""
    guided = [
        name
        for name, method in plan["methods"].items()
        if list(method["stages"].values())[-1] in (["train_conditional"], ["train_conditional", "compare_sd15"])
    ]
    assert guided == ["namd", "plain", "sd15"]
    given = yaml.safe_load((CONFIGS / "small.yaml").read_text())["guidance_scale"]
    assert "6.0" in given and "Guidance 6 of NAMD" in PLAN["sizes"]["small"]["caption"]
    assert all("Guidance" not in PLAN["sizes"][size]["caption"] for size in ("demo", "full"))


def test_the_caption_of_the_published_size_says_which_language_model_reads() -> None:
    """No overlay names another than the embedded one."""
    full = PLAN["sizes"]["full"]
    assert not full["overlays"] and f"read reports by {EMBEDDED_NAME.partition('.')[0]} (" in full["caption"]
    texts = [yaml.safe_load((CONFIGS / f"compare_{name}.yaml").read_text())["text"] for name in ("sd15", "flux")]
    assert texts == [{"llm": "embedded"}] * 2
    assert inspect.signature(ReportConditioner).parameters["llm"].default == "embedded"


def test_the_caption_says_which_settings_are_not_the_sources() -> None:
    caption = PLAN["sizes"]["small"]["caption"]
    small, flow, ddl = (
        yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        for name in ("small", "compare_imageflownet", "compare_ddl_cxr")
    )
    ours, theirs = flow["sizes"]["small"], flow["sizes"]["full"]
    steps = inspect.signature(ImageFlowNet).parameters["num_steps"].default
    assert (
        f"ImageFlowNet has rate {ours['learning_rate']:g}, batch {ours['batch_size']}, {ours['max_epochs']} epochs and "
        f"{ours['shape']['num_steps']} steps (published: {theirs['learning_rate']:.4f}, {theirs['batch_size']}, "
        f"{theirs['max_epochs']}, {steps})"
    ) in caption
    ours, theirs = ddl["schedules"]["small"], ddl["schedules"]["full"]
    published = f"{theirs['learning_rate']:g}".replace("e-0", "e-")
    assert (
        f"DDL-CXR rate {ours['learning_rate']:g} and {ours['max_epochs']} epochs, over which its third loss grows "
        f"(published: {published}, {theirs['max_epochs']})"
    ) in caption
    loss, context = small["loss"], small["conditioner_arguments"]
    assert f"weighs {loss['perceptual_weight']} and sees {loss['perceptual_samples']} samples" in caption
    assert f"({context['components']} components of a standardised context" in caption
    assert context["components_by"] == "record" and "those that tell the record" in caption


def test_the_caption_says_how_sd15_departs() -> None:
    """By small.yaml, of which the source's recipe knows nothing."""
    caption, small = PLAN["sizes"]["small"]["caption"], yaml.safe_load((CONFIGS / "small.yaml").read_text())
    assert small["unet_shape"]["prediction_type"] == "v_prediction" and "SD1.5 predicts v (published: noise)" in caption
    assert f"{small['condition_dropout']:.0%} of its".replace("%", " %") in caption
    arguments = inspect.signature(StableDiffusionAutoencoder).parameters
    assert "dropout" not in arguments and "has neither dropout nor tanh" in PLAN["caption"]
    assert "betas are 0.9 and 0.99 (published: 0.5 and 0.9)" in caption and small["betas"] == [0.9, 0.99]
