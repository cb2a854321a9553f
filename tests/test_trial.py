import dataclasses
import functools
import types

import jax
import jax.export
import numpy as np
import pytest
import reference

from ihtjax import SweepConfig, iht_step, load, sweep, trial_inputs
from ihtjax.solvers import draws
from ihtjax.solvers.iht import IHT
from ihtjax.sweeps.engine import GPU_BATCH, make_engine, make_problem, run_block
from ihtjax.sweeps.programs import BEGIN_IGNORES, DESCEND_IGNORES, END_IGNORES, IGNORED, dependences, programs
from ihtjax.sweeps.single import run_trial
from ihtjax.sweeps.trial import begin, curve_steps, descend, end, lanes, settings_of

IRIS = make_problem(SweepConfig())
# What compiled programs depend on, alike in most tests; up to 105 steps all are points.
PAPERS = {"n_monte": 100, "curve_points": 106}


def run(config, s, trials=8, seed=0):
    """Some trials of one level, and the curve."""
    seeds = np.random.default_rng(seed).integers(2**32, size=(3, trials), dtype=np.uint32)
    return run_block(make_engine(make_problem(config), IHT(), config, 16), seeds, s) + (seeds,)


def compare(config, frame):
    """Share of equal supports and largest loss difference against float64 NumPy on the same inputs."""
    theta, loss, _, _ = reference.run_rows(config, list(frame.itertuples()), trial_inputs)
    same = ((np.stack(frame.theta) != 0) == (theta != 0)).all(axis=1)
    return same.mean(), np.abs(frame.train_loss - loss).max()


def test_the_papers_run_agrees_with_float64_numpy(tmp_path):
    """10,000 steps at every level and for the dense baseline: 15 x 8 trials."""
    config = SweepConfig(**PAPERS, trials=8)
    frame = load(sweep(config, tmp_path / "run", batch=16))
    assert len(frame) == 15 * 8
    same, off = compare(config, frame)
    assert same >= 0.995 and off < 1e-4


@pytest.mark.parametrize("name, step_size", [("wine", 0.4), ("breast_cancer", 0.15)])
def test_other_tables_agree_too(tables, tmp_path, name, step_size):
    levels = (1, 5, 20)
    config = SweepConfig(
        data=str(tables[name]), target="kind", levels=levels, trials=20, steps=1000, step_size=step_size
    )
    frame = load(sweep(config, tmp_path / "run"))
    assert sorted(frame.s.unique()) == [*levels, len(frame.theta[0])]
    same, off = compare(config, frame)
    assert same >= 0.98 and off < 1e-4


def test_counters_and_metrics_agree_with_float64_numpy(tmp_path):
    config = SweepConfig(**PAPERS, levels=(4,), trials=12, steps=500, precision="float64", dense=False)
    frame = load(sweep(config, tmp_path / "run", batch=16))
    rows = list(frame.itertuples())
    theta, loss, changes, last = reference.run_rows(config, rows, trial_inputs)
    np.testing.assert_allclose(np.stack(frame.theta), theta, atol=1e-9)
    np.testing.assert_allclose(frame.train_loss, loss, atol=1e-12)
    assert frame.n_support_changes.tolist() == changes.tolist()
    assert frame.last_support_change.tolist() == last.tolist()
    for i, r in enumerate(rows):
        inputs = trial_inputs(config, 4, r.data_seed, r.init_seed, r.support_seed)
        X, y = inputs["X_train"][None], inputs["y_train"][None]
        X_test, y_test = inputs["X_test"][None], inputs["y_test"][None]
        g = reference.gradient(theta[i : i + 1], X, y)[0]
        on = theta[i] != 0
        assert np.count_nonzero(inputs["theta0"]) == 4
        np.testing.assert_allclose(r.theta0, inputs["theta0"])
        assert r.test_loss == pytest.approx(reference.loss(theta[i : i + 1], X_test, y_test)[0])
        assert r.train_accuracy == pytest.approx(reference.accuracy(theta[i : i + 1], X, y)[0])
        assert r.test_accuracy == pytest.approx(reference.accuracy(theta[i : i + 1], X_test, y_test)[0])
        assert r.n_nonzero == on.sum()
        assert r.grad_on_support == pytest.approx(np.abs(g[on]).max(), abs=1e-9)
        assert r.grad_off_support == pytest.approx(np.abs(g[~on]).max(), abs=1e-9)
        assert r.min_on_support == pytest.approx(np.abs(theta[i][on]).min(), abs=1e-9)
        assert r.ht_margin == pytest.approx(r.min_on_support - r.step_size * r.grad_off_support)
        assert r.step_size == pytest.approx(1 / r.lipschitz_estimate)


