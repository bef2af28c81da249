"""Under which options the page is served, and under which it is not."""

import pytest

from deploy.page.settings import Settings, SettingsError


@pytest.fixture
def files(tmp_path):
    for name, text in (
        ("token", "a-token-of-the-site"),
        ("short", "short"),
        ("open", "a-token-of-the-site"),
        ("pem", ""),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "open" else 0o600)
    (tmp_path / "binary").write_bytes(b"\xff" * 20)
    return tmp_path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "others could ask"),
        ({"host": "pacs"}, "expected an address"),
        ({"host": "0.0.0.0", "token_file": "token"}, "unencrypted"),
        ({"token_file": "short"}, "16 or more"),
        ({"token_file": "open"}, "others may read it"),
        ({"token_file": "absent"}, "not readable"),
        ({"token_file": "binary"}, "not readable"),
        ({"token_file": "token", "proxy_header": "X-User"}, "one of both"),
        ({"certificate": "pem"}, "expected both"),
        ({"certificate": "pem", "key": "absent"}, "no such file"),
    ],
)
def test_what_would_be_open_or_unencrypted_is_refused(files, options, words):
    places = {
        name: files / value if name in ("token_file", "certificate", "key") else value
        for name, value in options.items()
    }
    with pytest.raises(SettingsError, match=words):
        Settings(**places)


def test_what_is_safe_is_taken(files):
    assert not Settings().secure and Settings().token() == ""
    assert Settings(token_file=files / "token").token() == "a-token-of-the-site"
    own = Settings(host="0.0.0.0", token_file=files / "token", certificate=files / "pem", key=files / "pem")
    assert own.secure and Settings(host="10.0.0.1", proxy_header="X-User").secure
    assert {"localhost", "page.hospital"} <= Settings(served_as=("Page.Hospital",)).names
