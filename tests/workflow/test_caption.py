"""What the caption of Table 1 says of a size is what its configurations do."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import yaml

from scripts.comparators import ddl_cxr, imageflownet
from scripts.comparators.imageflownet import ImageFlowNet
from scripts.conditioning.conditioner import ReportConditioner
from scripts.conditioning.language_models import EMBEDDED_NAME
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from tests.workflow.plans import PLAN, every_plan

PERCEPTUAL = "compare_mcwgan_perceptual"

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


def test_the_caption_of_every_size_says_which_language_model_reads() -> None:
    """No overlay names another than the embedded one."""
    assert f"read reports by {EMBEDDED_NAME.partition('.')[0]} (" in PLAN["caption"]
    assert not PLAN["sizes"]["full"]["overlays"]
    texts = [yaml.safe_load((CONFIGS / f"compare_{name}.yaml").read_text())["text"] for name in ("sd15", "flux")]
    assert texts == [{"llm": "embedded"}] * 2
    assert inspect.signature(ReportConditioner).parameters["llm"].default == "embedded"
    assert yaml.safe_load((CONFIGS / "small.yaml").read_text())["conditioner_arguments"]["llm"] == "embedded"


def test_the_caption_says_that_crops_are_turned_and_no_more() -> None:
    """Where images are made; what classifies has further transforms at the small size."""
    made = {path.stem: path.read_text() for path in CONFIGS.glob("*.yaml")}
    trained = [configs for each in PLAN["methods"].values() for configs in each["stages"].values()]
    stages = {configs[0] for configs in trained if isinstance(configs, list)}
    turns = {tuple(yaml.safe_load(made[name])["rotations"]) for name in stages}
    assert turns == {(0, 45, 90, 135, 180)}
    assert not [name for name, text in made.items() if name.startswith("compare_") and "\nrotations:" in text]
    assert [name for name, text in made.items() if "@augmentation" in text] == ["train_classifier"]
    assert "five turns of the crops (0, 45, 90, 135 and 180 degrees) as its one augmentation" in PLAN["caption"]
    for module in (imageflownet, ddl_cxr):
        (marked,) = [each for each in str(module.__doc__).split("[R]") if "five turns" in each]
        assert "published: " in marked.partition("five turns")[2]


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
        f"(published: {published}, {theirs['max_epochs']}), and the average of its U-Net decays with "
        f"{ours['ema_decay']} (published: {theirs['ema_decay']})"
    ) in caption
    assert ddl["ema::module"] == "$@network_def.unet"
    loss, context = small["loss"], small["conditioner_arguments"]
    assert f"weighs {loss['perceptual_weight']} and sees {loss['perceptual_samples']} samples" in caption
    assert f"({context['components']} components of a standardised context" in caption
    assert context["components_by"] == "record" and "those that tell the record" in caption


def test_the_caption_says_how_sd15_and_the_autoencoders_depart() -> None:
    """By small.yaml, of which the source's recipe knows nothing."""
    caption, small = PLAN["sizes"]["small"]["caption"], yaml.safe_load((CONFIGS / "small.yaml").read_text())
    assert small["unet_shape"]["prediction_type"] == "v_prediction" and "SD1.5 predicts v (published: noise)" in caption
    assert f"{small['condition_dropout']:.0%} of its reports".replace("%", " %") in caption
    published, decay = yaml.safe_load((CONFIGS / "train_autoencoder.yaml").read_text())["betas"], small["ema_decay"]
    assert f"AdamW with betas {small['betas'][0]} and {small['betas'][1]}" in caption
    assert f"DDL-CXR's: Adam, {published[0]} and {published[1]})" in caption
    assert decay.endswith("get('ema_decay', 0.995)") and "averaged, with decay 0.995" in caption
    arguments = inspect.signature(StableDiffusionAutoencoder).parameters
    assert "dropout" not in arguments and "has neither dropout nor tanh" in PLAN["caption"]


def test_the_caption_says_how_adversarial_autoencoders_depart() -> None:
    small = yaml.safe_load((CONFIGS / "small.yaml").read_text())["schedules"]["autoencoder"]
    sd15, ddl_cxr = (
        yaml.safe_load((CONFIGS / f"compare_{name}_autoencoder.yaml").read_text()) for name in ("sd15", "ddl_cxr")
    )
    assert sd15["sizes"] == ddl_cxr["sizes"] and sd15["schedule"] == ddl_cxr["schedule"]
    assert sd15["adversary"]["start"] == ddl_cxr["adversary"]["start"] == "$min(@sizes[@size]['start'], @steps // 3)"
    first, second = (
        f"{each['learning_rate']:g}".replace("e-0", "e-") + f", {each['batch_size']}, {each['max_epochs']}"
        for each in (sd15["published"], ddl_cxr["published"])
    )
    assert (
        f"Autoencoders of SD1.5 and DDL-CXR have rate {small['learning_rate']:g}, batch {small['batch_size']}, "
        f"{small['max_epochs']} epochs (published: {first} and {second}), and discriminators from step "
        f"{sd15['sizes']['small']['start']:,}, or a third of the steps if that is less "
        f"(published: from step {sd15['sizes']['full']['start']:,})"
    ) in PLAN["sizes"]["small"]["caption"]


def test_the_caption_says_who_has_how_many_epochs_of_diffusion() -> None:
    caption, small = PLAN["sizes"]["small"]["caption"], yaml.safe_load((CONFIGS / "small.yaml").read_text())
    before, last = (small["schedules"][stage]["max_epochs"] for stage in ("unconditional", "conditional"))
    with_both = [name for name, each in PLAN["methods"].items() if "unet_unconditional" in each["stages"]]
    assert with_both == ["namd", "plain", "sd15"]
    assert f"SD1.5 have {before} epochs of an unconditional stage before the {last} of their last" in caption
    for name in ("flux", "ddl_cxr", "corrflownet"):
        made = yaml.safe_load((CONFIGS / f"compare_{name}.yaml").read_text())
        assert (made.get("schedules") or made["sizes"])["small"]["max_epochs"] == last
    assert f"Flux, DDL-CXR and CorrFlowNet have the {last} alone" in caption


def test_the_caption_says_what_reads_mcwgans_images() -> None:
    """The same class as the judge's, by the same schedule, but for what its overlay changes."""
    small, overlay = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in ("small", PERCEPTUAL))
    assert small["classifier_network"] == overlay["classifier_network"] == "ResNetClassifier"
    judge = small["classifiers"]["ResNetClassifier"]["shape"]
    assert overlay["sizes"]["small"]["channels"] == judge["channels"] and "blocks" not in judge
    assert not {"schedules", "max_epochs", "learning_rate", "augmentation"} & overlay.keys()
    assert overlay["seed"] != PLAN["judge_seed"]
    caption = PLAN["sizes"]["small"]["caption"]
    assert "McWGAN's perceptual ResNet is of the judge's class and recipe, with another depth and seed" in caption
