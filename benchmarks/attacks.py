"""The kinds of attack: each makes cases, and a case tells what was bad."""

import ctypes
import errno
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ground import (
    LARGER,
    MORE,
    ORACLE,
    SMALL,
    TABLES,
    Done,
    Ground,
    certified_trials,
    command,
    differs,
    safe_units,
    snapshot,
)
from hostile import MINE, directories

from ihtjax import InputError, claims
from ihtjax.sweeps.store.records import owner_of

Cases = list[tuple[str, Callable[[], list[str]]]]
SHIM = Path(__file__).parent / "faults.c"
# Enough steps that moments fall into the computing too.
LONG = [option if option != "300" else "20000" for option in SMALL]


def only(*found: str) -> list[str]:
    """Those that say anything."""
    return [words for words in found if words]


# Hostile directories.


def hostile(ground: Ground, seed: int, scale: float) -> Cases:
    """All directories, or some."""
    made = list(directories(ground))
    chosen = made if scale >= 1 else random.Random(seed).sample(made, max(1, round(scale * len(made))))
    return [(name, lambda name=name, make=make: every_command(ground, name, make)) for name, make in chosen]


def every_command(ground: Ground, name: str, make: Callable[[Path], None]) -> list[str]:
    """Every command on a directory that is made anew for each that writes; the slow page where it can matter."""
    (source,) = [run for number, run in ground.earlier.items() if name.startswith(f"format {number}:")] or [
        ground.pristine
    ]
    bad, mine = [], hashlib.sha256(MINE.encode()).hexdigest()

    def prepared(*argv):
        """Run one command on it, if any, and look outside."""
        run = ground.fresh(source)
        make(run)
        before, outside = snapshot(run), snapshot(ground.outside)
        done = command(argv[0], run, *argv[1:]) if argv else None
        if done and done.bad():
            bad.append(done.bad())
        if snapshot(ground.outside) != outside:
            bad.append(f"{' '.join(argv)}: changed a file outside the run directory")
        return before, snapshot(run), done

    before, _, _ = prepared()
    bad += [wrong for table in TABLES if (wrong := ground.loaded(table))]
    slow = any(word in name for word in ("report.html", "escapes", "surrogates"))
    bad += judged(ground)
    for argv in (["verify"], ["summary"], *([["report", "--json"]] if slow else [])):
        done = command(argv[0], ground.run, *argv[1:])
        bad += [done.bad()] * bool(done.bad())
        wrong = [ground.loaded(table, complete=True) for table in TABLES[:2] if argv == ["verify"] and done.code == 0]
        bad += [f"verify: called whole what isn't ({words})" for words in wrong if words]
        if snapshot(ground.run) != before:
            bad.append(f"{argv[0]}: changed the run directory")
    for argv in (
        ["figures", "--only", "fig09"],
        ["oracle", *ORACLE],
        ["sweep", *SMALL],
        ["sweep", *LARGER],
        ["sweep", *SMALL, "--overwrite"],
        *([["sweep", *SMALL, "--seed", "1"]] if "another run's" in name else []),
        *([["report"]] if slow else []),
    ):
        if name.startswith("huge") and argv[0] in ("sweep", "figures"):
            continue  # they would do as they are told, for years
        before, after, done = prepared(*argv)
        how = ["larger"] * (argv[1:] == LARGER) + [option for option in argv if option in ("--overwrite", "--seed")]
        verb = " ".join([argv[0], *how])
        if list(after.values()).count(mine) < list(before.values()).count(mine):
            bad.append(f"{verb}: a user's file is gone")
        if "--overwrite" not in argv:
            # A whole unit's files are never touched.
            files = ground.files[source]
            changed = {unit_at(path) for path, was in files.items() if before.get(path) != was}
            whole = (path for path in files if path.split("/")[0] in TABLES and unit_at(path) not in changed)
            bad += [f"{verb}: lost {path}" for path in whole if after.get(path) != before[path]][:1]
        if argv[0] != "sweep" or done.code != 0:
            continue
        for table in TABLES[:2]:
            wrong = ground.loaded(table, complete=True)
            bad += [f"{verb}, then {wrong}"] * bool(wrong)
        lines = command("verify", ground.run).out.splitlines()
        wrong = [line for line in lines if not any(word in line for word in ("foreign", "certificates", "all whole"))]
        bad += [f"{verb}, then verify: {line}" for line in wrong[:1]]
    return bad


