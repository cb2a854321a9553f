import numpy as np
import pytest

from ihtjax.paper.claimed_numbers import QUESTIONS as NUMBERS
from ihtjax.paper.claimed_numbers import asked_of_relu, counterexample, growth, largest_kept
from ihtjax.paper.claimed_objective import QUESTIONS as OBJECTIVE
from ihtjax.paper.claimed_objective import unbounded_supports, with_a_full_block
from ihtjax.paper.judgement import claims
from ihtjax.paper.verdicts import FAILS, HOLDS, LIMITED


@pytest.fixture(scope="module")
def found(small_run):
    ids = [question.id for question in (*NUMBERS, *OBJECTIVE)]
    return {claim.id: claim for claim in claims(small_run, only=ids)}


def test_mathematics_is_decided_by_computation(found):
    verdicts = {id: claim.verdict for id, claim in found.items()}
    assert verdicts["table-1"] == verdicts["example1-L"] == verdicts["L2s-at-most-L"] == HOLDS
    assert verdicts["losses-bounded"] == verdicts["example1-needs-2s<=m"] == FAILS
    assert verdicts["example1-L2s"] == verdicts["sublevel-sets-bounded"] == verdicts["rss-implies-learning"] == FAILS
    assert verdicts["1320-times-synapses"] == verdicts["3500-times-cells"] == verdicts["footnote1-H2"] == HOLDS
    assert verdicts["six-implies-four"] == FAILS and verdicts["differentiable"] == LIMITED
    assert verdicts["relu-kinks-do-not-matter"] == FAILS
    assert growth() == pytest.approx(0.967, abs=5e-4)


def test_unbounded_sublevel_sets_are_found_by_hand():
    # One feature, two overlapping classes: bounded on single entries, not on both weights or both biases.
    X, y = np.array([[-1.0], [0.5], [-0.5], [1.0]]), np.array([0, 0, 1, 1])
    assert unbounded_supports(X, y, 2, 2) == {1: (0, 4), 2: (2, 6)}
    # Separable by the feature: each weight alone can grow for ever.
    assert unbounded_supports(X, np.array([0, 1, 0, 1]), 2, 1) == {1: (2, 4)}


def test_equal_values_belong_to_distinct_points(found):
    assert found["distinct-values"].verdict == FAILS and found["distinct-values"].value >= 2


def quotients(theta, other):
    """(6)'s and (4)'s quotients of f = y^2/2 - x^3 y / (x^2 + y^2), with differences for gradients."""

    def f(p):
        return p[1] ** 2 / 2 - p[0] ** 3 * p[1] / (p[0] ** 2 + p[1] ** 2)

    def gradient(p):
        steps = 1e-5 * np.eye(2)
        return np.array([f(p + e) - f(p - e) for e in steps]) / 2e-5

    d = other - theta
    six = np.linalg.norm(gradient(other) - gradient(theta)) / np.linalg.norm(d)
    return six, 2 * (f(other) - f(theta) - gradient(theta) @ d) / (d @ d)


def test_six_on_sparse_pairs_does_not_imply_four():
    # Brute force over 1-sparse pairs, and the two constants by hand: sqrt(2), and the golden ratio.
    draw = np.random.default_rng(0)
    pairs = draw.uniform(-1, 1, (20_000, 2))
    axes = draw.integers(2, size=(20_000, 2))
    six = four = 0
    for (a, b), (i, j) in zip(pairs, axes):
        if min(abs(a), abs(b), abs(a - b)) > 0.05:
            found = quotients(a * np.eye(2)[i], b * np.eye(2)[j])
            six, four = max(six, found[0]), max(four, found[1])
    assert six == pytest.approx(2**0.5, rel=1e-3) and four == pytest.approx((1 + 5**0.5) / 2, rel=1e-3)
    (claim,) = [question.judge(None) for question in NUMBERS if question.id == "six-implies-four"]
    assert claim.value == pytest.approx((1 + 5**0.5) / 2 / 2**0.5, rel=1e-6)
    assert "1.4142" in claim.why and "1.6180" in claim.why


def test_the_counterexamples_gradient_is_that_of_its_values():
    points = np.random.default_rng(0).uniform(-2, 2, (50, 2))
    f, gradient = counterexample(points)
    for axis in (0, 1):
        step = 1e-6 * np.eye(2)[axis]
        assert gradient[:, axis] == pytest.approx(
            (counterexample(points + step)[0] - counterexample(points - step)[0]) / 2e-6, abs=1e-6
        )


def test_no_l_satisfies_four_or_six_across_the_kink_of_relu(found):
    """By hand, with f(-h) = 1/2 and f(h) = 1/2 + h + h^2/2; and whatever L is, by the inequality itself."""
    h = np.array([0.5, 1e-2, 1e-5])
    four, six = asked_of_relu(h)
    np.testing.assert_allclose(four, 1 / (2 * h) + 1 / 4, rtol=1e-9)
    np.testing.assert_allclose(six, 1 / (2 * h) + 1 / 2, rtol=1e-9)
    for L in (10.0, 1e3, 1e5):
        t = 1 / (4 * L)
        assert (t + 1) ** 2 / 2 > 1 / 2 + L * (2 * t) ** 2 / 2  # (4) from w = -t, where f is 1/2 and its gradient 0
    claim = found["relu-kinks-do-not-matter"]
    assert claim.value == pytest.approx(1000, rel=1e-2) and "L = 5e+05 and (6) for 5e+05" in claim.why


def test_hard_thresholding_is_set_valued():
    assert largest_kept(np.array([1.0, -3.0, 1.0]), 2) == {(1.0, -3.0, 0.0), (0.0, -3.0, 1.0)}
    assert largest_kept(np.array([2.0, -3.0, 1.0]), 1) == {(0.0, -3.0, 0.0)}


def test_supports_with_a_full_block_hold_one():
    for K, D, s in ((3, 5, 2), (3, 5, 4), (2, 3, 3)):
        found = with_a_full_block(K, D, s, 400)
        blocks = np.concatenate(
            [found[:, : K * (D - 1)].reshape(len(found), K, D - 1), found[:, K * (D - 1) :, None]], 2
        )
        assert len(found) and (found.sum(1) == s).all() and (blocks.sum(1) == K - 1).any(1).all()


def test_many_classes_and_parameters_take_few_supports():
    # n = 650: a list of all canonical supports of 5 entries would not fit into memory.
    assert len(with_a_full_block(10, 65, 9, 13)) == 13
