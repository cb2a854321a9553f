"""Constraint sets beside the plain one: entries that are always in, and a share of s for each group."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ihtjax import InputError, certify, estimate_lipschitz, hard_threshold, solve
from ihtjax.solvers.constraint import ALWAYS, PLAIN, GroupedSet
from ihtjax.solvers.iht import iht_step
from ihtjax.solvers.threshold import PAIRWISE_LIMIT

A = ALWAYS
MIXED = (0, A, 1, 1, 0, A, 2, 1, 1, 0, 1)
# A last intercept, one among others, groups that lie apart or together, and sizes on both sides of the fast rules'.
SETS = {
    "intercept": (0,) * 9 + (A,),
    "some": tuple(np.where(np.arange(20) % 3 == 1, A, 0).tolist()),
    "layers": (0,) * 7 + (1,) * 5,
    "mixed": MIXED,
    "long": tuple(np.random.default_rng(0).integers(-1, 3, 300).tolist()),
    "long layers": (0,) * 100 + (A,) * 10 + (1,) * 60 + (A,) * 3,
}
every_set = pytest.mark.parametrize("group", SETS.values(), ids=SETS)


def shares(group, s):
    """Sainte-Lague, one at a time, after one for each group."""
    sizes = {g: group.count(g) for g in sorted({*group} - {A})}
    has = dict.fromkeys(sizes, 0)
    for _ in range(min(s, sum(sizes.values()))):
        without = [g for g in sizes if has[g] == 0]
        if without:
            has[max(without, key=lambda g: (sizes[g], -g))] = 1
        else:
            has[max(sizes, key=lambda g: (Fraction(sizes[g], 2 * has[g] + 1), sizes[g], -g))] += 1
    return has


def support(v, group, s):
    """What H_s keeps of v ``[n]``: all that is always in, and of each group its share of the largest, NaN first."""
    size = np.where(np.isnan(v), np.inf, np.abs(v.astype(np.float64)))
    order = sorted(range(len(v)), key=lambda i: (not np.isnan(v[i]), -size[i], i))
    kept, left = set(), shares(group, s)
    for i in order:
        if group[i] == A:
            kept.add(i)
        elif left[group[i]]:
            left[group[i]] -= 1
            kept.add(i)
    return np.isin(np.arange(len(v)), list(kept))


def hostile(n, seed=0):
    """Vectors ``[6, n]``: normal, with ties, with zeros of both signs, of many zeros, with NaN and infinity."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(4, n))
    normal[1] = np.round(normal[1])
    normal[2] = rng.choice([0.0, -0.0, 1.0, -1.0], n)
    normal[3] *= rng.random(n) < 0.2
    odd = rng.choice([np.nan, np.inf, -np.inf, 0.0, 1.0, -2.0], size=(2, n))
    return np.concatenate([normal, odd]).astype(np.float32)


def test_the_sets_lie_on_both_sides_of_the_fast_rules_limit():
    assert len(SETS["some"]) < PAIRWISE_LIMIT < 60


