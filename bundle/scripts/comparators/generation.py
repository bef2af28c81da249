"""Generating follow-ups with any compared method, for ``compare_generate.yaml``, an overlay on ``inference.yaml``.

Predictions and their provenance are written by what writes NAMD's (:mod:`scripts.predictions`), so they are evaluated
by the same command.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor

from scripts import comparators
from scripts.comparators.contract import Condition, ImageMethod
from scripts.comparators.generator import WEIGHTS, Generator, generator_metadata
from scripts.diffusion.noise import CaseNoise
from scripts.errors import UserError
from scripts.fingerprint import code_version, digest_weights, leaves


def generation_settings(models_dir: str | Path, image_size: int | None = None, **others: Any) -> dict[str, Any]:
    """What a compared method's weights bring.

    Args:
        models_dir: holds :data:`~scripts.comparators.generator.WEIGHTS`.
        image_size: an option; None takes the weights' own.
        others: options of NAMD, which have no effect on another method.

    Returns:
        ``image_size`` and ``pixel_mm`` of the crops that trained them; ``report_interval``, whether the method reads
        the interval.

    Raises:
        CheckpointError: see :func:`scripts.comparators.load_generator`.
        UserError: ``image_size`` contradicts the weights, or one of ``others`` is given.
    """
    path, metadata = Path(models_dir) / WEIGHTS, generator_metadata(models_dir)
    if given := [f"--{name}" for name, value in others.items() if value is not None]:
        raise UserError(f"{path}: holds {metadata['network']}, which has no {', '.join(given)}. Leave that out.")
    told = {"image_size": 64, "pixel_mm": None, **metadata["extra"].get("sampling", {})}
    if image_size not in (None, told["image_size"]):
        raise UserError(
            f"{path}: trained on crops of {told['image_size']} px, but --image_size is {image_size}. Leave it out, "
            "since the weights bring it, or train with it."
        )
    return {**told, "report_interval": "interval" in getattr(comparators, metadata["network"]).reads}


def generation_record(models_dir: str | Path, method: Generator, num_runs: int, seed: int) -> dict[str, Any]:
    """The record of a run of inference with a compared method, as :func:`scripts.predictions.provenance` gives NAMD's.

    Args:
        num_runs: samples per case that were asked for; a method that is not stochastic makes one.

    Returns:
        As there; ``settings`` are those of :func:`method_settings`, which no digest of weights has.
    """
    return {
        "method": method.title,
        "weights": {"generator": digest_weights(Path(models_dir) / WEIGHTS)},
        "settings": method_settings(method.config),
        "num_runs": num_runs if method.stochastic else 1,
        "seed": seed if method.stochastic else None,
        "image_size": generation_settings(models_dir)["image_size"],
        **code_version(),
    }


def method_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a method's arguments say of sampling, such as ``num_steps``; of its parts, ``parts``, a digest.

    The place of a language model, which may move, has no effect.

    >>> method_settings({"num_steps": 50, "text": {"llm": "here"}}) == method_settings(
    ...     {"num_steps": 50, "text": {"llm": "there"}}
    ... )
    True
    """
    plain = {name: value for name, value in config.items() if not isinstance(value, (Mapping, list))}
    parts = {name: value for name, value in leaves(config) if name not in plain and name.split("::")[-1] != "llm"}
    return {**plain, "parts": hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}


class MethodInferer(Inferer):
    """Samples follow-ups from any :class:`~scripts.comparators.contract.ImageMethod`.

    The noise is that of :class:`scripts.diffusion.ProgressionInferer`: a function of seed, run and crop alone.

    Args:
        num_runs: samples per case; a method that is not stochastic makes one.
        seed: of the noise.
        batch_size: samples made at once; a case's runs may be spread over several batches.
    """

    def __init__(self, num_runs: int = 20, seed: int = 23, batch_size: int = 256) -> None:
        super().__init__()
        if num_runs < 1:
            raise UserError(f"num_runs is {num_runs}, expected 1 or more.")
        self.num_runs = num_runs
        self.seed = seed
        self.batch_size = batch_size

    @torch.no_grad()
    def __call__(  # type: ignore[override]
        self, inputs: Tensor, network: ImageMethod, condition: Sequence[Condition]
    ) -> Tensor:
        """Follow-ups (B, runs, H, W) in [-1, 1].

        Args:
            inputs: baseline crops (B, 1, H, W) in [-1, 1].
            network: the method.
            condition: B conditions.

        Raises:
            UserError: values, given or generated, are not finite.
        """
        baseline = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        if not baseline.isfinite().all():
            raise UserError("A baseline holds values that are NaN or infinite; expected HU.")
        runs = range(self.num_runs if network.stochastic else 1)
        at_once = max(1, self.batch_size // len(baseline))
        made = []
        for start in range(0, len(runs), at_once):
            some = runs[start : start + at_once]
            crops = baseline.repeat_interleave(len(some), dim=0)
            known = [each for each in condition for _ in some]
            samples = network.sample(crops, known, CaseNoise(baseline, self.seed, some))
            made.append(samples.unflatten(0, (len(baseline), len(some))))
        follow_ups = torch.cat(made, dim=1)
        if not follow_ups.isfinite().all():
            raise UserError("Generated images hold NaN: the weights are damaged. Train the method again.")
        return follow_ups.clamp(-1.0, 1.0).squeeze(2)
