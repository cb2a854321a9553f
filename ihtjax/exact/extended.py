"""How near a restricted optimum is to the infimum, and extended precision for those that aren't near enough.

A feature with an outlier of 1e8 is constant but for its eighth digit: where that row is fitted, the others ask for
parameters of 1e9, which cancel in the logits and leave eight digits of them.
"""

import numpy as np

MAX_ITERATIONS = 100
REACH = 60.0
# Columns that differ by no more are dependent.
DEPENDENT = 1e-15


def dual_gap(p: np.ndarray, dz: np.ndarray, z: np.ndarray) -> np.ndarray:
    """How much f exceeds its infimum at most ``[B]`` (nats), by duality, from Newton's step.

    f(theta) = max_q mean_i (<q_i - e_{y_i}, z_i> + entropy(q_i)). So if q_i are probabilities for which the gradient
    on the support vanishes, mean entropy(q_i) is a lower bound, and f exceeds it by

        mean_i KL(q_i, p_i)  <=  mean_i sum_k p_ik u_ik^2,      q_ik = p_ik (1 + u_ik).

    The gradient is linear in q, and vanishes where Newton's step, which changes z_i by dz_i, takes p to first order:
    u_ik = dz_ik - <p_i, dz_i>. On separated rows u_ik may be below -1; there q_ik = 0, and what that leaves of the
    gradient, a mass of at most 2 c_i, is added times the range of z_i and 60: as if the best logits, which may be
    infinite, were no further from these, since exp(-60) is nothing. That makes it a rule of thumb there, no bound.

    Args:
      p, dz, z: probabilities, the step's logits, and the logits ``[K, m, B]``.
    """
    u = dz - (p * dz).sum(0)
    v = np.maximum(u, -1)
    c = (p * (v - u)).sum(0)
    return (p * v**2).sum(0).mean(0) + (c * (1 + 2 * (z.max(0) - z.min(0) + REACH))).mean(0)


def polish(
    X: np.ndarray, y: np.ndarray, support: np.ndarray, V: np.ndarray, enough: float
) -> tuple[float, np.ndarray, float, float]:
    """Go on from near a support's infimum by damped Newton, in NumPy's longest floats.

    Its step comes from the singular values of the Hessian's root, whose condition is the root of the Hessian's.

    Args:
      X: rows with the bias column ``[m, D]``.
      y: classes ``[m]``.
      support: mask ``[K, D]``.
      V: parameters ``[K, D]``.
      enough: Newton's decrement squared at which to stop.

    Returns:
      f (nats), parameters ``[K, D]`` rounded to float64, by how much f may exceed the infimum, and the decrement.
    """
    K, m = len(support), len(y)
    k, f = np.nonzero(support)
    A = X.astype(np.longdouble)[:, None, f] * (np.arange(K)[:, None] == k)
    own = np.arange(K) == y[:, None]
    A = A - A[own][:, None]  # logits less that of the row's class

    def value(v):
        z = A @ v
        top = z.max(1, keepdims=True)
        e = np.exp(z - top)
        total = e.sum(1, keepdims=True)
        return (top + np.log(total)).mean(), e / total, z

    v = V[k, f].astype(np.longdouble)
    loss, p, z = value(v)
    for _ in range(MAX_ITERATIONS):
        g = np.einsum("ikj,ik->j", A, np.where(own, 0, p)) / m
        centred = A - np.einsum("ikj,ik->ij", A, p)[:, None]
        root = (np.sqrt(p / m)[..., None] * centred).reshape(m * K, -1)
        size = np.sqrt((root**2).sum(0))
        size[size == 0] = 1
        _, s, W = np.linalg.svd((root / size).astype(np.float64), full_matrices=False)
        blind = W[s <= 1e-13 * s[0]] / size
        s = np.where(s > 1e-13 * s[0], s, np.inf)
        step = -(W.T @ (W @ (g / size) / s**2)) / size
        decrement = -float(g @ step)
        if not decrement > enough:
            break
        length, moved = np.longdouble(1), value(v + step)
        while not moved[0] <= loss - 1e-4 * length * decrement and length > 1e-6:
            length /= 2
            moved = value(v + length * step)
        if not moved[0] < loss:
            break
        v, (loss, p, z) = v + length * step, moved
    within = dual_gap(*(a.T[..., None] for a in (p, A @ step, z)))[0]
    # Directions along which no step is taken: dependent columns, or too nearly so for the singular values.
    moves = blind[np.abs(blind @ A.reshape(m * K, -1).T).max(1) > DEPENDENT * np.abs(blind).max(1) * np.abs(A).max()]
    if len(moves):
        curvature = np.maximum(((root @ moves.T) ** 2).sum(0), np.finfo(np.float64).tiny)
        within += float(((moves @ g) ** 2 / curvature).max())
    within += 2 * np.finfo(np.longdouble).eps * (np.abs(A).mean(0) @ np.abs(v)).sum()
    theta = np.zeros(support.shape)
    theta[k, f] = v
    return float(loss), theta, float(min(within, loss)), decrement  # f is never below 0
