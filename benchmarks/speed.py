"""Is it faster than it was? Sampling, training steps and starting, against an earlier commit, in alternating pairs.

    python benchmarks/speed.py DATASET [--commit 8d44515] [QUESTION ..]

DATASET is a prepared one (`make demo` leaves runs/demo/dataset). Each side of a pair is a process of its own checkout,
which is asked for the same work in turn; times of training steps include what the stage's handlers do, and exclude what
happens between epochs. With --bare, what is timed now is the networks' forward and backward pass of one batch alone,
which no other change of a step could undercut. Both sides use all cores unless OMP_NUM_THREADS is set. Linux only.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from pairs import Ratio, Server, answer, compare, print_ratios, serve, timed, wait_for_turn

ROOT = Path(__file__).resolve().parents[1]
GUIDANCE = 6.0
RUNS = 20
STEPS = 50
FAST_STEPS = 10
"""DPM-Solver++'s, whose distance to the exact solution is DDIM-50's or less (benchmarks/sampling.py)."""


class Question(StrEnum):
    one_case = "one-case"
    eight_cases = "eight-cases"
    dpmpp = "dpmpp"
    conditional = "conditional"
    unconditional = "unconditional"
    autoencoder = "autoencoder"
    inference = "inference"
    wrong_option = "wrong-option"


# ---- in the process of one side ------------------------------------------------------------------------------------


def sampling(cases: int, solver: str = "ddim") -> None:
    """Serves: follow-ups of some cases, RUNS each, at guidance 6, with contexts that are cached."""
    import torch

    from scripts.diffusion import ProgressionInferer, load_progression_model

    model = load_progression_model("bundle/models")
    known = inspect.signature(ProgressionInferer).parameters
    arguments: dict[str, Any] = {"guidance_scale" if "guidance_scale" in known else "guidance": GUIDANCE}
    steps = STEPS
    if solver != "ddim" and "solver" in known:  # the earlier commit has DDIM alone
        arguments["solver"], steps = solver, FAST_STEPS
    inferer = ProgressionInferer(num_steps=steps, num_runs=RUNS, **arguments)
    crops = torch.rand(cases, 1, 64, 64, generator=torch.Generator().manual_seed(23)) * 2 - 1
    reports = [f"Age: {60 + case}. Nodule of {5 + case} mm." for case in range(cases)]
    serve(timed(partial(inferer, crops, model, reports)))


def training(stage: str, dataset: str, folder: str, bare: bool = False, **settings: Any) -> None:
    """Serves: steps of a stage, from asking the loader for a batch to the last handler; or bare ones of one batch."""
    from ignite.engine import Events
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config([f"bundle/configs/train_{stage}.yaml", "bundle/configs/small.yaml"])
    parser.update(
        {
            "dataset_dir": dataset,
            "output_dir": f"{folder}/{os.getpid()}",
            "models_dir": folder,
            "prompt_steps": 0,
            "max_epochs": 10**6,
            "val_interval": 10**6,
            "patience": 0,
            **settings,
        }
    )
    parser.get_parsed_content("prepare")
    trainer: Any = parser.get_parsed_content("train::trainer")
    clock: dict[str, float] = {}

    def start() -> None:  # only now are the handlers between epochs done, which must not run beside the other side
        if trainer.state.epoch == 1:  # fills the caches
            return
        if "end" in clock:
            answer(clock["end"] - clock["start"])
        if not wait_for_turn():
            os._exit(0)
        clock["start"] = time.perf_counter()

    def end() -> None:
        if "start" in clock:
            clock["end"] = time.perf_counter()

    def passes() -> None:
        if trainer.state.epoch == 1:
            return
        inputs, targets, *more = trainer.prepare_batch(trainer.state.batch, trainer.state.device, False)
        positional, named = more or ((), {})

        def step() -> None:
            trainer.network.zero_grad(set_to_none=True)
            predicted = trainer.inferer(inputs, trainer.network, *positional, **named)
            trainer.loss_function(predicted, targets).mean().backward()

        serve(timed(step))
        os._exit(0)

    if bare:
        trainer.add_event_handler(Events.ITERATION_STARTED, passes)
    else:
        trainer.add_event_handler(Events.GET_BATCH_STARTED, start)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, end)
    trainer.run()


# ---- in the first process ------------------------------------------------------------------------------------------


def environment(tree: Path) -> dict[str, str]:
    """Of a process that imports a checkout's own bundle."""
    path = os.pathsep.join([str(tree / "bundle"), str(tree)])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def ask(question: Question, before: Path, dataset: Path, folder: Path, pairs: int, settings: dict[str, Any]) -> Ratio:
    """The ratio of this checkout's time, with some settings of a stage, to that of an earlier one."""
    if question in (Question.inference, Question.wrong_option):
        sides = [partial(beyond_import, question, tree, dataset, folder) for tree in (before, ROOT)]
        return compare(f"{question.value}, beyond `import monai.bundle`", *sides, pairs=pairs)

    def server(tree: Path, settings: dict[str, Any]) -> Server:
        task = json.dumps([question.value, str(dataset), str(folder), settings])
        return Server([sys.executable, __file__, "--serve", task], environment(tree), tree)

    with server(before, {}) as first, server(ROOT, settings) as second:
        return compare(
            " ".join([question.value, *(f"{name}={value}" for name, value in settings.items())]), first, second, pairs
        )


