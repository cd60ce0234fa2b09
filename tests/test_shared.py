"""What every floor may use: names and their nearest, numbers, files written whole, plots."""

import sys
from fractions import Fraction

import numpy as np
import pytest

from minidl.shared.names import chosen, hint, nearest
from minidl.shared.numbers import check_sizes, count, is_integer, is_number
from minidl.shared.plot import as_png, check_png, new_figure, write_png


def test_the_nearest_name_is_meant():
    names = ["adam", "adamw", "sgd"]
    assert hint("adma", names) == "; did you mean 'adam'?"
    assert hint("zzz", names) == hint(None, names) == hint("adam", []) == ""
    assert hint("adam1", {"adam": 1}) == "; did you mean 'adam'?"
    assert sorted(nearest("adamx", names, 3)) == ["adam", "adamw"]
    assert nearest("adamx", names) == nearest("adamx", names, 3)[:1]
    assert hint(11, (1, 111, 5)) == "; did you mean '111'?"


def test_a_name_is_looked_up():
    table = {"sgd": 1, "adam": 2}
    assert chosen("an optimizer", "adam", table) == 2
    with pytest.raises(
        ValueError, match=r"^expected an optimizer as one of \['adam', 'sgd'\], found 'adm'; did you mean"
    ):
        chosen("an optimizer", "adm", table)
    for other in ("zzz", 3, None, ["sgd"]):
        with pytest.raises(ValueError, match=r"found [^;]*$"):
            chosen("an optimizer", other, table)


@pytest.mark.parametrize("value", [0, -3, 1 << 70, np.int8(4), np.uint64(2)])
def test_integers(value):
    assert is_integer(value)
    assert is_number(value)


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), np.float32(2), np.float64(1), Fraction(1, 3)])
def test_numbers_that_are_no_integers(value):
    assert is_number(value)
    assert not is_integer(value)


@pytest.mark.parametrize("value", [True, np.True_, "1", None, 1j, [1], np.array(1), np.array([1.0])])
def test_what_is_no_number(value):
    assert not is_number(value)
    assert not is_integer(value)


def test_counts_and_sizes():
    assert type(count("f", "n", np.int64(3))) is int
    assert count("f", "n", 0, 0) == 0
    with pytest.raises(ValueError, match=r"^f: expected n of at least 1, found 0$"):
        count("f", "n", 0)
    for other in (True, 2.0, "3", None):
        with pytest.raises(TypeError, match=r"^f: expected n as an int, found "):
            count("f", "n", other)
    check_sizes("Dense", inside=1, outside=np.int32(7))
    for other in (0, -1, True, 2.0, "3"):
        with pytest.raises(ValueError, match=rf"^Dense: expected outside as an int of at least 1, found {other!r}$"):
            check_sizes("Dense", inside=1, outside=other)


def test_pictures_are_png_and_whole(tmp_path):
    with pytest.raises(ValueError, match=r"plot: expected a file's name ending in \.png, found .*x\.pdf"):
        check_png("plot", tmp_path / "x.pdf")
    check_png("plot", tmp_path / "x.PNG")
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    figure = new_figure("plot", 2, 1)
    figure.subplots().plot([1, 2])
    assert as_png(figure, dpi=50)[:8] == b"\x89PNG\r\n\x1a\n"
    size = [int.from_bytes(as_png(figure, dpi=50)[i : i + 4], "big") for i in (16, 20)]
    assert size == [100, 50]
    write_png(figure, tmp_path / "x.png", dpi=50)
    before = (tmp_path / "x.png").read_bytes()
    figure.savefig = lambda file, **options: file.write(b"half") / 0
    with pytest.raises(ZeroDivisionError):
        write_png(figure, tmp_path / "x.png", dpi=50)
    assert (tmp_path / "x.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.figure"])
def test_drawing_names_its_extra(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'^roof: drawing takes matplotlib: pip install "minidl\[plot\]"$'):
        new_figure("roof", 2, 1)
