"""The mathematics once more, in float64 NumPy, for many trials at a time; shares no code with the package."""

import numpy as np


def hard_threshold(v, s):
    """H_s on the last axis, s one number or one for each row; the stable sort puts the lower index first."""
    order = np.argsort(-np.abs(v), axis=-1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(v.shape[-1]), axis=-1)
    return np.where(rank < np.asarray(s)[..., None], v, 0.0)


def probabilities(theta, X):
    """Class probabilities ``[T, K, m]`` for theta ``[T, n]`` and X ``[T, m, d]``; rows last make NumPy's loops long."""
    T, _, d = X.shape
    K = theta.shape[-1] // (d + 1)
    W, b = theta[:, : K * d].reshape(T, K, d), theta[:, K * d :]
    P = W @ X.transpose(0, 2, 1)  # in place from here on: large arrays anew would take longer than their numbers
    P += b[:, :, None]
    P -= P.max(1, keepdims=True)
    np.exp(P, out=P)
    P /= P.sum(1, keepdims=True)
    return P


def loss(theta, X, y):
    P = probabilities(theta, X)
    return -np.log(np.take_along_axis(P, y[:, None], 1)[:, 0]).mean(-1)


def gradient(theta, X, y):
    """The residual p - 1 of a row's own class is minus the sum of the others'.

    With two classes the gradient's two halves are then negatives of each other to the last bit, as they are in exact
    arithmetic, and H_s meets exact ties; p - 1 would leave those to rounding.
    """
    R = probabilities(theta, X)
    own = y[:, None] == np.arange(R.shape[1])[:, None]
    R *= ~own
    R -= own * R.sum(1, keepdims=True)
    return np.concatenate([(R @ X).reshape(len(X), -1), R.sum(2)], axis=-1) / X.shape[1]


def accuracy(theta, X, y):
    return (probabilities(theta, X).argmax(1) == y).mean(-1)


def iht(theta, X, y, step_size, s, steps):
    """Algorithm 1; returns the last iterate, how often the support changed, and the last step at which it did."""
    changes = np.zeros(len(theta), int)
    last = np.zeros(len(theta), int)
    for k in range(1, steps + 1):
        new = hard_threshold(theta - step_size[:, None] * gradient(theta, X, y), s)
        changed = ((new != 0) != (theta != 0)).any(-1)
        changes += changed
        last[changed] = k
        theta = new
    return theta, changes, last


def run_rows(config, rows, trial_inputs):
    """Algorithm 1 from the inputs of each row and the row's own step size, in float64."""
    inputs = [trial_inputs(config, int(r.s), int(r.data_seed), int(r.init_seed), int(r.support_seed)) for r in rows]
    X, y, theta0 = (np.stack([i[k] for i in inputs]) for k in ("X_train", "y_train", "theta0"))
    X, theta0, y = X.astype(np.float64), theta0.astype(np.float64), y.astype(int)
    gamma = np.array([r.step_size for r in rows], np.float64)
    whole = theta0, X, y, gamma, np.array([r.s for r in rows])
    parts = zip(*(np.array_split(its, -(-len(rows) // 70)) for its in whole))  # that stay in cache
    theta, changes, last = map(np.concatenate, zip(*(iht(*part, config.steps) for part in parts)))
    return theta, loss(theta, X, y), changes, last
