import numpy as np
import pytest
import yaml

from data_prep.errors import DataError
from data_prep.progression import laws
from data_prep.progression.laws import FOLDER, LAWS, OUTCOMES, read


def test_the_laws_that_come_with_it():
    assert LAWS == ("published", "real")
    published, real = read("published"), read("real")
    assert real.outcome == published.outcome == {1: 0.03, 2: 0.08, 3: 0.22, 4: 0.45, 5: 0.70}
    assert real.shares == published.shares and real.age == published.age
    assert published.shares["female"] == (0.36, 0.58) and published.shares["upper_lobe"] == (0.44, 0.74)
    for name in laws.RELATIVES:
        benign, malignant = published.shares[name]
        assert malignant == pytest.approx(2.3 * benign)
    assert published.prior([1, 2.5, 5]).tolist() == pytest.approx([0.03, 0.15, 0.70])


def test_intervals_have_the_quantiles_of_the_law():
    law, rng = read("real"), np.random.default_rng(0)
    days = np.array([law.draw_interval(rng) for _ in range(4000)])
    assert (days % 1 == 0).all() and days.min() >= 159 and days.max() <= 649
    expected = [law.interval[share] for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert np.quantile(days, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx(expected, abs=6)
    assert read("published").draw_interval(rng) == 365.25


def test_a_law_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("like: real\noutcome: {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1, 5: 0.9}\n")
    law = read(str(path))
    assert law.name == "mine" and law.prior(4) == 0.1
    assert law.interval == read("real").interval and set(law.content) == set(laws.KEYS)


WRONG = {
    "outcome: expected a probability": ("outcome", {1: 0.1}),
    "interval_days: expected days": ("interval_days", {0.0: 300, 1.0: 200}),
    "growth, malignant: expected a list": (
        "growth",
        {"benign": [{"kind": "uniform", "share": 1, "low": 1, "high": 2}]},
    ),
    "component 1: kind is 'linear'": ("growth", dict.fromkeys(OUTCOMES, [{"kind": "linear"}])),
    "component 1: expected numbers for share, low, high": ("growth", dict.fromkeys(OUTCOMES, [{"kind": "uniform"}])),
    "limits that rise": (
        "growth",
        dict.fromkeys(OUTCOMES, [{"kind": "uniform", "share": 1, "low": 2, "high": 1}]),
    ),
    "shares that sum to 1": (
        "growth",
        dict.fromkeys(OUTCOMES, [{"kind": "uniform", "share": 0.5, "low": 1, "high": 2}]),
    ),
    "record, female: expected a share": ("record", {"female": {"malignant": 1.2, "benign": 0}}),
    "rates: unknown": ("rates", 3),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_law_is_refused_with_what_was_expected(tmp_path, fault):
    key, value = WRONG[fault]
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((FOLDER / "published.yaml").read_text()), key: value}))
    with pytest.raises(DataError, match=fault):
        read(str(path))


def test_no_law(tmp_path):
    with pytest.raises(DataError, match="expected published, real, or a YAML file"):
        read("reel")
    (tmp_path / "a.yaml").write_text("like: something")
    with pytest.raises(DataError, match="like is 'something'"):
        read(str(tmp_path / "a.yaml"))
    (tmp_path / "a.yaml").write_text("{")
    with pytest.raises(DataError, match="cannot be read as YAML"):
        read(str(tmp_path / "a.yaml"))
