"""What the tests of the comparators share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from scripts.comparators.record import record_regression
from scripts.ehr.features import FEATURES

GAPS = ("sct_perp_dia", "sct_margins", "age", "diagemph")


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80, 20 and 20 cases, two a patient; the outcome follows diameter and margins, some features have gaps."""
    folder, noise = tmp_path_factory.mktemp("cohort"), np.random.default_rng(0)

    def case(index: int) -> dict[str, Any]:
        ehr: dict[str, Any] = {
            name: int(noise.choice(list(feature.codes) or [0])) for name, feature in FEATURES.items()
        }
        ehr |= {"sct_long_dia": float(noise.uniform(4, 25)), "age": int(noise.integers(55, 75))}
        ehr["sct_perp_dia"] = 0.8 * ehr["sct_long_dia"]
        risk = np.log(ehr["sct_long_dia"] / 10) + (ehr["sct_margins"] == 1) - 0.5 + noise.normal()
        ehr |= {name: None for name in GAPS if noise.random() < 0.2}
        malignant = None if index % 9 == 8 else int(risk > 0)
        return {"case_id": f"c{index}", "patient_id": f"p{index // 2}", "ehr": ehr, "malignant": malignant}

    cases = [case(index) for index in range(120)]
    sections = {"training": cases[:80], "validation": cases[80:100], "test": cases[100:]}
    (folder / "datalist.json").write_text(json.dumps({"name": "made up", "simulated": True, **sections}))
    return folder


@pytest.fixture(scope="session")
def regression(cohort: Path) -> GridSearchCV:
    return record_regression(cohort)


@pytest.fixture
def applied(make_workflow: Any, tiny_llm: Path, tmp_path: Path) -> Any:
    """Trains a method by its overlays on the tiny dataset, a stage after the other, and generates with it."""

    def run(stages: dict[str, str], **options: Any) -> Path:
        text = {"llm": str(tiny_llm), "max_tokens": 60}
        for stage, overlay in stages.items():
            given = {name: value for name, value in options.items() if name in ("autoencoder_shape", stage)}
            given = given.pop(stage, {}) | given
            given |= {"text": text} if overlay in ("compare_flux", "compare_sd15", "compare_sd15_unconditional") else {}
            make_workflow(f"train_{stage}", tmp_path, "small", overlay, **given).run()
        own = {"image_size": None, "num_steps": None, "num_runs": 2}
        make_workflow("inference", tmp_path, "small", "compare_generate", **own).run()
        return tmp_path

    return run
