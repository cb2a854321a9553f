"""Which parameters a run stores, and what asks for those that it doesn't."""

import dataclasses

import pandas as pd
import pytest

from ihtjax import InputError, SweepConfig, certify_run, claims, load, sweep
from ihtjax.paper.drawings import Drawn, drawn
from ihtjax.sweeps.store.run import RunDirectory

STORED = {"all": ["theta", "theta0"], "end": ["theta"], "none": []}
INSTEAD = "sweep into another directory with --theta"


@pytest.fixture(scope="module")
def runs(small, small_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("theta")
    fewer = {theta: sweep(dataclasses.replace(small, theta=theta), folder / theta) for theta in ("end", "none")}
    return {"all": small_run} | fewer


@pytest.mark.parametrize("theta", STORED)
def test_a_run_has_the_parameters_that_were_asked_for_and_all_else(runs, theta):
    found, whole = load(runs[theta]), load(runs["all"])
    assert [name for name in found if name.startswith("theta")] == STORED[theta]
    assert list(found) == [name for name in whole if name in found]
    same = [name for name in found if name not in ("theta", "theta0", "config_hash")]
    pd.testing.assert_frame_equal(found[same], whole[same], check_exact=True)
    for name in STORED[theta]:
        assert [v.tobytes() for v in found[name]] == [v.tobytes() for v in whole[name]]
    assert list(pd.read_parquet(runs[theta] / "trials")) == list(found)
    assert not RunDirectory(runs[theta]).survey().problems


def test_fewer_parameters_take_less_room(runs):
    sizes = {theta: sum(path.stat().st_size for path in (run / "trials").iterdir()) for theta, run in runs.items()}
    assert sizes["none"] < sizes["end"] < sizes["all"]


def test_a_run_is_of_one_kind(runs, small):
    assert SweepConfig(theta="all").hash("data") == SweepConfig().hash("data")
    assert len({SweepConfig(theta=theta).hash("data") for theta in STORED}) == 3
    with pytest.raises(InputError, match="theta is 'end' there, 'none' was asked for"):
        sweep(dataclasses.replace(small, theta="none"), runs["end"])
    with pytest.raises(InputError, match="theta is 'end' there, 'all' was asked for"):
        sweep(small, runs["end"])
    before = load(runs["end"])
    sweep(dataclasses.replace(small, theta="end"), runs["end"])
    pd.testing.assert_frame_equal(load(runs["end"]), before)


def test_certificates_need_theta_and_say_so(runs):
    certify_run(runs["end"], levels=(3,), trials=1, enumerate_supports=False)
    assert len(load(runs["end"], "certificates")) == 1
    why = rf"certificates are of theta, and the run stores no theta \(--theta none\); {INSTEAD} end$"
    with pytest.raises(InputError, match=why):
        certify_run(runs["none"])
    with pytest.raises(InputError, match="^trials has no column 'theta'; it has "):
        load(runs["none"], columns=["theta"])


def test_figures_name_the_parameters_that_a_run_lacks(runs):
    names = ["fig07", "table1", "gap", "steps"]
    none = {picture.name: picture for picture in drawn(runs["none"], names)}
    for name, vector, enough in (("fig07", "theta0", "all"), ("gap", "theta", "end"), ("steps", "theta", "end")):
        assert none[name].why == f"the run stores no {vector} (--theta none); {INSTEAD} {enough}"
    assert isinstance(none["table1"], Drawn) and "trials ended" not in none["table1"].caption
    end = {picture.name: picture for picture in drawn(runs["end"], names)}
    assert end["fig07"].why == f"the run stores no theta0 (--theta end); {INSTEAD} all"
    assert "trials ended" in end["table1"].caption


def test_claims_name_the_parameters_that_a_run_lacks(runs):
    (moves,) = claims(runs["end"], only="support-moves-all")
    assert moves.why == f"The run stores no theta0 (--theta end); {INSTEAD} all."
    (valid,) = claims(runs["none"], only="step-size-valid")
    assert valid.why == f"This needs certificates; the run stores no theta (--theta none); {INSTEAD} end"
