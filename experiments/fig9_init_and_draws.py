"""Does Fig. 9's rise come from the problem or from the estimate? Initial distribution against Monte Carlo draws.

Run it with ``python experiments/fig9_init_and_draws.py [--trials 300]``; it writes into results/fig9_init_and_draws
and takes about two minutes on two cores. Step sizes need no steps: each trial takes one.
"""

import argparse

import pandas as pd

from ihtjax import SweepConfig, load, sweep

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=300)
trials = parser.parse_args().trials

rows = []
for init in ("normal", "torch_linear"):
    for n_monte in (10, 100, 1000):
        config = SweepConfig(levels=(3, 7, 14), trials=trials, steps=1, n_monte=n_monte, init=init, curve_points=0)
        run_dir = sweep(config, f"results/fig9_init_and_draws/{init}-{n_monte}")
        step_size = load(run_dir, method="iht").pivot(index="trial", columns="s", values="step_size")
        rise = (step_size[14] - step_size[3]).median()
        rows.append({"init": init, "draws": n_monte, **step_size.median(), "paired rise 3 to 14": rise})
print(pd.DataFrame(rows).round(3).to_string(index=False))