def unit_at(path: str):
    """The unit whose file is called so, or the path if it is no unit's."""
    return owner_of(path)[1] or path


def judged(ground: Ground) -> list[str]:
    """What is wrong with how claims are judged, of those that read each table."""
    try:
        claims(ground.run, ["f-never-rises", "ht-stable-all", "step-size-valid", "right-support"])
    except InputError:
        pass
    except BaseException as error:
        return [f"claims: {type(error).__name__}: {str(error)[:100]}"]
    return []


# One bit at a time.


def bits(ground: Ground, seed: int, scale: float) -> Cases:
    """A third of the flips in records and footers, the rest anywhere in the results."""
    chance, records = random.Random(seed), (".json", ".jsonl")
    names = sorted(name for name in ground.files[ground.pristine] if name.endswith((*records, ".parquet")))
    cases = []
    for number in range(max(1, round(2000 * scale))):
        name = chance.choice([name for name in names if name.endswith(records)] if number % 6 == 0 else names)
        size = (ground.pristine / name).stat().st_size
        first = max(0, size - 3000) if number % 6 == 1 else 0
        place, bit = chance.randrange(first, size), chance.randrange(8)
        cases.append((f"{name}, byte {place}, bit {bit}", lambda at=(name, place, bit): flip(ground, *at)))
    return cases


def flip(ground: Ground, name: str, place: int, bit: int) -> list[str]:
    run = ground.fresh(ground.pristine)
    data = bytearray((run / name).read_bytes())
    data[place] ^= 1 << bit
    (run / name).write_bytes(data)
    bad = only(*map(ground.loaded, TABLES))
    checked = command("verify", run)
    bad += only(checked.bad(), "verify: called whole" if checked.code == 0 else "")
    for argv in (["sweep", run, *SMALL], ["oracle", run, *ORACLE], ["verify", run]):
        done = command(*argv)
        bad += only(done.bad() or (f"{argv[0]}: {(done.err or done.out).splitlines()[-1]}" if done.code else ""))
    return bad + only(differs(run, ground.pristine, TABLES))


# Ctrl-C.


def interrupts(ground: Ground, seed: int, scale: float) -> Cases:
    """Moments spread evenly over each command's time, and a little beyond."""
    chance, cases = random.Random(seed), []
    long = ground.folder / "long"
    commands = {
        "sweep": (None, LONG),
        "resume": ("part", LONG),
        "overwrite": (long, [*LONG, "--overwrite"]),
        "oracle": (long, MORE),
        "report": (ground.pristine, []),
    }
    if not (ground.folder / "part").exists():
        command("sweep", ground.folder / "part", *[option if option != "20" else "7" for option in LONG])
        command("sweep", long, *LONG)
    count = max(1, round(20 * scale))
    for name, (source, options) in commands.items():
        source = ground.folder / source if source else None
        verb = name if name in ("oracle", "report") else "sweep"
        began = time.monotonic()
        subprocess.run(start(ground, verb, source, options), capture_output=True, check=True)
        took = time.monotonic() - began
        for number in range(count):
            moment = took * (number + chance.random()) / count
            case = verb, source, options, moment
            cases.append((f"{name}, {moment:.2f} of {took:.2f} s", lambda case=case: interrupt(ground, *case)))
    return cases


