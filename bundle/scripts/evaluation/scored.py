"""Methods that were judged before: a table of their probabilities and distances takes the place of their images.

The table is one of :mod:`scripts.comparators.tables` with a further column, ``lpips``. Its JSON file has the judge too
(``classifier``, its digest, and ``feature_extractors``), and ``fid`` and ``kid`` as ``metrics.json`` has them. So the
trainings of a large comparison can be judged one by one, on several machines, and compared later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from scripts.comparators.tables import LPIPS, read_table, refuse_other_table, table_record, write_runs
from scripts.evaluation.judge import Judge, Method
from scripts.evaluation.real_crops import RealCrops
from scripts.networks.classifiers import NoduleClassifier
from scripts.predictions import read_predictions

logger = logging.getLogger(__name__)

OF_SETS = ("fid", "kid")
"""Distances between sets of images, which no table of cases can give."""


def read_scored(path: str | Path, case_ids: Sequence[str], judge: Judge) -> Method:
    """A method's results out of its table.

    Args:
        case_ids: in the order wanted.
        judge: of the evaluation that takes part in it.

    Raises:
        ComparatorError: as :func:`scripts.comparators.tables.read_table`; or the table's distances are of other
            networks than the judge's.
    """
    probabilities, record = read_table(path, case_ids), table_record(path)
    if not record.keys() >= {*OF_SETS}:
        return Method(probabilities)
    refuse_other_table(path, {"feature_extractors": judge.extractors})
    distances = read_table(path, case_ids, LPIPS)
    return Method(probabilities, distances=distances, of_sets={name: record[name] for name in OF_SETS})


class ScoreTable(RealCrops):
    """Judges the predictions in a folder, at the end of the epoch, and writes their table.

    Args:
        datalist, section: see :class:`scripts.evaluation.real_crops.RealCrops`.
        predictions_dir: follow-ups that inference generated for the section.
        path: of the table (.csv).
        classifier: gives probabilities of malignancy.
        record: gives how all that is judged was made, see :func:`scripts.evaluation.evaluation_record`.
        judging: further arguments of :class:`scripts.evaluation.Judge`.
    """

    def __init__(
        self,
        datalist: Mapping[str, Any],
        section: str,
        predictions_dir: str | Path,
        path: str | Path,
        classifier: NoduleClassifier,
        record: Callable[[], Mapping[str, Any]],
        **judging: Any,
    ) -> None:
        super().__init__(datalist, section)
        self.predictions_dir, self.path, self.record = predictions_dir, Path(path), record
        self.classifier, self.judging = classifier.eval(), judging

    @torch.no_grad()
    def judge(self, engine: Engine) -> None:
        """Writes the table and its JSON file."""
        study, record = self.study(), self.record()
        judge = Judge(study, lambda crops: torch.sigmoid(self.classifier(crops)).flatten(), **self.judging)
        method = judge.method(read_predictions(self.predictions_dir, study.cases.ids), str(self.path))
        scores = judge.score(method)
        (made,) = record["predictions"].values()
        known = {"dataset": record["dataset"], "classifier": record["weights"]["classifier"], "predictions": made}
        known |= {"feature_extractors": judge.extractors, **{name: scores[name] for name in OF_SETS}}
        assert method.distances is not None
        write_runs(self.path, study.cases.ids, {"probability": method.probabilities, LPIPS: method.distances}, known)
        logger.info(f"Wrote {self.path}: {len(method.probabilities)} runs of {len(study.cases.ids)} cases")
