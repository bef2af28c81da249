"""The result in one line: the numbers of metrics.json, and why there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.evaluation.report.headline import headline, log_result


def result(runs: int = 20, **changes: Any) -> dict[str, Any]:
    def row(mean: float, count: int = 1) -> dict[str, Any]:
        return {"auroc": {"mean": mean, "ci95": [mean - 0.1, mean + 0.05]}, "n_runs": count}

    methods = {
        "real_baseline": row(0.7),
        "real_follow_up": row(0.8),
        "copy_baseline": row(0.7),
        "mine": row(0.75, runs),
    }
    methods["mine"]["auroc"] |= changes
    return {"n_cases": 40, "simulated": False, "methods": methods | {"table": row(0.6)}}


@pytest.mark.parametrize(("runs", "title"), [(20, "mine a run at a time, mean of 20,"), (1, "mine of one run")])
def test_the_generated_stand_beside_the_real(runs: int, title: str) -> None:
    assert headline(result(runs)) == (
        f"AUROC of 40 cases, 95% interval over patients: {title} 0.750 (0.650 to 0.800); "
        "real baselines 0.700 (0.600 to 0.750); real follow-ups 0.800 (0.700 to 0.850)"
    )


def test_the_real_stand_alone_where_nothing_is_generated() -> None:
    bare = result()
    for name in ("mine", "table"):
        del bare["methods"][name]
    assert headline(bare) == (
        "AUROC of 40 cases, 95% interval over patients: real baselines 0.700 (0.600 to 0.750); "
        "real follow-ups 0.800 (0.700 to 0.850)"
    )


def test_what_is_not_known_says_why() -> None:
    assert "20, not known (no case has a known outcome)" in headline(
        result(mean=None, ci95=None, reason="no case has a known outcome")
    )
    assert "0.750 (no interval)" in headline(result(ci95=None))


@pytest.mark.parametrize("simulated", [True, False])
def test_the_log_says_what_to_open(tmp_path: Path, caplog: pytest.LogCaptureFixture, simulated: bool) -> None:
    with caplog.at_level("INFO"):
        log_result(result() | {"simulated": simulated}, tmp_path)
    first, last = caplog.messages
    assert first == headline(result() | {"simulated": simulated})
    assert ("data in part simulated" in first and "real" not in first) == simulated
    assert ("the data set's follow-ups 0.800" in first) == simulated and last.startswith(
        f"Open {tmp_path / 'report.html'}"
    )
    assert ("in part simulated" in last) == simulated and "for research only" in last


def test_cases_that_trained_the_weights_stand_in_the_headline() -> None:
    seen = {"n_cases": 40, "n_trained": 3, "unknown": []}
    assert headline(result() | {"training_cases": seen}).startswith(
        "AUROC of 40 cases (3 of 40 cases trained these weights), 95% interval"
    )
    assert headline(result() | {"training_cases": seen | {"n_trained": 0}}) == headline(result())


def test_what_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        log_result(result() | {"left_out": [{"what": "FID", "reason": "one case"}]}, tmp_path)
    assert caplog.messages[1] == "Left out: FID (one case)"
