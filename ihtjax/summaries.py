"""A run in a table: medians and quartiles for each level."""

import os

import pandas as pd

from ihtjax.store import read

QUANTITIES = ("step_size", "train_loss", "test_loss", "train_accuracy", "test_accuracy", "epsilon")
TOLERANCES = (1e-3, 1e-4, 1e-5)


def summary(run_dir: str | os.PathLike) -> pd.DataFrame:
    """Medians, quartiles and shares for each level of a run, over the trials that did not diverge.

    Returns:
      A data frame with a row for each (method, s): ``trials`` and ``diverged``; for each of step_size, train_loss,
      test_loss, train_accuracy, test_accuracy and epsilon the columns ``_q1``, ``_median`` and ``_q3``; ``ht_stable``,
      the share that is HT-stable by the run's ``ht_tol``, and ``gradient_below_1e-03`` .. ``1e-05``, the shares whose
      gradient on the support is at most that.

    Raises:
      InputError: there is no such run, or nothing is finished yet.
    """
    rows = []
    columns = ["method", "s", *QUANTITIES, "grad_on_support", "ht_stable", "status"]
    everything = read(run_dir, columns=columns, categorical=("method", "status")).to_pandas(self_destruct=True)
    for (method, s), trials in everything.groupby(["method", "s"], sort=False, observed=True):
        ok = trials.status == "ok"  # a column at a time, so that a million trials don't take their memory twice
        row = {"method": method, "s": s, "trials": len(trials), "diverged": len(trials) - ok.sum()}
        for quantity in QUANTITIES:
            quartiles = trials[quantity][ok].quantile([0.25, 0.5, 0.75])
            row |= dict(zip((f"{quantity}_q1", f"{quantity}_median", f"{quantity}_q3"), quartiles))
        row["ht_stable"] = trials.ht_stable[ok].mean()
        row |= {f"gradient_below_{tol:.0e}": (trials.grad_on_support[ok] <= tol).mean() for tol in TOLERANCES}
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["method", "s"], ascending=[False, True], ignore_index=True)


def render(table: pd.DataFrame) -> str:
    """The summary as text of at most 80 columns: median and quartiles."""

    def cell(row, quantity, digits):
        q1, median, q3 = (row[f"{quantity}_{q}"] for q in ("q1", "median", "q3"))
        if pd.isna(median):
            return "-"
        kind = f".{digits}f" if max(abs(q1), abs(q3)) < 1000 else ".1e"
        return f"{median:{kind}} [{q1:{kind}}, {q3:{kind}}]"

    def level(row):
        return "dense" if row.method == "gd" else str(row.s)

    def text(cells):
        rows = ({"s": level(row), **cells(row)} for _, row in table.iterrows())
        return pd.DataFrame(rows).to_string(index=False)

    parts = [
        "median [quartiles] over trials; losses in nats",
        text(
            lambda row: {
                "trials": row.trials,
                "step size": cell(row, "step_size", 2),
                "training loss": cell(row, "train_loss", 3),
                "test loss": cell(row, "test_loss", 3),
            }
        ),
        text(
            lambda row: {
                "training accuracy": cell(row, "train_accuracy", 2),
                "test accuracy": cell(row, "test_accuracy", 2),
                "epsilon": cell(row, "epsilon", 3),
            }
        ),
        "share of trials; the gradient is that on the support",
        text(
            lambda row: {
                "HT-stable": f"{row.ht_stable:.1%}",
                **{f"|gradient| <= {tol:.0e}": f"{row[f'gradient_below_{tol:.0e}']:.1%}" for tol in TOLERANCES},
            }
        ),
    ]
    if table.diverged.sum():
        parts.append(f"{table.diverged.sum()} trials diverged and are left out")
    return "\n\n".join(parts)
