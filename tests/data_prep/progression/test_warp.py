import numpy as np
import pytest
from scipy import ndimage

from data_prep.progression import warp
from data_prep.progression.warp import follow_up

SPACING = (0.5, 0.8)


def scene(radius=6.0, shape=(120, 90)):
    """A round nodule of soft tissue in lung, off the middle, a wall far from it; its mask."""
    places = (np.indices(shape) - np.array([55, 48])[:, None, None]) * np.array(SPACING)[:, None, None]
    mask = np.hypot(*places) <= radius
    hu = np.where(mask, 40.0, -850.0)
    hu[:8] = 20.0
    return hu.astype(np.float32), mask


@pytest.fixture
def still(monkeypatch):
    """Without noise, and the patient lies as before."""
    for name in ("NOISE_HU", "TURN_DEGREES", "SHIFT_MM"):
        monkeypatch.setattr(warp, name, 0.0)


@pytest.mark.parametrize("growth", [0.65, 0.8, 1.0, 1.3, 2.2])
def test_the_nodule_grows_by_as_much(still, growth):
    """Its mask and, as its edge is drawn out where it shrinks, a little less well the image; where it was."""
    hu, mask = scene()
    later, grown = follow_up(hu, mask, growth, SPACING, np.random.default_rng(0))
    seen = (later > -400) & (np.arange(len(later)) > 12)[:, None]
    assert np.sqrt(grown.sum() / mask.sum()) == pytest.approx(growth, rel=0.04)
    assert np.sqrt(seen.sum() / mask.sum()) == pytest.approx(growth, rel=0.08)
    assert np.array(ndimage.center_of_mass(grown)) == pytest.approx(ndimage.center_of_mass(mask), abs=1.5)


def test_growth_is_not_round(still):
    hu, mask = scene(9.0)
    _, grown = follow_up(hu, mask, 1.6, SPACING, np.random.default_rng(1))
    places = (np.argwhere(grown) - np.argwhere(mask).mean(axis=0)) * SPACING
    reach = [np.hypot(*places[np.abs(np.arctan2(*places.T) - way) < 0.1].T).max() for way in np.linspace(-3, 3, 25)]
    assert 1.05 < max(reach) / min(reach) < (1.6**1.3) / (1.6**0.7) + 0.1


def test_what_is_far_away_stays(still):
    """Beyond the larger of 6 mm and 1.2 radii from the grown nodule."""
    hu, mask = scene()
    hu += np.random.default_rng(0).normal(0, 50, hu.shape).astype(np.float32)
    later, grown = follow_up(hu, mask, 1.5, SPACING, np.random.default_rng(0))
    distance = ndimage.distance_transform_edt(~grown, sampling=SPACING)
    far = distance > max(6.0, 1.2 * np.sqrt(mask.sum() * 0.4 / np.pi)) + 0.1
    assert far.any() and np.abs(later - hu)[far].max() < 0.1
    near = (distance > 0) & (distance < 3)
    assert np.abs(later - hu)[near].mean() > 10


@pytest.mark.parametrize("growth", [0.3, 4.0])
def test_nothing_is_shown_twice(still, growth):
    """Along a line from the centroid, what is shown lies ever farther out."""
    _, mask = scene(4.0)
    out = np.hypot(*((np.indices(mask.shape) - np.array([55, 48])[:, None, None]) * np.array([[[0.5]], [[0.8]]])))
    seen, _ = follow_up(out.astype(np.float32), mask, growth, SPACING, np.random.default_rng(2))
    assert (np.diff(seen[57:, 48]) > -0.05).all()


def test_the_scanner_sees_it_once_more():
    """Noise, a turn and a shift, none of which a nodule that stays escapes."""
    hu, mask = scene()
    hu[:] = -850.0
    hu[:, 60:] = 0.0
    rng = np.random.default_rng(0)
    several = [follow_up(hu, mask, 1.0, SPACING, rng)[0] for _ in range(60)]
    flat = np.array([each[20:100, 5:40] for each in several])
    assert flat.std() == pytest.approx(warp.NOISE_HU, rel=0.03) and flat.mean() == pytest.approx(-850, abs=0.2)
    edges = np.array([[np.argmax(each[row] > -425) for row in (50, 110)] for each in several])
    assert 0 < edges[:, 0].std() < 3 < 4 * edges[:, 1].std()
