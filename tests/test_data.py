import time

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_digits, load_iris

from ihtjax import InputError
from ihtjax.problems.linear import Linear
from ihtjax.problems.losses import LOSSES
from ihtjax.problems.table import load_table, table_of


def softmax(table, **kwargs):
    return Linear(table, LOSSES["cross_entropy"], **kwargs)


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
        (broken(a=[1, 2, np.nan, *range(7)]), "column 'a' has no value in data row 3"),
        (broken(kind=["x", None] * 5), "column 'kind' has no value in data row 2"),
        (broken(b=["red", "blue"] * 5), "column 'b' holds .*'red'.*expected numbers"),
        (broken(a=[np.inf, *range(9)]), "column 'a' is infinite in data row 1"),
        (broken(kind="x"), "holds 1 class, expected at least 2"),
        (broken(kind=list("abcdefghij")), "holds 10 distinct values in 10 rows, expected at most 5 classes"),
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
        ("table.xlsx", "kind", "expected 'iris', 'sklearn:NAME' or the path"),
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
        table_of(broken(kind=["x", 1] * 5), ("kind",), "frame")


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


@pytest.mark.parametrize("row, fields", [("1,2,x,7", 4), ("1,2", 2), ("1,5,2,x", 4)])
def test_a_row_with_more_or_fewer_fields_than_the_header_is_named(tmp_path, row, fields):
    path = tmp_path / "table.csv"
    path.write_text("a,b,kind\n" + "1,2,x\n\n3,4,y\n" * 3 + row + "\n" + "1,2,x\n" * 5)
    with pytest.raises(InputError, match=rf"data row 7 \(line 11 of the file\) has {fields} fields, expected 3"):
        load_table(str(path), "kind")


def test_rows_that_all_have_a_field_too_much_are_refused_and_quoted_commas_are_not(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b,kind\n" + "1,2,3,x\n4,5,6,y\n" * 5)
    with pytest.raises(InputError, match=r"data row 1 \(line 2 of the file\) has 4 fields"):
        load_table(str(path), "kind")
    path.write_text('"a, in cm",b,kind\n' + '1,2,"x, y"\n4,5,"z\nz"\n' * 5)
    with pytest.raises(InputError, match=r"class 'z\\nz' of column 'kind' has a control character"):
        load_table(str(path), "kind")
    path.write_text(path.read_text().replace("z\nz", "z"))
    table = load_table(str(path), "kind")
    assert table.feature_names == ("a, in cm", "b") and table.class_names == ("x, y", "z")


def test_whole_numbers_that_float64_would_round_are_refused(tmp_path):
    for beyond in (2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1):
        frame = broken(b=[beyond, *range(9)])
        assert float(beyond) != beyond
        for kind in ("csv", "parquet"):
            with pytest.raises(InputError, match=rf"column 'b' holds {beyond} in data row 1.*, expected whole numbers"):
                load_table(write(frame, tmp_path, kind), "kind")
    assert load_table(write(broken(b=[2**53, -(2**53), *range(8)]), tmp_path), "kind").X[0, 1] == 2.0**53


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e307, 1.0])
def test_columns_of_any_size_are_standardised(scale):
    """In longer floats than the package's, where no square overflows."""
    frame = broken(b=good().b * scale)
    X = table_of(frame, ("kind",), "frame").X.astype(np.longdouble)
    expected = (X - X.mean(0)) / X.std(0)
    for standardize in ("train", "all"):
        problem = softmax(table_of(frame, ("kind",), "frame"), standardize=standardize, dtype=np.float64)
        np.testing.assert_allclose(problem.X, expected.astype(float), rtol=1e-12, atol=1e-14)


def test_irises_standardised_features_keep_their_bits():
    X = load_iris().data
    expected = ((X - X.mean(0)) / (X - X.mean(0)).std(0)).astype(np.float32)
    np.testing.assert_array_equal(softmax(load_table("iris")).X, expected)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_columns_that_float32_cannot_hold_are_refused_where_nothing_standardises_them(scale):
    table = table_of(broken(b=good().b * scale), ("kind",), "frame")
    with pytest.raises(InputError, match="column 'b' reaches .*, which float32 can't hold; standardise the features"):
        softmax(table, standardize="none")
    assert softmax(table, standardize="none", dtype=np.float64).X[:, 1].any()


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "a\x7f", "\x9b31m", "a\u202eb", "a\u2028b", "\ufeffa"])
def test_control_characters_in_names_of_columns_and_classes_are_refused(tmp_path, name):
    for frame in (good().rename(columns={"b": name}), broken(kind=["x", name] * 5)):
        path = write(frame, tmp_path, "parquet")
        with pytest.raises(InputError, match="has a control character; rename it") as refused:
            load_table(path, "kind")
        assert name not in str(refused.value)
    with pytest.raises(InputError) as refused:
        load_table(write(good().rename(columns={"b": name}), tmp_path, "parquet"))
    assert "name one of" in str(refused.value) and name not in str(refused.value)


def test_names_in_other_scripts_are_taken():
    names = ["größe", "長さ", "می‌خواهم", "a b", "$x_1$", "😀"]
    frame = pd.DataFrame({name: np.arange(10.0) for name in names} | {"kind": ["x", "y"] * 5})
    assert table_of(frame, ("kind",), "frame").feature_names == tuple(names)


def test_numbers_asked_for_as_classes_get_one_line_with_their_distinct_values(tmp_path):
    frame = load_diabetes(as_frame=True).frame
    with pytest.raises(InputError, match="'target' holds 214 distinct values in 442 rows, expected at most 50 class"):
        load_table(write(frame, tmp_path), "target", "classes")
    frame["target"] /= 10
    with pytest.raises(InputError, match=r"'target' holds numbers such as 2\.5, 214 distinct values, expected classes"):
        load_table(write(frame, tmp_path), "target", "classes")
    for wrong in ([0.5, np.inf] * 5, [1.0, np.inf] * 5, [0.5, 1.5] * 5):
        with pytest.raises(InputError, match="holds numbers such as"):
            table_of(broken(kind=wrong), ("kind",), "frame", "classes")
    with pytest.raises(InputError, match="column 'kind' is infinite in data row 2"):
        table_of(broken(kind=[0.5, np.inf] * 5), ("kind",), "frame")


def test_whole_numbers_and_booleans_can_be_classes(tmp_path):
    digits = load_digits(as_frame=True).frame
    assert load_table(write(digits, tmp_path), "target", "classes").class_names == tuple("0123456789")
    assert table_of(broken(kind=[2.0, 1.0] * 5), ("kind",), "frame", "classes").class_names == ("1.0", "2.0")
    assert table_of(broken(kind=[True, False] * 5), ("kind",), "frame").class_names == ("False", "True")


def test_more_classes_than_compile_in_half_a_minute_are_refused():
    rows = pd.DataFrame({"a": np.arange(3000.0), "kind": [f"c{i % 1500}" for i in range(3000)]})
    with pytest.raises(InputError, match="holds 1,500 distinct values in 3,000 rows, expected at most 50 classes"):
        table_of(rows, ("kind",), "frame")


def test_names_are_checked_in_linear_time():
    frame = pd.DataFrame(np.zeros((5, 40_000)), columns=[f"x{i}" for i in range(40_000)]).assign(kind=list("xyxyx"))
    began = time.monotonic()
    with pytest.raises(InputError, match="no column 'sort'"):
        table_of(frame, ("sort",), "frame")
    assert time.monotonic() - began < 5
