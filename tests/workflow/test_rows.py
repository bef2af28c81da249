"""What a row of Table 1 costs, counted from the files that its jobs leave."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from scripts.comparators.generator import WEIGHTS
from scripts.comparators.mcwgan import McWGAN
from scripts.comparators.tables import read_table, table_record, write_runs, write_table
from scripts.data.digest import digest_dataset
from scripts.errors import UserError
from scripts.files import write_json
from scripts.fingerprint import digest_weights
from scripts.losses import AutoencoderLoss
from scripts.networks.classifiers import ResNetClassifier
from scripts.networks.inception import FeatureExtractor
from scripts.networks.perceptual import PerceptualDistance
from scripts.predictions import log_result
from scripts.training.stage import PUBLISHED
from scripts.weights.checkpoints import save_network
from tests.bundle.helpers import count
from tests.workflow.plans import PLAN, every_plan
from workflow.rows import JUDGE, UNTRAINED, attempts, check_kept, check_table, cost, rows, split_trainings, views

CONFIGS = Path(__file__).parents[2] / "bundle" / "configs"
STAGES = {"perceptual": ["train_classifier"], "generator": ["train_conditional", "compare_mcwgan"]}


def trained(run: Path, seed: int, iterations: int, minutes: float) -> None:
    """A training of two stages, whose jobs took a quarter and three quarters of the time; 3 cases, 6 s to sample."""
    folder = run / "mcwgan" / str(seed)
    save_network(McWGAN((4, 8)), folder / "models" / WEIGHTS)
    save_network(ResNetClassifier(32, (4, 4, 8, 8)), folder / "models" / "perceptual.safetensors")
    for work in ("work-generator-abc/mcwgan", "work-perceptual-abc/mcwgan_perceptual"):
        checkpoint(folder / work / "last.pt", iterations)
    (run / "logs").mkdir(exist_ok=True)
    (run / "logs" / f"mcwgan-{seed}-predictions.log").write_text("INFO - 3 generated, 0 already there; all in runs\n")
    (run / "benchmarks").mkdir(exist_ok=True)
    times = {"perceptual": 15 * minutes, "generator": 45 * minutes, "predictions": 6.0}
    for job, value in times.items():
        (run / "benchmarks" / f"mcwgan-{seed}-{job}.tsv").write_text(f"s\th:m:s\tmax_rss\n{value}\t0:00:01\t100\n")


def checkpoint(path: Path, iterations: int, **settings: Any) -> Path:
    path.parent.mkdir(parents=True)
    record = {"global_batch": 16, "settings": settings}
    torch.save({"progress": {"iteration": iterations}, "record": record}, path)
    write_json(path.with_name(PUBLISHED), {})
    return path


def cost_of(run: Path, seed: int = 23, name: str = "mcwgan", stages: Any = STAGES) -> dict[str, Any]:
    method = {"title": "McWGAN (reconstructed)", "stages": stages}
    return cost({"run": str(run), "name": name, "method": method, "seed": seed, "size": "small", "num_runs": 20})


def test_a_training_is_counted_by_hand(tmp_path: Path) -> None:
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    made = cost_of(tmp_path)
    assert made["reads"] == ["image"] and made["calls"] == 1
    assert made["parameters"] == count(McWGAN((4, 8))), "of what samples, not of what only helps to train"
    assert made["views"] == 2 * 100 * 16 and made["minutes"] == pytest.approx(2.0)
    assert made["seconds"] == pytest.approx(2.0), "one run, since it draws no noise"


def events(folder: Path, name: str, times: list[float]) -> None:
    """A file of TensorBoard with events at these times."""
    with (folder / f"events.out.tfevents.{name}").open("wb") as file:
        writer = RecordWriter(file)
        for time in times:
            writer.write(Event(wall_time=time).SerializeToString())


def test_minutes_are_of_all_attempts_at_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake measures the last job alone."""
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    folder = tmp_path / "mcwgan" / "23" / "work-generator-abc" / "mcwgan"
    events(folder, "a", [1000.0, 1010.0, 1060.0])
    events(folder, "b", [1001.0, 1050.0])
    events(folder, "c", [5000.0, 5080.0])
    assert attempts(folder) == [60.0, 80.0], "an hour lies between them"
    assert cost_of(tmp_path)["minutes"] == pytest.approx(2.0 + 1.0), "the last is in the job's 90 seconds"
    (tmp_path / "benchmarks" / "mcwgan-23-generator.tsv").write_text("s\n6.0\n")
    assert cost_of(tmp_path)["minutes"] == pytest.approx((30.0 + 6.0 + 60.0 + 80.0) / 60), "a job that published again"


