"""No process outlives the one that started it, not even when that one is killed with SIGKILL (Linux).

Called by the child, not between fork and exec by the parent: code that runs there in a process with threads may
deadlock.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
PARENT_VARIABLE = "PORTWAY_PARENT_PID"


def die_with_parent(death: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `death` when its parent ends; exit at once when it already has.

    The parent says who it is in $PORTWAY_PARENT_PID: if it died before the call, somebody else is the parent by now.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(death), 0, 0, 0)
    expected = os.environ.get(PARENT_VARIABLE, "")
    if expected.isdigit() and os.getppid() != int(expected):
        raise SystemExit(0)
