"""Numbers for Prometheus, as a file that node_exporter's textfile collector reads: no port, and no library."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from deploy.worker.spool import Spool


def write_metrics(path: Path, spool: Spool, outcomes: Mapping[str, int], answered: Mapping[str, float]) -> None:
    """Writes the worker's state, whole or not at all, readable by everybody: it names no request.

    Args:
        path: ends with ``.prom`` and lies in the collector's folder.
        spool: is counted.
        outcomes: of attempts since the worker began, by name.
        answered: when each source last did, by name, in seconds since 1970; 0: not since the worker began.
    """
    waits, now = spool.waits(), time.time()
    families: dict[tuple[str, str, str], dict[str, float]] = {
        ("namd_requests", "gauge", "Requests and results by where they lie"): {
            f'{{state="{name}"}}': count for name, count in spool.status().items()
        },
        ("namd_attempts_total", "counter", "Attempts to answer since the worker began"): {
            f'{{outcome="{name}"}}': count for name, count in sorted(outcomes.items())
        },
        ("namd_waiting_requests", "gauge", "Requests not answered, by what they wait for"): {
            f'{{for="{what}"}}': count for what, (count, _) in waits.items()
        },
        ("namd_oldest_request_seconds", "gauge", "Since the oldest of them came"): {
            f'{{for="{what}"}}': max(now - since, 0.0) for what, (_, since) in waits.items()
        },
        ("namd_source_last_answer_timestamp_seconds", "gauge", "When a source last answered; 0 is not yet"): {
            f'{{source="{name}"}}': when for name, when in answered.items()
        },
        ("namd_free_bytes", "gauge", "On the disk of requests"): {"": shutil.disk_usage(spool.root).free},
        ("namd_last_round_timestamp_seconds", "gauge", "When the worker last looked"): {"": now},
    }
    lines = []
    for (name, kind, meaning), values in families.items():
        lines += [f"# HELP {name} {meaning}.", f"# TYPE {name} {kind}"]
        lines += [f"{name}{labels} {value:.15g}" for labels, value in values.items()]
    new = path.with_suffix(".new")  # the collector reads all that ends with .prom
    new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)
