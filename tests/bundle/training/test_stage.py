"""A stage's folder is one job's at a time and one run's, and a finished stage is left alone."""

from __future__ import annotations

import gc
import json
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.errors import UserError
from scripts.evaluation.report.training_log import read_curves
from scripts.training import stage
from scripts.training.engines import start_process_group
from scripts.training.stage import BEST, LAST, PUBLISHED, open_stage, read_checkpoint, write_published
from scripts.weights.checkpoints import load_network, read_metadata, save_network
from tests.bundle.helpers import CONFIGS, refusal
from tests.bundle.training.helpers import forked, load

Make = Callable[..., Any]
RECORD = {"seed": 1, "settings": {"learning_rate": 0.1, "max_epochs": 2}, "version": "1", "commit": "a"}
HOLD = (
    "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1] + '/.lock'); lock.acquire(blocking=False); "
)
"""What another job does first."""


@pytest.fixture
def other_job(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that has the folder ``stage`` open."""
    code = HOLD + "print('open', flush=True); sys.stdin.read()"
    (tmp_path / "stage").mkdir()
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "stage")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None and job.stdout.readline() == "open\n"
    yield job
    job.kill()
    job.wait()


def test_a_second_job_is_refused_until_the_first_is_gone_however_it_goes(
    other_job: subprocess.Popen, tmp_path: Path
) -> None:
    message = refusal(lambda: open_stage(tmp_path / "stage", {}, 1, tmp_path))
    assert message.startswith(f"{tmp_path / 'stage'}: another job is training here. Wait")
    assert open_stage(tmp_path / "elsewhere", {}, 1, tmp_path) is not None
    other_job.send_signal(signal.SIGKILL)
    other_job.wait()
    assert (tmp_path / "stage" / ".lock").exists()
    assert open_stage(tmp_path / "stage", {}, 1, tmp_path) is not None


def test_a_refused_job_removes_nothing(other_job: subprocess.Popen, tmp_path: Path) -> None:
    (tmp_path / "stage" / BEST).touch()
    refusal(lambda: open_stage(tmp_path / "stage", {}, 1, tmp_path, restart=True))
    assert (tmp_path / "stage" / BEST).exists()


def test_the_lock_goes_with_what_holds_it(tmp_path: Path) -> None:
    """So that a notebook which has trained a stage does not keep others from it; it may open it again itself."""
    locks = [open_stage(tmp_path / "stage", {}, 1, tmp_path) for _ in range(2)]
    code = HOLD + "print('open')"

    def other() -> str:
        command = [sys.executable, "-c", code, str(tmp_path / "stage")]
        return subprocess.run(command, capture_output=True, text=True).stdout

    assert other() == ""
    del locks
    gc.collect()
    assert other() == "open\n"


def test_other_ranks_hold_no_lock(other_job: subprocess.Popen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    assert open_stage(tmp_path / "stage", {}, 1, tmp_path) is None


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_a_checkpoint_that_was_cut_off_is_named(
    make_workflow: Make, trained: Path, tmp_path: Path, kept: float
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    path = tmp_path / "run" / "classifier" / LAST
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    message = refusal(make_workflow("train_classifier", tmp_path / "run", "small").run)
    assert message.startswith(f"{path}: not a readable checkpoint") and "--restart true" in message
    best = tmp_path / BEST
    best.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match=r"best.pt: not a readable checkpoint"):
        read_checkpoint(best)


def test_restart_forgets_the_run(make_workflow: Make, trained: Path, tmp_path: Path) -> None:
    """Another rate is then learned from the start, and its curves are its own."""
    shutil.copytree(trained, tmp_path / "run")
    folder = tmp_path / "run" / "classifier"
    (folder / "notes.txt").write_text("mine")
    settings = {"learning_rate": 1e-4, "max_epochs": 1}
    make_workflow("train_classifier", tmp_path / "run", "small", restart="true", **settings).run()
    make_workflow("train_classifier", tmp_path / "new", "small", **settings).run()
    again, new = (load(tmp_path / run / "classifier" / LAST) for run in ("run", "new"))
    assert all(torch.equal(again["network"][name], new["network"][name]) for name in new["network"])
    assert again["progress"] == new["progress"] and (folder / "notes.txt").exists()
    curves = [read_curves(tmp_path / run / "classifier") for run in ("run", "new")]
    assert curves[0] == curves[1] and len(curves[0][1]) == 1


def test_restart_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="restart is 'yes', expected true or false"):
        open_stage(tmp_path, {}, 1, tmp_path, restart="yes")


@pytest.mark.parametrize("left", [BEST, "epoch_40.pt", PUBLISHED])
def test_epochs_that_no_run_can_go_on_from_are_not_removed(tmp_path: Path, left: str) -> None:
    """What a run left that ended before its first checkpoint is."""
    folder = tmp_path / "stage"
    folder.mkdir()
    for name in (left, "provenance.json"):
        (folder / name).touch()
    message = refusal(lambda: open_stage(folder, {}, 1, tmp_path))
    assert message.startswith(f"{folder}: holds {left} of an earlier run, but no last.pt to go on from.")
    assert "--restart true" in message
    assert {left, "provenance.json"} <= {path.name for path in folder.iterdir()}
    open_stage(folder, {}, 1, tmp_path, restart=True)
    (folder / "provenance.json").touch()
    open_stage(folder, {}, 1, tmp_path)
    assert {path.name for path in folder.iterdir()} == {".lock"}


def test_a_run_of_nan_publishes_no_older_epoch(make_workflow: Make, trained: Path, tmp_path: Path) -> None:
    """Where the run was restarted."""
    shutil.copytree(trained, tmp_path / "run")
    published = tmp_path / "run" / "models" / "classifier.safetensors"
    before = published.read_bytes()
    nan = {"learning_rate": 1e30, "restart": True}
    message = refusal(make_workflow("train_classifier", tmp_path / "run", "small", **nan).run)
    assert "best.pt: not there, because no validation gave a finite val_loss" in message
    assert published.read_bytes() == before


# --- what is finished


def finished(folder: Path, epoch: int = 2, stopped: bool = False, best_epoch: int = 1) -> Path:
    """A folder with a run of two epochs, published; returns its weights."""
    weights = save_network(torch_network(), folder / "models" / "classifier.safetensors")
    (folder / "stage").mkdir()
    progress = {"epoch": epoch, "stopped": stopped, "best_epoch": best_epoch}
    torch.save({"progress": progress, "record": RECORD}, folder / "stage" / LAST)
    write_published(folder / "stage", RECORD, {"epoch": 1}, [weights])
    return weights


def torch_network() -> Any:
    from scripts.networks.classifiers import ResNetClassifier

    return ResNetClassifier(32, (4, 4, 8, 8))


def ends(folder: Path, record: Any = RECORD, max_epochs: int = 2, models: str = "models") -> bool:
    """Whether the command line would end, with status 0."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scripts.options.command_line.is_command_line", lambda: True)
        patch.setattr(stage, "log_next", lambda: None)
        try:
            open_stage(folder / "stage", record, max_epochs, folder / models)
        except SystemExit as end:
            assert end.code == 0
            return True
    return False


