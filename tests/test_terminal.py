"""What a person sees of a long task: a bar on a terminal, nothing elsewhere."""

import re

from minidl.shared import terminal


class Terminal:
    """Takes what is written to it, and says that a person is looking."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_counting_draws_a_bar_on_a_terminal(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with terminal.counting("compiling") as step:
        for name in ("first", "second"):
            step(name, 2)
    assert "compiling" in screen.text
    assert re.search(r"1/2.*first", screen.text)
    assert re.search(r"2/2.*second", screen.text)


def test_counting_is_silent_elsewhere(capsys):
    with terminal.counting("compiling") as step:
        step("first", 1)
    assert capsys.readouterr() == ("", "")
