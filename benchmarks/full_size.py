"""Does the full-size method train and generate on a CPU within 24 GB, and how long does a step take?

    python benchmarks/full_size.py                          # embedded language model, context 576 wide
    python benchmarks/full_size.py --llm medgemma-size      # one as large as the paper's, context 2560 wide

Full size is Stable Diffusion 1.5's, the networks' defaults. Weights and data are random, since neither time nor memory
depends on them. The large language model (7.8 GB) is first written to the temporary folder and opened like a real one,
memory-mapped from its file: "peak GB" counts the pages of the file, "of it anonymous" does not, since the system can
drop them and read them again. Each stage runs in a process of its own, with the modules, loss, optimiser and MONAI
engine of its ``train_*.yaml`` or ``inference.yaml``; checkpoints are not written.
Exit status 1 where a stage exceeds the limit. Linux only.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from processes import GB, run, start
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

IMAGE_SIZE = 64
DDIM_STEPS = 50
WRITE = "write"

MEDGEMMA_SIZE: dict[str, Any] = {
    "vocab_size": 262208,
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
}
"""The text model of MedGemma 1.5 4B, a Gemma 3."""


class Stage(StrEnum):
    autoencoder = "autoencoder"
    unconditional = "unconditional"
    conditional = "conditional"
    inference = "inference"


class LanguageModel(StrEnum):
    embedded = "embedded"
    medgemma_size = "medgemma-size"


@dataclass(frozen=True)
class Task:
    """What one process measures; see the command line's options."""

    stage: str
    llm: str
    batch_size: int
    steps: int
    runs: int
    fused: bool
    recompute: bool
    limit: float


# ---- in the process of a stage -------------------------------------------------------------------------------------


def measure(task: Task) -> dict[str, Any]:
    """``trained`` and ``loaded`` parameters, ``seconds`` a step, ``peak`` bytes."""
    end_first()
    if task.stage == WRITE:
        write_language_model(task.llm)
        return {}
    result = infer(task) if task.stage == Stage.inference else train(task)
    return result | {"peak": peak()}


def end_first() -> None:
    """Makes the kernel end this process first when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def peak() -> int:
    """Bytes that this process had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def train(task: Task) -> dict[str, Any]:
    """Steps of one training stage."""
    import torch
    from ignite.engine import Events
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedTrainer

    from scripts.training.handlers import EpochSeed, GradientClip

    count = task.batch_size * task.steps
    parts = autoencoder_stage(task, count) if task.stage == Stage.autoencoder else diffusion_stage(task, count)
    network, optimizer = parts["network"], parts["optimizer"]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(parts.pop("items")), batch_size=task.batch_size),
        train_handlers=[EpochSeed(23), GradientClip(network, 1.0)],
        decollate=False,
        optim_set_to_none=True,
        **{name: part for name, part in parts.items() if name != "llm"},
    )
    ends: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: ends.append(time.perf_counter()))
    trainer.run()
    trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    # the first step also allocates what the others reuse
    return {"seconds": (ends[-1] - ends[0]) / (task.steps - 1), "trained": trained, "loaded": trained + parts["llm"]}