def test_precision_does_not_change_what_is_drawn():
    single, double = (SweepConfig(**PAPERS, steps=10, precision=its) for its in ("float32", "float64"))
    a, b = (run(config, 5)[0] for config in (single, double))
    np.testing.assert_array_equal(a.theta0, b.theta0.astype(np.float32))
    # rounding where a draw's smallest entry is tiny; 1.6e-4 at s = 3 is the worst of 1,024 trials
    np.testing.assert_allclose(a.step_size, b.step_size, rtol=1e-3)
    assert b.theta.dtype == np.float64 and a.theta.dtype == np.float32


def test_the_dense_baseline_is_gradient_descent():
    config = SweepConfig(**PAPERS, steps=50)
    result, _, seeds = run(config, 15, trials=4)
    for i in range(4):
        inputs = trial_inputs(config, 15, *map(int, seeds[:, i]))
        X, y = inputs["X_train"][None].astype(float), inputs["y_train"][None]
        theta = inputs["theta0"][None].astype(float)
        for _ in range(50):
            theta = theta - float(result.step_size[i]) * reference.gradient(theta, X, y)
        np.testing.assert_allclose(result.theta[:, i], theta[0], atol=1e-5)
    assert (result.n_support_changes == 0).all() and (result.last_support_change == 0).all()


def test_a_lane_depends_on_its_own_seeds_alone():
    """The same trial among others, at another place and in another batch of the same size."""
    config = SweepConfig(**PAPERS, steps=200)
    a, curve_a, seeds = run(config, 6, trials=16)
    engine = make_engine(make_problem(config), IHT(), config, 16)
    shuffled = np.random.default_rng(1).permutation(16)
    b, curve_b = run_block(engine, seeds[:, shuffled], 6)
    alone, _ = run_block(engine, seeds[:, 3:4], 6)
    for x, y in zip(jax.tree.leaves((a, curve_a)), jax.tree.leaves((b, curve_b))):
        np.testing.assert_array_equal(x[..., shuffled], y)
    np.testing.assert_array_equal(alone.theta[:, 0], a.theta[:, 3])


@pytest.mark.parametrize("init", ["normal", "torch_linear"])
@pytest.mark.parametrize("s", [1, 6, 14])
def test_the_estimate_follows_the_papers_seven_steps(init, s):
    """The package's random numbers, and from there on NumPy in float64 on the trial's own training rows."""
    config = SweepConfig(steps=1, n_monte=40, init=init)
    result, _, seeds = run(config, s, trials=5)
    for i in range(5):
        inputs = trial_inputs(config, s, *map(int, seeds[:, i]))
        keys = jax.random.split(draws.monte_carlo_stream(seeds[:, i], np.int32(s)), 3)
        if init == "normal":
            theta = jax.random.normal(keys[0], (40 * 15,))
        else:
            theta = jax.random.uniform(keys[0], (40 * 15,), minval=-0.5, maxval=0.5)
        kept = np.asarray(draws.random_subsets(keys[1], 40, 15, s))
        theta = np.where(kept, np.asarray(theta, float).reshape(40, 15), 0)
        d = np.asarray(jax.random.normal(keys[2], (40 * 15,)), float).reshape(40, 15)
        delta = np.array([np.abs(t[t != 0]).min() for t in theta])
        perturbed = reference.hard_threshold(theta + delta[:, None] * d, s)
        X, y = (np.stack([inputs[k]] * 40) for k in ("X_train", "y_train"))
        rise = reference.gradient(perturbed, X.astype(float), y) - reference.gradient(theta, X.astype(float), y)
        moved = np.linalg.norm(perturbed - theta, axis=1)
        ratios = np.linalg.norm(rise, axis=1)[moved > 0] / moved[moved > 0]
        assert result.lipschitz_estimate[i] == pytest.approx(ratios.max(), rel=3e-3)
        assert result.step_size[i] == pytest.approx(1 / ratios.max(), rel=3e-3)


