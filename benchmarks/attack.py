"""Attacks small runs, and counts what ends otherwise than right or in one line of error with nothing lost.

    hostile     run directories of all formats with links, pipes, wrong types and ranges, overlaps, forged seals: every
                command on each
    bits        single flipped bits in results, index and configuration, then `load`, `verify` and `sweep`
    interrupts  Ctrl-C to a process at a random moment from its start to its end
    faults      the N-th system call on the run's files fails, for every N: a full disk, a bad one, a quota, a signal
    stops       from the N-th call on all fail, for every N: what a kill or a power cut leaves
    kills       kill -9 at a random call

Bad is a traceback, a wrong or doubled row, a finished unit lost, a file changed that isn't the run's, a damaged run
called whole, a hang, a crash. The whole takes hours where others compute as well; a tenth of it:

    python benchmarks/attack.py --scale 0.1
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

import click

KINDS = ("hostile", "bits", "interrupts", "faults", "stops", "kills")
PATIENCE = 120  # seconds without a case's end, after which it counts as hung


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="These kinds alone.")
@click.option("--seed", default=0, show_default=True, help="Of which bits and moments.")
@click.option("--scale", default=1.0, show_default=True, help="Share of the full counts.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), help="Write the counts here as well.")
@click.option("--worker", nargs=2, hidden=True, help="Run the cases of one kind from this number on, in this folder.")
def main(only, seed, scale, json_file, worker):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so do theirs
    if worker:
        return work(only[0], int(worker[0]), Path(worker[1]), seed, scale)
    found = []
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{folder}/cache")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        for kind in only or KINDS:
            if kind in ("faults", "stops", "kills") and not shutil.which("cc"):
                print(f"{kind:12} skipped: there is no C compiler called cc", file=sys.stderr)
                continue
            found.append(attacked(kind, Path(folder), seed, scale))
            print(f"{kind:12} {found[-1]['tried']:6,} tried  {found[-1]['bad']:4,} bad", file=sys.stderr)
    versions = {name: metadata.version(name) for name in ("ihtjax", "jax", "pyarrow", "filelock")}
    result = {"seed": seed, "scale": scale, "python": platform.python_version(), "versions": versions, "kinds": found}
    text = json.dumps(result, indent=1)
    if json_file:
        Path(json_file).write_text(text + "\n")
    print(text)


def attacked(kind: str, folder: Path, seed: int, scale: float) -> dict:
    """All cases of a kind, in a process that is started again after a case which hung or crashed it."""
    began, ended, bad = time.monotonic(), 0, []
    while True:
        argv = [sys.executable, __file__, "--only", kind, "--seed", seed, "--scale", scale, "--worker", ended, folder]
        log = open(folder / f"{kind}.log", "w+")
        process = subprocess.Popen(list(map(str, argv)), stdout=subprocess.PIPE, stderr=log, text=True)
        case, dog = "the start", threading.Timer(0, str)
        try:
            for line in process.stdout:
                dog.cancel()
                dog = threading.Timer(PATIENCE, process.kill)
                dog.start()
                said = json.loads(line)
                if "bad" in said:
                    ended += 1
                    if ended % 100 == 0:
                        print(f"{kind:12} {ended:6,} tried", file=sys.stderr, flush=True)
                    if said["bad"]:
                        bad.append(said)
                        print(f"  {said['case']}: {'; '.join(said['bad'])}", file=sys.stderr, flush=True)
                case = said["case"]
        except KeyboardInterrupt:
            process.kill()  # it would go on writing into a folder that is being removed
            process.wait()
            raise
        finally:
            dog.cancel()
        if process.wait() == 0:
            break
        log.seek(0)
        last = (log.read().strip().splitlines() or [""])[-1]
        bad.append({"case": case, "bad": [f"the process ended with {process.returncode}, or hung: {last}"]})
        print(f"  {case}: {bad[-1]['bad'][0]}", file=sys.stderr, flush=True)
        if case == "the start":
            break
        ended += 1
    seconds = round(time.monotonic() - began)
    return {"kind": kind, "tried": ended, "bad": len(bad), "seconds": seconds, "what_was_bad": bad}


def work(kind: str, first: int, folder: Path, seed: int, scale: float) -> None:
    """Try the cases of a kind from a number on, and print a line of JSON before and after each."""
    import attacks
    from ground import Ground

    out = os.fdopen(os.dup(1), "w")
    for name, attack in getattr(attacks, kind)(Ground(folder), seed, scale)[first:]:
        print(json.dumps({"case": name}), file=out, flush=True)
        bad = attack()
        print(json.dumps({"case": name, "bad": bad}), file=out, flush=True)


if __name__ == "__main__":
    main()
