"""What does full size do on a GPU, in under eight minutes?

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --small --steps 3 --cases 2 --runs 2    # only tries the script

Weights, data and the language model (Gemma 3 of MedGemma 1.5 4B's size, bfloat16) are random, since neither time nor
memory depends on them; the parts of a stage are those of ``full_size.py``. Batches are the paper's: 64, 16 and 8.

Training: "loss" is the mean of the first and of the last tenth of the steps, "steps/s" without the first five, "GB" the
most that torch had allocated, "MFU" the FLOPs of a step (of matrix products, convolutions and attention) by its time,
in parts of what one large matrix product reaches on the same device in the same precision. "conditional" has its
prompts fixed and contexts cached; "prompts" trains them through the language model; "recomputed" has
``gradient_checkpointing``.

Inference: all cases in batches of eight, each with its runs, by DDIM-50 and by DPM-Solver++ with 12 calls. The weights
in the bundle generate a case on this device and on the CPU, and the difference is told in HU.

Parts that would begin after ``--limit`` seconds are left out, and named. Exit status 1 where samples differ by more
than 20 HU, or a loss is no number.
"""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import full_size
import torch
import typer
from full_size import MEDGEMMA_SIZE, Task

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
BATCH = {"autoencoder": 64, "unconditional": 16, "conditional": 8, "prompts": 8, "recomputed": 8}
PRECISIONS = ("float32", "tf32", "bfloat16")
SMALL = {
    "autoencoder": {"channels": (8, 8, 8, 16), "num_res_blocks": 1, "norm_num_groups": 4},
    "unet": {"channels": (8, 16), "num_res_blocks": 1, "num_heads": 2, "norm_num_groups": 4},
    "llm": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"num_key_value_heads": 1, "head_dim": 16},
}
"""Shapes with which the script is tried."""

WARM_UP = 5
NOISE = 20.0
"""HU by which samples of two devices may differ."""


class Bench:
    """Device, sizes and clock of all parts."""

    def __init__(self, device: str, small: bool, steps: int, limit: float) -> None:
        self.device, self.small, self.steps, self.limit = torch.device(device), small, steps, limit
        self.start, self.left_out = time.perf_counter(), list[str]()
        self.autoencoder: dict[str, Any] = SMALL["autoencoder"] if small else {}
        self.unet: dict[str, Any] = SMALL["unet"] if small else {}
        self.faults: list[str] = []

    def batch(self, stage: str) -> int:
        """Samples in a step."""
        return 2 if self.small else BATCH[stage]

    def synchronize(self) -> None:
        """Waits until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clock(self) -> float:
        """Seconds, when all is done."""
        self.synchronize()
        return time.perf_counter()

    def due(self, part: str) -> bool:
        """Whether there is time for a part; it is noted where not."""
        if time.perf_counter() - self.start < self.limit:
            return True
        self.left_out.append(part)
        return False

    def memory(self) -> str:
        """Gigabytes that torch had allocated at most since :func:`emptied`."""
        return f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if self.device.type == "cuda" else "-"


@contextmanager
def precision_of(name: str) -> Iterator[None]:
    """torch's precision of float32 products, put back afterwards; convolutions may use TF32 in all but ``float32``."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = name != "float32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def emptied(bench: Bench) -> None:
    """Frees what earlier parts left, and counts memory anew."""
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def product_rate(bench: Bench, precision: str) -> float:
    """FLOPs a second of a large matrix product."""
    side = 256 if bench.small else 8192
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(side, side, device=bench.device, dtype=dtype) for _ in range(2))
    with precision_of(precision):
        for _ in range(3):
            left @ right
        start = bench.clock()
        for _ in range(20):
            left @ right
        return 20 * 2 * side**3 / (bench.clock() - start)


def language_model(bench: Bench) -> tuple[Any, Any]:
    """A random Gemma 3 of MedGemma's size on the device, in bfloat16, with the embedded model's tokenizer."""
    from transformers import Gemma3TextConfig, Gemma3TextModel
    from transformers.initialization import no_init_weights

    from scripts.conditioning.language_models import load_language_model

    size = {**MEDGEMMA_SIZE, **(SMALL["llm"] if bench.small else {})}
    with no_init_weights(), bench.device:
        model = Gemma3TextModel._from_config(Gemma3TextConfig(**size), dtype=torch.bfloat16)
    with torch.no_grad():
        for weight in model.parameters():
            weight.uniform_(-0.03, 0.03)
    return model.eval(), load_language_model("embedded")[1]


