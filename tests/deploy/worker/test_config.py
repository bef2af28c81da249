"""A site's file: what it may say, and what is refused by key."""

import re
from pathlib import Path

import pytest

from deploy.worker import read_config
from scripts.errors import UserError


@pytest.fixture
def read(tmp_path):
    (tmp_path / "password").write_text("sesame\n")

    def of(text):
        (tmp_path / "worker.toml").write_text(text.replace("HERE", str(tmp_path)))
        return read_config(tmp_path / "worker.toml")

    return of


def test_all_that_can_be_said(read, tmp_path):
    config = read(
        'spool = "HERE/spool"\nsecret = "HERE/secret"\nwith_slice = true\nattempts = 3\nwait_s = 0.5\n'
        '[settings]\nsolver = "dpmpp"\nnum_steps = 12\n'
        '[destinations.archive]\nurl = "https://pacs.hospital/dicom-web/"\nuser = "namd"\n'
        'password_file = "HERE/password"\n'
    )
    assert (config.spool, config.secret, config.attempts, config.wait_s) == (
        *(tmp_path / "spool", tmp_path / "secret"),
        *(3, 0.5),
    )
    assert config.settings == {"solver": "dpmpp", "num_steps": 12} and config.with_slice
    archive = config.destinations["archive"]
    assert archive.url == "https://pacs.hospital/dicom-web" and archive.password == "sesame"
    more = read(
        'spool = "HERE/spool"\nkeep_days = 90\nleast_free_mb = 10\nmetrics = "HERE/namd.prom"\n'
        '[tokens]\nradiology = "HERE/password"\n[destinations.archive]\nurl = "https://pacs/"\n'
        '[sources.main]\nurl = "https://pacs.hospital/"\ndestination = "archive"\nae_titles = ["PLANNING"]\n'
        'description = "lung|thin"\n'
    )
    source = more.sources["main"]
    assert (source.url, source.ae_titles, source.modality) == ("https://pacs.hospital", ("PLANNING",), "CT")
    assert (more.keep_days, more.metrics, more.tokens) == (
        *(90, tmp_path / "namd.prom"),
        {"radiology": tmp_path / "password"},
    )
    assert "sesame" not in repr(config) and read('spool = "~/spool"').spool == Path("~/spool").expanduser()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spool = ", "TOML"),
        ("", "spool"),
        ("spool = 1", "spool"),
        ('spool = "a"\ncolour = "red"', "expected spool"),
        ('spool = "a"\nattempts = "many"', "attempts"),
        ('spool = "a"\nattempts = 1.5', "whole"),
        ('spool = "a"\nkeep_days = true', "keep_days"),
        ('spool = "a"\nkeep_days = -1', "keep_days"),
        ('spool = "a"\nwait_s = nan', "wait_s"),
        ('spool = "a"\nwith_slice = 1', "with_slice"),
        ('spool = "a"\n[tokens]\nb = "HERE/nowhere"', "tokens.b"),
        ('spool = "a"\n[sources.b]\nurl = "https://x"\ndestination = "c"', "no table of destinations"),
        ('spool = "a"\n[sources.b]\nurl = "https://x"\nae_titles = "A"', "ae_titles"),
        ('spool = "a"\n[sources.b]\nurl = "https://x"\ndescription = "("', "regular expression"),
        ('spool = "a"\n[destinations.b]\nurl = "https://x"\nmodality = "CT"', "expected url"),
        ('spool = "a"\n[settings]\nmodels = 1', "models"),
        ('spool = "a"\nsettings = 1', "no table"),
        ('spool = "a"\n[settings]\nnum_runs = "20"', r"worker.toml: settings.num_runs = '20'; expected a whole number"),
        ('spool = "a"\n[settings]\nnum_steps = 12.5', "settings.num_steps"),
        ('spool = "a"\n[settings]\nseed = true', "settings.seed"),
        ('spool = "a"\n[settings]\nguidance_scale = "3"', "guidance_scale = '3'; expected a number"),
        ('spool = "a"\n[sources."a/b"]\nurl = "https://x"', "expected a name of letters"),
        ('spool = "a"\ndestinations = ["b"]', "no table"),
        ('spool = "a"\n[destinations.b]\nurl = "ftp://x"', "http or https"),
        ('spool = "a"\n[destinations.b]\nurl = "https://u:p@x/"', "http or https"),
        ('spool = "a"\n[destinations.b]\nurl = "http://pacs/"\nuser = "u"\npassword_file = "HERE/password"', "https"),
        ('spool = "a"\n[destinations.b]\nurl = "https://pacs/"\nuser = "u"', "both"),
        ('spool = "a"\n[destinations.b]\nurl = "https://pacs/"\nca_file = "HERE/nowhere"', "not there"),
        ('spool = "a"\n[destinations.b]\nport = 1', "expected url"),
    ],
)
def test_what_is_wrong_is_refused_by_key(read, text, words):
    with pytest.raises(UserError, match=words):
        read(text)


def test_the_example_of_the_document(read, tmp_path):
    text = (Path(__file__).parents[3] / "deploy" / "worker" / "README.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "token.radiology").write_text("token")
    config = read(example.replace("/etc/namd", str(tmp_path)))
    assert config.destinations["archive"].password == "sesame" and config.settings["solver"] == "dpmpp"
    assert config.sources["orthanc"].destination == "archive" and config.keep_days == 90 and config.tokens
