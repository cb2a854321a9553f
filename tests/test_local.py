"""Strict local minimisers on a support, held against forms whose Hessian is known and against backpropagation."""

import re

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from test_cli import call
from test_losses import rows_seen
from test_mlp import backprop, model, shape_of

from ihtjax import InputError, Problem
from ihtjax.exact.local import curvature_on_support
from ihtjax.solvers import draws

A = np.array([[3.0, 1.0, 0.5, 9.0], [1.0, 2.0, 0.2, 9.0], [0.5, 0.2, 1.0, 9.0], [9.0, 9.0, 9.0, -5.0]])
CENTRE = np.array([1.0, -2.0, 0.5, 0.0])


class Form(Problem):
    """A function of four numbers."""

    names, dtype = "abcd", np.dtype("float64")

    def __init__(self, f):
        self.f = f

    def loss(self, theta, view):
        return self.f(theta)


def quadratic(theta):
    d = theta - CENTRE
    return d @ jnp.asarray(A) @ d / 2


@pytest.mark.parametrize("off, is_it", [(0.0, True), (1e-7, True), (1e-4, False)])
def test_of_a_quadratic_form_all_is_known(off, is_it):
    found = curvature_on_support(Form(quadratic), CENTRE + [off, 0, 0, 0], ())
    eigenvalues = np.linalg.eigvalsh(A[:3, :3])
    assert found.least == pytest.approx(eigenvalues[0], rel=1e-12)
    assert found.largest == pytest.approx(eigenvalues[-1], rel=1e-12)
    assert found.distance == pytest.approx(off, abs=1e-14) and found.is_minimiser == is_it
    assert found.gradient == pytest.approx(3 * off, abs=1e-14)
    assert not off or not curvature_on_support(Form(quadratic), CENTRE + [off, 0, 0, 0], (), "float64").is_minimiser


@pytest.mark.parametrize(
    "f, theta",
    [
        (lambda t: (t[0] * t[1] - 1) ** 2 / 2, [1.0, 1.0, 0, 0]),  # a valley, as of a unit of relu that can be scaled
        (lambda t: (t[0] * t[1] - 1) ** 2 / 2, [1.001, 1.002, 0, 0]),  # beside it, where the least eigenvalue isn't 0
        (lambda t: (t[0] - 1) ** 4 + t[1] ** 2, [1.0, 0, 0, 0]),
        (lambda t: (t[0] - 1) ** 4, [1.01, 0, 0, 0]),
        (lambda t: (t[0] - 1) ** 2 - (t[1] - 1) ** 2, [1.0, 1.0, 0, 0]),  # a saddle
        (lambda t: -((t[0] - 1) ** 2), [1.0, 0, 0, 0]),
        (lambda t: jnp.exp(-t[0]), [3.0, 0, 0, 0]),  # convex, and without a minimum
    ],
)
def test_a_small_gradient_alone_makes_no_minimiser(f, theta):
    found = curvature_on_support(Form(f), np.array(theta), ())
    assert found.distance == np.inf and not found.is_minimiser


def test_a_minimiser_of_a_network_is_found_from_beside_it():
    """f is not quadratic here: Newton's method takes several steps."""
    found = curvature_on_support(Form(lambda t: (jnp.tanh(t[0]) - 0.5) ** 2), np.array([0.6, 0, 0, 0]), ())
    assert found.distance == pytest.approx(0.6 - np.arctanh(0.5), rel=1e-9)


@pytest.mark.parametrize("loss, act", [("cross_entropy", "tanh"), ("squared", "sigmoid"), ("poisson", "relu")])
def test_the_hessian_of_a_network_is_that_of_differences_of_backpropagation(loss, act):
    problem = model(loss, act, dtype="float64")
    with draws.settings("float64"):
        view, _ = problem.split(draws.stream(draws.DATA, np.uint32(3)))
        X, y = rows_seen(problem, view)
    rng = np.random.default_rng(0)
    theta = rng.normal(size=problem.n) * (rng.random(problem.n) < 0.5)
    S, h = np.flatnonzero(theta), 1e-6
    moved = np.stack([theta + sign * h * np.eye(problem.n)[i] for sign in (1, -1) for i in S])
    slopes = np.concatenate([backprop(loss, t[None], X, y, shape_of(problem), act) for t in moved])[:, S]
    H = (slopes[: len(S)] - slopes[len(S) :]) / (2 * h)
    eigenvalues = np.linalg.eigvalsh((H + H.T) / 2)
    found = curvature_on_support(problem, theta, view)
    largest = np.abs(eigenvalues).max()
    assert found.least == pytest.approx(eigenvalues[0], abs=1e-6 * largest)
    assert found.largest == pytest.approx(eigenvalues[-1], abs=1e-6 * largest)
    slope = backprop(loss, theta[None], X, y, shape_of(problem), act)[0, S]
    assert found.gradient == pytest.approx(np.abs(slope).max(), rel=1e-9)


