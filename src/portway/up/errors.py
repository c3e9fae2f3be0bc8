"""What goes wrong before a cluster runs.

UpError                the one line that a person reads after `portway: `; exit code 1
└── SettingsError      a flag or a configuration key has a value that cannot be; exit code 2 from a flag, 1 from a file
"""


class UpError(Exception):
    """One line that says what is wrong and how to get out of it."""


class SettingsError(UpError):
    """A value that cannot be.

    Args:
        message: the whole line, naming the flag or the key.
        usage: whether it was typed as a flag (the caller's exit code is then 2).
    """

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
