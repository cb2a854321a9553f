"""How a sweep's time and memory grow with trials, steps, parameters, Monte Carlo draws and batch.

Each size is a sweep into a temporary folder, in a process of its own; start-up and compilation are measured apart.
Slopes are those of log(seconds) over log(size) on the three largest sizes: 1 means proportional. Quantities are
measured in rounds, and medians reported. A first look takes a minute, all of it some ten:

    python benchmarks/growth.py --largest 10000 --rounds 1
    python benchmarks/growth.py --json growth.json --plot growth.png
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pandas as pd

# A given step size leaves the Monte Carlo out. Of what isn't named, each case takes this.
BASE = {"trials": 2048, "steps": 500, "features": 4, "classes": 3, "step_size": 1.0, "n_monte": 100, "batch": None}
# Name: what changes, its sizes, and what else differs from BASE.
QUANTITIES = {
    "trials": ("trials", [1_000, 10_000, 100_000, 1_000_000], {"steps": 100}),
    "steps": ("steps", [100, 1_000, 10_000, 100_000], {"trials": 512}),
    "features": ("features", [4, 9, 19, 39, 79, 159], {"trials": 256, "steps": 100}),
    "classes": ("classes", [3, 6, 12, 24, 48], {"trials": 256, "steps": 100}),
    "draws": ("n_monte", [10, 30, 100, 300, 1_000, 3_000], {"trials": 512, "steps": 1, "step_size": None}),
    "batch": ("batch", [16, 64, 256, 1_024, 4_096, 16_384], {"trials": 16_384, "steps": 200}),
}
TITLES = {
    "trials": "trials, of 100 steps",
    "steps": "steps",
    "features": "parameters, by more features",
    "classes": "parameters, by more classes",
    "draws": "Monte Carlo draws",
    "batch": "batch (trials per call)",
}


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--quantity", "names", multiple=True, type=click.Choice(list(QUANTITIES)), help="Measure these alone.")
@click.option("--largest", default=1_000_000, show_default=True, help="Leave out sizes above this.")
@click.option("--rounds", default=3, show_default=True, help="Times that each size is measured.")
@click.option("--json", "json_file", type=click.File("w"), default="-", help="Where the figures go.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw them into this file.")
@click.option("--case", hidden=True, help="Run one case, as JSON, and print what it took.")
def main(names, largest, rounds, json_file, plot, case):
    if case:
        return print(json.dumps(run(json.loads(case))))
    points = [
        {"quantity": name, "size": size, "case": BASE | others | {field: size}, "runs": []}
        for name in names or QUANTITIES
        for field, sizes, others in [QUANTITIES[name]]
        for size in sizes
        if size <= largest
    ]
    for number in range(rounds):
        for point in points:
            command = [sys.executable, __file__, "--case", json.dumps(point["case"])]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            point["runs"].append(json.loads(done.stdout.splitlines()[-1]))
            took = point["runs"][-1]["seconds"]
            print(f"round {number + 1}: {point['quantity']:>8} {point['size']:>9,} {took:8.2f} s", file=sys.stderr)
    for point in points:
        point |= {key: float(np.median([run[key] for run in point["runs"]])) for key in point["runs"][0]}
    found = {
        "environment": environment(),
        "points": points,
        "slopes": {name: slope([p for p in points if p["quantity"] == name]) for name in names or QUANTITIES},
        "a_million_trials": against_a_tenth([p for p in points if p["quantity"] == "trials"]),
    }
    print(render(found), file=sys.stderr)
    json.dump(found, json_file, indent=1)
    json_file.write("\n")
    if plot:
        draw(found, plot)


def run(case: dict) -> dict:
    """One sweep of one level: seconds to import and compile, seconds of the sweep without them, peak memory."""
    began = time.perf_counter()
    from ihtjax import SweepConfig, sweep
    from ihtjax.solvers.iht import IHT
    from ihtjax.study.benchmark import peak_memory
    from ihtjax.sweeps.engine import check_batch, make_engine, make_problem, resolved

    n = case["classes"] * (case["features"] + 1)
    with tempfile.TemporaryDirectory() as folder:
        data = {"data": "iris"} if n == 15 else random_table(case, Path(folder, "table.csv"))
        config = SweepConfig(
            **data,
            **{name: case[name] for name in ("trials", "steps", "step_size", "n_monte")},
            levels=(max(1, n // 2),),
            dense=False,
            curve_points=0,
        )
        problem = make_problem(config)
        # Its program is kept for the sweep.
        make_engine(problem, IHT(), resolved(config, problem), check_batch(case["batch"], problem))
        start_up = time.perf_counter() - began
        sweep(config, Path(folder, "run"), batch=case["batch"])
        seconds = time.perf_counter() - began - start_up
    return {"parameters": n, "start_up_seconds": start_up, "seconds": seconds, "peak_memory_bytes": peak_memory()}


def random_table(case: dict, path: Path) -> dict:
    """A table of 200 rows of normal features, with centres that differ by class."""
    random = np.random.default_rng(0)
    y = np.arange(200) % case["classes"]
    centres = random.normal(size=(case["classes"], case["features"]))
    X = random.normal(size=(len(y), case["features"])) + centres[y]
    pd.DataFrame(X, columns=[f"x{j}" for j in range(case["features"])]).assign(y=y).to_csv(path, index=False)
    return {"data": str(path), "target": "y"}


def environment() -> dict:
    from ihtjax.sweeps.engine import describe_environment, workers

    described = describe_environment(0)
    del described["batch"]
    return described | {"cores": workers(), "python": platform.python_version()}


def axis(points) -> list[float]:
    """What a quantity's slope and picture are over: parameters for features and classes, else the size itself."""
    return [p["parameters" if p["quantity"] in ("features", "classes") else "size"] for p in points]


