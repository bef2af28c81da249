"""What each row of Table 1 costs, from the weights, checkpoints and benchmarks that its jobs left.

python workflow/rows.py PLAN OUTPUT: the plan is JSON, as workflow/Snakefile gives it; the output is table1_rows.json
(see bundle/scripts/evaluation/table_one.py).
"""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.comparators import INPUTS, load_generator  # noqa: E402
from scripts.files import write_json  # noqa: E402
from scripts.training.stage import LAST, read_checkpoint  # noqa: E402

ORDER = ("image", "record", "interval")

UNTRAINED = {
    "real_baseline": ("Baseline of the data set", ["image"]),
    "real_follow_up": ("Follow-up of the data set", ["image"]),
    "copy_baseline": ("Copy of the baseline", ["image"]),
    "record alone": ("Record alone", ["record"]),
    "direct classifier": ("Direct classifier", ["image", "record"]),
}
"""Title of what has no stages, by its name in the evaluation, and what it reads."""


def seconds(path: Path) -> float:
    """Of a job, as Snakemake measured it."""
    with path.open(encoding="utf-8") as file:
        return sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))


def parameters(path: Path) -> int:
    """Numbers in a file of weights."""
    with safe_open(path, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def views(folder: Path, stage: str) -> int:
    """Samples that a stage's newest training has seen: steps times their size."""
    newest = max(folder.glob(f"work-{stage}-*/**/{LAST}"), key=lambda path: path.stat().st_mtime)
    state = read_checkpoint(newest, mmap=True)
    return int(state["progress"]["iteration"] * state["record"]["global_batch"])


def owners(name: str, method: dict[str, Any]) -> dict[str, str]:
    """For each stage of a method the one that it was trained for: itself, or the one that it shares it with."""
    return {stage: made if isinstance(made, str) else name for stage, made in method["stages"].items()}


def row(run: Path, name: str, method: dict[str, Any], num_runs: int) -> dict[str, Any]:
    """The row of a method, means over its trainings."""
    folders, stages = [run / name / str(seed) for seed in method["seeds"]], owners(name, method)
    final = ["generator"] if "generator" in method["stages"] else ["autoencoder", "unet_conditional"]
    reads, calls, runs = INPUTS, 50, num_runs
    if final == ["generator"]:
        network = load_generator(folders[0] / "models")
        reads, calls, runs = network.reads, network.network_calls, num_runs if network.stochastic else 1
    cost = [
        {
            "parameters": sum(parameters(folder / "models" / f"{each}.safetensors") for each in final),
            "views": sum(views(run / owner / str(seed), each) for each, owner in stages.items()),
            "minutes": sum(seconds(run / "benchmarks" / f"{owner}-{seed}-{each}.tsv") for each, owner in stages.items())
            / 60,
            "seconds": seconds(run / "benchmarks" / f"{name}-{seed}-predictions.tsv")
            / (runs * sum(1 for _ in (folder / "predictions").glob("*/samples.nii.gz"))),
        }
        for folder, seed in zip(folders, method["seeds"], strict=True)
    ]
    means = {key: sum(each[key] for each in cost) / len(cost) for key in cost[0]}
    names = [f"{method['title']} · {seed}" for seed in method["seeds"]]
    if name == "namd":
        names[0] = "NAMD"
    ordered = [each for each in ORDER if each in reads]
    return {"title": method["title"], "rows": names, "reads": ordered, "calls": calls, **means}


def main(plan: dict[str, Any], output: Path) -> None:
    """Writes the rows: real images, what makes no image, and the methods in their order; and the contrasts."""
    rows = [{"title": title, "rows": [name], "reads": reads} for name, (title, reads) in UNTRAINED.items()]
    rows += [row(Path(plan["run"]), name, method, plan["num_runs"]) for name, method in plan["methods"].items()]
    titles = dict(zip([*UNTRAINED, *plan["methods"]], (row["title"] for row in rows), strict=True))
    pairs = [
        [titles.get(name, name) for name in (first, second)]
        for first, others in plan["contrasts"].items()
        for second in others
    ]
    write_json(output, {"rows": rows, "contrasts": pairs})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), Path(sys.argv[2]))
