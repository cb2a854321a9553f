"""Peers side by side: the same trials (Iris, s = 7, float32, a given step size) by ihtjax, C, JAX, PyTorch and others.

Each peer is optional, and skipped with a reason where it isn't installed: ``pip install torch skscope scikit-learn``.
Its final losses and supports are held against ours before its time counts. All run in rounds, one peer after another,
so that a machine's drift hits all alike; a ratio is the median of the rounds' ratios. Run it on a quiet machine:

    python benchmarks/peers.py --json peers.json --plot peers.png
"""

import json
import platform
import sys
from functools import partial
from importlib import metadata
from typing import NamedTuple

import click
import compiled
import numpy as np
import others
from work import STEP_SIZE, make_work

from ihtjax.study.benchmark import cpu_model
from ihtjax.sweeps.config import SweepConfig
from ihtjax.sweeps.engine import check_batch, describe_environment, make_problem, workers

S, N = 7, 15  # sparsity level, and the number of parameters: the dense fit's
OURS, DENSE = "ihtjax", "ihtjax, dense fit"


class Peer(NamedTuple):
    """Who runs how much.

    Attributes:
      name: in tables.
      make: work -> `Program`.
      lanes: trials at most; None for a batch as ihtjax has it.
      steps: relative to the number asked for.
      dense: s = n.
      whole: stops by a rule of its own, so that only the time of a whole fit can be compared.
    """

    name: str
    make: object
    lanes: int | None = None
    steps: float = 1
    dense: bool = False
    whole: bool = False


PEERS = [
    Peer(OURS, compiled.ihtjax),
    Peer("C kernel", compiled.c_kernel),
    Peer("ihtjax as a sweep runs it", compiled.sweep_program, steps=5),
    Peer("plain JAX, vmap and top_k", compiled.plain_jax, steps=0.5),
    Peer("torch.func.vmap, compiled", partial(others.torch_vmap, compiled=True), steps=0.25),
    Peer("torch.func.vmap", others.torch_vmap, steps=0.25),
    Peer("PyTorch, one network at a time", others.torch_loop, lanes=8, steps=0.5),
    Peer("skscope, whole fit", others.skscope, lanes=8, steps=5, whole=True),
    Peer(DENSE, compiled.ihtjax, dense=True),
    Peer("NumPy loop, dense fit", others.numpy_loop, lanes=8, dense=True),
    Peer("scikit-learn, whole dense fit", others.scikit_learn, lanes=64, steps=5, dense=True, whole=True),
    Peer("ihtjax, one core", compiled.ihtjax_one_core),
    Peer("C kernel, one core", partial(compiled.c_kernel, one_core_only=True)),
]


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--steps", default=2000, show_default=True, help="IHT steps of a trial; slow peers run fewer.")
@click.option("--rounds", default=5, show_default=True, help="Times that each peer is measured.")
@click.option("--seconds", default=1.0, show_default=True, help="Length of each measurement, at least.")
@click.option("--only", default="", help="Peers whose name contains one of these words, as in 'C,plain'.")
@click.option("--json", "json_file", type=click.File("w"), default="-", help="Where the figures go.")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw them into this file.")
def main(steps, rounds, seconds, only, json_file, plot):
    peers = [p for p in PEERS if p.name in (OURS, DENSE) or any(word in p.name for word in only.split(","))]
    batch = check_batch(None, make_problem(SweepConfig()))
    programs, rows = prepare(peers, batch, steps)
    times = {name: max(1, round(seconds / program.seconds(1))) for name, program in programs.items()}
    measured = {name: [] for name in programs}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for name, program in programs.items():
            measured[name].append(program.seconds(times[name]) / program.lanes * 1e9)
    for row in rows:
        if row["name"] in measured:
            row |= figures(row, measured, {r["name"]: r["steps"] for r in rows})
    found = {**environment(batch), "step_size": STEP_SIZE, "rounds": rounds, "peers": rows, "cores_gain": gains(rows)}
    print(render(found), file=sys.stderr)
    json.dump(found, json_file, indent=1)
    json_file.write("\n")
    if plot:
        draw(rows, plot)


