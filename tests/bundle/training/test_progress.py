"""What somebody sees who starts a training: how far it is, and how it ends."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from ignite.engine import Engine

from scripts.training.progress import EpochLog, Progress

BUNDLE = Path(__file__).resolve().parents[3] / "bundle"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "seen"), [(Terminal(), True), (io.StringIO(), False)])
def test_a_bar_with_loss_and_time_left_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, seen: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    engine = Engine(lambda engine, batch: {"loss": 0.5})
    Progress(lambda output: output["loss"]).attach(engine)
    handlers = logging.getLogger().handlers[:]
    engine.run([0] * 4, max_epochs=3)
    assert logging.getLogger().handlers == handlers, "log lines go where they went before"
    if seen:
        text = stream.getvalue()
        assert "epoch 1 of 3:   0%" in text, "before the first step, which may take long"
        assert re.search(r"epoch 3 of 3: 100%.*12/12, loss=0.5000 \[00:0\d, 00:00 left\]", text)
    else:
        assert stream.getvalue() == ""


def test_a_bar_of_one_pass_names_no_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    engine = Engine(lambda engine, batch: None)
    Progress().attach(engine)
    engine.run([0] * 4)
    assert "4/4" in stream.getvalue() and "epoch" not in stream.getvalue()


def test_the_log_has_a_line_an_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    validator = Engine(lambda engine, batch: None)
    trainer = Engine(lambda engine, batch: float(batch))

    def validate(epoch: int) -> None:
        validator.state.epoch, validator.state.metrics = epoch, {"val_loss": 0.25}

    from ignite.engine import Events

    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda engine: validate(engine.state.epoch))
    EpochLog(tmp_path / "run" / "stage", lambda output: output, validator).attach(trainer)
    with caplog.at_level(logging.INFO):
        trainer.run([1, 2, 6], max_epochs=3)
    lines = [record.message for record in caplog.records if record.name == "scripts.training.progress"]
    assert lines[:2] == [
        "Training stage: 3 epochs of 3 steps at most",
        f"To see its curves: tensorboard --logdir {tmp_path / 'run'}",
    ]
    assert [line.split(";")[0] for line in lines[2:]] == [
        "Epoch 1 of 3: train_loss 3",
        "Epoch 2 of 3: train_loss 3, val_loss 0.25",
        "Epoch 3 of 3: train_loss 3",  # not validated
    ]
    assert all(re.search(r"; 00:0\d left at most$", line) for line in lines[2:])


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "monai.bundle", "run", *map(str, arguments)]


ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def accept_ctrl_c() -> None:
    """Undoes what a shell does to commands in the background: they ignore SIGINT, and so do all that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.processes
def test_ctrl_c_ends_a_training_in_two_lines(tiny_dataset: Path, tiny_settings: dict[str, Any], tmp_path: Path) -> None:
    overlay = tmp_path / "tiny.json"
    overlay.write_text(json.dumps({**tiny_settings, "max_epochs": 100_000}))
    files = f"['{BUNDLE / 'configs' / 'train_classifier.yaml'}','{overlay}']"
    options = {"config_file": files, "dataset_dir": tiny_dataset, "output_dir": tmp_path / "run"}
    options |= {"meta_file": BUNDLE / "configs" / "metadata.json", "logging_file": BUNDLE / "configs" / "logging.conf"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with open(tmp_path / "errors", "w") as errors:
        process = subprocess.Popen(
            command("training", *arguments),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=ENVIRONMENT,
            preexec_fn=accept_ctrl_c,
        )
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line)
            if "Epoch 3 of" in line:
                process.send_signal(signal.SIGINT)
        status = process.wait(60)
        watchdog.cancel()
    text = (tmp_path / "errors").read_text()
    assert status == 130, text
    assert text.rstrip().endswith("Give the same command again to go on from there; an evaluation begins anew.")
    assert "Traceback" not in text + "".join(shown) and "exception" not in text + "".join(shown)
    assert "nvImageCodec" not in text + "".join(shown) and "NvImgCodec" not in text
    assert (tmp_path / "run" / "classifier" / "last.pt").is_file()


@pytest.mark.processes
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "error: crop.nii.gz: no such file."),
        (["--guidance", "3"], "error: guidance is called guidance_scale now: "),
    ],
)
def test_an_error_that_a_person_can_mend_is_one_line_and_status_2(
    tmp_path: Path, options: list[str], line: str
) -> None:
    """Also where it is raised within an engine, which logs what ends it."""
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "logging.conf").write_text((BUNDLE / "configs" / "logging.conf").read_text())
    content = {
        "imports": ["$import scripts", "$from scripts.errors import UserError", "$from ignite.engine import Engine"],
        "step": "$lambda engine, batch: (_ for _ in ()).throw(UserError('crop.nii.gz: no such file.'))",
        "run": ["$Engine(@step).run([0])"],
    }
    (configs / "failing.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "scripts").symlink_to(BUNDLE / "scripts")
    result = subprocess.run(
        command("--config_file", configs / "failing.yaml", *options), capture_output=True, text=True, env=ENVIRONMENT
    )
    assert result.returncode == 2, result.stderr
    own = [text for text in result.stderr.splitlines() if "create_workflow" not in text and "config_file" not in text]
    assert len(own) <= 1 and result.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in result.stdout and "exception" not in result.stdout
