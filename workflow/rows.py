"""What each row of Table 1 costs, from what its jobs left, and whether what was kept belongs to it.

    python workflow/rows.py cost PLAN OUTPUT    # of one training
    python workflow/rows.py rows PLAN OUTPUT    # table1_rows.json (see bundle/scripts/evaluation/table_one.py)
    python workflow/rows.py trainings TABLE FOLDER SEED...    # runs that are trainings, each in its own table
    python workflow/rows.py kept KEPT DATASET SIZE_NAME    # whether what was kept belongs to this run, before any job
    python workflow/rows.py table TABLE    # whether every row of table1.csv has its scores

A plan is JSON, as workflow/Snakefile gives it.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from safetensors import safe_open
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.comparators import INPUTS, load_generator  # noqa: E402
from scripts.comparators.tables import refuse_other_table, table_record, write_runs  # noqa: E402
from scripts.data.digest import digest_dataset  # noqa: E402
from scripts.diffusion import ProgressionInferer  # noqa: E402
from scripts.errors import UserError, listed  # noqa: E402
from scripts.files import read_mapping, write_json  # noqa: E402
from scripts.fingerprint import digest_weights  # noqa: E402
from scripts.networks import FeatureExtractor, PerceptualDistance  # noqa: E402
from scripts.provenance import FILE as PROVENANCE  # noqa: E402
from scripts.training.stage import LAST, PUBLISHED, read_checkpoint  # noqa: E402

JUDGE = Path("judge", "models", "classifier.safetensors")
"""Where the judge lies in a run's folder."""

PLAN = Path(__file__).with_name("table1.yaml")
"""Methods and sizes."""

EVENTS = "events.out.tfevents.*"
"""TensorBoard's files in a stage's folder."""

COST = "-cost.json"
"""How the file of what a training cost ends, beside its table."""

ORDER = ("image", "record", "interval")

UNTRAINED = {
    "real_baseline": ("Baseline of the data set", ["image"]),
    "real_follow_up": ("Follow-up of the data set", ["image"]),
    "copy_baseline": ("Copy of the baseline", ["image"]),
    "record alone": ("Record alone", ["record"]),
    "direct classifier": ("Direct classifier", ["image", "record"]),
}
"""Title of what has no stages, by its name in the evaluation, and what it reads."""

TRAINED = "direct classifier"
"""Of these the one that is trained, by every seed; its trainings are named as those of other methods."""


def seconds(path: Path) -> float:
    """Of a job, as Snakemake measured it."""
    with path.open(encoding="utf-8") as file:
        return sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))


def attempts(folder: Path) -> list[float]:
    """Seconds of each attempt at a stage's training, in their order, by its TensorBoard files.

    An attempt has several files, which overlap, and no other attempt's, since one job at a time has the folder.
    """
    spans: list[list[float]] = []
    files = [[event.wall_time for event in EventFileLoader(str(path)).Load()] for path in folder.glob(EVENTS)]
    for start, end in sorted((min(times), max(times)) for times in files if times):
        if spans and start <= spans[-1][1]:
            spans[-1][1] = max(spans[-1][1], end)
        else:
            spans.append([start, end])
    return [end - start for start, end in spans]


def trained_seconds(job: Path, folder: Path) -> float:
    """Of a stage: its last job, which Snakemake measured, and what interrupted ones before it had trained.

    Args:
        job: Snakemake's file.
        folder: of the stage. A job shorter than the newest attempt there only published again.
    """
    last, spans = seconds(job), attempts(folder)
    return last + sum(spans[:-1] if spans and spans[-1] <= last else spans)


def generated(log: Path) -> int:
    """Cases that the last job of inference generated, by its log; others were there already."""
    found = re.findall(r"(\d+) generated, \d+ already there", log.read_text(encoding="utf-8"))
    return int(found[-1]) if found else 0


