"""What rewriting raises: one error, so that the relay has one thing to catch.

RewriteError is a ValueError because the input is what is wrong: a Location that is no URL, a compressed body that
doesn't decompress. The relay turns the first into an answer of its own and aborts the connection on the second, whose
beginning has been sent by then.
"""


class RewriteError(ValueError):
    """The backend's answer can't be rewritten; the message says what was wrong with it and quotes nothing secret."""
