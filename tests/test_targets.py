"""What a table's columns are taken for, which losses fit them, and what tells tables and configurations apart."""

import sys

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from ihtjax import InputError, SweepConfig
from ihtjax.cli.commands import main
from ihtjax.problems import table as tables
from ihtjax.problems.linear import Linear
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.table import SKLEARN, Table, load_table, table_of
from ihtjax.sweeps.engine import content, make_problem, resolved

# Of the table in `git show main:ihtjax/problems/table.py` from before targets could be numbers: load_table("iris"),
# and SweepConfig(levels=range(1, 15)).hash(..) of it there. Runs that exist have them in their records.
IRIS_FINGERPRINT = "5cb14d5ad5c8e896eb2c5ee9747cdc7a2355c26027a933b3569f1e1318d76c7d"
DEFAULT_HASH = "2f05fa8c2d73"
# The same of SweepConfig(init="torch_linear", precision="float64").
OTHER_HASH = "97c3ea1ce630"


def frame(rows=12, **columns):
    """Two features and the columns given, each repeated to so many rows."""
    rng = np.random.default_rng(0)
    features = {"a": rng.normal(size=rows), "b": rng.integers(100, 1000, rows)}
    return pd.DataFrame(features | {name: np.resize(np.asarray(its), rows) for name, its in columns.items()})


def read(columns, targets, kind=None):
    return table_of(columns, targets if isinstance(targets, tuple) else (targets,), "table", kind)


# Classes, numbers, or either.


@pytest.mark.parametrize("values", [["x", "y"], [True, False], ["1", "2", "3"], ["0.5", "1.5"]], ids=str)
def test_texts_and_booleans_are_classes(values):
    table = read(frame(t=values), "t")
    assert table.class_names == tuple(sorted(map(str, values))) and table.target_names == ()
    assert table.n_classes == len(values) and table.y.dtype == np.int32


@pytest.mark.parametrize(
    "values",
    [[0.5, 1, 2], np.linspace(-3, 3, 12), np.arange(12), np.arange(7.0)],
    ids=["half", "real", "12", "7 of 12"],
)
def test_fractions_and_many_distinct_numbers_are_numbers(values):
    columns = frame(t=values)
    table = read(columns, "t")
    assert table.class_names == () and table.target_names == ("t",) and table.n_targets == 1
    np.testing.assert_array_equal(table.y, columns[["t"]])


@pytest.mark.parametrize("values", [[0, 1], [1.0, 2.0, 5.0], [-1, 1], [3, 4, 5, 6]], ids=str)
def test_few_whole_numbers_are_refused_until_the_loss_says_which(values):
    columns = frame(t=values)
    K = len(values)
    with pytest.raises(InputError, match=f"^loss: missing, .*'t' of table holds {K} distinct whole numbers.*poisson"):
        read(columns, "t")
    assert read(columns, "t", "classes").n_classes == K
    np.testing.assert_array_equal(read(columns, "t", "numbers").y[:, 0], columns.t)


def test_the_command_line_takes_such_a_column_once_it_is_told_a_loss(tmp_path, capsys):
    frame(20, t=[0, 1, 2]).to_csv(tmp_path / "t.csv", index=False)
    for loss, n in (("cross_entropy", 9), ("squared", 3), ("poisson", 3), ("huber", 3)):
        assert make_problem(SweepConfig(data=str(tmp_path / "t.csv"), target="t", loss=loss)).n == n
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", str(tmp_path / "run"), "--data", str(tmp_path / "t.csv"), "--target", "t"])
    err = capsys.readouterr().err.strip()
    assert err.startswith("ihtjax: error: --loss: missing") and "\n" not in err
    assert not (tmp_path / "run").exists()


def test_several_targets_are_numbers_in_the_order_they_are_named():
    columns = frame(u=[1, 2], v=[0.5, 2, 7], w=[3])
    table = read(columns, ("w", "u"))
    assert table.target_names == ("w", "u") and table.feature_names == ("a", "b", "v")
    np.testing.assert_array_equal(table.y, columns[["w", "u"]])
    assert table != read(columns, ("u", "w"))
    problem = Linear(table, LOSSES["squared"])
    assert problem.names == ["w11", "w12", "w13", "w21", "w22", "w23", "b1", "b2"]


