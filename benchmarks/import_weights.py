"""How long does it take, and how much memory, to import Stable Diffusion 1.5 at full size?

    python benchmarks/import_weights.py
    python benchmarks/import_weights.py --averaged    # a file of both kinds of weights, 7.7 GB, as v1-5-pruned.ckpt is

Writes a file of Stable Diffusion 1.5's size and names with random weights to a temporary folder, and runs
``import_weights.yaml`` on it as a user does. "Anonymous" is memory other than pages of mapped files, which
"peak" counts too. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import typer
from rich.console import Console
from rich.table import Table

import data_prep  # noqa: F401 (puts the bundle on the path)
from scripts.networks.autoencoder import StableDiffusionAutoencoder
from scripts.networks.unet import StableDiffusionUNet
from scripts.weights import key_maps

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"


def write_checkpoint(path: Path, averaged: bool) -> None:
    """Random weights in CompVis' layout, three colours, context 768."""
    with torch.device("meta"):
        networks = StableDiffusionAutoencoder(), StableDiffusionUNet(context_dim=768)
    state = {}
    for network in networks:
        own = network.state_dict()
        for layout in (key_maps.COMPVIS, *((key_maps.COMPVIS_EMA,) if averaged else ())):
            for name, theirs in key_maps.key_maps_of(network).get(layout, {}).items():
                state[theirs] = torch.empty(own[name].shape).uniform_(-0.1, 0.1)
    first, last = "first_stage_model.encoder.conv_in.weight", "first_stage_model.decoder.conv_out."
    state[first] = state[first].repeat(1, 3, 1, 1)
    state |= {name: tensor.repeat(3, *[1] * (tensor.ndim - 1)) for name, tensor in state.items() if last in name}
    torch.save({"state_dict": state}, path)


def memory(pid: int) -> dict[str, int]:
    """``VmHWM`` (peak) and ``RssAnon`` of a process, in kB."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {key: int(value.split()[0]) for key, value in (line.split(":", 1) for line in lines) if "kB" in value}


def main(averaged: bool = False) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "sd.ckpt"
        write_in_child = subprocess.run([sys.executable, __file__, "--write", str(source), str(int(averaged))])
        write_in_child.check_returncode()
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
        command += ["--config_file", str(BUNDLE / "configs" / "import_weights.yaml")]
        command += ["--source", str(source), "--models_dir", f"{folder}/models"]
        start = time.perf_counter()
        process = subprocess.Popen(command)
        peaks = {"VmHWM": 0, "RssAnon": 0}

        def watch() -> None:
            while process.poll() is None:
                now = memory(process.pid)
                for key in peaks:
                    peaks[key] = max(peaks[key], now.get(key, 0))
                time.sleep(0.1)

        watcher = threading.Thread(target=watch)
        watcher.start()
        if process.wait() != 0:
            raise typer.Exit(1)
        seconds = time.perf_counter() - start
        watcher.join()
        table = Table("file GB", "seconds", "peak GB", "of it anonymous GB", "threads")
        table.add_row(
            f"{source.stat().st_size / 1e9:.1f}",
            f"{seconds:.0f}",
            f"{peaks['VmHWM'] / 1e6:.1f}",
            f"{peaks['RssAnon'] / 1e6:.1f}",
            str(os.cpu_count()),
        )
        Console().print(table)


if __name__ == "__main__":
    if "--write" in sys.argv:
        write_checkpoint(Path(sys.argv[2]), bool(int(sys.argv[3])))
    else:
        typer.run(main)
