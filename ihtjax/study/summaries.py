"""A run in a table: medians and quartiles for each level."""

import functools
import os
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from ihtjax.exact.rows import TIE
from ihtjax.solvers.registry import DENSE
from ihtjax.study.optimality import certified_methods
from ihtjax.sweeps.audit import DESCENT, VIOLATIONS
from ihtjax.sweeps.config import PAPERS_STOP_LOSS, SweepConfig
from ihtjax.sweeps.plan import unfinished
from ihtjax.sweeps.store.reading import load, read
from ihtjax.sweeps.store.records import Certify
from ihtjax.sweeps.store.run import RunDirectory
from ihtjax.sweeps.words import METRICS, conditions, unit

QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}
ROSE = 1e-5  # of max(1, loss), of which float32's rounding reaches some 1e-6
# Gradients on the support that count as vanishing: HT-stability's share hangs on which.
TOLERANCES = (1e-3, 1e-4, 1e-5)
WITHIN = (0.001, 0.01, 0.1)
STATUS = ("certified", "open", "refuted")


def summary(run_dir: str | os.PathLike) -> pd.DataFrame:
    """Medians, quartiles and shares for each level of a run, over the trials that did not diverge.

    Returns:
      A data frame with a row for each (method, s): ``trials`` and ``diverged``; for each of step_size, train_loss,
      test_loss, what the run's problem measures (train_accuracy and test_accuracy, for classes) and epsilon the columns
      ``_q1``, ``_median`` and ``_q3``; ``ht_stable``, the share that is HT-stable by the run's ``ht_tol``, and
      ``gradient_below_1e-03`` .. ``1e-05``, the shares whose gradient on the support is at most that; ``loss_rose``,
      how many trials' training loss rose by more than 1e-5 of max(1, loss) between neighbouring curve points (NaN
      without curves);
      ``stop_loss``, the run's stopping loss, or 0.05; ``reached_stop_loss``, the share that reached it, and
      ``steps_to_stop_loss_q1``, ``_median`` and ``_q3`` over these alone. Of what the run's problem says of a network,
      such as ``collapsed`` and ``n_effective`` of an mlp, the share or those three. Where violations of the descent
      inequality were counted, ``local_descent_verified``, the share of trials with none.

    Raises:
      InputError: there is no such run, or nothing is finished yet.
    """
    structure = _structure(run_dir)
    rows, stop_loss = [], _config(run_dir).stop_loss or PAPERS_STOP_LOSS
    quantities = ["step_size", "train_loss", "test_loss", *_measured(run_dir), "epsilon"]
    columns = ["method", "s", *quantities, "grad_on_support", "ht_stable", "status"]
    columns += ["max_loss_increase", "steps_to_stop_loss", *structure]
    everything = read(run_dir, columns=columns, categorical=("method", "status")).to_pandas(self_destruct=True)
    for (method, s), trials in everything.groupby(["method", "s"], sort=False, observed=True):
        ok = trials.status == "ok"  # a column at a time, so that a million trials don't take their memory twice
        row = {"method": method, "s": s, "trials": len(trials), "diverged": len(trials) - ok.sum()}
        for quantity in quantities:
            row |= _quartiles(quantity, trials[quantity][ok])
        row["ht_stable"] = trials.ht_stable[ok].mean()
        row |= {f"gradient_below_{tol:.0e}": (trials.grad_on_support[ok] <= tol).mean() for tol in TOLERANCES}
        rises, least = trials.max_loss_increase[ok], ROSE * np.maximum(1, trials.train_loss[ok])
        row["loss_rose"] = (rises > least).sum() if rises.notna().any() else None
        row["stop_loss"] = stop_loss
        steps = trials.steps_to_stop_loss[ok]
        row["reached_stop_loss"] = steps.notna().mean()
        row |= _quartiles("steps_to_stop_loss", steps.dropna())
        for name, (kind, _) in structure.items():
            its = trials[name][ok]
            row |= {name: its.mean()} if kind == "bool" else _quartiles(name, its)
        if VIOLATIONS in structure:
            row["local_descent_verified"] = (trials[VIOLATIONS][ok] == 0).mean()
        rows.append(row)
    return _in_order(pd.DataFrame(rows).astype({"loss_rose": "float64"}), run_dir)