@pytest.mark.parametrize(
    "columns, targets, kind, says",
    [
        (frame(u=["x", "y"], v=[1]), ("u", "v"), None, "column 'u' holds .*expected numbers"),
        (frame(u=[1, 2], v=[1]), ("u", "v"), "classes", "expected one class column"),
        (frame(u=[1, 2]), ("u", "u"), None, "'u' 2 times"),
        (frame(u=[1, 2]), ("u", "z"), None, "no column 'z'; name one of a, b, u"),
        (frame(u=[1.5, np.inf]), ("u",), None, "column 'u' is infinite in data row 2"),
        (frame(u=[1.5, np.nan]), ("u",), None, "column 'u' has no value in data row 2"),
        (frame(u=["x", "y"]), ("u",), "numbers", "column 'u' holds .*expected numbers"),
        (frame(u=[1, 2**53 + 1]), ("u",), "numbers", r"up to 2\^53"),
        (frame(u=[3, 2, -1]), ("u",), "counts", "holds -1 in data row 3, expected whole"),
        (frame(u=[3, 2.5, 1]), ("u",), "counts", "holds 2.5 in data row 2, expected whole"),
        (frame(u=[3, 2], v=[1, 0.25]), ("u", "v"), "counts", "'v' holds 0.25 in data row 2, expected whole"),
        (frame(u=[0.5, 1.5]), ("u",), "classes", "take loss squared for numbers"),
        (frame(u=[1.5])[["u"]], ("u",), None, "no column beside 'u', expected at least one numeric feature"),
    ],
    ids=str,
)
def test_targets_that_cannot_be_used_are_refused(columns, targets, kind, says):
    with pytest.raises(InputError, match=says):
        read(columns, targets, kind)


@pytest.mark.parametrize("target", [(), [], ("a", 3), 7, ("a", ""), {"a": 1}], ids=str)
def test_what_is_no_name_of_a_target_is_refused(tmp_path, target):
    with pytest.raises(InputError, match="^target: got"):
        load_table(str(tmp_path / "none.csv"), target)


# Losses that fit.


@pytest.mark.parametrize(
    "kind, values, loss, says",
    [
        ("classes", ["x", "y", "z"], "logistic", "logistic predicts one of two classes, the target has 3"),
        ("classes", ["x", "y"], "squared", "squared predicts numbers, but the target holds classes"),
        ("classes", ["x", "y"], "poisson", "poisson predicts counts, but the target holds classes"),
        ("numbers", [0.5, 1.5], "cross_entropy", "cross_entropy predicts classes, but the target holds numbers"),
        ("numbers", [0, 1], "logistic", "logistic predicts classes, but the target holds numbers"),
    ],
)
def test_a_loss_that_does_not_fit_the_table_is_refused(kind, values, loss, says):
    with pytest.raises(InputError, match=f"^loss: {says}"):
        Linear(read(frame(t=values), "t", kind), LOSSES[loss])


@pytest.mark.parametrize("values", [[-1, 2, 3], [0.5, 1.5, 2.5]], ids=str)
def test_poisson_refuses_numbers_that_are_no_counts_also_without_a_file(values):
    with pytest.raises(InputError, match="^loss: poisson predicts counts, .* the target holds (-1|0.5)"):
        Linear(read(frame(t=values), "t", "numbers"), LOSSES["poisson"])


@pytest.mark.parametrize(
    "options, says",
    [
        ({"loss": "squared"}, "column 'species' holds .*expected numbers"),
        ({"loss": "logistic"}, "the target has 3; take cross_entropy"),
        ({"data": "sklearn:wine", "loss": "huber"}, "column 'target' holds .*expected numbers"),
        ({"data": "sklearn:diabetes", "loss": "cross_entropy"}, "expected at most 50 classes"),
        ({"data": "sklearn:linnerud", "loss": "logistic"}, "expected one class column"),
        ({"data": "sklearn:linnerud", "target": "Chins"}, "expected none for sklearn:linnerud"),
        ({"data": "sklearn:wines"}, "got sklearn:wines, expected one of breast_cancer, digits, iris, wine, diabetes"),
        ({"data": "sklearn:"}, "got sklearn:, expected one of"),
    ],
    ids=str,
)
def test_data_and_loss_that_do_not_fit_are_refused_in_one_line(tmp_path, capsys, options, says):
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    with pytest.raises(InputError, match=says):
        make_problem(SweepConfig(**options))
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", str(tmp_path / "run"), *flags])
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "data, loss, n",
    [
        ("iris", "cross_entropy", 15),
        ("sklearn:breast_cancer", "cross_entropy", 62),
        ("sklearn:diabetes", "squared", 11),
    ],
)
def test_a_loss_that_is_left_out_is_filled_in_by_the_target(data, loss, n):
    config = SweepConfig(data=data)
    problem = make_problem(config)
    assert problem.n == n and resolved(config, problem).loss == loss


