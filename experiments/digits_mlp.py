"""How sparse may a network be that reads digits: a 64-32-10 perceptron at 5, 10, 25 and 50 % of its parameters.

    python experiments/digits_mlp.py

30 seed triples a level and a dense baseline each, 150 networks of 1,000 steps; into results/digits_mlp, where the same
command resumes. Draws digits_mlp.png beside this script.
"""

import click
import numpy as np
from matplotlib.figure import Figure

from ihtjax import SweepConfig, load, summary, sweep
from ihtjax.sweeps.progress import for_stream

LEVELS = "5%,10%,25%,50%"
PANELS = {"test_accuracy": ("test accuracy (%)", 100), "train_loss": ("training loss (nats)", 1)}


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--trials", default=30, show_default=True)
@click.option("--steps", default=1000, show_default=True)
@click.option("--run-dir", default="results/digits_mlp", show_default=True)
@click.option("--plot", default=__file__.replace(".py", ".png"), help="Draw into this file.")
def main(trials, steps, run_dir, plot):
    config = SweepConfig(
        data="sklearn:digits", model="mlp", hidden=(32,), levels=LEVELS, trials=trials, steps=steps, init="torch_linear"
    )
    sweep(config, run_dir, show=for_stream())
    found = load(run_dir, columns=["method", "s", "status", *PANELS])
    found = found[found.status == "ok"]
    table = summary(run_dir).set_index("s")
    for s, row in table.iterrows():
        print(
            f"s = {s:5,}  test accuracy {100 * row.test_accuracy_median:.1f} % "
            f"[{100 * row.test_accuracy_q1:.1f}, {100 * row.test_accuracy_q3:.1f}]  training loss "
            f"{row.train_loss_median:.4f}  collapsed {100 * row.collapsed:.0f} %"
        )
    draw(found).savefig(plot, dpi=120)


def draw(found) -> Figure:
    """Each level's trials with median and quartiles, against the share of parameters that are kept."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    n = found.s.max()
    for ax, (column, (label, scale)) in zip(figure.subplots(1, 2), PANELS.items()):
        for place, (_, rows) in enumerate(found.groupby("s")):
            values = scale * rows[column].to_numpy(float)
            jitter = np.random.default_rng(0).uniform(-0.18, 0.18, len(values))
            ax.plot(place + jitter, values, "o", color="#999999", markersize=3, alpha=0.6)
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
            ax.errorbar(place, median, [[median - low], [high - median]], fmt="s", color="#0072b2", capsize=4)
        levels = sorted(found.s.unique())
        names = [f"{s:,}\n{100 * s / n:.0f} %" if s < n else f"{n:,}\ndense" for s in levels]
        ax.set_xticks(range(len(levels)), names)
        ax.set_xlabel("parameters that are not zero")
        ax.set_ylabel(label)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[1].set_yscale("log")
    figure.suptitle("A 64-32-10 network on digits: trials, medians and quartiles", fontsize=11)
    return figure


if __name__ == "__main__":
    main()
