import json

import pytest

from ihtjax import SweepConfig
from ihtjax.benchmark import bench, render
from ihtjax.cli import main


def test_bench_reports_rates_and_parts_that_add_up():
    found = bench(SweepConfig(levels=(3, 7), trials=500, steps=20, n_monte=4), batches=(16, 32), repeats=2)
    json.dumps(found)
    assert [(row["batch"], row["s"]) for row in found["throughput"]] == [(16, 7), (32, 7), (256, 3)]
    for row in found["throughput"]:
        rate = row["lane_steps_per_second"]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    sweep = found["sweep"]
    assert sweep["lane_steps"] == 3 * 500 * 20
    parts = dict(sweep["seconds"])
    assert parts.pop("total") == pytest.approx(sum(parts.values()), abs=0.01)
    assert sum(sweep["share"].values()) == pytest.approx(1, abs=0.01)
    assert found["compile_seconds"] > 0.1 and found["peak_memory_bytes"] > 5e7
    text = render(found)
    assert "ns/lane-step" in text and "monte carlo" in text


@pytest.mark.parametrize("argv", ["bench --repeats 0", "bench --levels 99", "bench --data nothing.csv"])
def test_bench_refuses_in_one_line(capsys, argv):
    with pytest.raises(SystemExit) as exit:
        main(argv.split())
    _, err = capsys.readouterr()
    assert exit.value.code == 2 and err.startswith("ihtjax: error: ") and err.count("\n") == 1
