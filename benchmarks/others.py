"""The work as other tools run it: PyTorch, skscope, scikit-learn and NumPy.

Each function takes the work and returns a program; a tool that isn't installed raises ImportError.
"""

import time
import warnings

import jax
import numpy as np
from compiled import loss
from work import STEP_SIZE, Program, Work, losses, timed

from ihtjax.sweeps.engine import workers


def torch_loop(work: Work) -> Program:
    """The paper's way: one network after another, autograd, SGD, then the mask of the s largest."""
    import torch

    def train(X, y, theta0):
        W, b = theta0[:-3].reshape(3, -1), theta0[-3:]
        model = torch.nn.Linear(X.shape[1], 3)
        with torch.no_grad():
            model.weight.copy_(W)
            model.bias.copy_(b)
        optimizer = torch.optim.SGD(model.parameters(), lr=STEP_SIZE)
        cross_entropy = torch.nn.CrossEntropyLoss()
        for _ in range(work.steps):
            optimizer.zero_grad()
            cross_entropy(model(X), y).backward()
            optimizer.step()
            with torch.no_grad():
                theta = torch.cat([model.weight.reshape(-1), model.bias])
                mask = torch.zeros_like(theta)
                mask[torch.topk(theta.abs(), work.s).indices] = 1
                model.weight.mul_(mask[:-3].reshape(3, -1))
                model.bias.mul_(mask[-3:])
        return torch.cat([model.weight.reshape(-1), model.bias]).detach().numpy()

    X, y, theta0 = (torch.from_numpy(a.copy()) for a in (work.X, work.y.astype(np.int64), work.theta0))

    def run():
        torch.set_num_threads(1)  # one network is too small for more, and idle ones would wait in a loop
        return np.stack([train(*lane) for lane in zip(X, y, theta0)])

    return timed(run, len(X))


def torch_vmap(work: Work, compiled: bool = False) -> Program:
    """``torch.func``: vmap of the gradient, and one top-k for the whole batch."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"

    def loss(theta, X, y):
        return torch.nn.functional.cross_entropy(X @ theta[:-3].reshape(3, -1).T + theta[-3:], y)

    gradient = torch.func.vmap(torch.func.grad(loss))

    def step(theta, X, y):
        v = theta - STEP_SIZE * gradient(theta, X, y)
        kept = torch.topk(v.abs(), work.s, dim=1).indices
        return torch.zeros_like(v).scatter(1, kept, v.gather(1, kept))

    step = torch.compile(step) if compiled else step
    arrays = (work.theta0, work.X, work.y.astype(np.int64))
    theta0, X, y = (torch.from_numpy(a.copy()).to(device) for a in arrays)

    def run(threads, steps):
        torch.set_num_threads(threads)
        theta = theta0
        with torch.no_grad():
            for _ in range(steps):
                theta = step(theta, X, y)
        return theta.cpu().numpy()

    def trial_run(threads):
        run(threads, 3)  # compiles
        began = time.perf_counter()
        run(threads, 20)
        return time.perf_counter() - began

    # Two threads may be slower than one, where cores are shared: they wait for each other in a loop.
    fastest = min({1, workers()}, key=trial_run)
    return timed(lambda: run(fastest, work.steps), len(X))


def skscope(work: Work) -> Program:
    """IHTSolver with our start and step size: it stops when a support repeats, and ends with L-BFGS on that support."""
    from skscope import IHTSolver

    value, slope = jax.jit(loss), jax.jit(jax.grad(loss))

    def objective(theta, rows):
        return value(theta, *rows)

    def gradient(theta, rows):
        return slope(theta, *rows)

    def fit(X, y, theta0):
        solver = IHTSolver(theta0.size, work.s, step_size=STEP_SIZE, max_iter=work.steps)
        theta = solver.solve(objective, (X, y), gradient=gradient, init_params=theta0)
        return theta, solver.objective_value

    lanes = list(zip(*jax.device_put((work.X, work.y)), work.theta0))
    reported = np.array([fit(*lane)[1] for lane in lanes])

    def check(work, theta, ours):
        honest = np.allclose(losses(work, theta), reported, atol=1e-4) and ((theta != 0).sum(axis=1) <= work.s).all()
        return _fit(work, theta, ours) | {"held_to": "it reports our loss of an s-sparse theta", "passed": bool(honest)}

    return timed(lambda: np.stack([fit(*lane)[0] for lane in lanes]), len(lanes), check)


def scikit_learn(work: Work) -> Program:
    """LogisticRegression without penalty, L-BFGS to its default tolerance, for the dense fit."""
    from sklearn.linear_model import LogisticRegression

    def fit(X, y):
        model = LogisticRegression(C=np.inf, max_iter=work.steps).fit(X, y)
        return np.concatenate([model.coef_.ravel(), model.intercept_])

    def check(work, theta, ours):
        higher = losses(work, theta) - losses(work, ours)
        return _fit(work, theta, ours) | {"held_to": "loss at most ours + 0.001", "passed": bool(higher.max() < 1e-3)}

    def run():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.stack([fit(*lane) for lane in zip(work.X, work.y)])

    return timed(run, len(work.X), check)


def _fit(work, theta, ours):
    """Median losses of a peer that stops by a rule of its own."""
    return {
        "trials_compared": len(theta),
        "median_loss": float(np.median(losses(work, theta))),
        "our_median_loss": float(np.median(losses(work, ours))),
    }


def numpy_loop(work: Work) -> Program:
    """Gradient descent written out in NumPy, float64, one network after another, for the dense fit."""

    def train(X, y, theta0):
        X = np.column_stack([X.astype(np.float64), np.ones(len(X))])
        V = np.column_stack([theta0[:-3].reshape(3, -1), theta0[-3:]]).astype(np.float64)
        target = np.eye(3)[y]
        for _ in range(work.steps):
            Z = X @ V.T
            P = np.exp(Z - Z.max(axis=1, keepdims=True))
            P /= P.sum(axis=1, keepdims=True)
            V -= STEP_SIZE / len(X) * ((P - target).T @ X)
        return np.concatenate([V[:, :-1].ravel(), V[:, -1]])

    return timed(lambda: np.stack([train(*lane) for lane in zip(work.X, work.y, work.theta0)]), len(work.X))
