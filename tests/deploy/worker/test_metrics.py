"""What Prometheus reads, by the rules of its text format."""

import re
import time

import pytest

from deploy.worker import Spool
from deploy.worker.metrics import write_metrics


def test_every_number_is_there_with_its_kind(tmp_path):
    spool = Spool(tmp_path / "spool")
    assert write_metrics(tmp_path / "namd.prom", spool, {"done": 0}, {}) is None
    (tmp_path / "study").mkdir()
    item = spool.root / "work" / spool.put(tmp_path / "study")
    item.rename(item.with_name(f"{time.time_ns() - 90 * 10**9}-a"))
    write_metrics(tmp_path / "namd.prom", spool, {"done": 3, "dead": 1}, {"main": 1.8e9, "other": 0.0})
    text = (tmp_path / "namd.prom").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r'namd_[a-z_]+(\{[a-z]+="[a-z ]+"\})? [0-9.e+]+', line) for line in lines)
    told = dict(line.rsplit(" ", 1) for line in lines)
    assert told['namd_requests{state="work"}'] == "1" and told['namd_attempts_total{outcome="done"}'] == "3"
    assert told['namd_waiting_requests{for="its turn"}'] == "1"
    assert float(told['namd_oldest_request_seconds{for="its turn"}']) == pytest.approx(90, abs=10)
    answers = [told[f'namd_source_last_answer_timestamp_seconds{{source="{name}"}}'] for name in ("main", "other")]
    assert answers == ["1800000000", "0"]
    assert float(told["namd_last_round_timestamp_seconds"]) == pytest.approx(time.time(), abs=10)
    assert {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")} == {
        name.partition("{")[0] for name in told
    }
    assert (tmp_path / "namd.prom").stat().st_mode & 0o777 == 0o644 and len([*tmp_path.glob("*.prom*")]) == 1