AFTER_IMPORT = """
import runpy, sys, time
import monai.bundle
start = time.perf_counter()
try:
    runpy.run_module("monai.bundle", run_name="__main__")
finally:
    print(f"\\n{time.perf_counter() - start}")
"""


def beyond_import(question: Question, tree: Path, dataset: Path, folder: Path) -> float:
    """Seconds of a command after its import of MONAI, by its own clock."""
    with TemporaryDirectory(dir=folder) as output:
        command = [sys.executable, "-W", "ignore", "-c", AFTER_IMPORT, "run"]
        command += ["--config_file", "bundle/configs/inference.yaml", "--dataset_dir", str(dataset)]
        command += ["--output_dir", output, "--image", str(folder / "crop.nii.gz"), "--ehr", str(folder / "ehr.json")]
        command += ["--guidence", "1"] if question == Question.wrong_option else []
        ended = subprocess.run(command, env=environment(tree), cwd=tree, capture_output=True, text=True)
    if question == Question.inference and ended.returncode:
        raise SystemExit(ended.stdout + ended.stderr)
    return float(ended.stdout.splitlines()[-1])


def checkout(commit: str, folder: Path) -> Path:
    """The files of a commit."""
    folder.mkdir()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def inputs(dataset: Path, folder: Path) -> None:
    """What the questions need beside the dataset: weights of the first stages, one crop and its record."""
    import shutil

    import data_prep  # noqa: F401 (puts the bundle on the path)
    from scripts.data.datalist import load_datalist
    from scripts.networks.unet import StableDiffusionUNet
    from scripts.weights.checkpoints import save_network

    shutil.copy(ROOT / "bundle" / "models" / "autoencoder.safetensors", folder)
    shape: dict[str, Any] = {"channels": [32, 64, 96], "num_res_blocks": 1, "norm_num_groups": 8}
    unet = StableDiffusionUNet(context_dim=576, prediction_type="v_prediction", **shape)
    unet.config.pop("beta_schedule")  # unknown before 0.7
    save_network(unet, folder / "unet_unconditional.safetensors")
    case = load_datalist(dataset)["test"][0]
    shutil.copy(dataset / case["baseline"], folder / "crop.nii.gz")
    (folder / "ehr.json").write_text(json.dumps(case["ehr"]))


def main(
    dataset: Path,
    questions: Annotated[list[Question] | None, typer.Argument(help="left out: all")] = None,
    commit: Annotated[str, typer.Option(help="the earlier commit")] = "8d44515",
    pairs: Annotated[int, typer.Option(min=6, help="of each question; the interval needs six")] = 12,
    settings: Annotated[str, typer.Option("--set", help="of a training stage now, as JSON")] = "{}",
    bare: Annotated[bool, typer.Option("--bare", help="of a training stage now, the networks' passes alone")] = False,
) -> None:
    """Prints the ratios of times, now over before."""
    with TemporaryDirectory(prefix="speed_") as name:
        folder = Path(name)
        before = checkout(commit, folder / "before")
        inputs(dataset.resolve(), folder)
        ratios = []
        for question in questions or list(Question):
            changed = json.loads(settings) | ({"bare": True} if bare else {})
            ratios.append(ask(question, before, dataset.resolve(), folder, pairs, changed))
            print(ratios[-1], flush=True)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print_ratios(f"now over {commit}, {threads} threads", ratios, (commit, "now"))


WORK: dict[str, Callable[..., None]] = {
    Question.one_case: lambda *_: sampling(1),
    Question.eight_cases: lambda *_: sampling(8),
    Question.dpmpp: lambda *_: sampling(1, "dpmpp"),
    Question.conditional: partial(training, "conditional"),
    Question.unconditional: partial(training, "unconditional"),
    Question.autoencoder: partial(training, "autoencoder"),
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        question, dataset, folder, settings = json.loads(sys.argv[2])
        WORK[question](dataset, folder, **settings)
    else:
        typer.run(main)
