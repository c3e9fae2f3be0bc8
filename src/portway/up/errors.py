"""What goes wrong before a cluster runs."""


class UpError(Exception):
    """One line that says what is wrong and how to get out of it; exit code 1."""