def _in_order(table: pd.DataFrame, run_dir: str | os.PathLike) -> pd.DataFrame:
    """The rows by solver, in the order in which the run has them, the dense baseline last, and by level."""
    place = {method: i for i, method in enumerate((*RunDirectory(run_dir).require().record()["solvers"], DENSE))}
    return table.sort_values(
        ["method", "s"], key=lambda its: its.map(place) if its.name == "method" else its, ignore_index=True
    )


def _as_text(table: pd.DataFrame, cells: Callable[[Any], dict[str, Any]]) -> str:
    """The cells of each row, below the name of its solver if there are several."""
    rows = [{"s": "dense" if row.method == DENSE else str(row.s), **cells(row)} for _, row in table.iterrows()]
    header, *lines = pd.DataFrame(rows).to_string(index=False).splitlines()
    several = table.method[table.method != DENSE].nunique() > 1
    methods = table.method.tolist()
    for i, line in enumerate(lines):
        begins = several and methods[i] != DENSE and (i == 0 or methods[i] != methods[i - 1])
        header += f"\n{methods[i]}\n{line}" if begins else f"\n{line}"
    return header


def _quartiles(quantity, values):
    return {f"{quantity}_{name}": values.quantile(q) for name, q in QUARTILES.items()}


def _config(run_dir):
    return SweepConfig(**RunDirectory(run_dir).require().record()["config"])


def _measured(run_dir):
    """The columns of what a run's problem measures."""
    metrics = RunDirectory(run_dir).require().record()["metrics"]
    return [f"{part}_{name}" for part in ("train", "test") for name in metrics]


def _structure(run_dir):
    """The type and the meaning of each column that a run's problem says of a network, by name."""
    return dict(sorted(RunDirectory(run_dir).require().record().get("structure", {}).items()))


def gaps(run_dir: str | os.PathLike) -> pd.DataFrame:
    """What `ihtjax oracle` found, for each level of a run.

    Returns:
      A data frame with a row for each (method, s): ``trials``; ``certified``, ``open`` and ``refuted``, the shares by
      step size; ``best_support``, the share whose support is a best one; ``within_0.001`` .. ``within_0.1``, the
      shares whose loss is within that of the infimum; the medians of ``gap``, ``support_gap`` and
      ``optimization_gap``; ``attained``, the share whose support attains its infimum; ``heads_for_stable``, the share
      whose support has a minimiser, and an HT-stable one where the trial heads; ``ht_stable``, the share of the same
      trials that is called so at the run's ``ht_tol``. Where the supports weren't enumerated, or certificates are
      older than a column, what depends on it is NaN. Diverged trials count as trials that are within nothing, and
      are neither attained nor stable.

    Raises:
      InputError: there is no such run, or no certificate.
    """
    columns = "method s trial step_status existence gap support_gap optimization_gap best_support infimum".split()
    certificates = certificates_of(run_dir, [*columns, "minimizer_on_support"])
    key = ["method", "s", "trial"]
    certificates = certificates.merge(load(run_dir, columns=[*key, "ht_stable", "status"]), on=key, how="left")
    rows = []
    for (method, s), trials in certificates.groupby(["method", "s"], sort=False):
        known = trials[trials.infimum.notna()]
        row = {"method": method, "s": s, "trials": len(trials)}
        row |= {status: (trials.step_status == status).mean() for status in STATUS}
        row["best_support"] = known.best_support.astype(float).mean()
        row |= {f"within_{epsilon:g}": (known.gap <= epsilon).mean() for epsilon in WITHIN}
        row |= {name: trials[name].median() for name in ("gap", "support_gap", "optimization_gap")}
        row["attained"] = (trials.existence == "attained").mean()
        told = trials[trials.minimizer_on_support.notna() | (trials.status == "diverged")]
        known_at_all = trials.minimizer_on_support.notna().any()
        row["heads_for_stable"] = (told.minimizer_on_support == "ht-stable").mean() if known_at_all else float("nan")
        row["ht_stable"] = (told if known_at_all else trials).ht_stable.astype(float).mean()
        rows.append(row)
    return _in_order(pd.DataFrame(rows), run_dir)


