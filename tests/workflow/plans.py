"""Plans of Table 1 that tests ask: the one there is, and the same with a method that a newcomer adds."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAN: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "workflow" / "table1.yaml").read_text())


def with_newcomer() -> dict[str, Any]:
    """A line of a method, which shares a stage, and its name among the contrasts."""
    plan = deepcopy(PLAN)
    stages = {"perceptual": "mcwgan", "generator": ["train_conditional", "compare_crops", "compare_mcwgan"]}
    plan["methods"]["toy"] = {"title": "Toy", "stages": stages}
    plan["contrasts"]["namd"].append("toy")
    return plan


every_plan = pytest.mark.parametrize("plan", [PLAN, with_newcomer()], ids=["table1", "newcomer"])
