import numpy as np
import pytest
import reference

from ihtjax import InputError, SweepConfig, best_subset, build_atlas, hard_threshold, restart_budget
from ihtjax.study.starts import best_of, run_starts, starts_for, success_interval

CONFIG = SweepConfig(steps=2000, step_size=0.6, curve_points=0, precision="float64")
S = 3


@pytest.fixture(scope="module")
def found():
    return build_atlas(CONFIG, S, data_seed=5, starts=64)


@pytest.fixture(scope="module")
def split():
    return run_starts(CONFIG, S, 5, 2)[0]


def test_the_atlas_holds_every_support_and_every_start(found):
    assert len(found.points) == 455 and found.points.landings.sum() == 64
    assert found.points.infimum.is_monotonic_increasing and found.points.full_block.sum() == 5


def test_its_best_point_is_the_oracles(found, split):
    best = best_subset(split.X, split.y, S)
    group = found.points[found.points.group == 0]
    assert group.infimum.min() == pytest.approx(best.loss, abs=1e-9) and len(group) == best.n_best


def test_starts_end_no_lower_than_their_supports_infimum(found):
    points = found.points.set_index("support").infimum
    names = np.array([f"w{k}{f}" for k in (1, 2, 3) for f in (1, 2, 3, 4)] + ["b1", "b2", "b3"])
    ends = points[[" ".join(names[theta != 0]) for theta in found.starts.theta]].to_numpy()
    assert (found.starts.loss >= ends - 1e-9).all() and found.arrived == (found.starts.loss <= ends + 1e-3).mean()


def test_ht_stable_points_are_where_iht_stays(found, split):
    """Where a start arrived at an HT-stable minimiser, another step changes nothing."""
    stays = 0
    for theta in found.starts.theta:
        slope = reference.gradient(theta[None], split.X[None], split.y[None])[0]
        if np.abs(slope[theta != 0]).max() < 1e-6:
            after = np.asarray(hard_threshold((theta - 0.6 * slope).astype(np.float32), S))
            np.testing.assert_allclose(after, theta, atol=1e-5)
            stays += 1
    assert stays > 5


def test_the_budget_counts_starts_near_the_optimum(found, split):
    config = SweepConfig(levels=(S,), steps=2000, step_size=0.6, curve_points=0, precision="float64")
    (row,) = restart_budget(config, 5, starts=64, epsilon=0.05).itertuples()
    assert row.infimum == pytest.approx(best_subset(split.X, split.y, S).loss, abs=1e-9)
    assert row.successes == (found.starts.loss <= row.infimum + 0.05).sum()
    assert row.p_low <= row.p <= row.p_high and row.n95_low <= row.n95 <= row.n95_high


def test_the_n_for_95_percent():
    assert starts_for(0.1) == 29 and best_of(0.1, 29) >= 0.95 > best_of(0.1, 28)
    assert starts_for(0.0) == np.inf and starts_for(1.0) == 1
    low, high = success_interval(0, 100)
    assert low == 0 and high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_wrong_calls_get_one_line():
    with pytest.raises(InputError, match="step_size: missing, expected a number"):
        build_atlas(SweepConfig(), 3, 5)
    with pytest.raises(InputError, match="s: got 16"):
        build_atlas(CONFIG, 16, 5)
    with pytest.raises(InputError, match="data_seed: got -1"):
        build_atlas(CONFIG, 3, -1)
    with pytest.raises(InputError, match="epsilon: got 0"):
        restart_budget(CONFIG, 5, epsilon=0)