def certificates_of(run_dir: str | os.PathLike, columns: list[str]) -> pd.DataFrame:
    """These columns of the certificates; those that older ones lack hold None."""
    formats = [
        entry["environment"].get("format", 1)
        for unit, entry in RunDirectory(run_dir).require().units().items()
        if isinstance(unit, Certify)
    ]
    later = {"minimizer_on_support"} if max(formats, default=2) < 2 else set()  # see `FORMAT`
    found = load(run_dir, "certificates", columns=[name for name in columns if name not in later])
    return found.assign(**dict.fromkeys(later))


def gaps_in_words(run_dir: str | os.PathLike) -> str:
    """What `ihtjax oracle` found of a run, as text."""
    return render_gaps(gaps(run_dir), unit(_config(run_dir), "{}"))


def uncertified(run_dir: str | os.PathLike) -> str:
    """How many triples of a run lack certificates, and what makes them, in words; empty if none does."""
    run, config = RunDirectory(run_dir), _config(run_dir)
    stored = run.record()
    every = {*config.filled_levels, *([len(stored["parameters"])] if config.dense else [])}
    methods = set(stored["solvers"])
    units = {unit: entry["environment"] for unit, entry in run.units().items() if isinstance(unit, Certify)}
    without = config.trials - sum(unit.stop - unit.start for unit in units)
    partly = sum(
        unit.stop - unit.start
        for unit, its in units.items()
        if not (every <= set(its["levels"]) and methods <= certified_methods(its))
    )
    if not without and not partly:
        return ""
    count, at = without + partly, " of some levels or solvers" if partly else ""
    has = "triple has" if count == 1 else "triples have"
    return f"{count:,} {has} no certificate yet{at}: ihtjax oracle {run_dir}"


def render_gaps(table: pd.DataFrame, unit: str = "nats") -> str:
    """`gaps` as text of at most 80 columns; the losses' unit is empty where they have none."""

    text = functools.partial(_as_text, table)

    def share(value):
        return "-" if pd.isna(value) else f"{value:.1%}"

    def gap(value):
        return "-" if pd.isna(value) else f"{value:.1e}" if abs(value) >= TIE else "0"

    return "\n\n".join(
        [
            "share of trials whose step is at most 1 / L_2s for certain, maybe, or for certain not;\n"
            f"whose support is a best one; whose loss is within so {f'many {unit}' if unit else 'much'} of the best",
            text(
                lambda row: {
                    "trials": row.trials,
                    **{status: share(row[status]) for status in STATUS},
                    "best support": share(row.best_support),
                    **{f"<= {epsilon:g}": share(row[f"within_{epsilon:g}"]) for epsilon in WITHIN},
                }
            ),
            f"median gap to the best loss{unit and f' ({unit})'}: in all, for the wrong support, for unfinished\n"
            "optimisation; share whose support attains its infimum, by a minimiser that is\n"
            "HT-stable; share called HT-stable at the run's tolerance",
            text(
                lambda row: {
                    "gap": gap(row.gap),
                    "wrong support": gap(row.support_gap),
                    "unfinished": gap(row.optimization_gap),
                    "attained": share(row.attained),
                    "HT-stable": share(row.heads_for_stable),
                    "called so": share(row.ht_stable),
                }
            ),
        ]
    )


def _in_words(column):
    part, _, name = column.partition("_")
    return f"{ {'train': 'training'}.get(part, part) } {METRICS[name][0] if name in METRICS else name}"