def stage_parts(bench: Bench, stage: str, llm: tuple[Any, Any] | None) -> dict[str, Any]:
    """The parts of a stage on the device, with two batches of items."""
    name = stage if stage in ("autoencoder", "unconditional") else "conditional"
    task = Task(name, "embedded", bench.batch(stage), bench.steps, 1, True, stage == "recomputed", 0.0)
    if name == "autoencoder":
        parts = full_size.autoencoder_stage(task, 2 * bench.batch(stage), bench.autoencoder)
    else:
        parts = full_size.diffusion_stage(task, 2 * bench.batch(stage), bench.unet, bench.autoencoder, llm)
        if stage == "conditional":
            parts["network"].conditioner.requires_grad_(False)
    for name in ("network", "loss_function"):
        parts[name].to(bench.device)
    return parts


def train(bench: Bench, stage: str, precision: str, rate: float, llm: tuple[Any, Any] | None) -> str:
    """A row of the table of trainings."""
    from ignite.engine import Events
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedTrainer
    from torch.utils.flop_counter import FlopCounterMode

    from scripts.training.engines import accelerate
    from scripts.training.handlers import EpochSeed, GradientClip

    emptied(bench)
    parts = stage_parts(bench, stage, llm)
    items, clip = parts.pop("items"), GradientClip(parts["network"], 1.0)
    parts["network"] = accelerate(parts["network"], "bfloat16" if precision == "bfloat16" else "float32")
    parts.pop("llm")

    def trainer(steps: int) -> Any:
        repeated = (items * math.ceil(steps / 2))[: steps * bench.batch(stage)]
        loader = DataLoader(Dataset(repeated), batch_size=bench.batch(stage))
        handlers = [EpochSeed(23), clip]
        common: dict[str, Any] = {"device": bench.device, "max_epochs": 1, "train_data_loader": loader, **parts}
        return SupervisedTrainer(train_handlers=handlers, decollate=False, optim_set_to_none=True, **common)

    with precision_of(precision):
        trainer(1).run()  # contexts are read once
        with FlopCounterMode(display=False) as counter:
            trainer(1).run()
        losses: list[torch.Tensor] = []
        starts: list[float] = []
        engine = trainer(bench.steps)
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].detach())
        )
        warm = min(WARM_UP, bench.steps - 1)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=warm), lambda: starts.append(bench.clock()))
        engine.run()
        seconds = (bench.clock() - starts[0]) / (bench.steps - warm)
    values = torch.stack(losses).float().cpu()
    tenth = max(1, len(values) // 10)
    first, last = float(values[:tenth].mean()), float(values[-tenth:].mean())
    if not bool(values.isfinite().all()):
        bench.faults.append(f"{stage}, {precision}: a loss is no number")
    flops = counter.get_total_flops()
    cells = [stage, precision, f"{bench.batch(stage)}", f"{first:.3f} to {last:.3f}", f"{1 / seconds:.2f}"]
    cells += [bench.memory(), f"{flops / 1e12:.3f}", f"{flops / seconds / rate:.0%}"]
    return "| " + " | ".join(cells) + " |"


def copying(bench: Bench) -> str:
    """How long the copy of a best epoch's U-Net takes, after the first, see :class:`scripts.training.Checkpoint`."""
    from scripts.networks.unet import StableDiffusionUNet
    from scripts.training.checkpointing import copied

    with bench.device:
        state = StableDiffusionUNet(8, **bench.unet).state_dict()
    copy = copied(state)
    start = bench.clock()
    copied(state, copy)
    seconds, size = bench.clock() - start, sum(tensor.nbytes for tensor in state.values()) / 1e9
    return f"A best epoch's copy: {seconds:.3f} s for {size:.1f} GB"


def infer(bench: Bench, solver: str, num_steps: int, cases: int, runs: int, precision: str) -> str:
    """A row of the table of inference: all cases in batches of eight, by networks of random weights."""
    from scripts.conditioning.conditioner import ReportConditioner
    from scripts.diffusion.denoiser import Denoiser
    from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
    from scripts.ehr.report import radiology_report
    from scripts.networks.autoencoder import StableDiffusionAutoencoder
    from scripts.networks.unet import StableDiffusionUNet

    emptied(bench)
    conditioner = ReportConditioner("embedded").requires_grad_(False)
    reports = [radiology_report(ehr, 365) for ehr in full_size.records(8)]
    conditioner.fit_statistics(reports)
    unet = StableDiffusionUNet(8, context_dim=conditioner.context_dim, **bench.unet)
    model = ProgressionModel(StableDiffusionAutoencoder(**bench.autoencoder), Denoiser(unet, conditioner))
    model.to(bench.device).eval()
    inferer = ProgressionInferer(num_steps=num_steps, num_runs=runs, solver=solver)
    crops = full_size.crops(8).to(bench.device)
    done = 0
    with precision_of(precision), torch.no_grad():
        inferer(crops[:1], model, reports[:1])
        start = bench.clock()
        while done < cases and bench.due(f"{solver}: cases from {done} on"):
            size = min(8, cases - done)
            inferer(crops[:size], model, reports[:size])
            done += size
        seconds = bench.clock() - start
    if not done:
        return f"| {solver}, {num_steps} | {precision} | 0 x {runs} | - | - | - |"
    whole = seconds / done * cases
    cells = [f"{solver}, {num_steps}", precision, f"{done} x {runs}", f"{seconds:.1f}", f"{whole:.1f}", bench.memory()]
    return "| " + " | ".join(cells) + " |"


def against_cpu(bench: Bench) -> str:
    """The largest difference, in HU, of a case's samples by the weights in the bundle, here and on the CPU."""
    from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
    from scripts.ehr.report import radiology_report

    report = [radiology_report(full_size.records(1)[0], 365)]
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = torch.hypot(y - 32, x - 32) < 8
    crop = torch.where(disc, 0.5, -0.7)[None, None]
    samples = []
    for device in (bench.device, torch.device("cpu")):
        model = load_progression_model(BUNDLE / "models").to(device).eval()
        with precision_of("float32"):
            inferer = ProgressionInferer(num_steps=50, num_runs=4, guidance_scale=6.0)
            samples.append(inferer(crop.to(device), model, report).float().cpu())
    difference = 700.0 * (samples[0] - samples[1]).abs()
    if float(difference.max()) > NOISE:
        bench.faults.append(f"samples differ by {float(difference.max()):.1f} HU")
    told = f"at most {difference.max():.2f} HU, mean {difference.mean():.3f} HU"
    return f"Samples of the bundle's weights against the CPU: {told}"


def main(
    device: Annotated[str, typer.Option(help="cuda, or cpu to try the script.")] = "cuda",
    small: Annotated[bool, typer.Option(help="Tiny networks, to try the script.")] = False,
    steps: Annotated[int, typer.Option(min=2, help="Training steps of each stage.")] = 100,
    cases: Annotated[int, typer.Option(min=1, help="Cases of inference.")] = 450,
    runs: Annotated[int, typer.Option(min=1, help="Samples of each.")] = 20,
    limit: Annotated[float, typer.Option(help="Seconds after which nothing more is begun.")] = 420.0,
) -> None:
    """Prints three tables in Markdown; exit status 1 where something is wrong."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No GPU here. --device cpu --small tries the script alone.")
    bench = Bench(device, small, steps, limit)
    card = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "CPU"
    print(
        f"{card}, torch {torch.__version__}, CUDA {torch.version.cuda}, {'tiny' if small else 'full'} size\n",
        flush=True,
    )
    rates = {precision: product_rate(bench, precision) for precision in PRECISIONS}
    print("A large matrix product: " + ", ".join(f"{name} {rate / 1e12:.1f} TFLOP/s" for name, rate in rates.items()))
    print(f"{copying(bench)}\n{against_cpu(bench)}\n", flush=True)
    print("| inference | precision | cases x runs | seconds | all cases, s | GB |\n|---|---|---:|---:|---:|---:|")
    for solver, num_steps in (("dpmpp", 12), ("ddim", 50)):
        if bench.due(solver):
            print(infer(bench, solver, num_steps, cases, runs, "tf32"), flush=True)
    print("\n| training | precision | batch | loss | steps/s | GB | TFLOP a step | MFU |\n|---|---|" + "---:|" * 6)
    llm = None
    for stage in BATCH:
        if stage == "prompts":
            llm = language_model(bench)
        for precision in ("float32", "bfloat16"):
            if bench.due(f"{stage}, {precision}"):
                given = llm if stage in ("prompts", "recomputed") else None
                print(train(bench, stage, precision, rates[precision], given), flush=True)
    print(f"\n{time.perf_counter() - bench.start:.0f} s. Left out for time: {'; '.join(bench.left_out) or 'nothing'}.")
    if bench.faults:
        raise SystemExit("; ".join(bench.faults))


if __name__ == "__main__":
    typer.run(main)
