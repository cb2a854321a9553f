"""Does float32 change a result against float64? The same triples in both.

Run it with ``python experiments/precision.py [--trials 100]``; it writes into results/precision and takes about two
minutes.
"""

import argparse

import numpy as np
import pandas as pd

from ihtjax import SweepConfig, load, sweep

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=100)
trials = parser.parse_args().trials

both = {}
for precision in ("float32", "float64"):
    config = SweepConfig(levels=(3, 7, 10, 14), trials=trials, precision=precision)
    both[precision] = load(sweep(config, f"results/precision/{precision}"), method="iht")
single, double = both.values()
apart = pd.DataFrame(
    {
        "s": single.s,
        "same support": ((np.stack(single.theta) != 0) == (np.stack(double.theta) != 0)).all(axis=1),
        "largest |loss difference|": (single.train_loss - double.train_loss).abs(),
        "largest |step difference|": (single.step_size - double.step_size).abs(),
        "largest |theta difference|": np.abs(np.stack(single.theta) - np.stack(double.theta)).max(axis=1),
        "largest rise, float32": single.max_loss_increase,
        "largest rise, float64": double.max_loss_increase,
    }
)
how = {name: "mean" if name == "same support" else "max" for name in apart if name != "s"}
print(apart.groupby("s").agg(how).T.to_string(float_format="{:.2e}".format))