def start(ground: Ground, verb: str, source: Path | None, options: list[str]) -> list[str]:
    return [sys.executable, "-m", "ihtjax", verb, str(ground.fresh(source)), *options]


def interrupt(ground: Ground, verb: str, source: Path | None, options: list[str], moment: float) -> list[str]:
    argv = start(ground, verb, source, options)
    before = snapshot(ground.run) if source else {}
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    _, err = process.communicate()
    took, last = time.monotonic() - pressed, (err.strip().splitlines() or [""])[-1]
    bad = only(f"took {took:.1f} s" if took > 3 else "", f"traceback, {last}" if "Traceback" in err else "")
    # Before Python has set its handler, the signal itself ends it: that is what shells call 130.
    if process.returncode == 130:
        bad += only("" if err.count("ihtjax: stopped") == 1 and "ihtjax: stopped" in last else f"last line: {last}")
        bad += only(kept(ground, last))
    elif process.returncode not in (0, -signal.SIGINT):
        bad.append(f"exit code {process.returncode}, {last}")
    if "--overwrite" not in options:
        bad += only(*(f"lost {path}" for path in before if path not in snapshot(ground.run)))
    if verb == "report":
        return bad
    resume = [option for option in options if option != "--overwrite"]
    done = command(verb, ground.run, *resume)
    bad += only(done.bad() or (done.err if done.code else ""))
    if verb == "sweep":
        bad += only(differs(ground.run, ground.folder / "long", TABLES[:2]))
    return bad + only("" if command("verify", ground.run).code == 0 else "not whole after resuming")


def kept(ground: Ground, line: str) -> str:
    """What a last line says of what is safe that isn't so; empty if all is."""
    said = re.search(r"(\d+) of \d+ units are safe", line)
    certified = re.search(r"certificates of ([\d,]+) trials are safe", line)
    is_there = ground.run.exists() and list(ground.run.glob("*.json"))
    there = safe_units(ground.run) if is_there else 0
    # One more may have been put in place since.
    if certified:
        units = certified_trials(ground.run) if is_there else []
        right = {sum(units) - later for later in (0, *units)}
        return "" if int(certified[1].replace(",", "")) in right else f"said {line}, {sum(units)} are"
    if (said and not there - 1 <= int(said[1]) <= there) or ("nothing was finished" in line and there > 1):
        return f"said {line}, {there} are"
    return ""


# Failing system calls.


def library(ground: Ground) -> Path:
    compiled = ground.folder / "faults.so"
    if not compiled.exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", str(SHIM), "-o", str(compiled), "-ldl"], check=True)
    return compiled


def preloaded(ground: Ground) -> ctypes.CDLL:
    """The shim in this process, which is begun again under it if need be."""
    compiled = str(library(ground))
    if os.environ.get("LD_PRELOAD") != compiled:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": compiled})
    shim = ctypes.CDLL(None)
    shim.attack_hit.restype = ctypes.c_char_p
    shim.attack_seen.restype = ctypes.c_long
    shim.attack_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    return shim


def scenarios(ground: Ground) -> dict[str, tuple[Path | None, list[str], Path]]:
    """What is done to which run, and the run whose rows must come of it."""
    return {
        "sweep": (None, ["sweep", *SMALL], ground.pristine),
        "extend": (ground.pristine, ["sweep", *LARGER], ground.larger),
        "overwrite": (ground.pristine, ["sweep", *SMALL, "--overwrite"], ground.pristine),
        "oracle": (ground.pristine, ["oracle", *MORE], ground.certified),
        "extend, unlisted": (ground.unlisted, ["sweep", *LARGER], ground.larger),
    }


def faults(ground: Ground, seed: int, scale: float) -> Cases:
    codes = [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EINTR, errno.EACCES]
    return every_call(ground, scale, lambda number: (codes[(number + seed) % len(codes)], False))


def stops(ground: Ground, seed: int, scale: float) -> Cases:
    return every_call(ground, scale, lambda number: (errno.EIO, True))


