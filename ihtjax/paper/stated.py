"""What the paper states of its experiments, and what is inferred here."""

from typing import NamedTuple

from ihtjax.sweeps.config import MODEL_OPTIONS, MODELS, SAID_BY_PROBLEM, SweepConfig

SAME, DIFFERS, OURS = "as stated", "differs", "not stated: our choice"


class Option(NamedTuple):
    """An option of a run, held against the paper.

    Attributes:
      name, value: of the option, as text.
      against: `SAME`, `DIFFERS` or `OURS`.
      paper: what the paper says.
    """

    name: str
    value: str
    against: str
    paper: str


# What the paper states: the values that are as stated, and its words.
STATED = {
    "model": (("linear",), "one layer with softmax, 15 parameters (IV)"),
    "data": (("iris",), "Iris, 150 rows, split 120 to 30 (IV)"),
    "levels": ((list(range(1, 15)),), "1 to 14 (IV-A)"),
    "solver": ((["iht"],), "Algorithm 1, iterative hard thresholding"),
    "trials": ((1000,), "1,000 experiments for each level, and 1,000 dense ones (IV-A)"),
    "steps": ((10_000,), "10,000 (IV-A)"),
    "always": ((None,), "s counts all 15 parameters, biases too (Table I)"),
    "per": (("network",), "at most s nonzero parameters in all (1)"),
    "dense": ((True,), "dense networks are trained for comparison (IV-A)"),
    "step_size": ((None,), "1 / L-hat_2s, at the start of each experiment (III-F, III-G)"),
    "stop_loss": (
        (None, 0.05),
        "10,000 steps, and that 0.05 is the stopping criterion (IV-A): steps may be a cap with an early stop. Both "
        "readings can be judged: ihtjax sweep results/stopped --stop-loss 0.05, then ihtjax report RUN_DIR --with "
        "results/stopped",
    ),
}
# Medians from: ihtjax sweep results/torch --init torch_linear --levels 3,14 --steps 1 --curve-points 0
INFERRED = {
    "loss": "MSE, CE and BCE are named for networks in general (III-E), none for the experiment",
    "activation": "sigmoid, tanh and ReLU are named for networks in general (III-E); the experiment's network has none",
    "n_monte": "n_monte, without a number (III-F)",
    "seed": "the seeds of Figs. 8, 14 and 15 (21, 42, 84), whose draws cannot be had again",
    "init": "randomly (III-F, IV-A), without a distribution. With PyTorch's usual one (torch_linear) Fig. 9 reverses: "
    "the median step size falls from 1.512 at s = 3 to 1.451 at s = 14 (ihtjax sweep results/torch --init torch_linear "
    "--levels 3,14 --steps 1 --curve-points 0)",
    "standardize": "features are standardised during training (IV), not by which rows",
    "ht_tol": "a gradient that is almost zero (IV-B), without a tolerance",
    "precision": "PyTorch (IV), whose default is float32",
}


def against_paper(config: SweepConfig) -> list[Option]:
    """Every option that a run has: its value, and whether the paper states that value, another one, or none."""
    not_had = {name for name in ("problem", "target") if getattr(config, name) is None}
    not_had |= set(MODEL_OPTIONS).difference(MODELS[config.model])
    if config.problem is not None:
        not_had |= set(SAID_BY_PROBLEM)
    rows = []
    for name, value in config.to_json().items():
        if name in not_had:
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else "-" if value is None else str(value)
        if name in STATED:
            values, paper = STATED[name]
            rows.append(Option(name, text, SAME if value in values else DIFFERS, paper))
        else:
            rows.append(Option(name, text, OURS, INFERRED.get(name, "")))
    return rows