@pytest.mark.parametrize("s", [3, 15])
def test_the_fast_form_takes_the_plain_steps(s):
    """Autodiff of the plain loss and lax.top_k, one trial at a time, for the paper's 10,000 steps."""
    config = SweepConfig(**PAPERS)
    result, _, seeds = run(config, s, trials=6)
    problem = IRIS

    @jax.jit
    def plain(data_seed, theta, step_size):
        view, _ = problem.split(draws.stream(draws.DATA, data_seed))
        gradient = jax.grad(problem.plain_loss)
        return jax.lax.fori_loop(
            0, config.steps, lambda _, theta: iht_step(lambda t: gradient(t, view), theta, step_size, s), theta
        )

    for i in range(6):
        theta = np.asarray(plain(seeds[0, i], result.theta0[:, i], result.step_size[i]))
        np.testing.assert_array_equal(theta != 0, result.theta[:, i] != 0)
        np.testing.assert_allclose(theta, result.theta[:, i], rtol=1e-3, atol=1e-3)


def test_levels_share_their_programs(compilations):
    config = SweepConfig(**PAPERS, steps=200)
    run(config, 4)
    before = len(compilations)
    for s in (1, 7, 15):
        run(dataclasses.replace(config, levels=(s,), trials=s, seed=s), s)
    assert len(compilations) == before


@pytest.mark.parametrize(
    "one, other",
    [
        ({"steps": 30}, {"steps": 31}),
        ({"steps": 40, "n_monte": 5}, {"steps": 7, "n_monte": 5, "ht_tol": 1e-5}),
        ({"stop_loss": 0.1}, {"stop_loss": 0.2}),
        ({"step_size": 0.1}, {"step_size": 0.2, "n_monte": 3}),
        ({"step_size": 0.1}, {"step_size": "certified"}),
        ({"curve_points": 300, "steps": 5}, {"curve_points": 256, "steps": 255}),
    ],
)
def test_what_is_data_makes_no_other_programs(one, other):
    one, other = SweepConfig(**one), SweepConfig(**other)
    assert dependences(one) == dependences(other)


@pytest.mark.parametrize(
    "one, other, differ",
    [
        ({"n_monte": 5}, {"n_monte": 6}, ["begin"]),
        ({}, {"stop_loss": 0.05}, ["descend"]),
        ({}, {"step_size": 0.2}, ["begin"]),
        ({"curve_points": 3}, {"curve_points": 4}, ["descend"]),
        ({"curve_points": 5000, "steps": 5}, {"curve_points": 5000, "steps": 5000}, ["descend"]),
        ({}, {"audit": True}, ["descend", "end"]),
        ({}, {"precision": "float64"}, ["begin", "descend", "end"]),
        ({}, {"always": ("b1",)}, ["begin", "descend", "end"]),
        ({}, {"per": "layer"}, ["begin", "descend", "end"]),
    ],
)
def test_what_is_not_data_makes_another_of_those_that_it_is_for(one, other, differ):
    both = zip(("begin", "descend", "end"), dependences(SweepConfig(**one)), dependences(SweepConfig(**other)))
    assert [name for name, a, b in both if a != b] == differ


@pytest.mark.parametrize(
    "options", [{}, {"step_size": 0.5}, {"audit": True, "stop_loss": 0.1}, {"always": ("b1",), "curve_points": 0}]
)
def test_a_program_reads_no_option_that_it_is_kept_without(options):
    """Traced with configurations that haven't those."""
    config = SweepConfig(**options, n_monte=3)
    of_begin, of_descend, of_end = (
        types.SimpleNamespace(**{name: value for name, value in vars(config).items() if name not in {*IGNORED, *more}})
        for more in (BEGIN_IGNORES, DESCEND_IGNORES, END_IGNORES)
    )
    settings = settings_of(config, IRIS.dtype)

    def whole(seeds, s, *given):
        trial = lanes(functools.partial(begin, IRIS, of_begin))(seeds, s, *given)
        descent, curve = descend(IRIS, IHT(), of_descend, settings, trial)
        return lanes(functools.partial(end, IRIS, of_end, settings.ht_tol))(trial, descent), curve

    step_sizes = [np.full(8, 0.5, np.float32)] * ("step_size" in options)
    result, _ = jax.eval_shape(whole, np.zeros((3, 8), np.uint32), np.full(8, 3, np.int32), *step_sizes)
    assert result.theta.shape == (15, 8)


@dataclasses.dataclass(frozen=True)
class Other(IHT):
    name = "other"


def test_solvers_and_step_sizes_share_what_is_not_theirs():
    config = SweepConfig(curve_points=9, n_monte=3)
    iht, other = (programs(IRIS, solver, config, 16) for solver in (IHT(), Other()))
    assert iht.begin is other.begin and iht.end is other.end and iht.descend is not other.descend
    given = programs(IRIS, IHT(), dataclasses.replace(config, step_size=0.3), 16)
    assert given.begin is not iht.begin and given.descend is iht.descend and given.end is iht.end


