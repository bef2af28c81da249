"""The result of an evaluation in one log line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.evaluation.judge import REAL
from scripts.evaluation.report.columns import TITLES
from scripts.training.cases import trained_sentence

logger = logging.getLogger(__name__)


def headline(result: Mapping[str, Any]) -> str:
    """The AUROC of the generated follow-ups, a mean over runs, if there are any, beside those of the data set's images.

    Args:
        result: the content of metrics.json.
    """
    rows = result["methods"]
    names = {}
    for generated in [name for name in rows if name not in TITLES][:1]:
        runs = rows[generated]["n_runs"]
        names[generated] = f"{generated} {'of one run' if runs == 1 else f'a run at a time, mean of {runs},'}"
    whose = "the data set's" if result["simulated"] else "real"
    names |= zip(REAL, (f"{whose} baselines", f"{whose} follow-ups"), strict=True)
    texts = [f"{title} {_text(rows[name]['auroc'])}" for name, title in names.items()]
    seen = result.get("training_cases")
    warning = f" ({trained_sentence(seen)})" if seen and seen["n_trained"] else ""
    cases = "cases, data in part simulated" if result["simulated"] else "cases"
    return f"AUROC of {result['n_cases']} {cases}{warning}, 95% interval over patients: {'; '.join(texts)}"


def log_result(result: Mapping[str, Any], evaluation_dir: str | Path) -> None:
    """Logs the headline, what is left out, and the path of the evaluation page."""
    logger.info(headline(result))
    if missing := result.get("left_out"):
        logger.info("Left out: " + "; ".join(f"{each['what']} ({each['reason']})" for each in missing))
    simulated = ", data in part simulated" if result["simulated"] else ""
    logger.info(f"Open {Path(evaluation_dir) / 'report.html'}; synthetic images{simulated}, for research only")


def _text(metric: Mapping[str, Any]) -> str:
    """A metric with its interval, such as "0.712 (0.650 to 0.771)", or why there is none."""
    if metric["mean"] is None:
        return f"not known ({metric['reason']})"
    interval = "no interval" if metric["ci95"] is None else "{:.3f} to {:.3f}".format(*metric["ci95"])
    return f"{metric['mean']:.3f} ({interval})"