def every_call(ground: Ground, scale: float, code_of: Callable[[int], tuple[int, bool]]) -> Cases:
    """For each scenario, as many cases as it makes calls."""
    shim, cases = preloaded(ground), []
    for name, (source, argv, _) in scenarios(ground).items():
        run = ground.fresh(source)
        shim.attack_arm(os.fsencode(run), 0, 0, 0)
        command(argv[0], run, *argv[1:])
        shim.attack_disarm()
        step = max(1, round(1 / scale))
        for number in range(1, shim.attack_seen() + 1, step):
            code, lasting = code_of(number)
            words = f"{name}, call {number}{' and all after it' * lasting}, {errno.errorcode[code]}"
            cases.append((words, lambda case=(name, number, code, lasting): fail(ground, shim, *case)))
    return cases


def fail(ground: Ground, shim: ctypes.CDLL, name: str, number: int, code: int, lasting: bool) -> list[str]:
    source, argv, _ = scenarios(ground)[name]
    run = ground.fresh(source)
    before, outside = snapshot(ground.run) if source else {}, snapshot(ground.outside)
    shim.attack_arm(os.fsencode(run), number, code, lasting)
    done = command(argv[0], run, *argv[1:])
    shim.attack_disarm()
    where = shim.attack_hit().decode()
    bad = only(done.bad(), *after(ground, name, done, before))
    bad += only("" if snapshot(ground.outside) == outside else "changed a file outside")
    return [f"{words} [{where}]" for words in bad]


def after(ground: Ground, name: str, done: Done | None, before: dict[str, str]) -> list[str]:
    """What is wrong with a run after a fault: something lost, words that aren't so, or a resume that differs."""
    _, (verb, *options), expected = scenarios(ground)[name]
    bad, have = [], snapshot(ground.run) if ground.run.exists() else {}
    if done and done.code:
        bad += only(kept(ground, done.err.strip().splitlines()[-1]))
    if name != "overwrite":
        results = [path for path in before if path.endswith(".parquet")]
        bad += [f"lost {path}" for path in results if have.get(path) != before[path]][:1]
    if ground.run.exists() and list(ground.run.glob("*.json")):
        bad += only(*map(ground.loaded, TABLES[:2]))
    resumed = command(verb, ground.run, *[option for option in options if option != "--overwrite"])
    if resumed.code or resumed.bad():
        return [*bad, f"resume: {resumed.bad() or resumed.err}"]
    checked = command("verify", ground.run)
    bad += only(f"after resuming: {checked.out.splitlines()[0]}" if checked.code else "")
    bad += [f"left {path}" for path in snapshot(ground.run) if path.endswith((".tmp", ".aside"))][:1]
    return bad + only(differs(ground.run, expected, TABLES if name == "oracle" else TABLES[:2]))


def kills(ground: Ground, seed: int, scale: float) -> Cases:
    chance, cases = random.Random(seed), []
    for number in range(max(1, round(40 * scale))):
        name = list(scenarios(ground))[number % 4]
        call = chance.randrange(1, 250)
        cases.append((f"{name}, call {call}", lambda case=(name, call): kill(ground, *case)))
    return cases


def kill(ground: Ground, name: str, call: int) -> list[str]:
    source, argv, _ = scenarios(ground)[name]
    run = ground.fresh(source)
    before = snapshot(run) if source else {}
    armed = {"LD_PRELOAD": str(library(ground)), "ATTACK_ROOT": str(run), "ATTACK_CALL": str(call), "ATTACK_ERROR": "0"}
    command_line = [sys.executable, "-m", "ihtjax", argv[0], str(run), *argv[1:]]
    ended = subprocess.run(command_line, env=os.environ | armed, capture_output=True)
    bad = [f"exit code {ended.returncode}"] if ended.returncode not in (0, -signal.SIGKILL) else []
    return bad + after(ground, name, None, before)