def slope(points) -> float | None:
    """Of log(seconds) over log(size), on the three largest sizes."""
    if len(points) < 2:
        return None
    upper = points[-3:]
    return float(np.polyfit(np.log(axis(upper)), np.log([p["seconds"] for p in upper]), 1)[0])


def against_a_tenth(points) -> dict | None:
    """The largest number of trials against a tenth of it: time per trial and peak memory as ratios."""
    if len(points) < 2:
        return None
    less, more = points[-2:]
    per_trial = [p["seconds"] / p["size"] for p in (less, more)]
    return {
        "trials": [less["size"], more["size"]],
        "microseconds_per_trial": [1e6 * t for t in per_trial],
        "time_per_trial_ratio": per_trial[1] / per_trial[0],
        "peak_memory_ratio": more["peak_memory_bytes"] / less["peak_memory_bytes"],
    }


def render(found) -> str:
    """The figures as a table."""
    lines = [f"{'':>10}{'size':>11}{'parameters':>12}{'seconds':>10}{'start-up':>10}{'peak MB':>9}"]
    for p in found["points"]:
        lines += [
            f"{p['quantity']:>10}{p['size']:11,}{p['parameters']:12,.0f}{p['seconds']:10.2f}"
            f"{p['start_up_seconds']:10.2f}{p['peak_memory_bytes'] / 1e6:9.0f}"
        ]
    lines += [f"slope over {TITLES[name]}: {value:.2f}" for name, value in found["slopes"].items() if value is not None]
    ratio = found["a_million_trials"]
    if ratio:
        less, more = ratio["trials"]
        lines += [
            f"{more:,} trials against {less:,}: time per trial x {ratio['time_per_trial_ratio']:.3f}, "
            f"peak memory x {ratio['peak_memory_ratio']:.3f}"
        ]
    return "\n".join(lines)


def draw(found, path):
    """A panel for each quantity, log-log, and one for memory."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter

    names = [name for name, value in found["slopes"].items() if value is not None]
    panels = [(name, "seconds", 1) for name in names]
    if "trials" in names:
        panels.insert(1, ("trials", "peak_memory_bytes", 1e6))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(2.9 * columns, 2.6 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax, (name, key, unit) in zip(axes.flat, panels):
        points = [p for p in found["points"] if p["quantity"] == name]
        ax.loglog(axis(points), [p[key] / unit for p in points], "o-", color="#0072b2", markersize=4)
        memory = key != "seconds"
        ax.set_title("memory" if memory else f"slope {found['slopes'][name]:.2f}", fontsize=10)
        ax.set(xlabel=TITLES[name], ylabel="peak memory (MB)" if memory else "seconds")
        # Whole decades, and labels at these alone.
        for dimension, values in ((ax.xaxis, axis(points)), (ax.yaxis, [p[key] / unit for p in points])):
            low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
            dimension.set_view_interval(10**low * 0.8, 10 ** max(high, low + 1) * 1.25, ignore=True)
            dimension.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    fig.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
