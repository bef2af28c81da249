"""The configurations: complete, composable, at home in any folder, and together the whole method."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from safetensors.torch import load_file

from scripts.conditioning import ReportConditioner
from scripts.diffusion.sampler import ProgressionInferer, load_progression_model
from scripts.ehr.encoding import record_numbers
from scripts.ehr.report import radiology_report
from scripts.errors import UserError
from scripts.networks.classifiers import ResNetClassifier, ViTClassifier
from scripts.training.cases import trained_on
from scripts.weights.checkpoints import load_network, read_metadata, save_network
from tests.bundle.helpers import BUNDLE, refusal

STAGES = ("autoencoder", "unconditional", "conditional", "classifier")
NAMES = [*(f"train_{stage}" for stage in STAGES), "inference", "evaluate"]
RECORD = {"age": 66, "gender": 2, "sct_long_dia": 12.5, "sct_margins": 1}

Make = Callable[..., ConfigWorkflow]


def value(workflow: ConfigWorkflow, key: str) -> Any:
    return workflow.parser.get_parsed_content(key)


def bare(*names: str) -> ConfigWorkflow:
    files = [str(BUNDLE / "configs" / f"{name}.yaml") for name in names]
    workflow = ConfigWorkflow(files, logging_file=False)
    workflow.initialize()
    return workflow


# --- complete


@pytest.mark.parametrize("overlays", [(), ("small",)], ids=["alone", "small"])
@pytest.mark.parametrize("name", NAMES)
def test_every_property_that_monai_asks_for_is_there(
    make_workflow: Make, trained: Path, tmp_path: Path, name: str, overlays: tuple[str, ...]
) -> None:
    workflow = make_workflow(name, tmp_path, *overlays, models_dir=str(trained / "models"))
    assert workflow.check_properties() == []
    assert Path(workflow.bundle_root) == BUNDLE and isinstance(workflow.network_def, torch.nn.Module)


def test_metadata_follows_the_model_zoos_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    shared = Path(os.environ.get("NAMD_SHARED_DATA", BUNDLE.parents[1] / "shared" / "data"))
    schema = shared / "model_zoo" / "meta_schema_20240725.json"
    if not schema.is_file():
        pytest.skip(f"{schema.name} is not in {shared} (NAMD_SHARED_DATA)")
    metadata = json.loads((BUNDLE / "configs" / "metadata.json").read_text())
    jsonschema.validate(metadata, json.loads(schema.read_text()))
    assert metadata["schema"].endswith(schema.name)


# --- defaults and overlays


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("autoencoder", {"learning_rate": 5e-5, "betas": [0.5, 0.9], "batch_size": 64, "max_epochs": 200}),
        ("unconditional", {"learning_rate": 1e-4, "warmup_steps": 4000, "decay_steps": 100000, "batch_size": 16}),
        ("conditional", {"learning_rate": 2e-5, "batch_size": 8, "max_epochs": 60, "seed": 23, "decay_steps": 0}),
    ],
)
def test_sizes_and_schedules_are_the_papers(stage: str, settings: dict[str, Any]) -> None:
    workflow = bare(f"train_{stage}")
    assert {key: value(workflow, key) for key in settings} == settings
    assert value(workflow, "rotations") == [0, 45, 90, 135, 180] and value(workflow, "image_size") == 64
    shape = "autoencoder_shape" if stage == "autoencoder" else "unet_shape"
    assert stage == "conditional" or value(workflow, shape) == {}, "Stable Diffusion 1.5's, written in networks.py"


@pytest.mark.parametrize(
    "overlays", [("small",), ("small", "demo"), ("small", "from_nothing")], ids=lambda overlays: overlays[-1]
)
@pytest.mark.parametrize("stage", STAGES)
def test_schedules_are_looked_up_by_stage(stage: str, overlays: tuple[str, ...]) -> None:
    workflow = bare(f"train_{stage}", *overlays)
    schedule = value(workflow, "schedules")[stage]
    assert {key: value(workflow, key) for key in schedule} == schedule
    assert 0 <= schedule["warmup_steps"] < schedule["decay_steps"]


def test_the_demo_goes_on_from_finished_weights(
    make_workflow: Make, trained: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    """Without an unconditional stage; at a rate of zero every stage publishes what it began with."""
    for stage in ("autoencoder", "conditional", "classifier"):
        settings = {"bundle_root": str(trained), "prompt_steps": 0, "learning_rate": 0.0, "max_epochs": 1}
        workflow = make_workflow(f"train_{stage}", tmp_path, "small", "demo", **settings)
        workflow.run()
        assert value(workflow, "record")["built_on"].keys() >= {"pretrained"}
    before, after = (
        {path.name: path for path in (each / "models").rglob("*.safetensors")} for each in (trained, tmp_path)
    )
    assert before.keys() - after.keys() == {"unet_unconditional.safetensors"}
    for name, path in after.items():
        kept = load_file(before[name])
        for key, tensor in load_file(path).items():
            if "running_" not in key and "num_batches" not in key:  # of the classifier's normalisation
                torch.testing.assert_close(tensor, kept[key], msg=f"{name}: {key}")
    settings = {"models_dir": str(tmp_path / "models"), "num_runs": 2, "num_steps": 3}
    make_workflow("inference", tmp_path, "small", "demo", **settings).run()
    assert len(list((tmp_path / "predictions").glob("*/samples.nii.gz"))) == 3
    cases = json.loads((tiny_dataset / "datalist.json").read_text())["test"]
    assert trained_on(tiny_dataset, cases, tmp_path / "models") == {"n_cases": 3, "n_trained": 0, "unknown": []}


def test_another_conditioner_than_that_gone_on_from_is_refused(
    make_workflow: Make, trained: Path, tiny_settings: dict[str, Any], tmp_path: Path
) -> None:
    """Before any work."""
    arguments = {**tiny_settings["conditioner_arguments"], "end_token": True}
    settings = {"pretrained": str(trained / "models"), "conditioner_arguments": arguments}
    message = refusal(make_workflow("train_conditional", tmp_path, "small", **settings).run)
    assert message.startswith(f"{trained}/models/conditioner: end_token is True, but was False in training")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "prompts",
    [{}, {"num_prompt_sets": 1, "prompt_length": 0}, {"end_token": True}],
    ids=["prompts", "no prompts", "end token"],
)
def test_the_demo_opens_the_conditioner_that_it_goes_on_from(
    trained: Path, tiny_dataset: Path, tiny_settings: dict[str, Any], tmp_path: Path, prompts: dict[str, Any]
) -> None:
    """With the arguments that stand beside its weights, whichever recipe made them."""
    shutil.copytree(trained / "models", tmp_path / "models")
    settings = dict(tiny_settings)
    made = ReportConditioner(**settings.pop("conditioner_arguments"), **prompts)
    datalist = json.loads((tiny_dataset / "datalist.json").read_text())
    reports = [radiology_report(case["ehr"]) for case in datalist["training"]]
    made.fit_statistics(reports, record_numbers(datalist["training"]))
    made.save_pretrained(tmp_path / "models" / "conditioner")
    unet = tmp_path / "models" / "unet_conditional.safetensors"
    save_network(load_network(unet), unet)  # without its record, by which that is not its conditioner
    files = [str(BUNDLE / "configs" / f"{name}.yaml") for name in ("train_conditional", "small", "demo")]
    settings |= {"bundle_root": str(tmp_path), "dataset_dir": str(tiny_dataset), "models_dir": str(tmp_path / "models")}
    workflow = ConfigWorkflow(files, workflow_type="train", logging_file=False, **settings)
    workflow.initialize()
    value(workflow, "prepare")
    opened = value(workflow, "conditioner")
    assert opened.settings == made.settings and opened.num_prompt_sets == prompts.get("num_prompt_sets", 2)
    torch.testing.assert_close(opened.encode(reports), made.encode(reports))


def test_the_demo_names_weights_that_the_bundle_has() -> None:
    named = {stage: value(bare(f"train_{stage}", "small", "demo"), "pretrained") for stage in STAGES}
    assert named.pop("unconditional") is None and len(set(named.values())) == 3
    assert all(Path(path).exists() for path in named.values())


@pytest.mark.parametrize(
    ("options", "stages", "overlay"),
    [
        ([], ["autoencoder", "conditional", "classifier"], "demo"),
        (["FROM=nothing"], ["autoencoder", "unconditional", "conditional", "classifier"], "from_nothing"),
    ],
)
def test_make_demo_trains_stage_by_stage(options: list[str], stages: list[str], overlay: str) -> None:
    command = ["make", "-n", "-B", "demo", *options]
    shown = subprocess.run(command, cwd=BUNDLE.parent, capture_output=True, text=True, check=True).stdout
    pattern = r"configs/train_(\w+)\.yaml','bundle/configs/small\.yaml','bundle/configs/(\w+)\.yaml'\]"
    assert re.findall(pattern, shown) == [(stage, overlay) for stage in stages]


def test_the_ablation_removes_two_losses_and_nothing_else(make_workflow: Make, tmp_path: Path) -> None:
    whole = value(make_workflow("train_autoencoder", tmp_path, "small"), "loss_function")
    ablated = value(make_workflow("train_autoencoder", tmp_path, "small", "no_alignment"), "loss_function")
    assert ablated.weights == {**whole.weights, "alignment": 0.0, "prediction": 0.0}
    assert whole.weights["alignment"] > 0 and whole.weights["prediction"] > 0
    assert ablated.perceptual_samples == whole.perceptual_samples


def test_overlays_without_prompts_and_with_raw_attributes(
    make_workflow: Make, trained: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    """One setting each; and the conditional stage and its weights do without prompts."""
    files = [str(BUNDLE / "configs" / f"{name}.yaml") for name in ("train_conditional", "small", "no_prompts")]
    arguments = ConfigParser.load_config_files(files)["conditioner_arguments"]
    small = ConfigParser.load_config_files(files[1:2])["conditioner_arguments"]
    assert arguments == small | {"num_prompt_sets": 1, "prompt_length": 0}
    raw = make_workflow("train_autoencoder", tmp_path, "small", "raw_attributes")
    assert value(raw, "train::dataset::data")[0]["attributes"].tolist() == [2 - 1, 1, 6.0, pytest.approx(4.8), 1]

    shutil.copytree(trained / "models", tmp_path / "models")
    arguments |= {"llm": str(tiny_llm), "components": 2}
    make_workflow("train_conditional", tmp_path, "small", conditioner_arguments=arguments).run()
    model = load_progression_model(tmp_path / "models", **arguments)
    assert model.denoiser.conditioner.encode(["A nodule.", "Another one."]).shape == (2, 1, 16)
    samples = ProgressionInferer(num_steps=2, num_runs=2)(torch.zeros(1, 1, 32, 32), model, ["A nodule."])
    assert samples.shape == (1, 2, 32, 32)


def test_the_judge_of_small_and_of_the_paper() -> None:
    judge = bare("train_classifier", "small")
    assert isinstance(value(judge, "network"), ResNetClassifier) and value(judge, "ema_decay") == 0.99
    judge = bare("train_classifier", "small", "paper")
    assert isinstance(value(judge, "network"), ViTClassifier) and value(judge, "max_epochs") == 100


def test_the_judge_learns_from_flips_quarter_turns_and_whole_pixel_shifts(
    make_workflow: Make, tiny_dataset: Path, tmp_path: Path
) -> None:
    """Nothing is blurred, as no crop is that it will judge; and what validates is left alone."""
    workflow = make_workflow("train_classifier", tmp_path, "small", rotations=[0])
    plain, augmented = (value(workflow, f"{part}::preprocessing") for part in ("validate", "train"))
    item = {"image": str(tiny_dataset / "3_t0.nii.gz")}
    crop = np.asarray(plain(item)["image"][0])
    moves = [np.rot90(crop, k)[:, ::flip] for k in range(4) for flip in (1, -1)]
    shifts = [(dx, dy) for dx in range(5) for dy in range(5)]
    views = {move[dx : dx + 28, dy : dy + 28].tobytes() for move in moves for dx, dy in shifts}
    augmented.set_random_state(0)
    seen = [np.asarray(augmented(item)["image"][0, 2:30, 2:30]).tobytes() for _ in range(40)]
    assert set(seen) <= views and len(set(seen)) > 20


def test_settings_are_overridden_at_any_depth(make_workflow: Make, tmp_path: Path) -> None:
    overrides = {"seed": 7, "optimizer::weight_decay": 0.5, "train::trainer::max_epochs": 11}
    workflow = make_workflow("train_classifier", tmp_path, "small", **overrides)
    assert value(workflow, "optimizer").param_groups[0]["weight_decay"] == 0.5
    assert workflow.trainer.state.max_epochs == 11 and value(workflow, "train::sampler").seed == 7


# --- the whole method


@pytest.fixture(scope="module")
def run(make_workflow: Make, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of all stages, with predictions, another run's beside them, a baseline, and evaluation."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(trained / "models", folder / "models")
    make_workflow("inference", folder, "small").run()
    make_workflow("inference", folder / "ablation", "small", models_dir=str(folder / "models"), num_runs=2).run()
    make_workflow("record_only", folder).run()
    others = {
        "compared": {"without alignment": str(folder / "ablation" / "predictions")},
        "tables": {"record alone": str(folder / "baselines" / "record_only.csv")},
    }
    make_workflow("evaluate", folder, "small", **others).run()
    return folder


def test_each_stage_builds_on_the_one_before(trained: Path) -> None:
    names = ("autoencoder", "unet_unconditional", "unet_conditional", "classifier")
    networks = [load_network(trained / "models" / f"{name}.safetensors") for name in names]
    kinds = ["StableDiffusionAutoencoder", "StableDiffusionUNet", "StableDiffusionUNet", "ResNetClassifier"]
    assert [type(network).__name__ for network in networks] == kinds
    assert (networks[1].config["in_channels"], networks[2].config["in_channels"]) == (4, 8)
    assert networks[1].config["context_dim"] == networks[2].config["context_dim"] == 16


def test_predictions_lie_where_the_baseline_lies(run: Path, tiny_dataset: Path) -> None:
    cases = json.loads((tiny_dataset / "datalist.json").read_text())["test"]
    names = {path.name for path in (run / "predictions").iterdir()}
    assert names == {*(case["case_id"] for case in cases), "results.csv"}
    for case in cases:
        folder = run / "predictions" / case["case_id"]
        files = {"samples.nii.gz", "mean.nii.gz", "std.nii.gz", "panel.png", "provenance.json", "result.json"}
        assert {path.name for path in folder.iterdir()} == files
        baseline, samples = nib.load(tiny_dataset / case["baseline"]), nib.load(folder / "samples.nii.gz")
        assert samples.shape == (32, 32, 1, 3)
        np.testing.assert_allclose(samples.affine[:3, :3], baseline.affine[:3, :3], atol=1e-6)
        np.testing.assert_allclose(samples.affine @ [0, 0, 0, 1], baseline.affine @ [48, 48, 0, 1], atol=1e-4)
        assert samples.header["descrip"].item().startswith(b"SYNTHETIC")
        hu = samples.get_fdata()
        assert hu.min() >= -1000 and hu.max() <= 400 and hu.std(axis=-1).max() > 0
        np.testing.assert_allclose(nib.load(folder / "mean.nii.gz").get_fdata(), hu.mean(axis=-1), atol=1.0)


def test_what_is_done_is_not_done_again_and_other_weights_are(make_workflow: Make, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    samples = tmp_path / "run" / "predictions" / "patient-9_n1" / "samples.nii.gz"
    before, written = samples.read_bytes(), samples.stat().st_mtime_ns
    again = make_workflow("inference", tmp_path / "run", "small")
    again.run()
    assert len(again.dataset) == 0 and samples.stat().st_mtime_ns == written

    shutil.rmtree(tmp_path / "run" / "predictions" / "patient-10_n1")
    rest = make_workflow("inference", tmp_path / "run", "small")
    rest.run()
    assert len(rest.dataset) == 1 and samples.stat().st_mtime_ns == written

    path = tmp_path / "run" / "models" / "unet_conditional.safetensors"
    unet, extra = load_network(path), read_metadata(path)["extra"]
    with torch.no_grad():
        next(unet.parameters()).mul_(0.5)
    save_network(unet, path, extra)
    other = make_workflow("inference", tmp_path / "run", "small")
    other.run()
    assert len(other.dataset) == 3 and samples.read_bytes() != before


def test_a_case_is_the_same_alone_and_in_its_section(make_workflow: Make, run: Path, tmp_path: Path) -> None:
    """One case a batch, in another folder: the same samples, but for the rounding to whole HU."""
    shutil.copytree(run / "models", tmp_path / "models")
    make_workflow("inference", tmp_path, batch_size=1).run()
    for case in ("patient-9_n1", "patient-11_n1"):
        first, second = (
            nib.load(folder / "predictions" / case / "samples.nii.gz").get_fdata() for folder in (run, tmp_path)
        )
        np.testing.assert_allclose(first, second, atol=1.0)


def test_evaluation_judges_every_method(run: Path) -> None:
    assert (run / "evaluation" / "report.html").stat().st_size > 1000
    result = json.loads((run / "evaluation" / "metrics.json").read_text())
    methods = {"real_baseline", "real_follow_up", "reconstructed_follow_up", "NAMD"}
    assert methods <= result["methods"].keys()
    for scores in result["methods"].values():
        for metric in ("auroc", "auprc", "lpips", "fid", "kid"):
            assert scores[metric].keys() >= {"mean", "std", "ci95"}
    generated = result["methods"]["NAMD"]
    assert generated["n_runs"] == 3 and all(generated[metric]["std"] is not None for metric in ("auroc", "lpips"))
    with (run / "evaluation" / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "NAMD"]
    cases = [f"patient-{index}_n1" for index in (9, 10, 11)]
    assert sorted((row["case_id"], row["run"]) for row in rows) == sorted((c, str(r)) for c in cases for r in range(3))


def test_evaluation_compares_with_other_runs_and_tables(run: Path) -> None:
    """The other run has the same models and seeds, so that its runs are the first of ours."""
    table = pd.read_csv(run / "evaluation" / "predictions.csv").set_index(["method", "run", "case_id"]).probability
    for index in range(2):
        pd.testing.assert_series_equal(table["without alignment"][index], table["NAMD"][index], rtol=1e-5)
    alone = pd.read_csv(run / "baselines" / "record_only.csv").set_index("case_id").probability
    cases = [f"patient-{index}_n1" for index in (9, 10, 11)]
    assert table["record alone"][0].to_dict() == alone[cases].to_dict()
    methods = json.loads((run / "evaluation" / "metrics.json").read_text())["methods"]
    assert methods["without alignment"]["n_runs"] == 2 and methods["record alone"]["n_runs"] == 1
    others = {"real_baseline", "real_follow_up", "reconstructed_follow_up"}
    others |= {"record alone", "without alignment_mean_probability"}
    assert methods["NAMD_mean_probability"]["auroc_difference"].keys() == others
    assert methods["record alone"]["auroc_difference"].keys() == {"real_baseline", "real_follow_up"}
    html = (run / "evaluation" / "report.html").read_text()
    assert "less without alignment, probability averaged over runs" in html and "less record alone" in html


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"compared": {"other": "ablation/none"}}, "none has no samples.nii.gz for 3 of 3 cases"),
        ({"compared": {"NAMD": "ablation/predictions"}}, "give .*ablation/predictions another name"),
        (
            {"compared": {"other": "predictions"}, "tables": {"other": "baselines/record_only.csv"}},
            "give .*record_only.csv another name",
        ),
        ({"tables": {"real_baseline": "baselines/record_only.csv"}}, "real_baseline cannot name a method"),
        ({"tables": {"other": "baselines/none.csv"}}, "none.csv: no such table"),
        ({"tables": {"other": "baselines/record_only.csv"}, "section": "training"}, "no probability for 6 of 6 cases"),
    ],
)
def test_what_cannot_be_compared_is_named(
    make_workflow: Make, run: Path, tmp_path: Path, others: dict[str, Any], message: str
) -> None:
    shutil.copytree(run / "models", tmp_path / "models")
    for kind in ("compared", "tables"):
        others = {**others, kind: {name: str(run / path) for name, path in others.get(kind, {}).items()}}
    if others.get("section") == "training":
        make_workflow("inference", tmp_path, num_runs=1, num_steps=1, section="training").run()
    else:
        shutil.copytree(run / "predictions", tmp_path / "predictions")
    with pytest.raises(Exception) as caught:  # noqa: B017 (MONAI's, around ours)
        make_workflow("evaluate", tmp_path, **others).run()
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    assert cause is not None and re.search(message, str(cause)), "an error for people"
    assert not (tmp_path / "evaluation").exists()


# --- a bundle somewhere else, from the command line

WITHOUT_INSTALLATION = """
import runpy, sys
sys.path[:] = [path for path in sys.path if path and not path.startswith({checkout!r} + "/bundle")]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
try:
    import scripts
except ImportError:
    sys.argv[0] = "monai.bundle"
    runpy.run_module("monai.bundle", run_name="__main__")
else:
    sys.exit("scripts is still importable")
"""


@pytest.mark.processes
def test_a_copied_bundle_runs_with_its_own_code_and_weights(
    trained: Path, tiny_dataset: Path, tiny_llm: Path, tmp_path: Path
) -> None:
    """One crop and its record, from another folder, with nothing of the project installed and no PYTHONPATH."""
    copy, here = tmp_path / "elsewhere" / "namd", tmp_path / "here"
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("models", "__pycache__"))
    shutil.copytree(trained / "models", copy / "models")
    here.mkdir()
    (here / "ehr.json").write_text(json.dumps(RECORD))
    shutil.copy(tiny_dataset / "4_t0.nii.gz", here / "crop.nii.gz")
    settings = {
        "config_file": copy / "configs" / "inference.yaml",
        "image": "crop.nii.gz",
        "ehr": "ehr.json",
        "interval_days": 400,
        "image_size": 32,
        "num_runs": 2,
        "num_steps": 3,
        "guidance_scale": 2.0,
        "conditioner_arguments": {"llm": str(tiny_llm)},
        "device": "$torch.device('cpu')",
    }
    arguments = [part for key, setting in settings.items() for part in (f"--{key}", str(setting))]
    code = WITHOUT_INSTALLATION.format(checkout=str(BUNDLE.parent))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, "run", *arguments],
        cwd=here,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "1 generated, 0 already there; all in runs/default/predictions" in result.stdout, "the bundle's logging.conf"
    folder = here / "runs" / "default" / "predictions" / "crop"
    assert nib.load(folder / "samples.nii.gz").shape == (32, 32, 1, 2)
    # what was asked for is what came: the same from the Python interface
    from scripts.data.transforms import from_hu, preprocessing
    from scripts.diffusion.sampler import ProgressionInferer, load_progression_model

    model = load_progression_model(copy / "models", llm=tiny_llm)
    crop = preprocessing(["image"], 32)({"image": str(here / "crop.nii.gz")})["image"]
    expected = ProgressionInferer(num_steps=3, num_runs=2, guidance_scale=2.0)(
        crop[None], model, [radiology_report(RECORD, 400)]
    )[0]
    written = from_hu(np.moveaxis(nib.load(folder / "samples.nii.gz").get_fdata()[:, :, 0], -1, 0))
    np.testing.assert_allclose(written, expected, atol=1.01 / 700)


def test_weights_open_without_this_project(trained: Path) -> None:
    for path in sorted((trained / "models").rglob("*.safetensors")):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values()), path.name