def test_a_finished_stage_is_left_alone(tmp_path: Path) -> None:
    weights = finished(tmp_path)
    assert ends(tmp_path) and ends(tmp_path, RECORD | {"commit": "b", "version": "2"})
    assert ends(tmp_path, max_epochs=1), "validation chose the epoch, of however many"
    save_network(load_network(weights), weights, {"written": "again"})
    assert ends(tmp_path), "the same network"
    assert open_stage(tmp_path / "stage", RECORD, 2, tmp_path / "models") is not None, "other programs go on"


def test_a_finished_stage_ends_every_rank(tmp_path: Path) -> None:
    """Each with status 0 and outside the process group; what is not finished ends none."""
    finished(tmp_path)

    def work() -> None:
        start_process_group()
        assert not ends(tmp_path, max_epochs=3) and torch.distributed.is_initialized()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stage, "is_command_line", lambda: True)
            assert ends(tmp_path) and not torch.distributed.is_initialized()

    forked(2, work)


@pytest.mark.parametrize(("best", "chosen"), [(45, None), (3, 45)])
def test_epochs_after_the_last_one_asked_for_are_not_published(tmp_path: Path, best: int, chosen: int | None) -> None:
    """Neither the best one of a validation, nor one that was kept; of as many or more epochs they are."""
    finished(tmp_path, epoch=60, best_epoch=best)
    record = RECORD | {"settings": {**RECORD["settings"], "publish_epoch": chosen}}
    message = refusal(lambda: open_stage(tmp_path / "stage", record, 30, tmp_path / "models"))
    assert message.startswith(f"{tmp_path / 'stage' / LAST}: epoch 45 of 60 would be published")
    assert "after --max_epochs 30. Give --max_epochs 60" in message
    for epochs in (45, 60, 90):
        open_stage(tmp_path / "stage", record, epochs, tmp_path / "models")