@pytest.mark.parametrize(
    "theta, said",
    [(np.zeros(4), "theta: has 0 nonzero entries, expected 1 to 500"), (np.ones(501), "theta: has 501 nonzero")],
)
def test_supports_that_are_empty_or_large_are_refused(theta, said):
    with pytest.raises(InputError, match=f"^{said}"):
        curvature_on_support(Form(quadratic), theta, ())
    single = Form(quadratic)
    single.dtype = np.dtype("float32")
    with pytest.raises(InputError, match="^problem: is of float32, expected one of float64"):
        curvature_on_support(single, CENTRE, ())


# What a trial's text says of it.

SEEDS = ["--data-seed", "1", "--init-seed", "2", "--support-seed", "3"]
OF_A_USER = """
import jax, jax.numpy as jnp, numpy as np
from ihtjax import Problem

class Own(Problem):
    names = "abcd"
    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
    def loss(self, theta, view):
        return jnp.sum((theta - 1) ** 2) / 2

class Rough(Own):
    def loss(self, theta, view):
        return jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, jnp.sum((theta - 1) ** 2) / 2)
    def gradient(self, theta, view):
        return theta - 1

single, double, rough = Own("float32"), Own("float64"), Rough("float64")
"""


def minimiser(out):
    return re.search(r"\nstrict local minimiser on its support: (.*)\nHT-stable", out)[1]


def test_a_trial_of_a_network_says_how_near_a_strict_local_minimiser_is(tmp_path, capsys):
    """One feature and one unit of tanh, which the target is up to noise: nothing is flat."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    rows = np.column_stack([x, 0.8 * np.tanh(1.5 * x - 0.3) + 0.1 + 0.05 * rng.normal(size=60)])
    np.savetxt(tmp_path / "curve.csv", rows, delimiter=",", header="x,y", comments="")
    words = ["trial", "--data", str(tmp_path / "curve.csv"), "--target", "y", "--loss", "squared", "--model", "mlp"]
    words += ["--hidden", "1", "--s", "4", "--step-size", "0.5", "--precision", "float64", *SEEDS, "--steps"]
    code, out, _ = call(capsys, *words, "8000")
    assert code == 0 and re.search(
        r"\nleast eigenvalue on the support +[1-9]\S+  \(of the Hessian in float64; largest", out
    )
    assert minimiser(out) == "yes, up to rounding"
    early = call(capsys, *words, "200")[1]
    distance = float(re.fullmatch(r"not yet, one is (\S+) away \(largest entry\)", minimiser(early))[1])
    a, b = (np.array(re.findall(r"l[12]\.\S+ +\S+ +(\S+) ", text), float) for text in (out, early))
    assert len(a) == 4 and distance == pytest.approx(np.abs(a - b).max(), rel=0.06)


def test_a_trial_of_a_linear_model_does_not_say_it(capsys):
    code, out, _ = call(
        capsys, "trial", *SEEDS, "--s", "4", "--steps", "20", "--step-size", "0.5", "--curve-points", "8"
    )
    assert code == 0 and "eigenvalue" not in out and "minimiser" not in out


def test_a_trial_of_counts_says_it(tmp_path, capsys):
    """Poisson loss is convex, and has no bound of its curvature."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    counts = rng.poisson(np.exp(0.5 + X @ [0.5, -0.5, 0]))
    pd.DataFrame(X, columns=list("abc")).assign(visits=counts).to_csv(tmp_path / "counts.csv", index=False)
    table = ["--data", tmp_path / "counts.csv", "--target", "visits", "--loss", "poisson"]
    words = ["--s", 3, "--step-size", 0.1, "--steps", 4000, "--curve-points", 8, "--precision", "float64"]
    code, out, _ = call(capsys, "trial", *SEEDS, *table, *words)
    assert code == 0 and minimiser(out) == "yes, up to rounding"


@pytest.mark.parametrize(
    "name, said",
    [
        ("single", "curvature on the support not computed: problem: is of float32, expected one of float64"),
        ("double", "strict local minimiser on its support: yes, up to rounding"),
        ("rough", "curvature on the support not computed: Reverse-mode differentiation does not work for"),
    ],
)
def test_of_a_problem_of_the_users_what_can_be_computed(name, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "of_a_user.py").write_text(OF_A_USER)
    monkeypatch.chdir(tmp_path)
    precision = ["--precision", "float32" if name == "single" else "float64"]
    words = ["--problem", f"of_a_user:{name}", "--s", "2", "--step-size", "0.5", "--steps", "100", *precision]
    code, out, _ = call(capsys, "trial", *SEEDS, *words)
    assert code == 0 and f"\n{said}" in out