def test_seconds_are_of_what_the_last_job_generated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    log = tmp_path / "logs" / "mcwgan-23-predictions.log"
    items = [{"case_id": name} for name in "abcde"]
    for rest, expected in ((items[:2], 3.0), ([], None)):
        caplog.clear()
        with caplog.at_level("INFO"):
            log_result(tmp_path, items, rest)
        log.write_text(caplog.text)
        assert cost_of(tmp_path)["seconds"] == expected, "6 seconds for two cases, of one run each; none is not known"


@pytest.mark.parametrize(("scale", "calls"), [(6.0, 24), (1.0, 12)])
def test_calls_of_namd_are_of_the_steps_and_guidance_of_its_images(tmp_path: Path, scale: float, calls: int) -> None:
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    folder = tmp_path / "mcwgan" / "23"
    for name in ("autoencoder", "unet_conditional"):
        shutil.copy(folder / "models" / WEIGHTS, folder / "models" / f"{name}.safetensors")
    write_json(folder / "predictions" / "a" / "provenance.json", {"num_steps": 12, "guidance_scale": scale})
    (folder / "work-perceptual-abc").rename(folder / "work-unet_conditional-abc")
    shutil.copy(
        tmp_path / "benchmarks" / "mcwgan-23-perceptual.tsv", tmp_path / "benchmarks" / "mcwgan-23-unet_conditional.tsv"
    )
    assert cost_of(tmp_path, stages={"unet_conditional": ["train_conditional"]})["calls"] == calls


def test_what_was_trained_before_a_change_is_not_counted(tmp_path: Path) -> None:
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    old = checkpoint(tmp_path / "mcwgan" / "23" / "work-generator-old" / "mcwgan" / "last.pt", 7000)
    os.utime(old.with_name(PUBLISHED), (1.0, 1.0))
    assert cost_of(tmp_path)["views"] == 2 * 100 * 16
    os.utime(tmp_path / "mcwgan" / "23" / "work-generator-abc" / "mcwgan" / "last.pt", (1.0, 1.0))
    assert cost_of(tmp_path)["views"] == 2 * 100 * 16, "changed back: published again, and trained before the other"


def test_a_shared_stage_counts_for_both(tmp_path: Path) -> None:
    """Its copy took no time and saw nothing."""
    trained(tmp_path, 23, iterations=100, minutes=2.0)
    shutil.copytree(tmp_path / "mcwgan", tmp_path / "told", ignore=shutil.ignore_patterns("work-perceptual-*"))
    shutil.copy(tmp_path / "logs" / "mcwgan-23-predictions.log", tmp_path / "logs" / "told-23-predictions.log")
    for job, value in {"perceptual": 0.1, "generator": 60.0, "predictions": 6.0}.items():
        (tmp_path / "benchmarks" / f"told-23-{job}.tsv").write_text(f"s\n{value}\n")
    made = cost_of(tmp_path, name="told", stages=STAGES | {"perceptual": "mcwgan"})
    assert made["views"] == 2 * 100 * 16 and made["minutes"] == pytest.approx((30.0 + 60.0) / 60)


def test_views_of_mcwgan_are_the_predictors(tmp_path: Path) -> None:
    """Which takes a step after so many of the critic's, as the stage's record says."""
    assert views(checkpoint(tmp_path / "a" / "last.pt", 1634, critic_steps=5)) == 326 * 16
    assert views(checkpoint(tmp_path / "b" / "last.pt", 1634)) == 1634 * 16
    names = ("train_conditional", "small", "compare_crops", "compare_mcwgan")
    probe = "$scripts.training.record.composed_settings()"
    workflow = ConfigWorkflow([str(CONFIGS / f"{name}.yaml") for name in names], logging_file=False, probe=probe)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("probe")["critic_steps"] == 5
    assert "Views are crops, or pairs" in PLAN["caption"] and "its critic sees five times" in PLAN["caption"]


@every_plan
def test_shared_stages_are_there_to_be_shared(plan: dict[str, Any]) -> None:
    """The other method trains that stage itself."""
    methods = plan["methods"]
    shared = [
        (stage, made) for each in methods.values() for stage, made in each["stages"].items() if isinstance(made, str)
    ]
    assert shared and all(isinstance(methods[other]["stages"][stage], list) for stage, other in shared)


