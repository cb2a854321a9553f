"""What does stopping at a training loss of 0.05 cost against running on?

Run it with ``python experiments/stopping.py [--trials 200]``; it writes into results/stopping and takes about a minute.
"""

import argparse

import pandas as pd

from ihtjax import SweepConfig, load, sweep

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=200)
trials = parser.parse_args().trials

runs = {}
for name, stop_loss in (("stop at 0.05", 0.05), ("run on", None)):
    config = SweepConfig(levels=(5, 7, 10, 12, 14), trials=trials, stop_loss=stop_loss)
    run_dir = sweep(config, f"results/stopping/{name.replace(' ', '_')}")
    runs[name] = load(run_dir, method="iht").groupby("s")
columns = ["steps_run", "train_loss", "test_loss", "test_accuracy"]
table = pd.concat({name: run[columns].median() for name, run in runs.items()}, axis=1)
table["stop at 0.05", "stopped"] = (runs["stop at 0.05"].steps_run.apply(lambda steps: (steps < 10_000).mean())).map(
    "{:.0%}".format
)
print(table.round(4).T.to_string())
