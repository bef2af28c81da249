"""Whether the parts of a finished model belong together: autoencoder, U-Net and conditioner of one training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.conditioning.settings import arguments_of
from scripts.fingerprint import digest_weights
from scripts.weights.checkpoints import CheckpointError, read_metadata

PARTS = {
    "autoencoder": "autoencoder.safetensors",
    "unet_conditional": "unet_conditional.safetensors",
    "conditioner": "conditioner",
}
"""The files and folders that generate a follow-up, by name."""


def digest_parts(models_dir: str | Path) -> dict[str, str]:
    """The digest of each of :data:`PARTS` that a folder has."""
    folder = Path(models_dir)
    return {name: digest_weights(folder / file) for name, file in PARTS.items() if (folder / file).exists()}


def check_parts(models_dir: str | Path, llm: Any = "embedded") -> None:
    """Refuses parts that were not trained with each other, as far as the U-Net's record says.

    Weights of versions before 0.7 have no record and are taken as they are.

    Args:
        models_dir: holds :data:`PARTS`.
        llm: the language model that the conditioner is opened with.

    Raises:
        CheckpointError: names the part, what it is and what the U-Net was trained with.
    """
    from scripts.conditioning.identity import language_model_identity  # imports transformers

    folder = Path(models_dir)
    unet, autoencoder = (folder / PARTS[name] for name in ("unet_conditional", "autoencoder"))
    record = read_metadata(unet)["extra"].get("record")
    if not record:
        return
    together = "Put together the files of one training, or train the conditional stage again."
    found = digest_parts(folder)
    trained_with = {"autoencoder": record["built_on"].get("autoencoder"), "conditioner": record.get("conditioner")}
    for name, was in trained_with.items():
        if was is not None and name in found and found[name] != was:
            raise CheckpointError(
                f"{folder / PARTS[name]}: not the {name} that {unet.name} was trained with, whose digest is "
                f"{was[:12]}; this one's is {found[name][:12]}. {together}"
            )
    size, below = record["settings"].get("image_size"), image_size(autoencoder) if "autoencoder" in found else None
    if None not in (size, below) and size != below:
        raise CheckpointError(
            f"{autoencoder}: trained on crops of {below} px, but {unet.name} on crops of {size} px. {together}"
        )
    was, now = record["language_model"], language_model_identity(llm)
    if was["digest"] and now["digest"] and was["digest"] != now["digest"]:
        raise CheckpointError(
            f"{folder / PARTS['conditioner']}: trained with the language model {was['name']} ({was['digest'][:12]}), "
            f"opened with {now['name']} ({now['digest'][:12]}). Give the one of its training, or train again."
        )


def conditioner_arguments(
    given: Mapping[str, Any], pretrained: str | Path | None = None, seed: int | None = None
) -> dict[str, Any]:
    """What a training opens its conditioner with: the arguments given, or those of the finished model it goes on from.

    Args:
        given: arguments of :class:`scripts.conditioning.ReportConditioner`.
        pretrained: ``models_dir`` of that model; ``given`` then may say where its language model lies now.
        seed: of the training, by which prompts begin, unless ``given`` has another; a finished model brings its own.

    Raises:
        UserError: an argument contradicts the model's, the language model is another one, or the model's own parts were
            not trained with each other.
    """
    if pretrained is None:
        return {**({} if seed is None else {"seed": seed}), **given}
    arguments = arguments_of(Path(pretrained) / PARTS["conditioner"], given)
    check_parts(pretrained, arguments.get("llm", "embedded"))
    return arguments


def image_size(path: str | Path) -> int | None:
    """The side in pixels of the crops that weights were trained on; None where their file does not say."""
    record = read_metadata(path)["extra"].get("record") or {}
    return record.get("settings", {}).get("image_size")
