"""The settings of sampling that belong to the weights, as training published them; options may not contradict them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.conditioning.settings import OPTION, arguments_of, read_settings
from scripts.weights.checkpoints import CheckpointError, read_metadata

logger = logging.getLogger(__name__)

ASSUMED: dict[str, Any] = {
    "image_size": 64,
    "pixel_mm": None,
    "report_interval": True,
    "condition_dropout": None,
    "guidance_scale": 6.0,
}
"""What weights of versions before 0.7, which do not say, are taken to have; None: not known."""

ASSUMED_CONTEXT = {"llm": "embedded", "dtype": "of the checkpoint", "standardise": True}
"""Of the conditioner likewise."""


def sampling_settings(
    models_dir: str | Path,
    image_size: int | None = None,
    guidance_scale: float | None = None,
    conditioner_arguments: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a finished model is sampled with.

    Args:
        models_dir: holds ``unet_conditional.safetensors`` and ``conditioner/``.
        image_size, guidance_scale, conditioner_arguments: options; None, or an argument that is left out, takes what
            the weights have.

    Returns:
        ``image_size``; ``guidance_scale``; ``conditioner_arguments``; ``pixel_mm``, the spacing of the training crops,
        None where it varied; ``report_interval``, whether reports state the interval; ``condition_dropout``.

    Raises:
        UserError: an option contradicts the weights.
    """
    folder = Path(models_dir)
    path = folder / "unet_conditional.safetensors"
    told = read_metadata(path, "StableDiffusionUNet")["extra"].get("sampling", {}) if path.is_file() else {}
    if image_size is not None and image_size != told.get("image_size", image_size):
        raise CheckpointError(
            f"{path}: trained on crops of {told['image_size']} px, but --image_size is {image_size}. Leave it out, "
            "since the weights bring it, or train with it."
        )
    if guidance_scale not in (None, 1) and told.get("condition_dropout") == 0:
        raise CheckpointError(
            f"{path}: trained with every report (condition_dropout 0), so they know no image without one to guide away "
            f"from, but --guidance_scale is {guidance_scale}. Use 1, or leave it out."
        )
    options = {"image_size": image_size, "guidance_scale": guidance_scale}
    settings = {**ASSUMED, **told, **{name: value for name, value in options.items() if value is not None}}
    settings["conditioner_arguments"] = arguments_of(folder / "conditioner", conditioner_arguments or {})
    if path.is_file():
        assumed = [name for name, value in options.items() if value is None and name not in told]
        _warn_of_age(folder, assumed, settings)
    return settings


def _warn_of_age(folder: Path, assumed: list[str], settings: Mapping[str, Any]) -> None:
    """Warns of weights that do not bring their settings, and says which are assumed."""
    taken = {name: settings[name] for name in assumed}
    if (folder / "conditioner").is_dir() and read_settings(folder / "conditioner") is None:
        given = settings["conditioner_arguments"]
        taken |= {name: value for name, value in ASSUMED_CONTEXT.items() if name not in given}
    if taken:
        _warn_once(
            f"{folder}: these weights are of a version before 0.7 and do not bring their settings; assumed: "
            + ", ".join(f"{name} {value}" for name, value in taken.items())
            + ". If they were trained otherwise, say so with --image_size, --guidance_scale (1 unless reports were "
            f"left out in training) and {OPTION}NAME."
        )


@cache
def _warn_once(message: str) -> None:
    """A warning, once a process."""
    logger.warning(message)
