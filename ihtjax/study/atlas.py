"""All HT-stable points of one split and level, and how often IHT ends at each."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from ihtjax.errors import InputError, an, check, whole_number
from ihtjax.exact.newton import LANES
from ihtjax.exact.search import Search
from ihtjax.exact.separable import search_of
from ihtjax.exact.separation import ATTAINED
from ihtjax.exact.softmax import SoftmaxRows
from ihtjax.exact.stability import is_ht_stable
from ihtjax.study.optimality import training_rows, with_oracle
from ihtjax.study.starts import Starts, check_seed, run_starts, settled
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.words import conditions, unit

MAX_SUPPORTS = 200_000
# A start counts as arrived where its loss is within this of its support's infimum; for squared error times the
# targets' variance.
ARRIVED = 1e-3


class Atlas(NamedTuple):
    """The restricted minimisers of one split and level.

    Attributes:
      points: a data frame, one row for each support with s entries, the best first: ``support`` (names of its
        parameters), ``infimum``, ``group`` (supports with one number have equal infima, 0 the least),
        ``full_block``, ``attained``, ``ht_stable``, ``ht_margin`` (of (8); where no minimiser exists, at a point
        that comes near the infimum), and ``landings``, how many starts ended on it.
      starts: where each start ended.
      arrived: the share of the starts within ``near`` of their support's infimum.
      near: 1e-3 nats, or 1e-3 of the targets' variance.
      unit: of losses; empty where they have none.
      is_softmax: whether there are blocks that may be full.
      s: sparsity level.
      step_size: gamma.
      data_seed: of the split.
    """

    points: pd.DataFrame
    starts: Starts
    arrived: float
    near: float
    unit: str
    is_softmax: bool
    s: int
    step_size: float
    data_seed: int


def build_atlas(config: SweepConfig, s: int, data_seed: int, starts: int = 1000) -> Atlas:
    """Find every HT-stable restricted minimiser with s parameters on one split, and where IHT ends.

    A support's restricted minimiser theta is HT-stable if min |theta_S| >= gamma max |grad f(theta)| off S, (8); its
    gradient vanishes on S. Without a full block (all K weights of a feature, or all biases) it is unique where it
    exists. On a support with a full block minimisers form a line for each such block, theta plus any constant on it;
    the support counts as HT-stable if some of them are, that is, if (8) holds over the entries outside full blocks,
    since a large constant lifts a full block over any threshold.

    Args:
      config: as of a sweep; ``step_size`` must be a number.
      s: sparsity level.
      data_seed: of the split.
      starts: how many starts to run.

    Raises:
      InputError: no step size is given, there are too many supports, or as in `run_starts`.
    """
    check("config", config, an(SweepConfig))
    if not isinstance(config.step_size, float):
        got = "missing" if config.step_size is None else f"got {config.step_size!r}"
        raise InputError(
            f"step_size: {got}, expected a number, one gamma for all starts, such as a step_size of the run's trials"
        )
    (split,) = training_rows(config, [check_seed(data_seed)])
    problem, _, rows = with_oracle(config)
    n = problem.n
    s, starts = check("s", s, whole_number(1, n)), check("starts", starts, whole_number(1, 1_000_000))
    if math.comb(n, s) > MAX_SUPPORTS:
        raise InputError(
            f"s: level {s} of {n} parameters has {math.comb(n, s):,} supports, expected at most {MAX_SUPPORTS:,}, "
            f"which take a minute; choose another level"
        )
    _, ran = run_starts(config, s, data_seed, starts)
    search = search_of(rows(*split))
    supports = np.array([np.isin(np.arange(n), S) for S in itertools.combinations(range(n), s)])
    points = _points(search, supports, config.step_size)

    place = {support.tobytes(): i for i, support in enumerate(supports)}
    at = np.array([place.get(mask.tobytes(), -1) for mask in ran.theta != 0])
    points["landings"] = np.bincount(at[at >= 0], minlength=len(points))
    near = ARRIVED * search.rows.magnitude**2
    arrived = (at >= 0) & (ran.loss <= points.infimum.to_numpy()[at] + near)
    names = np.array(problem.names)
    points.insert(0, "support", [" ".join(names[support]) for support in supports])
    points = points.sort_values("infimum", kind="stable", ignore_index=True)
    points.insert(2, "group", np.r_[0, np.cumsum(np.diff(points.infimum) > search.rows.tie)])
    kind = unit(settled(config), "{}"), isinstance(search.rows, SoftmaxRows)
    return Atlas(points, ran, float(arrived.mean()), near, *kind, s, config.step_size, data_seed)


def _points(search: Search, supports: np.ndarray, step_size: float) -> pd.DataFrame:
    rows = search.rows
    canonical = rows.supports.canonical(supports)
    classes, which = np.unique(canonical, axis=0, return_inverse=True)
    infimum = search.infima(classes)
    attained = np.array([search.existence(c) == ATTAINED for c in classes])
    theta = np.array([search.theta(c) for c in classes])
    if attained.any():
        theta[attained] = rows.sharpened(classes[attained], theta[attained])
    gradient = rows.gradient(theta)[which]
    theta = rows.supports.onto(theta[which], supports)
    free = rows.supports.free(supports)
    threshold = step_size * np.where(supports, 0, np.abs(gradient)).max(1)
    margin = np.where(supports & ~free, np.abs(theta), np.inf).min(1) - threshold
    # Of a line of minimisers, one whose full blocks lie above the threshold.
    lifted = theta + free * 2 * (np.abs(theta).max(1) + threshold)[:, None]
    attained = attained[which]
    stable = attained.copy()
    s = int(supports[0].sum())
    for start in range(0, len(lifted), LANES):
        batch = slice(start, start + LANES)
        stable[batch] &= is_ht_stable(rows, lifted[batch], step_size, s)
    return pd.DataFrame(
        {
            "infimum": infimum[which],
            "full_block": free.any(1),
            "attained": attained,
            "ht_stable": stable,
            "ht_margin": margin,
        }
    )


def describe(found: Atlas, config: SweepConfig, rows: int = 12) -> str:
    """The atlas as text: what it is of, counts, then the points where IHT lands most often, and the best."""
    points, starts = found.points, len(found.starts.loss)
    full, attained, stable = points.full_block, points.attained, points.ht_stable
    landed, best = points[points.landings > 0], points[points.group == 0]
    holds, values = (~attained & (points.ht_margin >= 0)).sum(), points.group[~full & stable].nunique()
    of = f" {found.unit}" if found.unit else ""
    blocks = [
        f"{(full & attained).sum():9,}  with a full block: lines of minimisers, "
        f"on {(full & stable).sum():,} HT-stable ones"
    ] * found.is_softmax
    without = (
        f"{(~attained).sum():9,}  without a minimiser: where the loss nears its infimum,",
        f"{'':9}  (8) holds on {holds:,} of them and does not on {(~attained).sum() - holds:,}",
    )
    lines = [
        f"s = {found.s}, data seed {found.data_seed}, {starts:,} starts",
        conditions(settled(config)),
        "",
        f"{len(points):,} supports:",
        f"{(~full & stable).sum():9,}  with an HT-stable minimiser, {values:,} different values",
        f"{(~full & attained & ~stable).sum():9,}  with a minimiser that is not HT-stable",
        *blocks,
        *(without if (~attained).any() or found.is_softmax else ()),
        f"{starts:,} starts, which ended on {len(landed):,} supports; of these starts",
        f"{landed[landed.ht_stable].landings.sum():9,}  on a support with an HT-stable minimiser",
        f"{round(found.arrived * starts):9,}  within {found.near:g}{of} of their support's infimum",
        f"{best.landings.sum():9,}  on one of the {len(best):,} best supports, infimum {best.infimum.min():z.6g}{of}",
        f"{starts - points.landings.sum():9,}  with fewer than {found.s} nonzero entries, on none of these supports",
        "",
        f"up to 3 of the best supports, then the {rows} on which most starts ended;",
        "ht_stable False: the support's minimiser violates (8), or there is none",
        "",
    ]
    top = landed.nlargest(rows, "landings", keep="all").head(rows)
    shown = pd.concat([best.head(3), top]).drop_duplicates("support")
    shown = shown[["landings", "infimum", "group", "ht_stable", "support"]]
    return "\n".join([*lines, shown.to_string(index=False, formatters={"infimum": "{:z.6f}".format})])