@pytest.mark.parametrize(
    "missing", ["epochs", "weights", "the same weights", "the note", "the same way of publishing", "early stopping"]
)
def test_what_is_not_finished_goes_on(tmp_path: Path, missing: str) -> None:
    weights, record, max_epochs = finished(tmp_path, epoch=1 if missing == "early stopping" else 2), RECORD, 2
    if missing == "epochs":
        max_epochs = 3
    elif missing == "weights":
        weights.unlink()
    elif missing == "the same weights":
        torch.manual_seed(1)
        save_network(torch_network(), weights)
    elif missing == "the note":
        (tmp_path / "stage" / PUBLISHED).unlink()
    elif missing == "the same way of publishing":
        record = RECORD | {"settings": {**RECORD["settings"], "weights_dtype": "float16"}}
    assert not ends(tmp_path, record, max_epochs)


@pytest.mark.parametrize("restart", [True, "true", "True", False, "false", "False"])
def test_restart_in_every_spelling(tmp_path: Path, restart: Any) -> None:
    finished(tmp_path)
    open_stage(tmp_path / "stage", RECORD, 2, tmp_path / "models", restart=restart)
    assert (tmp_path / "stage" / LAST).exists() == (restart in (False, "false", "False"))


def test_weights_are_published_in_another_folder_too(tmp_path: Path) -> None:
    finished(tmp_path)
    assert not ends(tmp_path, models="others")


def test_a_run_that_stopped_early_is_finished(tmp_path: Path) -> None:
    finished(tmp_path, epoch=1, stopped=True)
    assert ends(tmp_path)


def seconds(*command: str) -> tuple[float, str]:
    """The processor's time for a command, which other programs do not stretch, and what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-W", "ignore", *command], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, result.stdout + result.stderr


@pytest.mark.processes
def test_the_command_line_builds_nothing_of_a_finished_stage(
    make_workflow: Make, tiny_settings: dict[str, Any], tiny_dataset: Path, trained: Path, tmp_path: Path
) -> None:
    """The conditional stage, and inference after it: both end before a language model is opened."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    make_workflow("inference", run, "small").run()
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    settings = {**tiny_settings, "dataset_dir": tiny_dataset, "output_dir": run, "models_dir": run / "models"}
    imports, _ = seconds("-c", "import monai.bundle")
    for name, arguments, said in (
        ("train_conditional", ["run", "training"], "nothing to do"),
        ("inference", ["run"], "0 generated, 3 already there"),
    ):
        configs = [str(CONFIGS / f"{each}.yaml") for each in (name, "small")]
        known = "".join(Path(each).read_text() for each in configs)
        options = {name: value for name, value in settings.items() if f"\n{name}:" in known}
        (tmp_path / "tiny.json").write_text(json.dumps(options, default=str))
        configs.append(str(tmp_path / "tiny.json"))
        taken, output = seconds("-m", "monai.bundle", *arguments, "--config_file", str(configs))
        assert said in output and "Opening the language model" not in output
        assert taken - imports < 8, name
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == files


def test_a_finished_stage_keeps_predictions_valid(make_workflow: Make, trained: Path, tmp_path: Path) -> None:
    """Called again from Python it publishes again, in files of other bytes; inference has nothing to do."""
    shutil.copytree(trained, tmp_path / "run")
    make_workflow("inference", tmp_path / "run", "small").run()
    for name in ("autoencoder", "unconditional", "conditional"):
        make_workflow(f"train_{name}", tmp_path / "run", "small").run()
    again = make_workflow("inference", tmp_path / "run", "small")
    again.run()
    assert len(again.dataset) == 0
    assert read_metadata(tmp_path / "run" / "models" / "unet_conditional.safetensors")["extra"]["record"]
