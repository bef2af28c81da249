"""What does the page say to 2,000 hostile requests?

    python benchmarks/page_hostile.py [--count 2000]

Requests as raw bytes to a page of its own (see page.py): paths, headers, bodies, bytes, multipart, and whole uploads of
spoilt series and zip files. Answers are counted and searched for paths, other sessions' names and patients; all files
about the server are compared before and after. What is taken, since nothing was wrong with it, is taken back.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bundle"), str(ROOT / "benchmarks")]

from hostile_requests import VALUES, spoilt_bytes, spoilt_dicom, spoilt_json  # noqa: E402
from page import Served, User, served  # noqa: E402

from tests.deploy.archives import HOSTILE, pack  # noqa: E402
from tests.deploy.scans import write_chest  # noqa: E402

SECRETS = ("Doe", "MRN-4711", "ACC-815", "Traceback")
"""Of the drawn patient, and of programs."""


def raw(server: Served, content: bytes) -> tuple[int, bytes]:
    """Status and all bytes of an answer to these bytes; 0 where the server hung up without one.

    Blanks follow, so that what was cut short is whole by its own word, and answered.
    """
    with socket.create_connection(("127.0.0.1", server.port), 150) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(content + b"\r\n\r\n" + b" " * (1 << 17))
        answer = b""
        with contextlib.suppress(OSError):
            while not whole(answer) and (part := connection.recv(1 << 16)):
                answer += part
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0, answer


def whole(answer: bytes) -> bool:
    """Whether all of an answer is there, by its own word; further ones on the same connection are not waited for."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


PATHS = (
    *("/api/cases/../../etc/passwd", "/static/..%2f..%2fapp.py", "/static/....//app.py", "//etc/passwd", "/static/%00"),
    *(
        "/api/scans/{other}/slices/0",
        "/api/cases/{case}",
        "/api/cases/{case}/images",
        "/api/scans/{other}",
        "/docs",
        "?",
    ),
    *(
        "/api/cases/{case}/events",
        "/api/cases/{case}/course",
        "/api/cases/{case}/download/dicom",
        "/static/",
        "/*",
        "\\",
    ),
    *(
        "/api/scans/{mine}/slices/-1",
        "/api/scans/{mine}/slices/9999999999999999999",
        "/api/scans/{mine}/slices/../../x",
    ),
    *(
        "/static/__init__.py",
        "/nowhere?x=<script>",
        "http://evil.example/",
        "/.git/config",
        "/\xff\xfe",
        "/openapi.json",
    ),
    *("/api/cases/{mine}/download/..%2f..%2fsecret", "/api/form%0d%0aX:y", "/api/session/../sessions", "/API/form"),
)
LONG = "/" * 3000


class Attack:
    """Requests of one who has a session, and wants another's."""

    def __init__(self, server: Served, good: Path, draw: random.Random) -> None:
        self.server, self.good, self.draw = server, good, draw
        self.renew()

    def renew(self) -> None:
        """A session of one's own, with the example loaded."""
        self.user = User(self.server.address)
        self.scan = self.user.load()
        self.cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.user.http.cookies)

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json", *more: str) -> bytes:
        """The bytes of a request; ``more`` takes the place of headers with the same names."""
        headers = {"Host": f"127.0.0.1:{self.server.port}", "Cookie": self.cookie, "Connection": "close"}
        headers |= {"Content-Length": str(len(body)), "Content-Type": kind}
        headers |= dict(line.split(": ", 1) for line in more)
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return head.encode("latin-1") + b"\r\n" + body

    def case(self) -> dict:
        return {"scan": self.scan["id"], **self.scan["suggested"], "interval_days": 365}

    def a_path(self, others: dict[str, str]) -> bytes:
        path = self.draw.choice([*PATHS, LONG])
        for name, value in {**others, "mine": self.scan["id"]}.items():
            path = path.replace(f"{{{name}}}", value)
        return self.request(self.draw.choice(["GET", "GET", "POST", "DELETE", "PUT", "TRACE", "X" * 50]), path)

    def a_header(self, _: dict[str, str]) -> bytes:
        line = self.draw.choice(
            [
                *(
                    "Host: evil.example",
                    "Host: 127.0.0.1",
                    f"Host: 127.0.0.1:{self.server.port}.evil.example",
                    "Host: [",
                ),
                *(
                    "Origin: http://evil.example",
                    "Origin: null",
                    "Sec-Fetch-Site: cross-site",
                    "Cookie: namd_session=x.1.y",
                ),
                *(
                    "Content-Length: -1",
                    "Content-Length: 99999999999",
                    "Content-Length: 9" + "9" * 400,
                    "Content-Length: x",
                ),
                *(
                    "Transfer-Encoding: chunked",
                    "Cookie: " + "a=b; " * 3000,
                    "X: " + "x" * 20000,
                    "Cookie: namd_session=;",
                ),
            ]
        )
        return self.request("POST", "/api/cases", json.dumps(self.case()).encode(), "application/json", line)

    def a_body(self, others: dict[str, str]) -> bytes:
        body = spoilt_json({**self.case(), "record": dict(self.scan["suggested"]["record"])}, self.draw)
        if self.draw.random() < 0.3:
            extra = {self.draw.choice(["models_dir", "config_file", "num_runs", "out"]): self.draw.choice(VALUES)}
            body = json.dumps({**self.case(), **extra}).encode()
        if self.draw.random() < 0.2:
            body = json.dumps({**self.case(), "scan": others["other"]}).encode()
        return self.request("POST", self.draw.choice(["/api/cases", "/api/cases", "/api/report"]), body)

    def bytes_alone(self, _: dict[str, str]) -> bytes:
        good = self.request("POST", "/api/report", b'{"record": {"age": 62}}')
        return spoilt_bytes(good, self.draw) if self.draw.random() < 0.8 else self.draw.randbytes(300)

    def a_multipart(self, _: dict[str, str]) -> bytes:
        name = self.draw.choice(
            ["../../../tmp/evil", "a.zip", "/etc/cron.d/evil", "a" * 9000, "a.nii.gz", ".bashrc", "\0"]
        )
        body = f'--cut\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
        body = spoilt_bytes(body + self.draw.randbytes(50) + b"\r\n--cut--\r\n", self.draw)
        return self.request(
            "POST", "/api/scans", body, self.draw.choice(["multipart/form-data; boundary=cut", "text/plain"])
        )

    def a_scan(self, _: dict[str, str]) -> bytes:
        """An upload that arrives whole and is no good scan."""
        files, kind = {path.name: path.read_bytes() for path in self.good.iterdir()}, self.draw.randrange(4)
        if kind == 0:
            with tempfile.TemporaryDirectory() as place:
                study = Path(shutil.copytree(self.good, Path(place) / "study"))
                spoilt_dicom(self.draw.choice(sorted(study.iterdir())), self.draw)
                content = pack(*((path.name, path.read_bytes()) for path in study.iterdir()))
        elif kind == 1:
            content = spoilt_bytes(pack(*files.items()), self.draw)
        elif kind == 2:
            content = pack(*files.items(), ("bomb", bytes(200 << 20)))
        else:
            content = HOSTILE[self.draw.choice([*HOSTILE])](files)
        head = b'--cut\r\nContent-Disposition: form-data; name="files"; filename="a.zip"\r\n\r\n'
        kind = "multipart/form-data; boundary=cut"
        return self.request("POST", "/api/scans", head + content + b"\r\n--cut--\r\n", kind)


