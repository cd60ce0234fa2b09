"""What the tests of search look for: functions that worker processes can import, quick to import themselves."""

import math
import os
import signal
import time
from pathlib import Path

import minidl
from minidl.random import default_generator


def peak(trial):
    """Highest at lr = 10⁻², more with more budget; a little noise from minidl's generator."""
    noise = 1e-3 * default_generator().random()
    return -((math.log10(trial["lr"]) + 2) ** 2) + 0.01 * trial["n"] * (trial.budget or 1) + noise


def threads(trial):
    return minidl.get_num_threads()


def troubled(trial):
    """Trials 1 to 7 fail, each in its way."""
    match trial.number:
        case 1:
            raise ArithmeticError("no luck")
        case 2:
            return math.nan
        case 3:
            return "a text"
        case 4:
            return None
        case 5:
            os._exit(7)
        case 6:
            os.kill(os.getpid(), signal.SIGKILL)
        case 7:
            return True
    return peak(trial)


def endless(trial):
    """Notes its process's number, and stays. Trial 0 ends at once."""
    if trial.number:
        Path(trial["place"], f"{os.getpid()}").touch()
        time.sleep(1000)
    return 0.5


def slow(trial):
    time.sleep(0.05)
    return peak(trial)
