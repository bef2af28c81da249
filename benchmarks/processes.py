"""Running a benchmark's task in a process of its own, and measuring its memory. Linux only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
GB = 1e9
RESERVE = 0.8 * GB
"""Bytes that are left for other programs."""


def run(task: Any, script: str) -> dict[str, Any]:
    """A task in a process of its own, with ``anonymous`` bytes at their peak; ``error`` where it ended early.

    The process is ``script --task JSON``; the last line that it prints is the result, as JSON.

    It is stopped before the machine, on which others may run, is out of memory.
    """
    command = [sys.executable, "-W", "ignore", script, "--task", json.dumps(asdict(task))]
    path = os.pathsep.join(filter(None, [str(BUNDLE), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    anonymous, error = 0, None
    while child.poll() is None:
        anonymous = max(anonymous, memory(f"/proc/{child.pid}/status", "RssAnon"))
        left = memory("/proc/meminfo", "MemAvailable")
        if anonymous > task.limit * GB or left < RESERVE:
            error = f"stopped at {anonymous / GB:.1f} GB anonymous, {left / GB:.1f} GB left"
            child.kill()
            child.wait()
        time.sleep(0.05)
    output = child.stdout.read().splitlines() if child.stdout else []
    if child.returncode:
        return {"error": error or f"ended with status {child.returncode}"}
    return json.loads(output[-1]) | {"anonymous": anonymous}


def start(task: Callable[..., Any], measure: Callable[[Any], dict[str, Any]], main: Callable[..., None]) -> None:
    """A script's own beginning: it measures the task that :func:`run` gave it, or is the command line."""
    if sys.argv[1:2] == ["--task"]:
        print(json.dumps(measure(task(**json.loads(sys.argv[2])))))
    else:
        typer.run(main)


def memory(file: str, name: str) -> int:
    """An entry of a file in /proc, in bytes; 0 where there is none."""
    with suppress(OSError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
