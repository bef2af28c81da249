"""Evaluation as an Ignite handler: gathers the real crops, reads the generated ones, and judges them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from scripts.baselines import read_table
from scripts.errors import UserError
from scripts.evaluation.cohort import describe
from scripts.evaluation.evaluator import evaluate
from scripts.evaluation.history import Stage
from scripts.networks import LatentAutoencoder, NoduleClassifier
from scripts.predictions import read_predictions


class Evaluation:
    """Collects ``baseline`` and ``follow_up`` of every batch; at the end writes what :func:`evaluate` writes.

    Args:
        datalist, section: the dataset's, for outcomes and attributes.
        predictions_dir: what inference wrote for the same section.
        output_dir: of metrics.json, predictions.csv, figures and report.html.
        classifier: judges malignancy.
        autoencoder: for the reconstruction row and the latent map.
        unaligned: another autoencoder, whose latent space is compared with the first one's.
        training_baselines: crops (M, 1, H, W) of the datalist's training cases, for the read-out of the diameter.
        stages: of :func:`scripts.evaluation.history.read_stages`, for the report.
        name: of the generated row.
        compared: name of a further generated row to what inference wrote with other models, for the same section.
        tables: name of a row without images to its table of probabilities, see :mod:`scripts.baselines`.
        batch_size, device, settings: see :func:`evaluate`.
    """

    def __init__(
        self,
        datalist: Mapping[str, Any],
        section: str,
        predictions_dir: str | Path,
        output_dir: str | Path,
        classifier: NoduleClassifier,
        autoencoder: LatentAutoencoder,
        unaligned: LatentAutoencoder | None = None,
        training_baselines: np.ndarray | None = None,
        stages: Sequence[Stage] = (),
        name: str = "NAMD",
        compared: Mapping[str, str | Path] | None = None,
        tables: Mapping[str, str | Path] | None = None,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
        **settings: Any,
    ) -> None:
        self.datalist = datalist
        self.cases = datalist[section]
        self.cohort = describe(datalist, section)
        self.stages = stages
        self.folders = {name: predictions_dir}
        self.tables = dict(tables or {})
        for other, folder in (compared or {}).items():
            if other == name:
                raise UserError(f"compared: {other!r} is what the run itself is called; give {folder} another name.")
            self.folders[other] = folder
        self.classifier = classifier.eval()
        self.autoencoder = autoencoder.eval()
        self.encoders = {"this model": self.autoencoder.encode_stage_2_inputs}
        if unaligned is not None:
            self.encoders["not aligned"] = unaligned.eval().encode_stage_2_inputs
        self.training = None if training_baselines is None else (training_baselines, datalist["training"])
        self.settings: dict[str, Any] = {
            "output_dir": output_dir,
            "batch_size": batch_size,
            "device": device,
            **settings,
        }
        self.real: dict[str, list[np.ndarray]] = {"baseline": [], "follow_up": []}
        self.spacing: dict[str, list[np.ndarray]] = {"baseline": [], "follow_up": []}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.gather)
        engine.add_event_handler(Events.COMPLETED, self.judge)

    def gather(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        for key, parts in self.real.items():
            parts.append(np.asarray(batch[key].as_tensor()))
            self.spacing[key].append(np.linalg.norm(batch[key].meta["original_affine"], axis=-2)[:, :2])  # (n, 4, 4)

    def judge(self, engine: Engine) -> None:
        case_ids = [case["case_id"] for case in self.cases]
        real: dict[str, Any] = {key: np.concatenate(parts) for key, parts in self.real.items()}
        engine.state.metrics["evaluation"] = evaluate(
            **real,
            spacing={key: np.concatenate(parts) for key, parts in self.spacing.items()},
            cases=self.cases,
            generated={name: read_predictions(folder, case_ids) for name, folder in self.folders.items()},
            predicted={name: read_table(path, case_ids) for name, path in self.tables.items()},
            classifier=lambda crops: torch.sigmoid(self.classifier(crops)).flatten(),
            reconstructed_follow_up=self._reconstruct(real["follow_up"]),
            encoders=self.encoders,
            training=self.training,
            cohort=self.cohort,
            stages=self.stages,
            dataset=self.datalist.get("name", "unnamed"),
            simulated=self.datalist.get("simulated", ""),
            **self.settings,
        )

    @torch.no_grad()
    def _reconstruct(self, crops: np.ndarray) -> np.ndarray:
        device, size = self.settings["device"], self.settings["batch_size"]
        parts = (part.to(device) for part in torch.from_numpy(crops).split(size))
        encode, decode = self.autoencoder.encode_stage_2_inputs, self.autoencoder.decode_stage_2_outputs
        decoded = [decode(encode(part)).clamp(-1, 1).cpu() for part in parts]
        return torch.cat(decoded).numpy()
