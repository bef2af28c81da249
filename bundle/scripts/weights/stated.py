"""What files say of a network that its tensors do not show: its heads, what it predicts, the noise that it learnt from.

Weights of this bundle carry their network's arguments. diffusers writes ``config.json`` beside a network's weights and
``scheduler/scheduler_config.json`` beside the U-Net's folder. Other files say nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scripts.files import read_mapping
from scripts.networks.unet import BETA_SCHEDULES, PREDICTION_TYPES, SCHEDULE
from scripts.weights.checkpoints import CheckpointError, read_metadata
from scripts.weights.published import neighbouring_config, weights_file

logger = logging.getLogger(__name__)

UNSEEN = {
    "autoencoder": ("norm_num_groups",),
    "unet": ("num_heads", "norm_num_groups", "norm_eps", "prediction_type", "beta_schedule"),
}
"""Arguments of our networks that change no tensor's name or shape."""

TRAINABLE = ("prediction_type", "beta_schedule")
"""Those of :data:`UNSEEN` that a training which starts from the weights may change."""

_CLASSES = {
    "autoencoder": ("AutoencoderKL", ("StableDiffusionAutoencoder", "LatentAutoencoder")),
    "unet": ("UNet2DConditionModel", ("StableDiffusionUNet",)),
}
"""Of each network, diffusers' class and ours."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "autoencoder": {"norm_num_groups": 32},
    "unet": {"norm_num_groups": 32, "norm_eps": 1e-5, "attention_head_dim": 8},
    "scheduler": {"num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02}
    | {"beta_schedule": "linear", "prediction_type": "epsilon"},
}
"""What diffusers has where its file is silent."""

_FIXED: dict[str, dict[str, Any]] = {
    "autoencoder": {"act_fn": "silu", "shift_factor": None, "latents_mean": None},
    "unet": {"act_fn": "silu", "center_input_sample": False, "flip_sin_to_cos": True, "freq_shift": 0}
    | {"downsample_padding": 1, "mid_block_scale_factor": 1},
    "scheduler": SCHEDULE | {"trained_betas": None, "rescale_betas_zero_snr": False},
}
"""Settings of diffusers that no tensor shows either, and the only value that our networks compute with."""


def agreed(arguments: Mapping[str, Any], source: str | Path, part: str, train: bool = False) -> dict[str, Any]:
    """The arguments of a network that takes the weights of ``source``, completed by what is said of these.

    Args:
        arguments: of the network; what they leave out of :data:`UNSEEN` is taken from the files.
        source, part: as of :func:`scripts.weights.open_weights`.
        train: the network is trained on, so that ``arguments`` may differ in :data:`TRAINABLE`; a warning says so.

    Raises:
        CheckpointError: ``arguments`` contradict the files, or no argument gives what these say.
    """
    stated = stated_arguments(source, part)
    differing = [name for name in stated if arguments.get(name, stated[name]) != stated[name]]
    faults = {name: f"{name} {stated[name]!r}, not {arguments[name]!r}" for name in differing}
    if wrong := [fault for name, fault in faults.items() if not (train and name in TRAINABLE)]:
        raise CheckpointError(
            f"{source}: its network has {'; '.join(wrong)}. Leave that out of {part}_shape, or give other weights."
        )
    if faults:
        logger.warning(
            "%s: its network has %s; training starts from it all the same", source, "; ".join(faults.values())
        )
    return {**stated, **arguments}


def stated_arguments(source: str | Path, part: str) -> dict[str, Any]:
    """The arguments of :data:`UNSEEN` that the weights' own file, or diffusers' files beside it, hold."""
    file = weights_file(source, part)
    theirs, ours = _CLASSES[part]
    with suppress(CheckpointError):  # of another project
        metadata = read_metadata(file)
        config = {"beta_schedule": "scaled_linear", **metadata["config"]}  # which versions before 0.7 do not store
        return {name: config[name] for name in UNSEEN[part] if name in config and metadata["network"] in ours}
    stated: dict[str, Any] = {}
    path, config = file.with_name("config.json"), _DEFAULTS[part] | neighbouring_config(file, part)
    if config.get("_class_name") == theirs:
        _refuse_others(path, config, _FIXED[part], "Our network has no such setting: give other weights.")
        heads = {"num_heads": _one_number(path, config)} if part == "unet" else {}
        stated = {**heads, **{name: config[name] for name in UNSEEN[part] if name in config}}
    return stated | (_of_scheduler(file) if part == "unet" else {})


def _one_number(path: Path, config: Mapping[str, Any]) -> int:
    """The number of attention heads, which diffusers may give for each level."""
    heads = config.get("num_attention_heads") or config["attention_head_dim"]
    levels = set(heads) if isinstance(heads, list) else {heads}
    if len(levels) > 1:
        raise CheckpointError(f"{path}: has {heads} attention heads a level, ours one number. Give other weights.")
    return levels.pop()


def _of_scheduler(file: Path) -> dict[str, str]:
    """What a U-Net predicts and the schedule of its noise, by the scheduler of its pipeline."""
    pipeline = file.parent.parent if file.with_name("config.json").is_file() else file.parent
    path = pipeline / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return {}
    config = _DEFAULTS["scheduler"] | read_mapping(path, CheckpointError)
    remedy = "The U-Net learnt from noise that is not added here: give other weights, or remove the file to train on."
    _refuse_others(path, config, _FIXED["scheduler"], remedy)
    for name, known in {"prediction_type": PREDICTION_TYPES, "beta_schedule": BETA_SCHEDULES}.items():
        if config[name] not in known:
            raise CheckpointError(f"{path}: {name} is {config[name]!r}, expected {' or '.join(known)}. {remedy}")
    return {"prediction_type": config["prediction_type"], "beta_schedule": config["beta_schedule"]}


def _refuse_others(path: Path, config: Mapping[str, Any], expected: Mapping[str, Any], remedy: str) -> None:
    """Refuses a configuration of diffusers that has another value of one of the names in ``expected``."""
    values = {name: config.get(name, ours) for name, ours in expected.items()}
    faults = [
        f"{name} is {value!r}, expected {expected[name]!r}" for name, value in values.items() if value != expected[name]
    ]
    if faults:
        raise CheckpointError(f"{path}: {'; '.join(faults)}. {remedy}")