def significant(value: float, digits: int) -> str:
    """A number with so many decimals, or as many digits as two significant ones take; "-" for NaN.

    Example:
      >>> significant(0.0614, 3), significant(3.21e-5, 3), significant(12_345.6, 3), significant(0.0, 3)
      ('0.061', '3.2e-5', '1.2e4', '0.000')
    """
    if pd.isna(value):
        return "-"
    size = abs(value)
    if size == 0 or (not digits and size < 1e9) or 10 ** (1 - digits) <= size < 1000:
        return f"{value:z,.{digits}f}"
    if 1e-3 <= size < 1:
        return f"{value:.2g}"
    mantissa, _, power = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(power)}"


def header(run_dir: str | os.PathLike) -> str:
    """Which run it is: directory, trials, conditions, and how many units are still to be computed."""
    config, todo = _config(run_dir), len(unfinished(RunDirectory(run_dir)))
    left = f"\n{todo} unit{'s are' if todo > 1 else ' is'} not computed yet: finish with the command that began the run"
    return f"{run_dir}: {config.trials:,} trials a level\n{conditions(config)}{left * bool(todo)}"


def render(table: pd.DataFrame, run_dir: str | os.PathLike) -> str:
    """The summary of a run as text of at most 80 columns, but for its directory: median and quartiles."""
    config, stop_loss = _config(run_dir), table.stop_loss[0]

    def quartiles(quantity, digits):
        """Cells whose numbers stand below each other."""
        median, q1, q3 = ([significant(x, digits) for x in table[f"{quantity}_{q}"]] for q in ("median", "q1", "q3"))
        a, b, c = (max(map(len, texts)) for texts in (median, q1, q3))
        return ["-" if x == "-" else f"{x:>{a}} [{y:>{b}}, {z:>{c}}]" for x, y, z in zip(median, q1, q3)]

    def text(columns):
        return _as_text(table, lambda row: {name: values[row.name] for name, values in columns.items()})

    def shares(column):
        return ["-" if pd.isna(share) else f"{share:.1%}" for share in table[column]]

    parts = [
        header(run_dir),
        f"median [quartiles] over trials{unit(config, '; losses in {}')}",
        text(
            {
                "trials": table.trials,
                "step size": quartiles("step_size", 2),
                "training loss": quartiles("train_loss", 3),
                "test loss": quartiles("test_loss", 3),
            }
        ),
        text(
            {
                **{_in_words(column): quartiles(column, 2) for column in _measured(run_dir)},
                "epsilon": quartiles("epsilon", 3),
            }
        ),
        "share of trials; the gradient is that on the support",
        text(
            {
                "HT-stable": shares("ht_stable"),
                **{f"|gradient| <= {tol:.0e}": shares(f"gradient_below_{tol:.0e}") for tol in TOLERANCES},
            }
        ),
        f"trials whose training loss rose by more than {ROSE:g} of max(1, loss) in between;\n"
        f"share whose training loss reached {stop_loss:g}{unit(config)}, and after how many steps (of these)",
        text(
            {
                "loss rose": ["-" if pd.isna(count) else f"{count:,.0f}" for count in table.loss_rose],
                f"reached {stop_loss:g}": shares("reached_stop_loss"),
                "steps": quartiles("steps_to_stop_loss", 0),
            }
        ),
    ]
    if (structure := _structure(run_dir)).pop(VIOLATIONS, None):
        parts += [
            "\n".join(
                textwrap.fill(text, 80)
                for text in (
                    "share of trials without a violation of the descent inequality, of the steps taken alone;",
                    f"{VIOLATIONS}, median [quartiles]: {DESCENT}",
                )
            ),
            text(
                {
                    "local-descent-verified": shares("local_descent_verified"),
                    VIOLATIONS: quartiles(VIOLATIONS, 0),
                }
            ),
        ]
    if structure:
        meanings = (f"{name}: {meaning}" for name, (_, meaning) in structure.items())
        parts += [
            "\n".join(textwrap.fill(text, 80) for text in ("share of trials, or median [quartiles]", *meanings)),
            text(
                {name: shares(name) if kind == "bool" else quartiles(name, 0) for name, (kind, _) in structure.items()}
            ),
        ]
    if table.diverged.sum():
        parts.append(f"{table.diverged.sum()} trials diverged and are left out")
    return "\n\n".join(parts)