# scikit-learn's tables.


@pytest.mark.parametrize("name", SKLEARN)
def test_tables_of_scikit_learn_are_theirs(name):
    theirs = getattr(datasets, f"load_{name}")()
    ours = load_table(f"sklearn:{name}")
    np.testing.assert_array_equal(ours.X, theirs.data)
    assert ours.feature_names == tuple(map(str, theirs.feature_names))
    if ours.class_names:
        names = np.array(theirs.target_names).astype(str)
        np.testing.assert_array_equal(np.array(ours.class_names)[ours.y], names[theirs.target])
    else:
        np.testing.assert_array_equal(ours.y, np.reshape(theirs.target, (len(ours.y), -1)))


def test_where_scikit_learn_is_missing_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    tables._packaged.cache_clear()  # wine may have been read before
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", str(tmp_path / "run"), "--data", "sklearn:wine", "--trials", "1", "--steps", "1"])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--data: sklearn:wine needs scikit-learn, which isn't installed; pip install 'ihtjax[sklearn]'" in err
    assert load_table("iris").n_classes == 3


# What tells tables and configurations apart.


def test_the_fingerprint_of_a_class_table_is_what_it_was():
    assert load_table("iris").fingerprint == load_table("iris", None, "classes").fingerprint == IRIS_FINGERPRINT


def test_fingerprints_tell_targets_apart():
    """By fractions, by names and by kind; whole numbers keep theirs whatever type of column they come in."""
    base = frame(u=[1.25, 2, 3], v=[0, 1])
    nudged = base.assign(u=base.u + 2.0**-30)
    tables = [
        read(base, "u"),
        read(nudged, "u"),
        read(base.rename(columns={"u": "w"}), "w"),
        read(base, ("u", "v")),
        read(base, "v", "numbers"),
        read(base, "v", "classes"),
    ]
    assert len({table.fingerprint for table in tables}) == len(set(tables)) == len(tables)
    assert read(base.astype({"v": float}), "v", "numbers") == read(base, "v", "numbers") == read(base, "v", "counts")
    one = Table(np.ones((3, 2)), np.array([[0.25], [1.5], [2]]), ("a", "b"), (), ("t",))
    other = Table(np.ones((3, 2)), np.array([[0.75], [1.5], [2]]), ("a", "b"), (), ("t",))
    assert one.fingerprint != other.fingerprint


def test_the_hash_of_configurations_from_before_there_were_losses_is_what_it_was():
    for loss in (None, "cross_entropy"):
        config = SweepConfig(loss=loss)
        problem = make_problem(config)
        data = content(config, problem)
        assert data == IRIS_FINGERPRINT
        assert config.hash(data) == resolved(config, problem).hash(data) == DEFAULT_HASH
        other = SweepConfig(loss=loss, init="torch_linear", precision="float64")
        assert other.hash(content(other, make_problem(other))) == OTHER_HASH


def test_each_loss_has_a_hash_of_its_own():
    hashes = {loss: SweepConfig(loss=loss).hash(IRIS_FINGERPRINT) for loss in LOSSES}
    assert len(set(hashes.values())) == len(LOSSES) == 5 and hashes["cross_entropy"] == DEFAULT_HASH


def test_the_fingerprint_of_a_model_is_of_all_that_makes_it():
    """Of one named by --problem no option says the loss, the start, the standardisation or the type."""
    table = read(frame(t=[0.5, 1, 2]), "t")
    models = [
        Linear(table, LOSSES["squared"]),
        Linear(table, LOSSES["huber"]),
        Linear(table, LOSSES["squared"], init="torch_linear"),
        Linear(table, LOSSES["squared"], standardize="all"),
        Linear(table, LOSSES["squared"], dtype=np.float64),
        Linear(read(frame(t=[0.5, 1, 2.5]), "t"), LOSSES["squared"]),
    ]
    assert len({model.fingerprint for model in models}) == len(models)
    assert Linear(table, LOSSES["squared"]).fingerprint == models[0].fingerprint
