"""The probability of malignancy by each method: the judge on images, the record alone, the direct classifier, Brock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.arrays import Array
from scripts.comparators.direct import DirectClassifier
from scripts.comparators.regression import RecordRegression
from scripts.ehr import brock
from scripts.ehr.encoding import records
from scripts.ehr.features import validate
from scripts.results.growth import spread
from scripts.results.reference import FILES, METHODS
from scripts.weights.checkpoints import load_network

BROCK_LACKS = "the number of nodules, which is no feature of the record"


class Readers:
    """The methods whose weights a folder has, opened.

    Args:
        models_dir: holds :data:`scripts.results.reference.FILES`, as far as they were published.
        image_size: side of the crops in pixels.

    Attributes:
        lacking: by file, what is not computed for want of it.
    """

    def __init__(self, models_dir: str | Path, image_size: int, device: str | torch.device = "cpu") -> None:
        self.device = device
        self.lacking: dict[str, str] = {}
        paths = {name: Path(models_dir) / file for name, file in FILES.items()}
        known = {name: path for name, path in paths.items() if path.is_file()}
        for name in paths.keys() - known.keys():
            self.lacking[name] = f"no {FILES[name]} beside the weights"
        self.judge: Any = load_network(known["classifier"], "NoduleClassifier") if "classifier" in known else None
        self.record = RecordRegression.read(known["record_only"]) if "record_only" in known else None
        self.direct = DirectClassifier.load(known["direct_classifier"]) if "direct_classifier" in known else None
        for name, reader in (("classifier", self.judge), ("direct_classifier", self.direct and self.direct.reader)):
            if reader is not None and reader.image_size != image_size:
                self.lacking[name] = f"{FILES[name]} is for crops of {reader.image_size} px, these have {image_size}"

    @torch.no_grad()
    def judged(self, images: Array) -> Array:
        """The judge's probabilities (n,) of crops (n, 1, H, W) in [-1, 1]."""
        crops = torch.as_tensor(images, dtype=torch.float32, device=self.device)
        return torch.sigmoid(self.judge.to(self.device)(crops)).flatten().double().cpu().numpy()

    @torch.no_grad()
    def read_directly(self, baselines: Array, known: Array) -> Array:
        """The direct classifier's probabilities (N,) of crops (N, 1, H, W) and records (N, 13)."""
        assert self.direct is not None
        crops = torch.as_tensor(baselines, dtype=torch.float32, device=self.device)
        numbers = torch.as_tensor(self.direct.regression.numbers(known), dtype=torch.float32, device=self.device)
        return torch.sigmoid(self.direct.to(self.device)(crops, numbers)).flatten().double().cpu().numpy()

    def probabilities(
        self, samples: Array | None, baselines: Array, ehrs: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, dict[str, Any]]]:
        """What each method says of N cases, before calibration.

        Args:
            samples: generated follow-ups (R, N, 1, H, W) in [-1, 1]; None where there are none.
            baselines: (N, 1, H, W) in [-1, 1].
            ehrs: N records.

        Returns:
            For each case, by the names of :data:`scripts.results.reference.METHODS`, ``uncalibrated``, the probability,
            and ``runs`` of the generated images; or ``not_computable``, the reason.
        """
        cases, known = len(ehrs), records([{"ehr": ehr} for ehr in ehrs])
        found: list[dict[str, dict[str, Any]]] = [{} for _ in ehrs]
        for name in METHODS:
            reason = self.lacking.get({"generated": "classifier", "baseline": "classifier"}.get(name, name))
            if reason:
                values: list[dict[str, Any]] = [{"not_computable": reason}] * cases
            elif name == "generated" and samples is None:
                values = [{"not_computable": "no images were generated"}] * cases
            elif name == "generated":
                assert samples is not None
                by_run = self.judged(samples.reshape(-1, *samples.shape[2:])).reshape(len(samples), cases)
                values = [{"uncalibrated": float(each.mean()), "runs": _over_runs(each)} for each in by_run.T]
            elif name == "brock":
                values = [_brock(ehr) for ehr in ehrs]
            else:
                read = self.judged(baselines) if name == "baseline" else self._by_record(name, baselines, known)
                values = [{"uncalibrated": float(each)} for each in read]
            for case, value in zip(found, values, strict=True):
                case[name] = value
        for case, ehr in zip(found, ehrs, strict=True):
            if not validate(ehr):
                nothing = {"not_computable": "nothing of the record is known"}
                case |= {name: nothing for name in ("record_only", "direct_classifier")}
        return found

    def _by_record(self, name: str, baselines: Array, known: Array) -> Array:
        if name == "direct_classifier":
            return self.read_directly(baselines, known)
        assert self.record is not None
        return self.record.probability(known)


def _over_runs(values: Array) -> dict[str, Any]:
    """Of the judge's probabilities over runs (R,), before calibration: mean, standard deviation, median, intervals."""
    deviation = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": float(values.mean()), "sd": deviation, **spread(values)}


def _brock(ehr: Mapping[str, Any]) -> dict[str, Any]:
    """The Brock model needs the number of nodules, so that its largest value alone can be given."""
    lacking = [BROCK_LACKS, *brock.lacking(ehr)]
    largest = brock.at_most(ehr)
    return {"not_computable": f"lacks {', '.join(lacking)}", **({} if largest is None else {"at_most": largest})}
