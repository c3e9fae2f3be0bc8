"""What goes wrong before any request: files that can't be used. Request errors are portway.kube.errors' Unauthorized.

ConfigurationError(ValueError)    a file or word in the settings that is missing, unreadable or malformed
└── record.policy.PolicyError     an audit policy that is none
"""


class ConfigurationError(ValueError):
    """One line for a person: which file, and what is wrong with it. Never quotes a secret."""

    @classmethod
    def reading(cls, what: str, path: str, error: Exception) -> "ConfigurationError":
        """An error about a file; OSErrors without Python's decoration."""
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return cls(f"{what} {path}: {why}")
