"""Orthanc with the configuration that is shipped, in a network that has nothing but itself."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).resolve().parents[3]

PORT = 8042


class Orthanc:
    """One server, with what is stored in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process = folder, None
        shipped = json.loads((ROOT / "deploy" / "orthanc.json").read_bytes())
        place = {"StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db")}
        users = {"RegisteredUsers": {"namd": "sesame"}, "RemoteAccessAllowed": False, "StableAge": 1}
        (folder / "orthanc.json").write_text(json.dumps(shipped | place | users))
        (folder / "password").write_text("sesame")
        self.url = f"http://127.0.0.1:{PORT}/dicom-web"
        self.session = requests.Session()
        self.session.trust_env, self.session.auth = False, ("namd", "sesame")

    def start(self) -> None:
        """Starts it and waits until it answers; the port may still be taken by the one before."""
        for _ in range(20):
            with (self.folder / "log").open("ab") as log:
                command = ["/usr/sbin/Orthanc", str(self.folder / "orthanc.json")]
                self.process = subprocess.Popen(command, stdout=log, stderr=log)
            for _ in range(100):
                if self.process.poll() is not None:
                    break
                try:
                    if self.session.get(f"http://127.0.0.1:{PORT}/system", timeout=2).ok:
                        return
                except requests.ConnectionError:
                    pass
                time.sleep(0.2)
        pytest.fail((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def get(self, path: str, **terms: str) -> Any:
        """What DICOMweb answers, empty where it finds nothing."""
        answer = self.session.get(f"{self.url}/{path}", params=terms, headers={"Accept": "application/dicom+json"})
        answer.raise_for_status()
        return answer.json() if answer.content else []

    def count(self) -> int:
        """Instances that it holds."""
        return self.session.get(f"http://127.0.0.1:{PORT}/statistics").json()["CountInstances"]


def alone() -> None:
    """Fails where there is a network: Orthanc listens to all of it."""
    found = sorted(path.name for path in Path("/sys/class/net").iterdir())
    links = [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    if links != ["lo"]:
        pytest.fail(f"needs a network namespace of its own, has {', '.join(links or found)}: run make test-deploy")
