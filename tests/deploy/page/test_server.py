"""How the page is served."""

import sys

import pytest

from deploy import cli
from deploy.page import server
from deploy.page.settings import Settings, SettingsError


def test_what_generates_has_the_sites_settings(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr("deploy.page.app.make_app", lambda *asked, **options: made.append((asked, options)))
    monkeypatch.setattr("uvicorn.Server.run", lambda _: None)
    settings = Settings(models_dir=tmp_path, sampling={"num_runs": 3})
    server.serve(settings)
    ((given, predictor), options) = made[0]
    assert given is settings and options == {"warm": True}
    assert predictor.models == tmp_path and predictor.settings == {"num_runs": 3}


def test_options_reach_it(monkeypatch):
    served = []
    monkeypatch.setattr(server, "serve", served.append)
    monkeypatch.setattr("deploy.page.serve", served.append, raising=False)
    options = ["--port", "8043", "--served_as", "page.hospital", "--num_steps", "12", "--solver", "dpmpp"]
    monkeypatch.setattr(sys, "argv", ["deploy", "page", *options])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    sampling = {"num_runs": 20, "solver": "dpmpp", "num_steps": 12}
    assert served == [Settings(port=8043, served_as=("page.hospital",), sampling=sampling)]


def test_what_cannot_be_served_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deploy", "page", "--host", "0.0.0.0"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and "--token_file or --proxy_header" in capsys.readouterr().err


def test_packages_that_are_not_there_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "deploy.serving", raising=False)
    with pytest.raises(SettingsError, match=r"needs uvicorn.*\[page\]"):
        server.serve(Settings())
