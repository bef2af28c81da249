"""How long does the page take, for one user and for eight at once?

    python benchmarks/page.py [--solver dpmpp --num_steps 12] [--threads 2]

It starts `python -m deploy page` as a process of its own on a free port, asks it over loopback, and prints the seconds
until it listens and until its weights are open; of the page's first answer; of 20 samples of the example, warm, as a
browser waits for them (from the request to the last event), median of five, with the server's seconds of CPU; and of
eight users who load the example and ask at the same time.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import requests
import typer

ROOT = Path(__file__).resolve().parents[1]


class Served:
    """A page of its own process.

    Attributes:
        address: of it.
        place: its TMPDIR.
    """

    def __init__(self, place: Path, options: list[str], threads: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address, self.place = f"http://127.0.0.1:{self.port}", place
        path = os.pathsep.join([str(ROOT / "bundle"), str(ROOT)])
        environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(place), "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-W", "ignore", "-m", "deploy", "page", "--port", str(self.port), *options]
        self.log = place.with_suffix(".log").open("w+b")
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=self.log, stderr=self.log)

    def wait(self) -> tuple[float, float]:
        """Seconds until it listens, and until its weights are open."""
        listens = 0.0
        while not listens:
            assert self.process.poll() is None, "the server has gone"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                listens = time.perf_counter() - self.begun
            time.sleep(0.05)
        while b"a case in" not in Path(self.log.name).read_bytes():
            assert self.process.poll() is None, "the server has gone"
            time.sleep(0.05)
        return listens, time.perf_counter() - self.begun

    def cpu(self) -> float:
        """Seconds of CPU that it has used (Linux)."""
        parts = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(options: list[str], threads: int = 2) -> Iterator[Served]:
    """A page that has opened its weights, ended afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tmp"
        place.mkdir()
        server = Served(place, options, threads)
        try:
            yield server
        finally:
            server.process.terminate()
            server.process.wait(60)
            left = [path.name for path in place.iterdir() if path.name.startswith("namd-page-")]
            print(f"left behind at its end: {left or 'nothing'}")


class User:
    """A browser with a session."""

    def __init__(self, address: str) -> None:
        self.address, self.http = address, requests.Session()
        self.http.trust_env = False
        self.answered = self.timed("GET", "/")[0]

    def timed(self, method: str, path: str, **more) -> tuple[float, requests.Response]:
        """Seconds of a request that is answered well."""
        begun = time.perf_counter()
        answer = self.http.request(method, self.address + path, timeout=600, **more)
        answer.raise_for_status()
        return time.perf_counter() - begun, answer

    def load(self) -> dict:
        return self.timed("POST", "/api/scans/example")[1].json()

    def ask(self, scan: dict, age: int) -> tuple[float, dict]:
        """Seconds until 20 samples and their result are there, and the case."""
        record = {**scan["suggested"]["record"], "age": age}
        begun = time.perf_counter()
        asked = {"scan": scan["id"], "point": scan["suggested"]["point"], "record": record}
        case = self.timed("POST", "/api/cases", json=asked)[1].json()
        with self.http.get(f"{self.address}/api/cases/{case['id']}/events", stream=True, timeout=600) as stream:
            lines = [line for line in stream.iter_lines() if line.startswith(b"data: ")]
        seconds = time.perf_counter() - begun
        assert json.loads(lines[-1][6:])["state"] == "done", lines[-1]
        shown = self.timed("GET", f"/api/cases/{case['id']}")[1].json()
        assert shown["num_runs"] == 20
        assert len(self.timed("GET", f"/api/cases/{case['id']}/images")[1].content) == 23 * 64 * 64 * 2
        return seconds, case


def times(solver: str = "ddim", num_steps: int = typer.Option(50, "--num_steps"), threads: int = 2) -> None:
    """One user, then eight."""
    with served(["--solver", solver, "--num_steps", str(num_steps)], threads) as server:
        listens, warm = server.wait()
        print(f"listens after {listens:.1f} s, weights open and example drawn after {warm:.1f} s")
        first = [User(server.address).answered for _ in range(9)]
        print(f"first answer: median {median(first):.3f} s, worst {max(first):.3f} s")
        user = User(server.address)
        scan = user.load()
        user.ask(scan, 60)
        cpu, seconds = server.cpu(), [user.ask(scan, 61 + index)[0] for index in range(5)]
        each = ", ".join(f"{second:.2f}" for second in sorted(seconds))
        print(f"20 samples, {solver} {num_steps}, warm: median {median(seconds):.2f} s of {each}")
        print(f"and {(server.cpu() - cpu) / 5:.2f} s of CPU each")
        eight(server)
        print(f"load {os.getloadavg()[0]:.1f}")


def eight(server: Served) -> None:
    """Eight users at once."""
    waited, faults, start = [], [], threading.Barrier(9)

    def one(number: int) -> None:
        try:
            start.wait()
            user = User(server.address)
            waited.append((user.ask(user.load(), 50 + number)[0], user.answered))
        except Exception as error:
            faults.append(repr(error))

    users = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for user in users:
        user.start()
    begun = time.perf_counter()
    start.wait()
    for user in users:
        user.join()
    seconds, answers = zip(*sorted(waited), strict=True)
    print(
        f"eight at once: {len(waited)} served, {len(faults)} in error, all after {time.perf_counter() - begun:.1f} s, "
        f"first {seconds[0]:.1f} s, last {seconds[-1]:.1f} s, worst first answer {max(answers):.3f} s {faults or ''}"
    )


if __name__ == "__main__":
    typer.run(times)
