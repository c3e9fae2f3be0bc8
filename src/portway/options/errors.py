"""What a setting's mistake is."""


class SettingsError(Exception):
    """A value that cannot be.

    Args:
        message: the whole line, naming the flag or the key.
        usage: whether it was typed as a flag (the caller's exit code is then 2).
    """

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage
