"""What MONAI Deploy's bundle operator does with a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from monai.bundle import ConfigParser


def deploy_parser(bundle: Path) -> ConfigParser:
    """How the operator reads a bundle's folder."""
    parser = ConfigParser()
    parser.read_meta(f=json.loads((bundle / "configs" / "metadata.json").read_text()))
    parser.read_config([bundle / "configs" / "inference.yaml"])
    parser.parse()
    return parser


def deploy_network(bundle: Path, parser: ConfigParser) -> torch.nn.Module:
    """How the operator loads a folder's ``model.pt``: the configured network takes the state dict, strictly."""
    network = parser.get_parsed_content("network")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", map_location="cpu"), strict=True)
    return network.eval()
