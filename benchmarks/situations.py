"""Situations in which a user got a wrong result with exit status 0, met in another commit and in this one.

    python benchmarks/situations.py CHECKOUT_OF_8d44515

Every step is a command of ``python -m monai.bundle`` in a process of its own, on ellipses, with tiny networks. Prints a
row a situation: how the last command ended there and here. The commands' names of options are those of both commits.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import TINY, Side, prepared, write_yaml

ROOT = Path(__file__).resolve().parents[1]
OPENED = """
import sys
import scripts.diffusion
model = scripts.diffusion.load_progression_model(sys.argv[1], llm=sys.argv[2])
conditioner = next(part for part in model.modules() if type(part).__name__ == "ReportConditioner")
print(getattr(conditioner, "standardise", getattr(conditioner, "normaliser", None) is not None))
"""
"""Prints whether a model's contexts are standardised once it is open."""

STARTS = """
import scripts.diffusion
from importlib import import_module
name = "scripts.diffusion.schedules" if hasattr(scripts.diffusion, "__path__") else "scripts.diffusion"
print(int(import_module(name).sampling_scheduler(334).timesteps[0]))
"""
"""Prints the noise that sampling starts from."""

SITUATIONS: dict[str, Callable[[Side], str]] = {}


def situation(name: str) -> Callable[[Callable[[Side], Any]], None]:
    """Registers a situation; what it returns is a command's end, or a verdict in words."""

    def register(act: Callable[[Side], Any]) -> None:
        SITUATIONS[name] = act

    return register


def verdict(end: Any) -> str:
    """How a command ended: its status, and the last line of a refusal."""
    if isinstance(end, str):
        return end
    status, output = end
    lines = [line for line in output.splitlines() if line.strip()]
    shown = "traceback" if "Traceback" in output else "one line"
    return f"status {status}" + (f", {shown}: {lines[-1][:160]}" if status else "")


@situation("resume: another cohort in the same folder")
def _(side: Side) -> Any:
    return side.train("autoencoder", side.copied("a"), "--max_epochs", 3, data="other")


def _resumed(*options: Any) -> Callable[[Side], Any]:
    return lambda side: side.train("autoencoder", side.copied("a"), *options)


situation("resume: another learning rate")(_resumed("--max_epochs", 3, "--learning_rate", 0.0005))
situation("resume: another batch size")(_resumed("--max_epochs", 3, "--batch_size", 3))
situation("resume: another seed")(_resumed("--max_epochs", 3, "--seed", 24))
situation("resume: another weight of a loss, of a finished stage")(_resumed("--loss::alignment_weight", 0.5))


@situation("resume: another autoencoder under the U-Net")
def _(side: Side) -> Any:
    shutil.copy(side.work / "second" / "models" / "autoencoder.safetensors", side.work / side.copied("a") / "models")
    return side.train("conditional", "a", "--max_epochs", 3)


@situation("a truncated last.pt")
def _(side: Side) -> Any:
    last = side.work / side.copied("a") / "autoencoder" / "last.pt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    return side.train("autoencoder", "a", "--max_epochs", 3)


@situation("a loss that becomes NaN")
def _(side: Side) -> Any:
    status, output = side.train("autoencoder", "nan", "--learning_rate", 1e15, "--max_epochs", 3)
    published = (side.work / "nan" / "models" / "autoencoder.safetensors").exists()
    return f"{verdict((status, output))}; {'published' if published else 'nothing published'}"


@situation("two jobs in one folder")
def _(side: Side) -> Any:
    if not (child := os.fork()):
        other = Side(side.root, side.work / "elsewhere")
        other.work.mkdir(exist_ok=True)
        files = [side.root / "bundle" / "configs" / "train_autoencoder.yaml", side.work / "tiny.yaml"]
        places = ["--dataset_dir", side.work / "data", "--output_dir", side.work / "twice", "--max_epochs", 2000]
        other._become(
            ("run", "training", "--config_file", str([str(path) for path in files]), *places), other.work / "l"
        )
    deadline = time.monotonic() + 120
    while not (side.work / "twice" / "autoencoder" / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.5)
    end = side.train("autoencoder", "twice", "--max_epochs", 3)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return end