def test_results_under_shared_programs_are_those_of_its_own():
    """Steps, a tolerance, a stopping loss and a step size, after others went through the same programs."""
    first = SweepConfig(steps=64, curve_points=9, stop_loss=0.3, step_size=1.0)
    then = SweepConfig(steps=5, curve_points=9, stop_loss=0.9, step_size=0.25, ht_tol=0.5)
    seeds = np.random.default_rng(0).integers(2**32, size=(3, 8), dtype=np.uint32)
    run_block(make_engine(IRIS, IHT(), first, 16), seeds, 6)
    shared, own = (run_block(make_engine(IRIS, IHT(), then, 16, anew=anew), seeds, 6) for anew in (False, True))
    for x, y in zip(jax.tree.leaves(shared), jax.tree.leaves(own)):
        np.testing.assert_array_equal(x, y)
    (result, curve), dtype = shared, np.float32
    assert curve.train_loss.shape == (6, 8) and (result.step_size == dtype(0.25)).all()
    assert set(result.steps_run) <= {5} and (result.steps_to_stop_loss == -1).all()  # 10 is the first looked at


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_the_same_programs_are_lowered_for_an_accelerator_that_is_not_there(platform):
    """A sweep's, draws and estimate and all: one loop nest, and nothing that only a CPU could call."""
    config = SweepConfig()
    settings = settings_of(config, IRIS.dtype)

    def whole(seeds, s):
        trial = lanes(functools.partial(begin, IRIS, config))(seeds, s)
        descent, curve = descend(IRIS, IHT(), config, settings, trial)
        return lanes(functools.partial(end, IRIS, config, settings.ht_tol))(trial, descent), curve

    shapes = jax.ShapeDtypeStruct((3, GPU_BATCH), np.uint32), jax.ShapeDtypeStruct((GPU_BATCH,), np.int32)
    lowered = jax.export.export(jax.jit(whole), platforms=[platform])(*shapes).mlir_module()
    assert "custom_call" not in lowered
    assert "stablehlo.sort" not in lowered
    assert f"tensor<15x{GPU_BATCH}xf32>" in lowered


@pytest.mark.parametrize("step_size", [0.3, 1.5])
def test_a_fixed_step_size_is_used_and_has_no_estimate(step_size):
    result, _, _ = run(SweepConfig(steps=10, step_size=step_size, curve_points=9), 5)
    assert (result.step_size == np.float32(step_size)).all() and np.isnan(result.lipschitz_estimate).all()


def test_the_curve_is_the_loss_along_the_way():
    config = SweepConfig(**PAPERS, steps=30)
    result, curve, seeds = run(config, 5, trials=3)
    assert curve.train_loss.shape == (31, 3)
    for i in range(3):
        inputs = trial_inputs(config, 5, *map(int, seeds[:, i]))
        X, y, X_test, y_test = (inputs[k][None] for k in ("X_train", "y_train", "X_test", "y_test"))
        theta = inputs["theta0"][None].astype(float)
        gamma = result.step_size[i : i + 1].astype(np.float64)
        for k in range(31):
            assert curve.train_loss[k, i] == pytest.approx(reference.loss(theta, X, y)[0], rel=1e-4)
            assert curve.test_loss[k, i] == pytest.approx(reference.loss(theta, X_test, y_test)[0], rel=1e-4)
            assert curve.n_nonzero[k, i] == np.count_nonzero(theta)
            theta = reference.iht(theta, X, y, gamma, 5, 1)[0]


def test_the_stopping_loss_is_looked_at_every_ten_steps():
    dense = SweepConfig(**PAPERS, steps=105)
    result, curve, _ = run(dense, 12)
    for i in range(8):
        below = [k for k in range(10, 106, 10) if curve.train_loss[k, i] <= 0.05]
        assert result.steps_to_stop_loss[i] == (below[0] if below else -1)
    assert (result.steps_run == 105).all()


def test_stop_loss_freezes_a_trial_and_no_other():
    free = SweepConfig(steps=300, step_size=1.0, curve_points=9)
    stopping = dataclasses.replace(free, stop_loss=0.08)
    a, _, seeds = run(free, 9, trials=12)
    b, curve, _ = run(stopping, 9, trials=12)
    stopped = b.steps_to_stop_loss != -1
    assert 0 < stopped.sum() < 12
    np.testing.assert_array_equal(b.steps_run, np.where(stopped, b.steps_to_stop_loss, 300))
    np.testing.assert_array_equal(b.theta[:, ~stopped], a.theta[:, ~stopped])
    assert (b.train_loss[stopped] <= 0.08).all()
    for i in np.flatnonzero(stopped):
        shorter = dataclasses.replace(free, steps=int(b.steps_run[i]))
        at_stop = run_block(make_engine(make_problem(shorter), IHT(), shorter, 16), seeds[:, i : i + 1], 9)[0]
        np.testing.assert_array_equal(at_stop.theta[:, 0], b.theta[:, i])
        break


