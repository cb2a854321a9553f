import dataclasses
import json

import numpy as np
import pytest

from ihtjax import InputError, SweepConfig


def test_is_frozen_hashable_and_normalises_its_levels():
    config = SweepConfig(levels=[7, 3, 7])
    assert config.levels == (3, 7) and SweepConfig(levels=5).levels == (5,)
    assert config == SweepConfig(levels=(3, 7)) and hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.trials = 3


def test_levels_default_to_all_but_the_dense_one():
    assert SweepConfig().with_levels(15).levels == tuple(range(1, 15))
    assert SweepConfig(levels=(15,)).with_levels(15).levels == (15,)
    with pytest.raises(InputError, match="got 16, expected at most 15"):
        SweepConfig(levels=(3, 16)).with_levels(15)


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": ()},
        {"levels": (0,)},
        {"levels": ("a",)},
        {"levels": (1.5,)},
        {"levels": b"x"},
        {"levels": "three"},
        {"levels": ("5%", 3)},
        {"levels": {3: 5}},
        {"levels": [[3]]},
        {"levels": np.ones((2, 2), int)},
        {"levels": True},
        {"step_size": np.ones(2)},
        {"init": np.array(["normal", "normal"])},
        {"ht_tol": float("nan")},
        {"audit": "yes"},
        {"trials": 1.5},
        {"trials": True},
        {"trials": "10"},
        {"seed": 2**32},
        {"dense": 1},
        {"step_size": "fast"},
        {"ht_tol": 0},
        {"standardize": "test"},
        {"step_size": 1e39},
        {"data": 3},
    ],
)
def test_refuses(wrong):
    (name,) = wrong
    with pytest.raises(InputError, match=f"^{name}: got .*expected"):
        SweepConfig(**wrong)


def test_hash_is_over_what_determines_a_row():
    base = SweepConfig(levels=(3,)).hash("data")
    assert base == SweepConfig(levels=(4, 5), trials=7).hash("data")
    assert base == SweepConfig(data="elsewhere.csv").hash("data")
    others = [{"steps": 9}, {"seed": 1}, {"init": "torch_linear"}, {"dense": False}, {"step_size": 1.0}]
    hashes = [SweepConfig(**other).hash("data") for other in others] + [SweepConfig().hash("other data")]
    assert len({base, *hashes}) == 7


def test_a_new_option_leaves_the_hashes_of_runs_that_are_there():
    """As they were before there was ``theta``, so that each of these runs resumes."""
    assert SweepConfig().hash("data") == "6962b24548d4"
    assert SweepConfig(levels=(3,), step_size="certified", steps=50).hash("data") == "eba050119854"


def test_takes_numpy_numbers():
    config = SweepConfig(levels=np.arange(1, 4), trials=np.int64(5), step_size=np.float32(0.5), dense=np.bool_(False))
    assert config == SweepConfig(levels=(1, 2, 3), trials=5, step_size=0.5, dense=False)
    assert SweepConfig(**json.loads(json.dumps(config.to_json()))) == config


def test_one_step_size_has_one_hash_however_it_is_written():
    assert SweepConfig(step_size=1).hash("data") == SweepConfig(step_size=1.0).hash("data")
    assert SweepConfig(target="species").hash("data") == SweepConfig().hash("data")


def test_more_parameters_than_a_level_can_count_are_refused():
    with pytest.raises(InputError, match="2147483648 parameters, expected at most 2147483647"):
        SweepConfig().with_levels(2**31)
