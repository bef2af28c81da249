"""Rows and headline of results. The examples in the module are tests too."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from scripts.results.reference import METHODS
from scripts.results.table import as_csv, columns, headline


def result(**changes: Any) -> dict[str, Any]:
    spread = {"median": 1.0, "interval50": [0.5, 1.5], "interval90": None}
    nothing = {"not_computable": "no such file", "held_out": None}
    said = {"record_only": {"probability": 0.25, "uncalibrated": 0.2, "held_out": {"auroc": 0.8, "n": 9}}}
    methods = [{"method": name, "title": title, **said.get(name, nothing)} for name, title in METHODS.items()]
    growth = {
        "change_mm": dict.fromkeys(("long", "perpendicular", "mean"), spread),
        "lung_rads": {"grows": False, "share_of_runs_that_grow": 0.25},
        "volume_mm3": {"baseline": 100.0, "generated": spread},
        "doublings_per_year": spread,
        "held_out": None,
    }
    content = {"case_id": "a", "interval_days": 365, "num_runs": 4, "best_method": "record_only", "methods": methods}
    content |= {"growth": growth, "flags": ["Look, here.", "Think."], "held_out_cases": {"simulated": None}}
    return {**content, **changes}


def test_a_row_has_every_method_and_every_number() -> None:
    unmeasured = result(case_id="b", growth={"not_measurable": "no nodule"}, flags=[])
    rows = list(csv.DictReader(io.StringIO(as_csv([columns(result()), columns(unmeasured)]))))
    assert [row["case_id"] for row in rows] == ["a", "b"] and rows[0].keys() == rows[1].keys()
    assert (rows[0]["record_only_probability"], rows[0]["record_only_held_out_auroc"]) == ("0.25", "0.8")
    assert all(f"{name}_probability" in rows[0] for name in METHODS)
    change = [rows[0][f"mean_change_mm_{percent}"] for percent in ("05", "25", "50", "75", "95")]
    assert change == ["", "0.5", "1", "1.5", ""]
    assert rows[0]["flags"] == "Look, here. Think." and rows[1]["not_measurable"] == "no nodule"
    assert rows[1]["mean_change_mm_50"] == "" and as_csv([]) == ""


@pytest.mark.parametrize("flags", [[], ["One."]])
def test_headline_of_a_case_that_is_not_measured(flags: list[str]) -> None:
    line = headline(result(growth={"not_measurable": "no nodule"}, flags=flags))
    assert line.endswith(f"Growth is not measured: no nodule. {len(flags)} flag{'' if flags else 's'}.")
    assert line.startswith("Malignant: 25 % by the record alone (held-out AUROC 0.80). ")


@pytest.mark.parametrize(("simulated", "told"), [(True, "Simulated"), ("All of it.", "All of it"), (None, "")])
def test_simulated_cases_are_said_beside_their_figures(simulated: Any, told: str) -> None:
    made = result(held_out_cases={"simulated": simulated})
    made["growth"]["held_out"] = {"error_mm": 1.5, "unchanged_error_mm": 1.4}
    assert columns(made)["held_out_simulated"] == told
    said = ", simulated" if told else ""
    assert f"(held-out AUROC 0.80{said})" in headline(made)
    assert f"(on held-out nodules{said and said + ','} off by 1.5 mm" in headline(made)


def test_headline_without_any_method() -> None:
    methods = [each | {"not_computable": "none"} for each in result()["methods"]]
    assert headline(result(methods=methods)).startswith("Malignant: no probability. Mean diameter +1.0 mm: no growth")


def test_keys_are_those_of_a_written_result(written: Path) -> None:
    """So that the results above are like real ones."""
    real = json.loads((written / "c160" / "result.json").read_text())
    assert result().keys() <= real.keys() and columns(real).keys() == columns(result()).keys()
    assert result()["growth"].keys() <= real["growth"].keys()
