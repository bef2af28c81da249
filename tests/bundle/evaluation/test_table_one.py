"""Table 1: trainings of a method are put together, by hand; and it is the same in every format."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scripts.errors import UserError
from scripts.evaluation.table_one import COLUMNS, FILE, studied, table_one, write_table_one


def score(mean: float | None, std: float | None = None, ci95: list[float] | None = None) -> dict[str, Any]:
    return {"mean": mean, "std": std, "ci95": ci95}


def method(auroc: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS, score(None)), "auroc": auroc, "fid": score(80.5, 1.5)}


RESULT = {
    "dataset": "discs",
    "n_cases": 12,
    "n_patients": 6,
    "n_malignant": 4,
    "simulated": True,
    "simulation": "All discs are drawn.",
    "feature_extractors": {"lpips": "st-lpips-alex (fallback)", "fid": "AlexNet's_last", "kid": "AlexNet's_last"},
    "real_halves": {"fid": score(71.25, 2.5), "kid": score(-0.00012, 0.0004)},
    "methods": {
        "real_baseline": method(score(0.7, None, [0.6, 0.8])),
        "GAN (reconstructed), told the record · 1": method(score(0.8)),
        "GAN (reconstructed) · 1": method(score(0.6, None, [0.5, 0.7])),
        "Flux · 1": method(score(0.80, 0.02, [0.70, 0.90])),
        "Flux · 2": method(score(0.84, 0.04, [0.76, 0.92])),
    },
    "regret": {
        "Flux · 1": {"regret": score(0.1, 0.01)},
        "Flux · 2": {"regret": score(0.3, 0.01)},
        "Flux · 1_mean_probability": {"regret": score(0.01)},
        "Flux · 2_mean_probability": {"regret": score(0.02)},
    },
}
COST = {"parameters": 2_447_936, "views": 1000.0, "minutes": 12.25, "calls": 50, "seconds": 0.1234}
TOLD = "GAN (reconstructed), told the record"
ROWS = [
    {"title": TOLD, "rows": [f"{TOLD} · 1"], "reads": ["image", "record"]},
    {"title": "Baseline of the data set", "rows": ["real_baseline"], "reads": []},
    {"title": "GAN (reconstructed)", "rows": ["GAN (reconstructed) · 1"], "reads": ["image"]},
    {"title": "Flux", "rows": ["Flux · 1", "Flux · 2"], "reads": ["image", "record", "interval"], **COST},
]


def test_trainings_are_put_together_by_hand() -> None:
    baseline, flux, gan, told = table_one(RESULT, ROWS)
    assert [row["title"] for row in (baseline, flux, gan, told)] == [
        "Baseline of the data set",
        "Flux",
        "GAN (reconstructed)",
        TOLD,
    ]
    auroc = flux["auroc"]
    assert auroc["mean"] == pytest.approx(0.82) and auroc["ci95"] == pytest.approx([0.73, 0.91])
    assert auroc["runs"] == pytest.approx(0.03), "the spread over runs"
    assert auroc["trainings"] == pytest.approx(0.04 / 2**0.5), "and that of the two means, apart from it"
    assert flux["regret"] == pytest.approx(0.2), "over runs, as AUROC is; not of probabilities averaged over them"
    assert baseline["regret"] is None
    assert flux["lpips"] == {"mean": None, "ci95": None, "runs": None, "trainings": None}
    assert gan["reconstructed"] and gan["auroc"]["trainings"] is None and gan["trainings"] == 1


def test_every_format_says_the_same(tmp_path: Path) -> None:
    assert write_table_one(tmp_path, RESULT) is None and not list(tmp_path.iterdir())
    (tmp_path / FILE).write_text(json.dumps({"rows": ROWS}))
    made = write_table_one(tmp_path, RESULT)
    assert made is not None and made.rows == table_one(RESULT, ROWS)
    rows = made.rows
    files = {path.suffix: path.read_text() for path in (tmp_path / "table1").iterdir()}
    table = pd.read_csv(io.StringIO(files[".csv"])).set_index("method")
    assert list(table.index) == [row["title"] for row in rows] and list(table.reconstructed) == [
        False,
        False,
        True,
        True,
    ]
    flux = table.loc["Flux"]
    assert flux.auroc == pytest.approx(0.82) and flux.auroc_high == pytest.approx(0.91) and flux.parameters == 2447936
    assert flux.auroc_sd_runs == pytest.approx(0.03) and flux.reads == "image+record+interval"
    lines = files[".md"].splitlines()
    line = "| Flux | – | 80.50 sd 1.50 / 0.00 | – | 0.820 [0.730, 0.910] sd 0.030 / 0.028 | – | 0.200 | image, record"
    assert lines[3].startswith(line) and lines[3].endswith("| 2 | 2,447,936 | 1,000 | 12.2 | 50 | 0.123 |")
    assert set(lines[4]) == {"|", "-", " "} and lines[5].startswith("| GAN (reconstructed) |"), "below a rule"
    assert r"0.820 [0.730, 0.910] sd 0.030 / 0.028" in files[".tex"] and r"AUROC $\uparrow$" in files[".tex"]
    body = files[".tex"].split(r"\midrule")
    assert len(body) == 4 and "GAN (reconstructed) &" in body[2] and "reconstructed" not in body[1] and TOLD in body[3]


def test_every_format_says_what_was_measured_and_trained(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"rows": ROWS, "caption": "Size small & random weights."}))
    made = write_table_one(tmp_path, RESULT)
    assert made is not None
    assert "the real follow-up's is from an oracle that knows growth too" in made.caption
    assert (
        "of the real follow-ups FID is 71.25 (sd 2.50 over" in made.caption
        and "KID -0.00012 (sd 0.00040)" in made.caption
    )
    said = (
        "LPIPS is st-lpips-alex (fallback); features of FID and KID are AlexNet's_last. Padded pixels are left out of"
    )
    assert said in made.caption and made.caption.endswith("Size small & random weights.")
    folder = tmp_path / "table1"
    assert (folder / "table1_caption.txt").read_text() == made.caption + "\n"
    assert made.caption in (folder / "table1.md").read_text().splitlines()
    _, title, table, *_ = (folder / "table1.tex").read_text().splitlines()
    cases = "Dataset discs: 12 cases of 6 patients (4 malignant). Simulated: All discs are drawn. "
    assert made.caption.startswith(cases)
    assert "imulated" not in studied({**RESULT, "simulated": False})
    assert title.startswith(rf"\caption{{{cases}Mean over trainings and runs; in brackets the 95\% interval")
    assert r"AlexNet's\_last" in title and title.endswith(r"Size small \& random weights.}")
    assert table.startswith(r"\begin{tabular}") and "%" not in title.replace(r"\%", "")


def test_a_row_that_was_not_evaluated_is_refused() -> None:
    with pytest.raises(UserError, match="names 'Flux · 3', which was not evaluated"):
        table_one(RESULT, [{"title": "Flux", "rows": ["Flux · 3"], "reads": []}])
