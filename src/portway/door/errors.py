"""What keeps a door from starting."""


class DoorError(Exception):
    """One line that says what is wrong and what to do."""
