"""Every argument of every public function with values that no argument should have."""

import dataclasses
import decimal
import fractions
import inspect
import itertools
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import ihtjax
from ihtjax import InputError, SweepConfig
from ihtjax.sweeps.store.run import RunDirectory

KEY = jax.random.key(0)
ODD = {
    # First, while there is something left to certify.
    "number of NumPy": np.int64(2),
    "level of NumPy": [np.int64(3)],
    "None": None,
    "True": True,
    "nan": float("nan"),
    "inf": float("inf"),
    "-1": -1,
    "0": 0,
    "2.5": 2.5,
    "10^400": 10**400,
    "complex": 1j,
    "Fraction": fractions.Fraction(1, 2),
    "Decimal": decimal.Decimal(1),
    "text": "x",
    "no text": "",
    "null byte": "a\0b",
    "bytes": b"x",
    "list": [],
    "nested": [[1], [2, 3]],
    "dict": {},
    "set": {1.5},
    "object": object(),
    "type": int,
    "function": lambda *_: None,
    "path": pathlib.Path("there/is/none.csv"),
    "NaNs": np.full(4, np.nan),
    "integers": np.arange(4),
    "matrix": np.ones((2, 2)),
    "scalar": np.float32(1.5),
    "empty": np.zeros(0),
    "objects": np.array([None, "x"], object),
    "texts": np.array(["x"]),
    "complexes": np.ones(4, complex),
    "integers of JAX": jnp.arange(3),
    "key": KEY,
    "config": SweepConfig(step_size=0.5, steps=5, curve_points=0, levels=(15,)),
}
CONFIG = ODD["config"]
X, Y = np.array([[-2.0], [-1.0], [0.0], [1.0], [2.0]]), np.array([0, 1, 0, 1, 1])


def half_square(x):
    return jnp.sum(x**2) / 2


CALLS = {
    "SweepConfig": {field.name: field.default for field in dataclasses.fields(SweepConfig)},
    "best_subset": {"X": X, "y": Y, "s": 1, "loss": "squared"},
    "best_subsets": {"X": X, "y": Y, "levels": [1], "classes": 2},
    "build_atlas": {"config": CONFIG, "s": 15, "data_seed": 1, "starts": 1},
    "canonical_network": {"theta": np.ones(4), "sizes": (1, 1, 1), "activation": "tanh"},
    "canonical_parameters": {"theta": np.ones(4), "classes": 2, "tolerance": 0.0},
    "canonical_support": {"support": np.ones(4, bool), "classes": 2},
    "certify": {"theta": np.ones(2), "gradient": np.zeros(2), "step_size": 0.5, "s": 2, "ht_tol": 1e-3},
    "estimate_lipschitz": {"key": KEY, "gradient": lambda x: x, "draw": jax.random.normal, "n": 4, "s": 2}
    | {"n_monte": 3},
    "existence": {"X": X, "y": Y, "support": np.ones(2, bool), "loss": "logistic"},
    "glm_bounds": {"X": X, "curvature": 0.25, "s": 1, "outputs": 1, "constant": True, "reached": np.ones(5, bool)},
    "hard_threshold": {"v": np.ones(4), "s": 2},
    "iht": {"learning_rate": 0.1, "s": 2},
    "iht_step": {"gradient": lambda x: x, "theta": np.ones(4), "step_size": 0.5, "s": 2},
    "keep_largest": {"s": 2},
    "restart_budget": {"config": CONFIG, "data_seed": 1, "starts": 1, "epsilon": 0.1, "confidence": 0.9, "batch": None},
    "softmax_bounds": {"X": X, "classes": 2, "s": 1},
    "solve": {"f": half_square, "theta0": np.ones(4), "s": 2, "step_size": 0.5, "steps": 2, "n_monte": 3}
    | {"key": KEY, "ht_tol": 1e-3},
    "squared_error_bounds": {"X": np.eye(3), "s": 1},
    "trial_inputs": {"config": CONFIG, "s": 3, "data_seed": 1, "init_seed": 2, "support_seed": 3},
}
CALLS_WITH_A_RUN = {
    "certify_run": {"levels": (7,), "trials": 1, "enumerate_supports": False},
    "claims": {"only": "table-1"},
    "drawn": {"only": "table1"},
    "figures": {"format": "png", "only": ["table1"]},
    "gaps": {},
    "load": {"table": "trials", "columns": ["trial"], "verify": True},
    "report": {"others": ()},
    "summary": {},
    "sweep": {"batch": None, "overwrite": False},
}
# What the caller's own function raises is the caller's.
THEIRS = ("f", "gradient", "draw")


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_odd_arguments_work_or_get_a_line(name):
    function = getattr(ihtjax, name)
    function(**CALLS[name])
    refused = 0
    for argument, (what, odd) in itertools.product(CALLS[name], ODD.items()):
        if what == "type" and argument in THEIRS:
            continue
        try:
            function(**CALLS[name] | {argument: odd})
        except InputError as error:
            refused += 1
            assert re.match(r"[\w ]+: ", str(error)) and "\n" not in str(error) and "--" not in str(error)
        except Exception as error:
            pytest.fail(f"{name}({argument}={what}): {type(error).__name__}: {error}")
    assert refused > len(CALLS[name]) * len(ODD) / 2


