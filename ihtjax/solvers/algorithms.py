"""Iterative hard thresholding as an optax transformation, and a whole run of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax, random
from jax.flatten_util import ravel_pytree

from ihtjax.errors import FUNCTION, NOT_NEGATIVE, POSITIVE, InputError, an, check, is_traced, shown, whole_number
from ihtjax.solvers.base import Objective, Solver
from ihtjax.solvers.certificate import Certificate, certify
from ihtjax.solvers.constraint import ALWAYS, PLAIN, GroupedSet, SparseSet
from ihtjax.solvers.draws import folded_in, root_key
from ihtjax.solvers.lipschitz import as_key, estimate_lipschitz
from ihtjax.solvers.registry import check_solver, solver_named
from ihtjax.solvers.threefry import unrolled
from ihtjax.solvers.threshold import hard_threshold, transfers_allowed


def iht(learning_rate: optax.ScalarOrSchedule, s: jax.Array | int) -> optax.GradientTransformationExtraArgs:
    """IHT as an optax gradient transformation: ``params + updates`` is H_s(params - learning_rate * gradient).

    H_s goes over all leaves together, so that ``s`` counts the nonzero parameters of the whole model.

    Args:
      learning_rate: gamma, or an optax schedule of it.
      s: sparsity level, 1 .. n.

    Raises:
      InputError: learning_rate is negative or no number, or as `keep_largest`.

    Example:
      >>> f = lambda x: jnp.sum((x - jnp.array([3., 1., 2.])) ** 2)
      >>> optimizer = iht(0.1, s=2)
      >>> x = jnp.zeros(3)
      >>> state = optimizer.init(x)
      >>> for _ in range(100):
      ...     updates, state = optimizer.update(jax.grad(f)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> [f"{entry:.3f}" for entry in x]
      ['3.000', '0.000', '2.000']
    """
    if not callable(learning_rate):
        learning_rate = check("learning_rate", learning_rate, NOT_NEGATIVE)
    init, update = optax.chain(optax.sgd(learning_rate), keep_largest(s))
    return optax.GradientTransformationExtraArgs(transfers_allowed(init), transfers_allowed(update))


def keep_largest(s: jax.Array | int) -> optax.GradientTransformationExtraArgs:
    """Change updates so that the updated parameters keep only their ``s`` largest entries.

    It must come last in a chain: what scales, clips or averages its updates would undo it. Entries that stay get their
    update unchanged, the others get ``-params``, so that ``optax.apply_updates`` makes them exactly 0. Which entries
    are the largest is judged by what it makes of them in each leaf's own type. Leaves and updates may be of any mix of
    floating-point types; where an update's type can't hold ``-params``, the update gets the wider type of the two.
    (``optax.apply_if_finite`` wants updates to keep their type: put it round what comes before.)

    After Adam and its like the support freezes, and stays what the start and the first steps made it: an entry off the
    support enters only if its update alone is larger than the smallest entry there, and Adam's updates are about as
    large as the learning rate, however large the gradient. On 50 least-squares problems with 5 of 30 entries nonzero,
    ``iht(0.5, 5)`` finds the true support of all, Adam of 14 with a learning rate of 0.1 and of none with 0.01 (in
    `tests/test_algorithms.py`). So search with `iht`, and polish with Adam on the support that it found.

    Args:
      s: sparsity level, 1 .. n, n the number of parameters in all leaves.

    Raises:
      InputError: s is out of range; in ``init`` or ``update``, a leaf isn't of floats, or params are missing or of
        another structure than the updates.
    """
    check("s", s, whole_number(1))

    def init(params):
        check("s", s, whole_number(1, sum(leaf.size for leaf in jax.tree.leaves(_float_leaves("params", params)))))
        return optax.EmptyState()

    def update(updates, state, params=None, **extra_args):
        if params is None:
            raise InputError("keep_largest: params are missing; call update(updates, state, params)")
        params, updates = _float_leaves("params", params), _float_leaves("updates", updates)
        if jax.tree.map(jnp.shape, updates) != jax.tree.map(jnp.shape, params):
            raise InputError("keep_largest: updates and params differ in structure or shapes; expected the same")
        moved = jax.tree.map(lambda p, u: (p + u).astype(p.dtype), params, updates)  # as `optax.apply_updates` has it
        flat, unravel = ravel_pytree(moved)
        kept = unravel(hard_threshold(flat, s))
        return jax.tree.map(lambda p, u, k: jnp.where(k != 0, u, -p), params, updates, kept), state

    return optax.GradientTransformationExtraArgs(transfers_allowed(init), transfers_allowed(update))


def _float_leaves(name: str, tree: Any) -> Any:
    """The tree with every leaf an array of floats, or `InputError`."""

    def as_floats(leaf):
        leaf = jnp.asarray(leaf)
        if not jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype.itemsize < 2:
            raise InputError(f"{name}: got a leaf of {shown(leaf)}, expected floats of 16 bits or more")
        return leaf

    try:
        return jax.tree.map(as_floats, tree)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name}: got {shown(tree)}, expected an array of floats or a pytree of such ones") from error


OF_SOLVER = 3  # of the key for what a solver draws; the Monte Carlo draws take what 0 .. 2 make of it


class Solution(NamedTuple):
    """Where `solve` ended.

    Attributes:
      theta: the s-sparse parameters, in the structure of ``theta0``.
      loss: f(theta).
      step_size: the gamma that was used.
      certificate: whether theta is HT-stable, with the figures behind it.
    """

    theta: Any
    loss: jax.Array
    step_size: jax.Array
    certificate: Certificate


@transfers_allowed
def solve(
    f: Callable,
    theta0: Any,
    s: jax.Array | int,
    args: tuple = (),
    *,
    solver: str | Solver = "iht",
    step_size: jax.Array | float | None = None,
    steps: int = 10_000,
    n_monte: int = 100,
    key: jax.Array | None = None,
    ht_tol: jax.Array | float = 1e-3,
    always: Any = None,
) -> Solution:
    """Minimise f over the vectors with at most s nonzero entries, by IHT, Algorithm 1, or another solver.

    ``theta0``, ``s``, ``args``, ``step_size``, ``key`` and ``ht_tol`` are data: ``jax.jit`` may trace them and
    ``jax.vmap`` map over them, and a call with the same f and others of the same shapes compiles nothing. Values that
    are traced aren't checked, and a flat objective's step size is infinite then.

    Args:
      f: differentiable objective, maps parameters of the structure of ``theta0``, and ``args``, to a scalar.
      theta0: where to start, an array or a pytree of arrays with n entries in all; H_s is applied to it first.
      s: sparsity level, 1 .. n.
      args: what f takes after the parameters, such as the rows of a table; arrays, or pytrees of them. What f finds
        elsewhere is compiled in.
      solver: a `Solver`, or the name of one: "iht", or "module:name" with options as in "module:name:momentum=0.9".
      step_size: gamma; if None, 1 / L-hat_2s from `estimate_lipschitz` with standard normal draws.
      steps: how many steps to run.
      n_monte: Monte Carlo draws for L-hat_2s.
      key: for those draws; that of seed 0 if None.
      ht_tol: largest absolute gradient entry that counts as vanishing.
      always: which entries are always in and not counted by s, such as an intercept: booleans in the structure of
        ``theta0``, each of its leaf's shape or one for all of it. s goes up to the number of the others then.

    Raises:
      InputError: a number is out of range, theta0 isn't of finite floats, always doesn't fit it, f doesn't map it to a
        real scalar, there is no such solver, or no step size can be estimated because f's gradient is the same, or not
        finite, wherever it was sampled.

    Example:
      >>> solution = solve(lambda x: jnp.sum((x - jnp.array([3., 1., 2.])) ** 2), jnp.zeros(3), s=2)
      >>> [f"{entry:.3f}" for entry in solution.theta], bool(solution.certificate.ht_stable)
      (['3.000', '0.000', '2.000'], True)
      >>> def squares(x, A, b):
      ...     return jnp.mean((A @ x - b) ** 2)
      >>> A, b = jnp.array([[1., 0., 1.], [0., 1., 1.], [1., 1., 0.]]), jnp.array([2., 0., 2.])
      >>> [f"{entry:.3f}" for entry in solve(squares, jnp.zeros(3), 1, (A, b)).theta]
      ['2.000', '0.000', '0.000']
    """
    check("f", f, FUNCTION)
    args = check("args", tuple(args) if isinstance(args, list) else args, an(tuple))
    try:
        args = jax.tree.map(jnp.asarray, args)
    except (TypeError, ValueError) as error:
        raise InputError(f"args: got {shown(args)}, expected arrays, or pytrees of them") from error
    its_solver = solver_named(solver) if isinstance(solver, str) else check_solver(solver)
    flat, unravel = ravel_pytree(_float_leaves("theta0", theta0))
    if not flat.size:
        raise InputError(f"theta0: got {shown(theta0)}, expected at least one parameter")
    # By NumPy: inside `jit` even a computation on what isn't traced is.
    leaves = jax.tree.leaves(theta0)
    if not any(map(is_traced, leaves)) and not all(np.isfinite(leaf).all() for leaf in jax.device_get(leaves)):
        raise InputError("theta0: got NaN or infinity, expected finite numbers")
    constraint: SparseSet = PLAIN if always is None else _all_but(always, theta0)
    s = check("s", s, whole_number(1, constraint.n_counted(flat.size)))
    steps, n_monte = check("steps", steps, whole_number(1)), check("n_monte", n_monte, whole_number(1))
    ht_tol = check("ht_tol", ht_tol, POSITIVE)
    if step_size is not None:
        step_size = check("step_size", step_size, POSITIVE)
    key = root_key(0) if key is None else as_key("key", key)
    try:
        hash(f)
    except TypeError:
        f = partial(f)  # jit needs a hash, and a partial has one, that of its identity
    loss = jax.eval_shape(f, unravel(flat), *args)
    if getattr(loss, "shape", None) != () or not jnp.issubdtype(loss.dtype, jnp.floating):
        raise InputError(f"f: got {shown(loss)} at theta0, expected a real scalar")
    with jax.threefry_partitionable(True):
        theta, loss, gamma, certificate = _solve(
            flat,
            s,
            args,
            step_size,
            key,
            ht_tol,
            f=f,
            unravel=unravel,
            solver=its_solver,
            constraint=constraint,
            steps=steps,
            n_monte=n_monte,
        )
    if step_size is None and not is_traced(gamma) and not np.isfinite(gamma):
        raise InputError(
            f"step_size: the estimate 1 / L-hat_2s is {gamma}, since the gradient of f is the same, or not finite, "
            "wherever it was sampled; give a step_size"
        )
    return Solution(unravel(theta), loss, gamma, certificate)


def _all_but(always: Any, theta0: Any) -> GroupedSet:
    """The set in which these entries of a tree aren't counted, or `InputError`."""
    wanted = "booleans in the structure of theta0, each of its leaf's shape or one for all of it, not all of them True"
    try:
        masks = jax.tree.map(lambda leaf, mask: np.broadcast_to(mask, jnp.shape(leaf)).ravel(), theta0, always)
    except (TypeError, ValueError):
        raise InputError(f"always: got {shown(always)}, expected {wanted}") from None
    mask = np.concatenate(jax.tree.leaves(masks))
    if mask.dtype != bool or mask.all():
        raise InputError(f"always: got {shown(always)}, expected {wanted}")
    return GroupedSet(tuple(np.where(mask, ALWAYS, 0).tolist()))


@partial(jax.jit, static_argnames=("f", "unravel", "solver", "constraint", "steps", "n_monte"))
def _solve(theta0, s, args, step_size, key, ht_tol, *, f, unravel, solver, constraint, steps, n_monte):
    def loss(theta):
        return f(unravel(theta), *args)

    gradient = jax.grad(loss)
    if step_size is None:

        def draw(key, shape):
            return random.normal(unrolled(key), shape, theta0.dtype)

        step_size = 1 / estimate_lipschitz(key, gradient, draw, theta0.size, s, n_monte, constraint)
    step_size = jnp.asarray(step_size, theta0.dtype)
    objective = Objective(loss, gradient, step_size, constraint)
    start = solver.init(objective, constraint.threshold(theta0, s), s, folded_in(key, OF_SOLVER))
    state = lax.fori_loop(0, steps, lambda k, state: solver.step(objective, state, s, k), start)
    theta = state.theta
    return theta, loss(theta), step_size, certify(theta, gradient(theta), step_size, s, ht_tol, constraint)
