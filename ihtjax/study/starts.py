"""Many starts of IHT on one split: where they end, and how many it takes to come near the best."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ihtjax.errors import POSITIVE, SEED, SHARE, an, check, whole_number
from ihtjax.exact.oracle import check_levels
from ihtjax.exact.separable import search_of
from ihtjax.study.optimality import Split, training_rows, with_oracle
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.engine import make_problem, one_solver, resolved, run_block, triples
from ihtjax.sweeps.memory import fitting_engine
from ihtjax.sweeps.words import conditions, unit


class Starts(NamedTuple):
    """Where starts of one level ended; `N` denotes their number.

    Attributes:
      theta: ``[N, n]``, float64.
      loss: f(theta) ``[N]``, in float64.
      step_size: gamma of each ``[N]``.
    """

    theta: np.ndarray
    loss: np.ndarray
    step_size: np.ndarray


def run_starts(
    config: SweepConfig, s: int, data_seed: int, starts: int, batch: int | None = None
) -> tuple[Split, Starts]:
    """Run IHT on one split from many starts: the first seed triples of ``config.seed``, all with this data seed.

    Args:
      config: as of a sweep.
      s: sparsity level.
      data_seed: of the split.
      starts: how many.
      batch: lanes per call; if None, what suits the device and its memory.

    Raises:
      InputError: s, the seed or the number of starts is out of range, or the data can't be used.
    """
    check("config", config, an(SweepConfig))
    (split,) = training_rows(config, [check_seed(data_seed)])
    problem = make_problem(config)
    s, starts = check("s", s, whole_number(1, problem.n)), check("starts", starts, whole_number(1, 1_000_000))
    engine = fitting_engine(problem, one_solver(config), resolved(config, problem), batch)
    parts = []
    for first in range(0, starts, engine.batch):
        trials = np.arange(first, min(first + engine.batch, starts), dtype=np.uint32)
        seeds = triples(config.seed, trials)
        seeds[0] = data_seed
        result, _ = run_block(engine, seeds, s)
        parts.append((result.theta, result.step_size))
    theta, step_size = (np.concatenate(part, axis=-1) for part in zip(*parts))
    theta = theta.T.astype(np.float64)
    return split, Starts(theta, with_oracle(config)[2](*split).loss(theta), step_size)


def settled(config: SweepConfig) -> SweepConfig:
    """The configuration with the loss that its table decided, so that it is named with its unit."""
    return resolved(config, make_problem(config))


def check_seed(data_seed: int) -> int:
    """The data seed, if it is one."""
    return check("data_seed", data_seed, SEED)


def restart_budget(
    config: SweepConfig,
    data_seed: int,
    starts: int = 1000,
    epsilon: float = 0.01,
    confidence: float = 0.95,
    batch: int | None = None,
) -> pd.DataFrame:
    """How many starts of IHT come within epsilon of the global optimum, on one split, level by level.

    A start succeeds if its loss is at most the infimum over all supports with s entries plus epsilon. The seeds of
    starts are independent, so with p the chance that one succeeds on this split,

        P(best of N succeeds) = 1 - (1 - p)^N,      N_95 = log(0.05) / log(1 - p), rounded up.

    p is estimated from k successes in M starts; its Clopper-Pearson interval carries over to both. A sweep's trials
    can't replace them: each has a split of its own, and the mean of 1 - (1 - p)^N over splits isn't that of the mean p.

    Args:
      config: as of a sweep; its ``levels`` are run, all of 1 .. n - 1 if None.
      data_seed: of the split.
      starts: M, for each level.
      epsilon: in the loss's units.
      confidence: of the intervals.
      batch: lanes per call; if None, what suits the device and its memory.

    Returns:
      A data frame with a row for each level: ``s``, ``starts``, ``successes``, ``infimum``, ``p`` with ``p_low`` and
      ``p_high``, and ``n95`` with ``n95_low`` and ``n95_high``, infinite where no start succeeded.

    Raises:
      InputError: as in `run_starts`; or there are too many supports to enumerate, or epsilon isn't positive.

    References:
      Clopper and Pearson, 1934, doi:10.1093/biomet/26.4.404.
    """
    check("config", config, an(SweepConfig))
    epsilon, confidence = check("epsilon", epsilon, POSITIVE), check("confidence", confidence, SHARE)
    (split,) = training_rows(config, [check_seed(data_seed)])
    rows = with_oracle(config)[2](*split)
    levels = config.with_levels(rows.n).filled_levels
    check_levels(levels, rows)
    search = search_of(rows)
    search.best(levels)
    table = []
    for s in levels:
        ran = run_starts(config, s, data_seed, starts, batch)[1]
        k = int((ran.loss <= search.least(s) + epsilon).sum())
        low, high = success_interval(k, starts, confidence)
        table.append(
            {"s": s, "starts": starts, "successes": k, "infimum": search.least(s)}
            | {"p": k / starts, "p_low": low, "p_high": high}
            | {"n95": starts_for(k / starts), "n95_low": starts_for(high), "n95_high": starts_for(low)}
        )
    return pd.DataFrame(table)


def success_interval(k: int, starts: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson interval of the chance of success, after k successes."""
    interval = stats.binomtest(k, starts).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def best_of(p: np.ndarray, N: np.ndarray) -> np.ndarray:
    """P(best of N starts succeeds) = 1 - (1 - p)^N."""
    return -np.expm1(N * np.log1p(-np.minimum(p, 1 - 1e-16)))


def starts_for(p: float, chance: float = 0.95) -> float:
    """The least N with `best_of` (p, N) at least this chance; infinite for p = 0.

    Example:
      >>> starts_for(0.5), starts_for(1.0), starts_for(0.0)
      (5.0, 1.0, inf)
    """
    if p <= 0:
        return np.inf
    return 1.0 if p >= chance else float(np.ceil(np.log1p(-chance) / np.log1p(-p)))


def render(table: pd.DataFrame, epsilon: float, config: SweepConfig, data_seed: int) -> str:
    """The budget as text, with what it was computed from."""

    def whole(value):
        return "never seen" if np.isinf(value) else f"{value:,.0f}"

    rows = (
        {
            "s": row.s,
            "best loss": f"{row.infimum:z.6f}",
            f"starts within {epsilon:g}": f"{row.successes:,} of {row.starts:,}",
            "chance [95 % interval]": f"{row.p:.3f} [{row.p_low:.3f}, {row.p_high:.3f}]",
            "N for 95 %": f"{whole(row.n95)} [{whole(row.n95_low)}, {whole(row.n95_high)}]",
        }
        for row in table.itertuples()
    )
    config = settled(config)
    within = f"within {epsilon:g}{unit(config)} of the best loss"
    starts = f"data seed {data_seed}, {table.starts[0]:,} starts a level, {within}"
    return f"{starts}\n{conditions(config)}\n\n{pd.DataFrame(rows).to_string(index=False)}"
