"""Our networks for users of diffusers: a folder that ``from_pretrained`` opens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save_file

from scripts.checkpoints import CheckpointError, load_network, whole_folder
from scripts.diffusion import SCHEDULE
from scripts.layouts import DIFFUSERS, layouts
from scripts.networks import StableDiffusionAutoencoder, StableDiffusionUNet
from scripts.weight_files import FOLDERS


def export_diffusers(models_dir: str | Path, folder: str | Path, unet: str = "unet_conditional") -> None:
    """Writes ``vae``, ``unet`` and ``scheduler`` as a diffusers pipeline has them, whole or not at all.

    diffusers' networks give the same numbers: one grey channel in and out, ``scaling_factor`` our latent scale,
    the U-Net's context as wide as the conditioner's (:class:`scripts.conditioning.ReportConditioner`, which diffusers
    has no counterpart of), the baseline's latent in the last input channels.

    Args:
        unet: the U-Net's file in ``models_dir``, without its ending.
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
        (new / "scheduler").mkdir()
        _write_json(new / "scheduler" / "scheduler_config.json", scheduler_config(networks["unet"]))
    Console().print(f"Wrote {folder}: vae, unet and scheduler for diffusers", soft_wrap=True)


def diffusers_config(network: Any) -> dict[str, Any]:
    """diffusers' ``config.json`` of a network of ours."""
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
    """diffusers' ``scheduler_config.json`` of our sampler, for what this network predicts."""
    return {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": SCHEDULE["num_train_timesteps"],
        "beta_start": SCHEDULE["beta_start"],
        "beta_end": SCHEDULE["beta_end"],
        "beta_schedule": "scaled_linear",
        "prediction_type": unet.prediction_type,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }


def _write(folder: Path, network: Any) -> None:
    folder.mkdir(parents=True)
    _write_json(folder / "config.json", diffusers_config(network))
    state: dict[str, torch.Tensor] = network.state_dict()
    tensors = {theirs: state[ours].contiguous() for ours, theirs in layouts(network)[DIFFUSERS].items()}
    file = folder / "diffusion_pytorch_model.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    file.chmod(0o644)  # safetensors makes files that only their owner reads


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
