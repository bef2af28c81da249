"""Evaluation as an Ignite handler, as configs/evaluate.yaml uses it; how to run it: bundle/docs/evaluation.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine

from scripts.comparators.contract import ProbabilityMethod
from scripts.comparators.published import probabilities
from scripts.comparators.tables import ComparatorError, read_table, table_record
from scripts.errors import UserError
from scripts.evaluation.evaluator import evaluate
from scripts.evaluation.judge import Bootstrap, Judge
from scripts.evaluation.nodules.forecasts import Section
from scripts.evaluation.real_crops import RealCrops
from scripts.evaluation.record import USED
from scripts.evaluation.report.training_log import Stage
from scripts.evaluation.scored import read_scored
from scripts.evaluation.study import Study
from scripts.evaluation.validation import validation_thresholds
from scripts.networks.autoencoder import LatentAutoencoder
from scripts.networks.classifiers import NoduleClassifier
from scripts.predictions import read_predictions

logger = logging.getLogger(__name__)


class Evaluation(RealCrops):
    """Collects ``baseline`` and ``follow_up`` of every batch; at the end of the epoch runs the evaluation.

    Args:
        datalist: of the dataset, see :func:`scripts.data.load_datalist`.
        section: the one to evaluate; its outcomes and records are read from the datalist.
        predictions_dir: follow-ups that inference generated for the section.
        output_dir: gets metrics.json, predictions.csv, figures and report.html.
        classifier: gives probabilities of malignancy.
        autoencoder: for the row of reconstructions and the latent map.
        unaligned: another autoencoder, whose latent space is compared with the first one's.
        stages: of :func:`scripts.evaluation.read_stages`, for the evaluation page.
        name: title of the method in ``predictions_dir``.
        compared: by title, folders of predictions of other methods, for the same section.
        tables: by title, tables of probabilities of methods without images, see :mod:`scripts.comparators.tables`, or
            of methods whose images were judged before, see :mod:`scripts.evaluation.scored`.
        published: by title, methods without images whose weights lie beside the others, of
            :func:`scripts.comparators.published`; one of which there is a table is left aside.
        case_pages: see :func:`scripts.evaluation.evaluate`.
        thresholds: by title, a threshold for sensitivity and specificity; else those fixed on the validation section,
            where there are predictions for it.
        published_thresholds: gives, for how predictions were made, on which cases thresholds were fixed that were
            published with the weights, and these by title (`generated` for ``name``), see
            :func:`scripts.results.published_thresholds`; they are taken where the dataset has no validation section.
        open_section: gives the training and the validation section by name, as
            :func:`scripts.evaluation.sections.open_section`: for thresholds, and what growth and latents are held
            against.
        record: gives how all that is judged was made, see :func:`scripts.evaluation.evaluation_record`.
        resamples, stratified: of the bootstrap over patients, see :class:`scripts.evaluation.judge.Bootstrap`.
        judging: further arguments of :class:`scripts.evaluation.Judge`, such as its networks, ``batch_size`` and
            ``device``.
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
        stages: Sequence[Stage] = (),
        name: str = "NAMD",
        compared: Mapping[str, str | Path] | None = None,
        tables: Mapping[str, str | Path] | None = None,
        published: Mapping[str, ProbabilityMethod] | None = None,
        case_pages: Sequence[str] | str = (),
        thresholds: Mapping[str, float] | None = None,
        published_thresholds: Callable[[Mapping[str, Any]], tuple[str, Mapping[str, Any]]] | None = None,
        open_section: Callable[[str], Study] | None = None,
        resamples: int = 2000,
        stratified: bool = True,
        record: Callable[[], Mapping[str, Any]] | None = None,
        **judging: Any,
    ) -> None:
        super().__init__(datalist, section, open_section)
        self.output_dir = output_dir
        self.stages, self.case_pages, self.record = stages, case_pages, record
        self.folders = _named({name: predictions_dir}, compared or {}, "compared")
        self.tables = _named(self.folders, tables or {}, "tables", among_them=False)
        taken = {*self.folders, *self.tables, *(table_record(path).get("method") for path in self.tables.values())}
        self.published = {
            title: method for title, method in (published or {}).items() if not {title, type(method).__name__} & taken
        }
        self.classifier = classifier.eval()
        self.autoencoder = autoencoder.eval()
        self.encoders = {"this model": self.autoencoder.encode_stage_2_inputs}
        if unaligned is not None:
            self.encoders["not aligned"] = unaligned.eval().encode_stage_2_inputs
        self.thresholds = thresholds or {}
        self.name, self.published_thresholds = name, published_thresholds
        self.judging = {"bootstrap": Bootstrap(resamples, stratified), **judging}

    def judge(self, engine: Engine) -> None:
        """Evaluates all cases; the result is ``engine.state.metrics["evaluation"]``."""
        study = self.study()
        ids, cases = study.cases.ids, self.datalist[self.section]
        record = {"published": _kinds(self.published), **((self.record and self.record()) or {})}
        on, elsewhere = self._published_thresholds(record)
        if elsewhere:
            record |= {"published_thresholds": on}
        logger.info(f"Judging {len(ids)} cases; most of the time goes into the distances and the bootstrap")
        samples = self._validation_samples(record)
        judge = Judge(study, lambda crops: torch.sigmoid(self.classifier(crops)).flatten(), **self.judging)
        engine.state.metrics["evaluation"] = evaluate(
            study,
            {name: read_predictions(folder, ids) for name, folder in self.folders.items()}
            | {name: read_scored(path, ids, judge) for name, path in self.tables.items()}
            | {name: probabilities(each, study.baseline, cases) for name, each in self.published.items()},
            judge,
            self.output_dir,
            reconstruction=self._reconstruct(study.follow_up),
            encoders=self.encoders,
            stages=self.stages,
            case_pages=self.case_pages,
            record=record,
            thresholds=self._thresholds(judge, samples, elsewhere),
            sections=self._sections(samples),
        )

    def _published_thresholds(self, record: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """On which cases, and by title, thresholds that were published; none where the dataset can fix its own."""
        if self.published_thresholds is None or self.datalist["validation"]:
            return "", {}
        made = record.get("predictions", {}).get(self.name, {})
        on, found = self.published_thresholds({**made, "weights": record.get("weights", {})})
        return on, {self.name if title == "generated" else title: limits for title, limits in found.items()}

    def _validation_samples(self, record: Mapping[str, Any]) -> Callable[[str], np.ndarray]:
        """A function that reads a method's images of the validation section, once, or raises why it has none."""
        usable = record.get("validation_predictions", {})

        def read(name: str) -> np.ndarray:
            if usable.get(name, USED) != USED:
                raise UserError(usable[name])
            return read_predictions(self.folders[name], _ids(self.datalist["validation"]))

        return cache(read)

    def _sections(self, samples: Callable[[str], np.ndarray]) -> dict[str, Section | str]:
        """What forecasts are held against and calibrated on, or why it lacks."""

        def generated(name: str) -> np.ndarray | str:
            try:
                return samples(name)
            except UserError as error:
                return str(error)

        found: dict[str, Section | str] = {}
        for name in ("training", "validation"):
            if name == self.section:
                found[name] = f"the evaluated section is the {name} section"
            elif not self.datalist[name]:
                found[name] = f"the dataset has no {name} section"
            elif self.open_section is None:
                found[name] = f"the {name} section was not given"
            else:
                images = {each: generated(each) for each in self.folders} if name == "validation" else {}
                found[name] = Section(self.open_section(name), images)
        return found

    @torch.no_grad()
    def _thresholds(
        self, judge: Judge, samples: Callable[[str], np.ndarray], elsewhere: Mapping[str, Any] | None = None
    ) -> dict[str, dict[str, float] | str]:
        """The thresholds of the real baselines, of each folder of predictions and of each table."""

        def baselines(cases: Sequence[Mapping[str, Any]]) -> np.ndarray:
            assert self.open_section is not None
            return judge.classify(self.open_section("validation").baseline[None], "real_baseline")

        def generated(name: str, cases: Sequence[Mapping[str, Any]]) -> np.ndarray:
            return judge.classify(samples(name), name)

        def table(name: str, cases: Sequence[Mapping[str, Any]]) -> np.ndarray:
            try:
                return read_table(self.tables[name], _ids(cases))
            except ComparatorError as error:
                raise UserError("its table lacks cases of the validation section") from error

        def applied(method: ProbabilityMethod, cases: Sequence[Mapping[str, Any]]) -> np.ndarray:
            if self.open_section is None:
                raise UserError("the validation section was not given")
            return probabilities(method, self.open_section("validation").baseline, cases)

        readers: dict[str, Any] = {} if self.open_section is None else {"real_baseline": baselines}
        readers |= {name: partial(generated, name) for name in self.folders}
        readers |= {name: partial(table, name) for name in self.tables}
        readers |= {name: partial(applied, method) for name, method in self.published.items()}
        return validation_thresholds(self.datalist, self.section, readers, self.thresholds, elsewhere)

    @torch.no_grad()
    def _reconstruct(self, crops: np.ndarray) -> np.ndarray:
        """Crops (N, 1, H, W) encoded and decoded by the autoencoder."""
        device, size = self.judging.get("device", "cpu"), self.judging.get("batch_size", 64)
        parts = (part.to(device) for part in torch.from_numpy(crops).split(size))
        encode, decode = self.autoencoder.encode_stage_2_inputs, self.autoencoder.decode_stage_2_outputs
        decoded = [decode(encode(part)).clamp(-1, 1).cpu() for part in parts]
        return torch.cat(decoded).numpy()


def _kinds(methods: Mapping[str, ProbabilityMethod]) -> dict[str, dict[str, str]]:
    """What the record says of published methods, as of tables: the ``method``, by title."""
    return {title: {"method": type(method).__name__} for title, method in methods.items()}


def _ids(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    return [case["case_id"] for case in cases]


def _named(
    given: Mapping[str, str | Path], more: Mapping[str, str | Path], option: str, among_them: bool = True
) -> dict[str, str | Path]:
    """The rows ``more`` and, unless ``among_them`` is false, those ``given``; a name that is in both is refused."""
    for name in more:
        if name in given:
            raise UserError(f"{option}: {name!r} is what another row is called; give {more[name]} another name.")
    return {**(given if among_them else {}), **more}