def test_rows_stand_in_the_order_of_the_plan_and_are_means(tmp_path: Path) -> None:
    known = {"size": "small", "reads": ["image"], "calls": 1, "parameters": 7, "seconds": 0.5}
    paths = [tmp_path / f"mcwgan-{seed}-cost.json" for seed in (23, 24)]
    for path, minutes in zip(paths, (2.0, 4.0), strict=True):
        path.write_text(json.dumps(known | {"minutes": minutes, "views": 100 * minutes}))
    method = {"title": "McWGAN (reconstructed)", "seeds": [23, 24], "costs": [str(path) for path in paths]}
    contrasts = {"mcwgan": ["record alone", "no such method"]}
    plan = {"methods": {"mcwgan": method}, "size": "small", "seeds": [23, 24], "contrasts": contrasts}
    plan["caption"] = "Size small."
    made = rows(plan)
    with pytest.raises(UserError, match="mcwgan-23-cost.json: a training of size small, expected full"):
        rows(plan | {"size": "full"})
    titles = ["Baseline of the data set", "Follow-up of the data set", "Copy of the baseline", "Record alone"]
    first = "McWGAN (reconstructed)"
    assert [each["title"] for each in made["rows"]] == [*titles, "Direct classifier", first]
    assert made["rows"][3]["rows"] == ["record alone"]
    assert made["rows"][4]["rows"] == ["direct classifier · 23", "direct classifier · 24"], "two trainings"
    assert made["rows"][-1] == {
        **{"title": first, "rows": [f"{first} · 23", f"{first} · 24"], "reads": ["image"], "calls": 1},
        **{"parameters": 7, "views": 300.0, "minutes": 3.0, "seconds": 0.5},
    }
    assert made["caption"] == "Size small."
    paths[0].write_text(paths[0].read_text().replace("0.5", "null"))
    assert rows(plan)["rows"][-1]["seconds"] is None, "a mean of what is not known"
    assert made["contrasts"] == [[first, "Record alone"], [first, "no such method"]], "also one that cannot be made"


def test_each_training_of_the_direct_classifier_gets_its_table(tmp_path: Path) -> None:
    whole = tmp_path / "direct_classifier.csv"
    for seed in (23, 24):
        write_table(whole, seed, ["7", "8"], [0.5, seed / 100], {"dataset": "abc", "method": "DirectClassifier"})
    split_trainings(whole, tmp_path / "split", "23", "24")
    for seed in (23, 24):
        path = tmp_path / "split" / f"direct_classifier-{seed}.csv"
        assert read_table(path, ["8", "7"]).tolist() == [[seed / 100, 0.5]], "one run"
        assert table_record(path) == {"dataset": "abc", "method": "DirectClassifier"}
    with pytest.raises(UserError, match="direct_classifier.csv: has no training of seed 25; it has 23, 24"):
        split_trainings(whole, tmp_path, "23", "25")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset that needs no crops to be told from another."""
    write_json(tmp_path / "dataset" / "datalist.json", {"training": [], "validation": [], "test": []})
    return tmp_path / "dataset"


@pytest.fixture
def kept(dataset: Path, tmp_path: Path) -> Path:
    """What an earlier run made of the dataset: a judge, two tables, and what a training cost."""
    folder = tmp_path / "kept"
    save_network(ResNetClassifier(32, (4, 4, 8, 8)), folder / JUDGE)
    record = {"dataset": digest_dataset(dataset)}
    write_runs(folder / "baselines" / "record_only.csv", ["a"], {"probability": np.array([[0.5]])}, record)
    record["classifier"] = digest_weights(folder / JUDGE)
    write_runs(folder / "tables" / "flux-23.csv", ["a"], {"probability": np.array([[0.5]])}, record)
    write_json(folder / "tables" / "flux-23-cost.json", {"size": "small"})
    return folder


def test_what_is_kept_of_another_run_is_refused_before_any_job(kept: Path, dataset: Path) -> None:
    check_kept(str(kept), str(dataset), "small")
    with pytest.raises(UserError, match="flux-23-cost.json: a training of size small, expected full"):
        check_kept(kept, dataset, "full")
    with pytest.raises(UserError, match="nowhere: no such folder. Give as KEPT"):
        check_kept(kept / "nowhere", dataset, "small")
    save_network(ResNetClassifier(32, (4, 4, 8, 8)), kept / JUDGE)
    with pytest.raises(UserError, match="flux-23.csv: not made from these: classifier was"):
        check_kept(kept, dataset, "small")
    shutil.rmtree(kept / "judge")
    with pytest.raises(
        UserError, match="flux-23.csv: judged by a classifier that is not kept: .* Copy the folder judge"
    ):
        check_kept(kept, dataset, "small")
    write_json(dataset / "datalist.json", {"training": [], "validation": [], "test": [], "name": "another"})
    with pytest.raises(UserError, match="record_only.csv: not made from these: dataset was"):
        check_kept(kept, dataset, "small")


def test_a_kept_table_without_its_record_is_refused(kept: Path, dataset: Path) -> None:
    """It would pass for a table of probabilities by another program, and its row would have no distances."""
    (kept / "tables" / "flux-23.json").unlink()
    with pytest.raises(UserError, match=r"flux-23.csv: flux-23.json, which says .* Copy it .*, or remove the table"):
        check_kept(kept, dataset, "small")


@pytest.mark.parametrize("name", ["flux-23.csv", "flux-23-cost.json"])
def test_a_kept_table_and_its_cost_come_together(kept: Path, dataset: Path, name: str) -> None:
    """Of either alone Snakemake would train for the other, hours long, and mix the two trainings in one row."""
    (kept / "tables" / name).unlink()
    with pytest.raises(UserError, match=f"tables/flux-23.*: {name} is missing beside it, and would be trained for"):
        check_kept(kept, dataset, "small")


def test_what_namds_first_training_cost_may_come_without_its_table(kept: Path, dataset: Path) -> None:
    """Every run trains it itself, has no table of it, and writes what it cost beside the others' tables."""
    assert list(PLAN["methods"])[0] == "namd" and PLAN["sizes"]["small"]["seeds"][0] == 23
    write_json(kept / "tables" / "namd-23-cost.json", {"size": "small"})
    check_kept(kept, dataset, "small")
    write_json(kept / "tables" / "namd-24-cost.json", {"size": "small"})
    with pytest.raises(UserError, match="namd-24-cost.json: namd-24.csv is missing beside it"):
        check_kept(kept, dataset, "small")