def autoencoder_stage(task: Task, count: int, shape: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The parts of ``train_autoencoder.yaml``, of full size where no other shape is given."""
    import torch
    from monai.inferers import SimpleInferer

    from scripts.ehr.encoding import attributes
    from scripts.losses import AutoencoderLoss
    from scripts.networks.autoencoder import AlignedAutoencoder, StableDiffusionAutoencoder
    from scripts.training.batches import prepare_crop_batch

    network = AlignedAutoencoder(StableDiffusionAutoencoder(**(shape or {})), IMAGE_SIZE)
    loss = AutoencoderLoss()
    points = [torch.tensor(attributes(ehr)) for ehr in records(count)]
    images = zip(crops(count), points, strict=True)
    return {
        "items": [{"image": i, "attributes": f, "malignant": float(n % 2)} for n, (i, f) in enumerate(images)],
        "network": network,
        "optimizer": optimizer_for(network, task, lr=5e-5, betas=(0.5, 0.9)),
        "loss_function": loss,
        "prepare_batch": prepare_crop_batch,
        "inferer": SimpleInferer(),
        "llm": sum(buffer.numel() for buffer in loss.buffers()),  # the perceptual network
    }


def diffusion_stage(
    task: Task,
    count: int,
    shape: Mapping[str, Any] | None = None,
    autoencoder_shape: Mapping[str, Any] | None = None,
    llm: Any = None,
) -> dict[str, Any]:
    """The parts of ``train_unconditional.yaml`` and ``train_conditional.yaml``, of full size where no shape is given.

    Args:
        llm: model and tokenizer in place of those of the task.
    """
    import torch

    from scripts.conditioning.conditioner import ReportConditioner
    from scripts.diffusion.denoiser import ConditionalDiffusionInferer, Denoiser
    from scripts.ehr.report import radiology_report
    from scripts.networks.autoencoder import StableDiffusionAutoencoder
    from scripts.networks.unet import StableDiffusionUNet
    from scripts.training.batches import LatentPrepareBatch

    conditional = task.stage == Stage.conditional
    autoencoder = StableDiffusionAutoencoder(**(autoencoder_shape or {})).eval()  # stays, as in a LatentDataset
    with torch.no_grad():
        latents = autoencoder.encode_stage_2_inputs(crops(2 * count)).chunk(2)
    conditioner = ReportConditioner(llm or task.llm).requires_grad_(conditional)
    unet = StableDiffusionUNet(8 if conditional else 4, context_dim=conditioner.context_dim, **(shape or {}))
    network = Denoiser(unet, conditioner)
    if task.recompute:
        network.checkpoint_gradients()
    reports = [radiology_report(ehr, 365) for ehr in records(count)]
    keys: dict[str, Any] = {"concat_key": "baseline", "condition_key": "report"} if conditional else {}
    triples = zip(*latents, reports, strict=True)
    if conditional:
        conditioner.fit_statistics(reports)
    return {
        "items": [{"baseline": before, "follow_up": after, "report": text} for before, after, text in triples],
        "network": network,
        "optimizer": optimizer_for(network if conditional else unet, task, lr=2e-5),
        "loss_function": torch.nn.MSELoss(),
        "prepare_batch": LatentPrepareBatch(**keys),
        "inferer": ConditionalDiffusionInferer(),
        "llm": parameters(conditioner.llm, autoencoder),
    }


def infer(task: Task) -> dict[str, Any]:
    """One batch of ``inference.yaml``."""
    import torch
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedEvaluator

    from scripts.conditioning.conditioner import ReportConditioner
    from scripts.diffusion.denoiser import Denoiser
    from scripts.diffusion.sampler import ProgressionInferer, ProgressionModel
    from scripts.ehr.report import radiology_report
    from scripts.networks.autoencoder import StableDiffusionAutoencoder
    from scripts.networks.unet import StableDiffusionUNet
    from scripts.training.batches import prepare_baseline_batch

    conditioner = ReportConditioner(task.llm).requires_grad_(False)
    reports = [radiology_report(ehr, 365) for ehr in records(2)]
    conditioner.fit_statistics(reports)
    unet = StableDiffusionUNet(in_channels=8, context_dim=conditioner.context_dim)
    model = ProgressionModel(StableDiffusionAutoencoder(), Denoiser(unet, conditioner)).eval()
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": crops(1)[0], "report": reports[0]}])),
        network=model,
        inferer=ProgressionInferer(num_steps=DDIM_STEPS, num_runs=task.runs),
        prepare_batch=prepare_baseline_batch,
        decollate=False,
    )
    start = time.perf_counter()
    evaluator.run()
    seconds = (time.perf_counter() - start) / DDIM_STEPS
    return {"seconds": seconds, "trained": 0, "loaded": parameters(conditioner.llm, model)}


def write_language_model(folder: str, **size: int) -> None:
    """A random language model of MedGemma's size, or of another, in bfloat16, with the embedded one's tokenizer."""
    import torch
    from transformers import Gemma3TextConfig, Gemma3TextModel
    from transformers.initialization import no_init_weights

    from scripts.conditioning.language_models import load_language_model

    with no_init_weights():
        model = Gemma3TextModel._from_config(Gemma3TextConfig(**MEDGEMMA_SIZE | size), dtype=torch.bfloat16)
    with torch.no_grad():
        for weight in model.parameters():
            weight.uniform_(-0.03, 0.03)
    model.save_pretrained(folder)
    load_language_model("embedded")[1].save_pretrained(folder)


def optimizer_for(network: Any, task: Task, **arguments: Any) -> Any:
    """AdamW, with the stages' arguments."""
    from torch.optim import AdamW

    return AdamW(network.parameters(), weight_decay=0.01, fused=task.fused or None, **arguments)


def crops(count: int) -> Any:
    """Random crops (count, 1, 64, 64) in [-1, 1]."""
    import torch

    return torch.rand(count, 1, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(23)) * 2 - 1


def records(count: int) -> list[dict[str, float]]:
    """Whole EHRs, all different, whose reports are as long as they get."""
    from scripts.ehr.features import EHR_FEATURES

    first = (1, 1, 12.5, 9.5, 1, 62, 1, 1, 1, 0, 0, 0, 0)
    return [dict(zip(EHR_FEATURES, first, strict=True)) | {"sct_long_dia": 10.1 + 0.1 * n} for n in range(count)]


def parameters(*modules: Any) -> int:
    """How many parameters the modules have."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


# ---- in the first process ------------------------------------------------------------------------------------------


def main(
    stages: Annotated[list[Stage] | None, typer.Argument(help="Which stages; left out: all.")] = None,
    llm: Annotated[LanguageModel, typer.Option(help="The language model.")] = LanguageModel.embedded,
    batch_size: Annotated[int, typer.Option(min=1, help="Crops a training step (the paper: 64, 16, 8).")] = 2,
    steps: Annotated[int, typer.Option(min=2, help="Training steps; the first is not timed.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Samples of the one case in inference.")] = 2,
    fused: Annotated[bool, typer.Option(help="AdamW's fused implementation, as training has it.")] = True,
    recompute: Annotated[bool, typer.Option(help="Train with gradient_checkpointing.")] = False,
    limit: Annotated[float, typer.Option(min=1.0, help="Memory allowed, in GB.")] = 24.0,
) -> None:
    """Measure one step of each stage at full size; exit 1 where one exceeds the memory allowed."""
    console = Console(width=110)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    title = f"Full size: batch {batch_size}, language model {llm.value}, {threads} threads"
    title += ", unfused AdamW" * (not fused) + ", activations recomputed" * recompute
    table = Table("stage", box=SIMPLE, title=title)
    for column in ("trained", "loaded", "seconds a step", "peak GB", "of it anonymous", f"within {limit:g} GB"):
        table.add_column(column, justify="right")
    fits = True
    with TemporaryDirectory(prefix="full_size_") as folder:
        task = Task(WRITE, llm.value, batch_size, steps, runs, fused, recompute, limit)
        if llm != LanguageModel.embedded:
            task = replace(task, llm=folder)
            run(task, __file__)
        for stage in stages or list(Stage):
            result = run(replace(task, stage=stage.value), __file__)
            good = "error" not in result and result["peak"] <= limit * GB
            fits &= good
            table.add_row(*row(stage, task, result), "yes" if good else f"no ({result.get('error', 'too much')})")
    console.print(table)
    raise typer.Exit(0 if fits else 1)


def row(stage: Stage, task: Task, result: dict[str, Any]) -> Sequence[str]:
    """The cells of a stage's row, without the verdict."""
    name = f"inference, 1 x {task.runs} runs" if stage == Stage.inference else stage.value
    counts = [f"{result[key] / 1e6:,.0f} M" if key in result else "-" for key in ("trained", "loaded")]
    seconds = f"{result['seconds']:.1f}" if "seconds" in result else "-"
    sizes = [f"{result[key] / GB:.1f}" if key in result else "-" for key in ("peak", "anonymous")]
    return [name, *counts, seconds, *sizes]


if __name__ == "__main__":
    start(Task, measure, main)