@pytest.mark.parametrize("name", CALLS_WITH_A_RUN)
@pytest.mark.filterwarnings("ignore")
def test_odd_arguments_beside_a_run_work_or_get_a_line(name, small, small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(small_run, tmp_path / "run")
    function = getattr(ihtjax, name)
    others = CALLS_WITH_A_RUN[name] | ({"config": small} if name == "sweep" else {})
    if name == "report":
        monkeypatch.setattr("ihtjax.paper.page.pictures", lambda *_: [])
    if name == "certify_run":
        function(run, **others)
    for argument, (what, odd) in itertools.product(("run_dir", *others), ODD.items()):
        if argument == "run_dir" and name == "sweep" and what == "text":
            continue  # a new run, which is right
        if argument == "config" and what == "config":
            continue
        try:
            outcome = function(**{"run_dir": run} | others | {argument: odd})
            list(outcome) if name == "drawn" else None
        except InputError as error:
            assert "\n" not in str(error) and " --" not in str(error)
        except Exception as error:
            pytest.fail(f"{name}({argument}={what}): {type(error).__name__}: {error}")
    assert len(ihtjax.load(run)) >= 60 and not RunDirectory(run).survey().broken


def test_every_public_function_is_tried():
    functions = {name for name in ihtjax.__all__ if inspect.isfunction(getattr(ihtjax, name))}
    assert {*functions, "SweepConfig"} == {*CALLS, *CALLS_WITH_A_RUN}


# Filters of `load`, held against pandas on the same table.

ASKED = {
    "one": ("s", 3, lambda rows: rows.s == 3),
    "several": ("s", [3, 15], lambda rows: rows.s.isin([3, 15])),
    "a tuple": ("s", (3, 15), lambda rows: rows.s.isin([3, 15])),
    "an iterator": ("s", (s for s in (3, 15)), lambda rows: rows.s.isin([3, 15])),
    "a range": ("trial", range(4), lambda rows: rows.trial < 4),
    "of NumPy": ("s", np.array([3, 15]), lambda rows: rows.s.isin([3, 15])),
    "one of NumPy": ("s", np.int64(3), lambda rows: rows.s == 3),
    "of pandas": ("s", pd.Series([3, 15]), lambda rows: rows.s.isin([3, 15])),
    "of JAX": ("s", jnp.array([3, 15]), lambda rows: rows.s.isin([3, 15])),
    "a whole real number": ("s", 3.0, lambda rows: rows.s == 3),
    "text": ("method", "gd", lambda rows: rows.method == "gd"),
    "a truth value": ("ht_stable", True, lambda rows: rows.ht_stable),
    "null": ("steps_to_stop_loss", None, lambda rows: rows.steps_to_stop_loss.isna()),
    "pandas' null": ("steps_to_stop_loss", pd.NA, lambda rows: rows.steps_to_stop_loss.isna()),
    "null among others": ("epsilon", [None, 0.0], lambda rows: rows.epsilon.isna() | (rows.epsilon == 0)),
    "zero": ("epsilon", 0.0, lambda rows: rows.epsilon == 0),
    "the other zero": ("epsilon", [-0.0], lambda rows: rows.epsilon == 0),
    "nothing": ("s", [], lambda rows: rows.s != rows.s),
    "what no row has": ("s", 4, lambda rows: rows.s != rows.s),
}


@pytest.mark.parametrize("column, value, expected", ASKED.values(), ids=ASKED)
def test_filters_select_what_pandas_selects(small_run, column, value, expected):
    rows = pd.concat(pd.read_parquet(path) for path in sorted((small_run / "trials").glob("*.parquet")))
    wanted = rows[expected(rows)]
    found = ihtjax.load(small_run, **{column: value})
    assert found[["method", "s", "trial"]].values.tolist() == wanted[["method", "s", "trial"]].values.tolist()


@pytest.mark.parametrize("column", ["s", "trial", "method", "train_loss", "ht_stable", "theta", "no_such_column"])
def test_odd_filters_work_or_get_a_line_that_blames_no_file(small_run, column):
    refused = 0
    for what, odd in (ODD | {"10^30": 10**30, "a slice": slice(0, 3), "surrogate": "\ud800", "40000": 40_000}).items():
        try:
            ihtjax.load(small_run, **{column: odd})
        except InputError as error:
            refused += 1
            assert re.match(f"{column}: |trials has no column", str(error)) and "\n" not in str(error), what
            assert "verify" not in str(error), what
    assert refused > len(ODD) / 2


@pytest.mark.parametrize("value", [2.5, "3", True, 10**30, slice(0, 3), [3, "x"]], ids=str)
def test_a_filter_that_no_row_can_have_is_told(small_run, value):
    with pytest.raises(InputError, match="^s: got .*, expected a value of type int32, or a list of them$"):
        ihtjax.load(small_run, s=value)


def test_columns_are_asked_for_in_any_order_and_once(small_run):
    assert list(ihtjax.load(small_run, columns=iter(["trial", "s"]))) == ["trial", "s"]
    with pytest.raises(InputError, match="^columns: got 's' twice, expected each name once$"):
        ihtjax.load(small_run, columns=["s", "trial", "s"])
