"""What every floor may use: names and their nearest, numbers, files written whole, plots."""

import pytest

from minidl.shared.names import chosen, hint, nearest


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
