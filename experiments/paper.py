"""The paper's sweep as a library call: 14 levels and a dense baseline, 1,000 triples each, 10,000 steps.

Run it with ``python experiments/paper.py``; it writes into results/paper, where ``ihtjax sweep`` writes too.
"""

from ihtjax import SweepConfig, load, sweep

run_dir = sweep(SweepConfig(), "results/paper")
print(load(run_dir).groupby(["method", "s"])[["step_size", "train_loss", "test_accuracy"]].median())