@every_set
def test_h_s_keeps_what_is_always_in_and_each_groups_largest(group):
    n, counted = len(group), len(group) - group.count(A)
    constraint, v = GroupedSet(group), hostile(len(group))
    levels = sorted({0, 1, 2, 3, counted // 2, counted - 1, counted, n, n + 5})
    batched = jax.jit(jax.vmap(jax.vmap(constraint.threshold, (0, None)), (None, 0)))(v, np.array(levels))
    for s, lanes in zip(levels, batched):
        expected = np.stack([np.where(support(row, group, s), row, np.float32(0)) for row in v])
        np.testing.assert_array_equal(lanes, expected)
        np.testing.assert_array_equal(constraint.threshold(v[1], s), expected[1])


@every_set
def test_lanes_on_the_last_axis_have_their_own_level(group):
    constraint, v = GroupedSet(group), hostile(len(group))
    levels = np.arange(1, 7, dtype=np.int32)
    found = jax.jit(jax.vmap(constraint.threshold, (-1, 0), -1))(v.T, levels)
    for row, s, lane in zip(v, levels, found.T):
        np.testing.assert_array_equal(lane, np.where(support(row, group, s), row, np.float32(0)))


@every_set
def test_no_sort_is_left_in_a_batch(group):
    constraint = GroupedSet(group)
    batch = jax.ShapeDtypeStruct((len(group), 32), np.float32), jax.ShapeDtypeStruct((32,), np.int32)
    text = jax.jit(jax.vmap(constraint.threshold, (-1, 0), -1)).lower(*batch).compile().as_text()
    assert "sort(" not in text and "topk" not in text.lower()


@pytest.mark.parametrize("sizes", [(8, 3), (1, 1, 1), (12, 35), (100, 30, 30, 3), (5, 50, 5), (7,)])
def test_shares_are_in_proportion_and_each_level_gives_one_group_one_more(sizes):
    group = tuple(g for g, size in enumerate(sizes) for _ in range(size))
    n, before = len(group), np.zeros(len(sizes), int)
    for s in range(1, n + 1):
        found = np.array(GroupedSet(group).shares(jnp.int32(s)))
        assert found.tolist() == list(shares(group, s).values())
        assert found.sum() == s and (found >= before).all() and (found <= sizes).all()
        assert (found >= 1).all() or s < len(sizes)
        if len(sizes) == 2 and s >= 2 * n / min(sizes):  # of more no method that never takes back stays within 1
            assert (abs(found - s * np.array(sizes) / n) < 1).all()
        before = found


def test_one_group_of_everything_is_the_plain_set():
    v = hostile(30)
    for s in (1, 7, 29, 30):
        whole = jax.vmap(GroupedSet((0,) * 30).threshold, (0, None))(v, s)
        np.testing.assert_array_equal(whole, jax.vmap(hard_threshold, (0, None))(v, s))
        np.testing.assert_array_equal(whole, jax.vmap(PLAIN.threshold, (0, None))(v, s))


@pytest.mark.parametrize("name", ["intercept", "mixed", "long"])
def test_random_supports_are_largest_ones_of_the_set_and_uniform(name):
    group = SETS[name]
    constraint, n = GroupedSet(group), len(group)
    masks = np.asarray(constraint.random_supports(jax.random.key(0), 2000, n, 4))
    groups = np.array(group)
    assert masks[:, groups == A].all()
    for g, share in shares(group, 4).items():
        its = masks[:, groups == g]
        assert (its.sum(1) == share).all()
        expected = share / its.shape[1]
        assert (abs(its.mean(0) - expected) < 5 * np.sqrt(expected / 2000) + 1e-9).all()
    one = constraint.random_support(jax.random.key(1), n, 4)
    np.testing.assert_array_equal(one, constraint.random_supports(jax.random.key(1), 1, n, 4)[0])


# The estimate, the certificate and `solve` in such a set.


def test_the_estimate_is_the_largest_ratio_of_pairs_in_the_set():
    """On a diagonal Hessian the ratios of single-entry groups are its entries: one always in, the larger in turn."""
    H = np.diag([1.0, 2.0, 3.0, 40.0]).astype(np.float32)
    seen = []

    def gradient(theta):
        jax.debug.callback(lambda theta: seen.append(np.asarray(theta)), theta, ordered=True)
        return H @ theta

    group = (0, 1, 1, A)
    found = estimate_lipschitz(jax.random.key(0), gradient, jax.random.normal, 4, 2, 60, constraint=GroupedSet(group))
    jax.effects_barrier()
    pairs = np.array(seen, np.float64).reshape(-1, 2, 4)
    assert len(pairs) == 60
    for theta in pairs.reshape(-1, 4):
        on = theta != 0
        assert on[3] and on[0] and on[1:3].sum() == 1
    d = pairs[:, 0] - pairs[:, 1]
    expected = (np.linalg.norm(d @ H, axis=1) / np.linalg.norm(d, axis=1)).max()
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("group", [SETS["intercept"], SETS["some"], SETS["layers"], MIXED], ids=len)
def test_the_certificate_tells_fixed_points_of_h_s(group):
    rng, n = np.random.default_rng(0), len(group)
    levels = rng.integers(1, n - group.count(A) + 1, 300)
    theta = rng.normal(size=(300, n)).astype(np.float32)
    theta = np.stack([np.where(support(v, group, s), v, np.float32(0)) for v, s in zip(theta, levels)])
    theta[np.arange(0, 300, 3), rng.integers(n, size=100)] = 0  # fewer than its share
    may_move = (theta == 0) & (np.array(group) != A)
    gradient = np.where(may_move, rng.normal(size=(300, n)) * rng.choice([0, 0.2, 3], (300, 1)), 0)
    gradient[np.arange(0, 300, 7), rng.integers(n, size=43)] = 0.5
    gradient = gradient.astype(np.float32)
    after = theta - np.float32(0.5) * gradient
    kept = np.stack([np.where(support(v, group, s), v, 0) for v, s in zip(after, levels)])
    fixed = (kept == theta).all(1)
    c = jax.vmap(lambda *trial: certify(*trial, 1e-9, GroupedSet(group)), (0, 0, None, 0))(theta, gradient, 0.5, levels)
    np.testing.assert_array_equal(c.ht_stable, fixed)
    np.testing.assert_array_equal(c.n_nonzero, np.count_nonzero(theta, axis=1))
    assert 30 < fixed.sum() < 270


def test_the_figures_of_a_certificate():
    group = (A, 0, 0, 0, 1, 1, 2)
    theta = np.array([0.01, 2.0, 0.0, 0.0, 0.5, 0.0, 0.0], np.float32)
    gradient = np.array([1e-4, 2e-4, 0.3, -0.1, 0.0, -0.4, 9.0], np.float32)
    c = certify(theta, gradient, 0.5, 2, 1e-3, GroupedSet(group))  # the third group has no share
    found = [float(x) for x in (c.grad_on_support, c.grad_off_support, c.min_on_support, c.ht_margin)]
    assert found == pytest.approx([2e-4, 9.0, 0.5, 0.5 - 0.5 * 0.4])
    assert c.n_nonzero == 3 and c.satisfies_eq8 and c.ht_stable
    c = certify(theta, gradient, 0.5, 3, 1e-3, GroupedSet(group))  # now it has one
    assert float(c.ht_margin) == pytest.approx(-0.5 * 9) and not c.satisfies_eq8 and not c.ht_stable
    gradient[0] = 0.1  # what is always in must not move
    assert not certify(theta, gradient, 0.5, 2, 1e-3, GroupedSet(group)).ht_stable


def test_what_is_always_in_must_not_move_even_at_zero():
    theta, gradient = np.array([0.0, 1.0, 0.0], np.float32), np.array([0.5, 0.0, 0.1], np.float32)
    c = certify(theta, gradient, 0.5, 1, 1e-3, GroupedSet((A, 0, 0)))
    assert float(c.grad_on_support) == 0.5 and not c.ht_stable and c.n_nonzero == 1


def test_a_step_takes_the_h_s_of_another_set():
    constraint = GroupedSet((0, 0, A))
    stepped = iht_step(lambda t: jnp.zeros(3), jnp.array([3.0, 4.0, 0.1]), 0.5, 1, constraint.threshold)
    np.testing.assert_array_equal(stepped, np.array([0, 4, 0.1], np.float32))


X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
Y = (7 + X @ np.array([2.0, 0, 0, -1, 0, 0])).astype(np.float32)


def far_from_zero(parameters):
    return jnp.mean((X @ parameters["w"] + parameters["b"] - Y) ** 2) / 2


def test_solve_with_an_intercept_that_is_not_counted():
    start = {"b": jnp.zeros(()), "w": jnp.zeros(6)}
    always = {"b": True, "w": False}
    found = solve(far_from_zero, start, 2, steps=2000, always=always)
    np.testing.assert_allclose(found.theta["w"], [2, 0, 0, -1, 0, 0], atol=1e-4)
    assert float(found.theta["b"]) == pytest.approx(7, abs=1e-4) and bool(found.certificate.ht_stable)
    assert np.count_nonzero(solve(far_from_zero, start, 2, steps=2000).theta["w"]) == 1  # there the intercept counts
    by_entry = solve(far_from_zero, start, 2, steps=2000, always={"b": True, "w": np.zeros(6, bool)})
    np.testing.assert_array_equal(by_entry.theta["w"], found.theta["w"])


@pytest.mark.parametrize(
    "always",
    [
        True,
        {"b": True},
        {"b": True, "w": np.zeros(5, bool)},
        {"b": 1, "w": 0},
        {"b": True, "w": True},
        {"b": "x", "w": 0},
    ],
)
def test_solve_refuses_what_is_no_mask(always):
    with pytest.raises(InputError, match="^always: got .*expected booleans"):
        solve(far_from_zero, {"b": jnp.zeros(()), "w": jnp.zeros(6)}, 2, always=always)


def test_s_goes_up_to_what_is_counted():
    with pytest.raises(InputError, match="^s: got 7, expected a whole number from 1 to 6"):
        solve(far_from_zero, {"b": jnp.zeros(()), "w": jnp.zeros(6)}, 7, always={"b": True, "w": False})


def test_a_vector_of_another_length_is_refused():
    constraint, v = GroupedSet((0, A)), np.ones(3)
    for call in (lambda: constraint.threshold(v, 1), lambda: certify(v, v, 1.0, 1, constraint=constraint)):
        with pytest.raises(InputError, match="^v: got .*, expected 2 entries"):
            call()