def files(*places: Path) -> set[str]:
    """All files below, but what Python and sessions' own folders hold."""
    found = (path for place in places for path in place.rglob("*") if "__pycache__" not in path.parts)
    return {str(path) for path in found if not any(part.startswith("namd-page-") for part in path.parts)}


def hostile(count: int = 2000, seed: int = 1) -> None:
    """So many hostile requests."""
    draw, told, leaks, bad = random.Random(seed), Counter[str](), 0, []
    options = ["--solver", "dpmpp", "--num_steps", "12", "--upload_mb", "64"]
    with tempfile.TemporaryDirectory() as folder, served(options) as server:
        server.wait()
        good = write_chest(Path(folder) / "good")
        honest = User(server.address)
        _, case = honest.ask(honest.load(), 62)
        others = {"case": case["id"], "other": case["scan"]}
        attack = Attack(server, good, draw)
        before, begun = files(server.place, ROOT), time.perf_counter()
        kinds = [attack.a_path, attack.a_header, attack.a_body, attack.bytes_alone, attack.a_multipart]
        for number in range(count):
            if number % 250 == 249:
                attack.renew()
            kind = attack.a_scan if number % 50 == 0 else draw.choice(kinds)
            content = kind(others)
            status, answer = raw(server, content)
            told[f"{kind.__name__} {status}"] += 1
            if status == 202:
                identifier = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
                attack.user.timed("DELETE", f"/api/cases/{identifier}")
            private = [*SECRETS, str(server.place), *others.values()]
            if found := [each for each in private if each.encode() in answer]:
                leaks += 1
                bad.append((found, content[:200], answer[:400]))
            if status == 0 or status >= 500:
                bad.append((kind.__name__, status, content[:300], answer[:300]))
        seconds = time.perf_counter() - begun
        changed = files(server.place, ROOT) ^ before
        for name, times in sorted(told.items()):
            print(f"{times:6d}  {name}")
        by = Counter(name.split()[1][0] for name in told.elements())
        print(
            f"{count} requests in {seconds:.0f} s: {', '.join(f'{n} of {k}xx' for k, n in by.items())}; {leaks} leaks"
        )
        print(f"files changed: {sorted(changed) or 'none'}", *bad[:10], sep="\n")
        honest.timed("GET", f"/api/cases/{case['id']}/download/nifti")
        print(f"an honest user's case is still there, and another takes {honest.ask(honest.load(), 63)[0]:.1f} s")
        log = Path(server.log.name).read_text(encoding="utf-8", errors="replace")
        private = [secret for secret in SECRETS if secret in log]
        print(f"log: {len(log.splitlines())} lines, {private or 'none'} of the secrets in it")


if __name__ == "__main__":
    typer.run(hostile)