def test_a_diverging_trial_is_marked_and_spoils_no_other(tmp_path):
    """Under a step size near the largest float two steps overflow where the gradient isn't tiny."""
    config = SweepConfig(levels=(3,), trials=24, steps=2, step_size=1e38, dense=False, curve_points=9)
    frame = load(sweep(config, tmp_path / "run", batch=16))
    bad = frame.status == "diverged"
    assert 0 < bad.sum() < 24
    assert not frame[bad].ht_stable.any() and not frame[bad].satisfies_eq8.any()
    for row in frame[~bad].itertuples():
        alone = run_trial(config, 3, row.data_seed, row.init_seed, row.support_seed, batch=16)
        np.testing.assert_array_equal(alone.result.theta, row.theta)
        assert alone.result.train_loss == row.train_loss


def test_a_nan_stays_in_its_lane():
    problem = IRIS
    keys = jax.random.split(jax.random.key(0), 8)
    train, _ = jax.jit(jax.vmap(problem.split, out_axes=-1))(keys)
    gradient = jax.jit(lanes(problem.gradient))
    theta = np.random.default_rng(0).normal(size=(15, 8)).astype(np.float32)
    clean = gradient(theta, train)
    theta[:, 5] = np.nan
    theta[3, 2] = np.inf
    dirty = gradient(theta, train)
    others = [0, 1, 3, 4, 6, 7]
    np.testing.assert_array_equal(clean[:, others], dirty[:, others])


@pytest.mark.parametrize("init", ["normal", "torch_linear"])
def test_a_single_trial_reproduces_its_row(tmp_path, init):
    config = SweepConfig(**PAPERS, levels=(7,), trials=3, steps=200, init=init)
    batch = 16 if init == "normal" else None  # the default is the sweep's
    frame = load(sweep(config, tmp_path / "run", batch=batch))
    for row in frame.itertuples():
        ran = run_trial(config, row.s, row.data_seed, row.init_seed, row.support_seed, batch)
        np.testing.assert_array_equal(ran.result.theta, row.theta)
        assert ran.result.train_loss == row.train_loss and ran.result.step_size == row.step_size
    curve = load(tmp_path / "run", "curves", trial=2, s=7)
    alone = run_trial(config, 7, *frame.loc[frame.trial.eq(2) & frame.s.eq(7)].iloc[0][SEEDS], batch=batch)
    np.testing.assert_array_equal(curve.train_loss, alone.curve.train_loss)


@pytest.mark.parametrize("data", ["iris", "sklearn:diabetes"])
def test_a_single_trial_reproduces_its_row_under_certified_steps(tmp_path, data):
    """Last bits of a split depend on how many are drawn at once: alone it is drawn as often as in a sweep."""
    config = SweepConfig(data=data, levels=(2,), trials=12, steps=3, step_size="certified", curve_points=9, dense=False)
    frame = load(sweep(config, tmp_path / "run", batch=16))
    for row in frame.itertuples():
        ran = run_trial(config, 2, row.data_seed, row.init_seed, row.support_seed, batch=16)
        assert ran.result.step_size == row.step_size
        np.testing.assert_array_equal(ran.result.theta, row.theta)


SEEDS = ["data_seed", "init_seed", "support_seed"]


@pytest.mark.parametrize(
    "steps, points, expected",
    [
        (100, 0, [100]),
        (100, 2, [0, 100]),
        (100, 4, [0, 1, 10, 100]),
        (5, 64, [0, 1, 2, 3, 4, 5]),
        (1, 2, [0, 1]),
    ],
)
def test_points_of_a_curve(steps, points, expected):
    assert curve_steps(steps, points).tolist() == expected


def test_the_default_curve_has_64_distinct_log_spaced_points():
    at = curve_steps(10_000, 64)
    assert len(at) == 64 and (np.diff(at) > 0).all() and at[0] == 0 and at[-1] == 10_000
    # from where rounding no longer matters, neighbours keep one ratio
    ratios = at[40:] / at[39:-1]
    assert ratios.std() < 0.01 * ratios.mean()