def parameters(path: Path) -> int:
    """Numbers in a file of weights."""
    with safe_open(path, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def newest(folder: Path, stage: str) -> Path:
    """The last checkpoint of the training whose weights were published last, which may have ended before another."""
    return max(folder.glob(f"work-{stage}-*/**/{PUBLISHED}"), key=lambda path: path.stat().st_mtime).with_name(LAST)


def views(checkpoint: Path) -> int:
    """Samples that a training has seen: steps times their size; steps of a critic alone do not count."""
    state = read_checkpoint(checkpoint, mmap=True)
    record = state["record"]
    steps = state["progress"]["iteration"] // record.get("settings", {}).get("critic_steps", 1)
    return int(steps * record["global_batch"])


def owners(name: str, method: dict[str, Any]) -> dict[str, str]:
    """For each stage of a method the one that it was trained for: itself, or the one that it shares it with."""
    return {stage: made if isinstance(made, str) else name for stage, made in method["stages"].items()}


def cost(plan: dict[str, Any]) -> dict[str, Any]:
    """What one training of a method cost, and what its networks read.

    Args:
        plan: ``run``, the folder; ``name`` and ``method``, its entry in table1.yaml; ``seed``; ``size`` and its
            ``num_runs`` a case.
    """
    run, name, method, seed = Path(plan["run"]), plan["name"], plan["method"], plan["seed"]
    folder, stages = run / name / str(seed), owners(name, method)
    if "generator" in stages:
        final, network = ["generator"], load_generator(folder / "models")
        reads, calls, runs = network.reads, network.network_calls, plan["num_runs"] if network.stochastic else 1
    else:
        final = ["autoencoder", "unet_conditional"]
        made = read_mapping(next(folder.glob(f"predictions/*/{PROVENANCE}")))
        inferer = ProgressionInferer(made["num_steps"], guidance_scale=made["guidance_scale"])
        reads, calls, runs = INPUTS, inferer.network_calls, plan["num_runs"]
    jobs = [run / "benchmarks" / f"{owner}-{seed}-{stage}.tsv" for stage, owner in stages.items()]
    checkpoints = [newest(run / owner / str(seed), stage) for stage, owner in stages.items()]
    samples = runs * generated(run / "logs" / f"{name}-{seed}-predictions.log")
    sampled = seconds(run / "benchmarks" / f"{name}-{seed}-predictions.tsv")
    return {
        "size": plan["size"],
        "reads": [each for each in ORDER if each in reads],
        "calls": calls,
        "parameters": sum(parameters(folder / "models" / f"{each}.safetensors") for each in final),
        "views": sum(map(views, checkpoints)),
        "minutes": sum(trained_seconds(job, path.parent) for job, path in zip(jobs, checkpoints, strict=True)) / 60,
        "seconds": sampled / samples if samples else None,
    }


def read_cost(path: str | Path, size: str) -> dict[str, Any]:
    """What :func:`cost` wrote.

    Raises:
        UserError: a training of another size, of an earlier run that was kept.
    """
    made = read_mapping(Path(path))
    if made["size"] != size:
        raise UserError(f"{path}: a training of size {made['size']}, expected {size}. Give another folder as KEPT.")
    return made


def split_trainings(table: str | Path, folder: str | Path, *seeds: str | int) -> None:
    """Writes a table for each run of one whose runs are trainings, so that no training counts as a run of another.

    Args:
        table: of probabilities, with runs that are numbered by their seeds.
        folder: gets ``NAME-SEED.csv`` and, how it was made, ``.json``.

    Raises:
        UserError: a seed has no run.
    """
    table = Path(table)
    runs = dict(list(pd.read_csv(table, dtype={"case_id": str}).groupby("run")))
    if missing := [seed for seed in map(int, seeds) if seed not in runs]:
        raise UserError(
            f"{table}: has no training of seed {listed([*map(str, missing)])}; it has {', '.join(map(str, runs))}. "
            "Remove it, and it is made again."
        )
    for seed in map(int, seeds):
        values = {"probability": runs[seed]["probability"].to_numpy()[None]}
        write_runs(
            Path(folder) / f"{table.stem}-{seed}.csv", runs[seed]["case_id"].tolist(), values, table_record(table)
        )


def settings(size: str) -> dict[str, Any]:
    """What the plan says of a size."""
    return yaml.safe_load(PLAN.read_text(encoding="utf-8"))["sizes"][size]


def extractors(size: str) -> dict[str, str]:
    """Names of the networks that measure LPIPS, FID and KID at a size, as tables have them."""
    features = FeatureExtractor().name
    return {"lpips": PerceptualDistance(settings(size)["lpips"]).name, "fid": features, "kid": features}


def check_kept(kept: str | Path, dataset_dir: str | Path, size: str) -> None:
    """Refuses tables of an earlier run that the last job would refuse, hours later.

    Args:
        kept: the folder.
        dataset_dir, size: of this run.

    Raises:
        UserError: there is no such folder, or it holds a training's table without its JSON file or what it cost, or a
            cost without its table, of which Snakemake would make the other anew (but for NAMD's first, which every run
            trains itself); or a table of another dataset, with distances by other networks, of another judge than the
            one that lies beside it, or than any where none does, or of another size.
    """
    kept = Path(kept)
    if not kept.is_dir():
        raise UserError(f"{kept}: no such folder. Give as KEPT one with an earlier run's tables, or leave it out.")
    expected: dict[str, Any] = {"dataset": digest_dataset(dataset_dir)}
    judge = kept / JUDGE
    if any(kept.glob("tables/*.csv")):
        expected["feature_extractors"] = extractors(size)
    if judge.is_file():
        expected["classifier"] = digest_weights(judge)
    tables = kept / "tables"
    costs = {path.name.removesuffix(COST) for path in tables.glob(f"*{COST}")}
    first = f"namd-{settings(size)['seeds'][0]}"
    if alone := sorted(({path.stem for path in tables.glob("*.csv")} ^ costs) - {first}):
        there, lacking = (COST, ".csv") if alone[0] in costs else (".csv", COST)
        raise UserError(
            f"{tables / alone[0]}{there}: {alone[0]}{lacking} is missing beside it, and would be trained for anew. "
            "Copy it from the same run, or remove the other."
        )
    for table in sorted(kept.glob("*/*.csv")):
        if table.parent.name == "tables" and not (beside := table.with_suffix(".json")).is_file():
            raise UserError(
                f"{table}: {beside.name}, which says what it was made of and what judged it, is missing beside it. "
                "Copy it from the run that made the table, or remove the table."
            )
        if "classifier" in refuse_other_table(table, expected) and not judge.is_file():
            raise UserError(
                f"{table}: judged by a classifier that is not kept: {judge} is missing, and a new one will differ. "
                f"Copy the folder judge of the run that made the table into {kept}, or remove the table."
            )
    for path in sorted(tables.glob(f"*{COST}")):
        read_cost(path, size)


def check_table(path: str | Path) -> None:
    """Refuses a Table 1 that lacks a score: AUROC or AUPRC of any row, LPIPS, FID or KID of a trained generator.

    Args:
        path: of ``table1.csv``.

    Raises:
        UserError: a row has none, or one that is no finite number.
    """
    table = pd.read_csv(path)
    generated = table[table["views"].notna()]
    for rows, scores in ((table, ["auroc", "auprc"]), (generated, ["lpips", "fid", "kid"])):
        finite = rows[scores].map(math.isfinite).all(axis=1)
        if not finite.all():
            raise UserError(
                f"{path}: expected finite {', '.join(scores)}, which lack in {listed([*rows['method'][~finite]])}."
            )


def row(name: str, method: dict[str, Any], size: str) -> dict[str, Any]:
    """The row of a method, means over its trainings.

    Args:
        method: ``title``; ``seeds``; ``costs``, a file of :func:`cost` for each.
        size: of all trainings, see :func:`read_cost`.
    """
    costs = [read_cost(path, size) for path in method["costs"]]
    values = {key: [each[key] for each in costs] for key in ("parameters", "views", "minutes", "seconds")}
    means = {key: None if None in each else sum(each) / len(each) for key, each in values.items()}
    names = [f"{method['title']} · {seed}" for seed in method["seeds"]]
    if name == "namd":
        names[0] = "NAMD"
    return {"title": method["title"], "rows": names, "reads": costs[0]["reads"], "calls": costs[0]["calls"], **means}


def rows(plan: dict[str, Any]) -> dict[str, Any]:
    """The rows: real images, what makes no image, and the methods in their order; the contrasts; and the caption."""
    names = {name: [name] for name in UNTRAINED} | {TRAINED: [f"{TRAINED} · {seed}" for seed in plan["seeds"]]}
    made = [{"title": title, "rows": names[name], "reads": reads} for name, (title, reads) in UNTRAINED.items()]
    made += [row(name, method, plan["size"]) for name, method in plan["methods"].items()]
    titles = dict(zip([*UNTRAINED, *plan["methods"]], (each["title"] for each in made), strict=True))
    pairs = [
        [titles.get(name, name) for name in (first, second)]
        for first, others in plan["contrasts"].items()
        for second in others
    ]
    return {"rows": made, "contrasts": pairs, "caption": plan["caption"]}


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    direct = {"kept": check_kept, "table": check_table, "trainings": split_trainings}
    try:
        if task in direct:
            direct[task](*arguments)
        else:
            plan, output = arguments
            write_json(Path(output), {"cost": cost, "rows": rows}[task](json.loads(plan)))
    except UserError as error:
        sys.exit(f"error: {error}")
