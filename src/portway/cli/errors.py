"""What a command could not do."""


class CliError(Exception):
    """One line for a person, after `portway: `; exit code 1."""
