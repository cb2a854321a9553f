"""What somebody meets who uses the program for the first time, on a table of their own."""

import html
import re
import shlex

import pytest
from click.testing import CliRunner

from ihtjax import InputError, SweepConfig, load, sweep
from ihtjax.cli import commands
from ihtjax.paper import page
from ihtjax.paper.evidence import Evidence
from ihtjax.paper.judgement import claims
from ihtjax.sweeps import progress


def call(*argv):
    return CliRunner().invoke(commands.cli, [str(word) for word in argv])


@pytest.fixture(scope="module")
def own(tables, tmp_path_factory):
    """A run of another table than Iris, under a name that a shell would split."""
    data = tmp_path_factory.mktemp("my own") / "wine & co.csv"
    data.write_bytes(tables["wine"].read_bytes())
    config = SweepConfig(
        data=str(data), target="kind", levels=(2, 4), trials=4, steps=40, n_monte=5, curve_points=0, audit=True, seed=9
    )
    return sweep(config, tmp_path_factory.mktemp("runs") / "own", batch=16)


def test_the_report_ends_with_a_command_that_reproduces_a_row_of_the_run(own):
    text = html.unescape(page.render(Evidence(own), claims(own), []))
    program, *argv = shlex.split(re.search(r"ihtjax trial [^<]*", text)[0])
    seeds = {name: int(argv[argv.index(f"--{name}") + 1]) for name in ("s", "data-seed", "init-seed", "support-seed")}
    assert program == "ihtjax" and "--audit" in argv
    (row,) = load(own, s=seeds["s"], data_seed=seeds["data-seed"], method="iht").itertuples()
    assert (row.init_seed, row.support_seed) == (seeds["init-seed"], seeds["support-seed"])
    done = call(*argv)
    assert done.exit_code == 0 and f"training loss {row.train_loss:.6g} nats" in done.stdout
    assert f"margin of (8)                       {row.ht_margin:.3e}" in done.stdout


def test_a_report_compares_with_other_runs_of_the_same_data_alone(own, small_run):
    show = progress.Silent()
    with pytest.raises(InputError, match="others: .* is a run of other data, expected one of the data of "):
        page.judged(small_run, [own], show)
    with pytest.raises(InputError, match="others: .* is the run itself, expected another run of the same data"):
        page.judged(small_run, [small_run / ".." / small_run.name], show)
