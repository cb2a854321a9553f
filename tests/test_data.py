import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from ihtjax import InputError
from ihtjax.data import load_table, table_of


def test_iris_is_fishers():
    theirs = load_iris()
    ours = load_table("iris")
    np.testing.assert_array_equal(ours.X, theirs.data)
    np.testing.assert_array_equal(ours.y, theirs.target)
    # UCI's rows 35 and 38 differ
    assert ours.X[34].tolist() == [4.9, 3.1, 1.5, 0.2] and ours.X[37].tolist() == [4.9, 3.6, 1.4, 0.1]


def write(frame, folder, kind="csv"):
    path = folder / f"table.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    return str(path)


def good(rows=10):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=rows), "b": rng.integers(9, size=rows), "kind": ["x", "y"] * (rows // 2)})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_read_with_its_classes_in_order(tmp_path, kind):
    frame = good()
    table = load_table(write(frame[::-1], tmp_path, kind), "kind")
    assert table.class_names == ("x", "y") and table.feature_names == ("a", "b")
    np.testing.assert_array_equal(table.y, [1, 0] * 5)
    np.testing.assert_allclose(table.X, frame[["a", "b"]][::-1])


def test_content_makes_the_fingerprint_and_the_path_does_not(tmp_path):
    (tmp_path / "other").mkdir()
    a, b = (load_table(write(good(), folder), "kind") for folder in (tmp_path, tmp_path / "other"))
    changed = good()
    changed.loc[0, "a"] += 1e-9
    c = load_table(write(changed, tmp_path), "kind")
    assert a == b and hash(a) == hash(b) and a != c


def broken(**columns):
    return good().assign(**columns)


@pytest.mark.parametrize(
    "frame, says",
    [
        (broken(a=[1, 2, np.nan, *range(7)]), "column 'a' has no value in row 3"),
        (broken(kind=["x", None] * 5), "column 'kind' has no value in row 2"),
        (broken(b=["red", "blue"] * 5), "column 'b' holds .*'red'.*expected numbers"),
        (broken(a=[np.inf, *range(9)]), "column 'a' is infinite in row 1"),
        (broken(kind="x"), "holds 1 class, expected at least 2"),
        (broken(kind=np.arange(10) / 7), "holds 10 classes in 10 rows"),
        (good()[["kind"]], "no column beside 'kind'"),
        (good(0), "no rows"),
        (good(4), "4 rows, expected at least 5"),
        (good().rename(columns={"kind": "species"}), "no column 'kind'; name one of a, b, species"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, frame, says):
    for kind in ("csv", "parquet"):
        with pytest.raises(InputError, match=says):
            load_table(write(frame, tmp_path, kind), "kind")


@pytest.mark.parametrize(
    "data, target, says",
    [
        ("missing.csv", "kind", "is not a file"),
        ("table.xlsx", "kind", "expected 'iris' or the path"),
        ("iris", "petals", "expected none for iris"),
        ("empty.csv", "kind", "cannot read"),
        ("torn.parquet", "kind", "cannot read"),
        ("good.csv", None, "name one of a, b, kind"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch, data, target, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    good().to_csv("good.csv", index=False)
    with pytest.raises(InputError, match=says):
        load_table(data, target)


def test_classes_of_more_than_one_kind_are_refused():
    with pytest.raises(InputError, match="mixes or holds int, str"):
        table_of(broken(kind=["x", 1] * 5), "kind", "frame")


@pytest.mark.parametrize(
    "text, says",
    [
        ("a,a,kind\n" + "1,2,x\n3,4,y\n" * 5, "2 columns are called 'a'"),
        ("a,kind,kind\n" + "1,2,x\n3,4,y\n" * 5, "2 columns are called 'kind'"),
        (",a,kind\n" + "1,2,x\n3,4,y\n" * 5, "column 1 has no name; if it is an index"),
        ("a;b;kind\n" + "1;2;x\n3;4;y\n" * 5, "separate columns by commas"),
        ("a,kind\n", "no rows"),
    ],
)
def test_a_csv_that_pandas_would_bend_is_refused(tmp_path, text, says):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        load_table(str(path), "kind")


def test_other_encodings_are_refused_and_a_byte_order_mark_is_not(tmp_path):
    path = tmp_path / "table.csv"
    text = "größe,kind\n" + "1,x\n3,y\n" * 5
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        load_table(str(path), "kind")
    path.write_bytes(text.encode("utf-8-sig"))
    assert load_table(str(path), "kind").feature_names == ("größe",)