@pytest.mark.parametrize(("size", "network"), [("small", "vgg"), ("full", "alex")])
def test_kept_distances_are_by_the_networks_of_the_size(kept: Path, dataset: Path, size: str, network: str) -> None:
    """Which the last job refuses otherwise."""
    path = kept / "tables" / "flux-23.csv"
    write_json(kept / "tables" / "flux-23-cost.json", {"size": size})
    features = FeatureExtractor().name
    for measured, right in (("alex", network == "alex"), ("vgg", network == "vgg")):
        judged = {"lpips": PerceptualDistance(measured).name, "fid": features, "kid": features}
        write_json(path.with_suffix(".json"), {**table_record(path), "feature_extractors": judged})
        if right:
            check_kept(kept, dataset, size)
        else:
            with pytest.raises(UserError, match=f"feature_extractors::lpips was '.*-{measured} .*is '.*-{network} "):
                check_kept(kept, dataset, size)


def test_at_small_no_autoencoder_has_learned_with_what_measures_lpips() -> None:
    """Nor at full size, where both are as published."""
    trained = yaml.safe_load((CONFIGS / "small.yaml").read_text())["loss"]["perceptual"]
    published = inspect.signature(AutoencoderLoss).parameters["perceptual"].default
    assert {trained, PLAN["sizes"]["small"]["lpips"]} == {published, PLAN["sizes"]["full"]["lpips"]} == {"alex", "vgg"}
    assert "LPIPS is measured by VGG here" in PLAN["sizes"]["small"]["caption"]
    text = (CONFIGS.parents[1] / "workflow" / "Snakefile").read_text()
    assert text.count("--lpips_network {params.lpips}") == 2, "each training's scores, and the first row's"


def test_the_make_target_looks_first() -> None:
    """Before Snakemake begins, where a folder is kept."""
    text = (Path(__file__).parents[2] / "Makefile").read_text()
    recipe = text[text.index("\ntable1:") :].split("\n\n")[0]
    assert recipe.index("workflow/rows.py kept") < recipe.index("$(FLOW_RUN)")


@pytest.mark.parametrize(
    "lacking", [None, ("Flux", "fid", ""), ("Flux", "lpips", "nan"), ("Record alone", "auroc", "inf")]
)
def test_a_table_without_a_score_is_refused(tmp_path: Path, lacking: tuple[str, str, str] | None) -> None:
    """A distance where images were generated, a probability everywhere."""
    columns = ["method", "lpips", "fid", "kid", "auroc", "auprc", "views"]
    values = [["Record alone", "", "", "", "0.5", "0.5", ""], ["Flux", "0.1", "90", "0.01", "0.5", "0.5", "100"]]
    made = [dict(zip(columns, each, strict=True)) for each in values]
    for row in made:
        if lacking and row["method"] == lacking[0]:
            row[lacking[1]] = lacking[2]
    path = tmp_path / "table1.csv"
    path.write_text("\n".join([",".join(columns), *(",".join(row.values()) for row in made)]))
    if lacking is None:
        check_table(path)
    else:
        with pytest.raises(UserError, match=f"table1.csv: expected finite .* lack in {lacking[0]}"):
            check_table(path)


@every_plan
def test_contrasts_are_of_rows_of_the_table(plan: dict[str, Any]) -> None:
    known = {*UNTRAINED, *plan["methods"]}
    named = [name for first, others in plan["contrasts"].items() for name in (first, *others)]
    assert set(named) == known - {"real_baseline", "real_follow_up"} and len(set(named)) == len(named)
