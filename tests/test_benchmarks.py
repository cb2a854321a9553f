import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def measured(script, *options):
    done = subprocess.run([sys.executable, FOLDER / script, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
def test_the_c_kernel_ends_where_we_do():
    """Another implementation, in another language: it shares only the inputs."""
    found = measured("peers.py", "--only", "C kernel", "--steps", "500", "--rounds", "1", "--seconds", "0.1")
    kernel = next(row for row in found["peers"] if row["name"] == "C kernel")
    assert kernel["check"]["same_support"] == 1 and kernel["check"]["largest_loss_difference"] < 1e-4
    assert kernel["ns_per_lane_step"]["median"] > 0


def test_growth_measures_sweeps():
    found = measured("growth.py", "--quantity", "trials", "--largest", "1000", "--rounds", "1")
    (point,) = found["points"]
    assert point["size"] == 1000 and point["seconds"] > 0 and point["peak_memory_bytes"] > 5e7


def test_some_of_the_attacks_find_nothing_bad():
    found = measured("attack.py", "--only", "hostile", "--only", "bits", "--scale", "0.002")
    assert [kind["bad"] for kind in found["kinds"]] == [0] * len(found["kinds"])
    assert {kind["kind"] for kind in found["kinds"]} >= {"hostile", "bits"} and all(k["tried"] for k in found["kinds"])
