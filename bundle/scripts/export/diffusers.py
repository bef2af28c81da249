"""Export to a folder that diffusers' ``from_pretrained`` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from scripts.files import whole_folder, write_json, write_tensors
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import SCHEDULE, StableDiffusionUNet
from scripts.weights.checkpoints import CheckpointError, load_network
from scripts.weights.key_maps import DIFFUSERS, key_maps_of
from scripts.weights.published import FOLDERS


def export_diffusers(models_dir: str | Path, folder: str | Path, unet: str = "unet_conditional") -> None:
    """Writes the folders ``vae``, ``unet`` and ``scheduler`` of a diffusers pipeline, atomically.

    diffusers' networks then compute the same. Images have one grey channel, ``scaling_factor`` is the latent scale, and
    the U-Net's last input channels take the baseline's latent. diffusers has no counterpart of
    :class:`scripts.conditioning.ReportConditioner`, which gives the context.

    Args:
        models_dir: has the weights files.
        folder: to write; it must not exist.
        unet: the U-Net's file in ``models_dir``, without ``.safetensors``.
    """
    models_dir, folder = Path(models_dir), Path(folder)
    if folder.exists():
        raise CheckpointError(f"{folder}: is there already. Remove it, or name another folder.")
    networks = {
        "autoencoder": load_network(models_dir / "autoencoder.safetensors", "StableDiffusionAutoencoder"),
        "unet": load_network(models_dir / f"{unet}.safetensors", "StableDiffusionUNet"),
    }
    with whole_folder(folder) as new:
        for part, network in networks.items():
            _write(new / FOLDERS[part], network)
        write_json(new / "scheduler" / "scheduler_config.json", scheduler_config(networks["unet"]), indent=2)
    Console().print(f"Wrote {folder}: vae, unet and scheduler for diffusers", soft_wrap=True)


def diffusers_config(network: Any) -> dict[str, Any]:
    """diffusers' ``config.json`` of one of our networks."""
    config = network.config
    levels = len(config["channels"])
    shared = {
        "block_out_channels": config["channels"],
        "layers_per_block": config["num_res_blocks"],
        "norm_num_groups": config["norm_num_groups"],
        "act_fn": "silu",
    }
    if isinstance(network, StableDiffusionAutoencoder):
        return {
            "_class_name": "AutoencoderKL",
            "in_channels": 1,
            "out_channels": 1,
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "latent_channels": config["latent_channels"],
            "scaling_factor": float(network.latent_scale),
            **shared,
        }
    assert isinstance(network, StableDiffusionUNet)
    return {
        "_class_name": "UNet2DConditionModel",
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "down_block_types": ["CrossAttnDownBlock2D"] * (levels - 1) + ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * (levels - 1),
        "attention_head_dim": config["num_heads"],  # diffusers' name for the number of heads
        "cross_attention_dim": config["context_dim"],
        "norm_eps": config["norm_eps"],
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        **shared,
    }


def scheduler_config(unet: Any) -> dict[str, Any]:
    """diffusers' ``scheduler_config.json`` of our DDIM sampler, with prediction type and schedule of ``unet``."""
    return {
        "_class_name": "DDIMScheduler",
        **SCHEDULE,
        "beta_schedule": unet.beta_schedule,
        "prediction_type": unet.prediction_type,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def _write(folder: Path, network: Any) -> None:
    """Writes one network's configuration and weights by diffusers' names."""
    write_json(folder / "config.json", diffusers_config(network), indent=2)
    state: dict[str, torch.Tensor] = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in key_maps_of(network)[DIFFUSERS].items()}
    write_tensors(folder / "diffusion_pytorch_model.safetensors", tensors, metadata={"format": "pt"})