def prepare(peers, batch, steps):
    """The programs of all peers that are there and agree with ours, and a row about each peer."""
    works, references, programs, rows = {}, {}, {}, []
    for peer in peers:
        print(f"preparing {peer.name}", file=sys.stderr)
        which = (N if peer.dense else S, batch, max(1, round(steps * peer.steps)))
        if which not in works:
            works[which] = make_work(*which)
            references[which] = compiled.ihtjax(works[which]).theta
        lanes = min(peer.lanes or batch, batch)
        work, ours = works[which].first(lanes), references[which][:lanes]
        row = {"name": peer.name, "s": work.s, "steps": work.steps, "dense": peer.dense, "whole_fit": peer.whole}
        rows.append(row)
        try:
            program = peer.make(work)
        except ImportError as error:
            row["skipped"] = str(error)
            continue
        except Exception as error:  # a peer that breaks is a finding, not the end of the comparison
            row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0]
            continue
        row["check"] = program.check(work, program.theta, ours)
        if row["check"]["passed"]:
            programs[peer.name] = program
        else:
            row["failed"] = f"its results are not ours: {row['check']}"
    return programs, rows


def figures(row, measured, steps):
    """A peer's time and its ratio to ours: of a lane-step, or of a whole fit against all of our steps."""
    reference = DENSE if row["dense"] else OURS
    taken, ours = np.array(measured[row["name"]]), np.array(measured[reference]) / steps[reference]
    if row["whole_fit"]:
        unit, per = "ns_per_network", 1
        ours = ours * row["steps"]
    else:
        unit, per = "ns_per_lane_step", row["steps"]
    spread = {"median": np.median(taken), "low": taken.min(), "high": taken.max()}
    return {unit: {k: v / per for k, v in spread.items()}, "ratio_to_ihtjax": np.median(taken / per / ours)}


def gains(rows):
    """How much faster all cores are than one, for ihtjax and for C; the latter is what the machine has to give."""
    ns = {row["name"]: row["ns_per_lane_step"]["median"] for row in rows if "ns_per_lane_step" in row}
    return {name: ns[f"{name}, one core"] / ns[name] for name in (OURS, "C kernel") if f"{name}, one core" in ns}


def environment(batch):
    """What the figures depend on."""
    versions = {}
    for package in ("numpy", "torch", "skscope", "scikit-learn"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return (
        describe_environment(batch)
        | versions
        | {
            "python": platform.python_version(),
            "cpu": cpu_model(),
            "cores": workers(),
        }
    )


def render(found) -> str:
    """The figures as a table."""
    lines = [f"{found['cpu']}, {found['cores']} cores as the system counts them, jax {found['jax']}"]
    lines += ["", f"{'ns per lane-step':32}{'median':>12}{'low':>12}{'high':>12}{'to ihtjax':>11}"]
    for row in found["peers"]:
        spread = row.get("ns_per_lane_step") or row.get("ns_per_network")
        if spread is None:
            outcome = "skipped" if "skipped" in row else "failed"
            lines += [f"{row['name']:32}{outcome}: {row[outcome]}"]
            continue
        numbers = "".join(f"{spread[k]:12,.0f}" for k in ("median", "low", "high"))
        note = f"  a network; {row['steps']:,} of our steps" if row["whole_fit"] else ""
        lines += [f"{row['name']:32}{numbers}{row['ratio_to_ihtjax']:11,.2f}{note}"]
    lines += [f"all cores against one, {name}: {gain:.2f} times" for name, gain in found["cores_gain"].items()]
    return "\n".join(lines)


def draw(rows, path):
    """Nanoseconds per lane-step of the peers that run the same sparse iteration, as bars on a log scale."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    rows = [r for r in rows if "ns_per_lane_step" in r and not r["dense"] and "one core" not in r["name"]]
    rows.sort(key=lambda r: -r["ns_per_lane_step"]["median"])
    ns = [r["ns_per_lane_step"]["median"] for r in rows]
    fig, ax = plt.subplots(figsize=(7.5, 0.9 + 0.36 * len(rows)), layout="constrained")
    colors = ["#0072b2" if r["name"].startswith(OURS) else "#b0b0b0" for r in rows]
    ax.barh([r["name"] for r in rows], ns, color=colors, height=0.7)
    for i, (row, value) in enumerate(zip(rows, ns)):
        times = row["ratio_to_ihtjax"]
        ratio = "" if row["name"] == OURS else f"  (x {times:{',.0f' if times >= 10 else '.2f'}})"
        ax.text(value * 1.15, i, f"{value:,.0f}{ratio}", va="center", fontsize=9)
    ax.set(xscale="log", xlim=(10, max(ns) * 50), xlabel="nanoseconds per step of one network (log scale)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