@situation("a finished stage called again, then inference: cases generated anew")
def _(side: Side) -> Any:
    side.infer(side.copied("a"), *side.sized())
    folder = side.work / "a" / "predictions"
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/samples.nii.gz")}
    for fresh in (Side(side.root, side.work, fresh=True),) * 3:
        fresh.train("conditional", "a")
    side.infer("a", *side.sized())
    after = {path: path.stat().st_mtime_ns for path in folder.glob("*/samples.nii.gz")}
    return f"{sum(before[path] != after[path] for path in before)} of {len(before)}"


@situation("inference: U-Net over another autoencoder")
def _(side: Side) -> Any:
    shutil.copy(side.work / "second" / "models" / "autoencoder.safetensors", side.work / side.copied("a") / "models")
    return side.infer("a", *side.sized())


@situation("inference: conditioner over another language model of the same name")
def _(side: Side) -> Any:
    return side.infer(side.copied("a"), *side.sized("other/llm"))


@situation("inference: the size of the crops not given, 64 for networks of 32")
def _(side: Side) -> Any:
    status, output = side.infer(side.copied("a"), *side.sized()[2:])
    sizes = {json.loads(path.read_text())["image_size"] for path in (side.work / "a" / "predictions").glob("*/*.json")}
    return f"status {status}, sampled at {sorted(sizes)}" if sizes else verdict((status, output))


@situation("inference: standardise: false in training, not given here")
def _(side: Side) -> Any:
    side.copied("a")
    for name in ("conditional", "models/conditioner", "models/unet_conditional.safetensors"):
        path = side.work / "a" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    side.train("conditional", "a", "--conditioner_arguments::standardise", False)
    side.infer("a", *side.sized())
    command = [sys.executable, "-c", OPENED, str(side.work / "a" / "models"), str(side.work / "llm")]
    standardised = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    path = next((side.work / "a" / "predictions").glob("*/provenance.json"))
    made_by = json.loads(path.read_text())
    guidance = made_by.get("guidance", made_by.get("guidance_scale"))
    return f"opened with standardise: {standardised}, guidance {guidance:g}"


@situation("inference: an option that contradicts the weights (components)")
def _(side: Side) -> Any:
    return side.infer(side.copied("a"), *side.sized(), "--conditioner_arguments::components", 1)


def _evaluated(side: Side, data: str) -> tuple[int, str]:
    return side.run("evaluate", "a", "--resamples", 20, *side.sized()[:2], data=data)


@situation("evaluate: crops that were cut anew at another spacing")
def _(side: Side) -> Any:
    side.infer(side.copied("a"), *side.sized())
    return _evaluated(side, "coarser")


@situation("evaluate: records that were changed since")
def _(side: Side) -> Any:
    side.infer(side.copied("a"), *side.sized())
    return _evaluated(side, "aged")


@situation("evaluate: a compared folder of another dataset")
def _(side: Side) -> Any:
    side.infer(side.copied("a"), *side.sized())
    side.infer("a", *side.sized(), "--predictions_dir", side.work / "a" / "elsewhere", data="coarser")
    compared = {"other": str(side.work / "a" / "elsewhere")}
    return side.run("evaluate", "a", "--resamples", 20, *side.sized()[:2], "--compared", str(compared))


@situation("options: --num_run 2 --guidence 1")
def _(side: Side) -> Any:
    return side.run("inference", side.copied("a"), *side.sized(), "--num_run", 2, "--guidence", 1, "--num_steps", 2)


@situation("options: inference.yaml --help")
def _(side: Side) -> Any:
    side.copied("a")
    shutil.rmtree(side.work / "a" / "predictions", ignore_errors=True)
    status, _ = side.run("inference", "a", *side.sized(), "--num_runs", 1, "--num_steps", 2, "--help")
    made = len(list((side.work / "a").glob("predictions/*")))
    return f"status {status}, {made} cases generated"


@situation("options: run --help")
def _(side: Side) -> Any:
    return side("run", "--help")


@situation("options: 1e-4 in an overlay, which YAML reads as text")
def _(side: Side) -> Any:
    (side.work / "rate.yaml").write_text((side.work / "tiny.yaml").read_text().replace("0.001", "1e-4"))
    return side.train("autoencoder", "rate", overlay="rate")


@situation("options: one key of a dict, which drops the others")
def _(side: Side) -> Any:
    overlay = {**TINY, "conditioner_arguments": {"llm": str(side.work / "llm"), "standardise": False}}
    write_yaml(side.work / "literal.yaml", overlay)
    side.copied("a")
    shutil.rmtree(side.work / "a" / "conditional")
    llm = f"{{'llm': '{side.work / 'llm'}'}}"
    return side.train("conditional", "a", "--conditioner_arguments", llm, overlay="literal")


