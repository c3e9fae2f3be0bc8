"""What every process of the gateway does to itself at its start."""

import ctypes
import gc
import resource
import signal

_PR_SET_PDEATHSIG = 1


def prepare_process() -> None:
    """As many files as allowed, and a collector that does not look for garbage where there is next to none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.set_threshold(20000, 20, 20)


def end_with_parent() -> None:
    """SIGTERM when the process that started it is gone (prctl(2), PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