@situation("values: a crop with NaN, inference of it")
def _(side: Side) -> Any:
    return side.infer(side.copied("a"), *side.sized(), "--image", side.work / "holes" / "9_t0.nii.gz")


@situation("values: a crop with NaN, evaluation")
def _(side: Side) -> Any:
    side.infer(side.copied("a"), *side.sized())
    return _evaluated(side, "holes")


@situation("values: 334 steps, of 1,000 in training")
def _(side: Side) -> Any:
    ran = subprocess.run([sys.executable, "-c", STARTS], check=True, stdout=subprocess.PIPE, text=True)
    return f"start at t = {ran.stdout.split()[-1]}"


@situation("values: image_size 30, which the networks cannot have")
def _(side: Side) -> Any:
    return side.train("autoencoder", "thirty", "--image_size", 30)


@situation("values: a language model that reads both ways")
def _(side: Side) -> Any:
    side.copied("a")
    shutil.rmtree(side.work / "a" / "conditional")
    return side.train("conditional", "a", "--conditioner_arguments::llm", side.work / "both_ways")


def _exported(side: Side) -> Path:
    folder = side.work / "exported"
    shutil.rmtree(folder, ignore_errors=True)
    side.run("export_diffusers", "base", "--folder", folder, "--unet", "unet_unconditional")
    return folder


def _prediction_type(side: Side, end: tuple[int, str], run: str) -> str:
    from safetensors import safe_open

    path = side.work / run / "models" / "unet_unconditional.safetensors"
    if end[0] or not path.exists():
        return verdict(end)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    return f"status 0, trains {'v_prediction' if 'v_prediction' in str(metadata) else 'epsilon'}"


def _started_from(side: Side, folder: Path) -> str:
    """Trains on from weights; the overlay names no prediction type, as a user who has only these files."""
    shape = {name: value for name, value in TINY["unet_shape"].items() if name != "prediction_type"}
    write_yaml(side.work / "theirs.yaml", {**TINY, "unet_shape": shape})
    shutil.rmtree(side.work / side.copied("a") / "unconditional")
    (side.work / "a" / "models" / "unet_unconditional.safetensors").unlink()
    return _prediction_type(side, side.train("unconditional", "a", "--pretrained", folder, overlay="theirs"), "a")


@situation("weights: our own export, of v-prediction")
def _(side: Side) -> Any:
    return _started_from(side, _exported(side))


@situation("weights: a .fp16. variant of it")
def _(side: Side) -> Any:
    folder = _exported(side)
    for path in list(folder.rglob("*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))
    return _started_from(side, folder)


@situation("weights: names behind module.")
def _(side: Side) -> Any:
    from safetensors.torch import load_file, save_file

    folder = _exported(side)
    for path in folder.rglob("*.safetensors"):
        save_file({f"module.{name}": tensor for name, tensor in load_file(path).items()}, path)
    return _started_from(side, folder)


def meet(root: Path, names: str) -> None:
    """Prints each situation's end in one commit, a line of JSON each."""
    import torch

    torch.set_num_threads(1)
    sys.path[:0] = [str(root / "bundle"), str(root)]
    import monai.bundle  # noqa: F401 (before the commands fork, so that it is imported once)

    with tempfile.TemporaryDirectory() as work:
        side = prepared(root, Path(work))
        for name, act in SITUATIONS.items():
            if any(part in name for part in names.split("|")):
                said = verdict(act(side)).replace(work, "WORK").replace(str(root), "ROOT")
                print(json.dumps([name, said]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path, help="a checkout of the commit before")
    parser.add_argument("--only", default="", help="parts of the situations' names, | between them")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        return meet(options.earlier.resolve(), options.only)
    ends = []
    for root in (options.earlier.resolve(), ROOT):
        command = [sys.executable, __file__, str(root), "--only", options.only, "--here"]
        environment = {**os.environ, "PYTHONPATH": f"{root / 'bundle'}:{root}"}
        lines = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        ends.append(dict(json.loads(line) for line in lines.splitlines() if line.startswith("[")))
    print("| situation | before | now |\n| --- | --- | --- |")
    for name in ends[0]:
        print(f"| {name} | {ends[0][name]} | {ends[1][name]} |")


if __name__ == "__main__":
    main()
