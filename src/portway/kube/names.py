"""The syntax of names, label keys and values, and ports; upstream's sentences for what breaks it.

Every check returns a list of messages, empty when the value is fine: the caller knows the field and makes the
``Cause``. Lengths count bytes, as upstream's do. Upstream: ``k8s.io/apimachinery/pkg/util/validation``.
"""

from __future__ import annotations

import re
import secrets
from functools import lru_cache
from typing import Final

_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN: Final = _LABEL + r"(\." + _LABEL + ")*"
_WILDCARD: Final = r"\*\." + _SUBDOMAIN
_DNS1035: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_QUALIFIED})?"
_CONFIG_KEY: Final = "[-._a-zA-Z0-9]+"

_LABEL_RE: Final = re.compile(_LABEL)
_SUBDOMAIN_RE: Final = re.compile(_SUBDOMAIN)
_WILDCARD_RE: Final = re.compile(_WILDCARD)
_DNS1035_RE: Final = re.compile(_DNS1035)
_QUALIFIED_RE: Final = re.compile(_QUALIFIED)
_LABEL_VALUE_RE: Final = re.compile(_LABEL_VALUE)
_CONFIG_KEY_RE: Final = re.compile(_CONFIG_KEY)
_PORT_NAME_RE: Final = re.compile("[-a-z0-9]+")
_HTTP_PATH: Final = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_HTTP_PATH_RE: Final = re.compile(_HTTP_PATH)

LABEL_LIMIT: Final = 63
SUBDOMAIN_LIMIT: Final = 253
_PORT_NAME_LIMIT: Final = 15

# Upstream's alphabet for generated names: no vowels and nothing that reads like one, so no words appear.
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH: Final = 5


def is_dns1123_label(value: str) -> list[str]:
    """RFC 1123 label of at most 63 bytes: namespaces, services, port names."""
    message = (
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
        "and must start and end with an alphanumeric character"
    )
    return _too_long(value, LABEL_LIMIT) + _mismatch(value, _LABEL_RE, message, "my-name", "123-abc")


def is_dns1123_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain of at most 253 bytes: the names of most objects."""
    message = (
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
        "and must start and end with an alphanumeric character"
    )
    return _too_long(value, SUBDOMAIN_LIMIT) + _mismatch(value, _SUBDOMAIN_RE, message, "example.com")


def is_wildcard_dns1123_subdomain(value: str) -> list[str]:
    """``*.`` and a subdomain (RFC 1034 §4.3.3): hosts of Ingress rules."""
    message = (
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
        "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character"
    )
    return _too_long(value, SUBDOMAIN_LIMIT) + _mismatch(value, _WILDCARD_RE, message, "*.example.com")


def is_http_path(value: str) -> list[str]:
    """What may stand behind the slash of a domain-prefixed path, as the name of an ingress controller."""
    return _mismatch(value, _HTTP_PATH_RE, "Invalid path")


def is_dns1035_label(value: str) -> list[str]:
    """RFC 1035 label of at most 63 bytes: a label that starts with a letter."""
    message = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
        "character, and end with an alphanumeric character"
    )
    return _too_long(value, LABEL_LIMIT) + _mismatch(value, _DNS1035_RE, message, "my-name", "abc-123")


def is_qualified_name(value: str) -> list[str]:
    """``name`` or ``prefix/name``: label and annotation keys, finalizers, condition types."""
    return [*(_qualified_before(value) if len(value) <= _LONGEST_QUALIFIED else _qualified(value))]


def _qualified(value: str) -> tuple[str, ...]:
    parts = value.split("/")
    if len(parts) > 2:
        shape = _regex_error(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc")
        optional = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return (f"a qualified name {shape}{optional}",)
    problems: list[str] = []
    if len(parts) == 2:
        problems += [f"prefix part {problem}" for problem in _prefix_problems(parts[0])]
    return (*problems, *(f"name part {problem}" for problem in _name_part_problems(parts[-1])))


_LONGEST_QUALIFIED: Final = SUBDOMAIN_LIMIT + 1 + LABEL_LIMIT
_qualified_before = lru_cache(maxsize=4096)(_qualified)
"""The same few keys stand in every object of a cluster."""


def is_label_value(value: str) -> list[str]:
    """The value of a label: empty, or up to 63 bytes."""
    message = (
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
        "and must start and end with an alphanumeric character"
    )
    problems = _too_long(value, LABEL_LIMIT)
    return problems + _mismatch(value, _LABEL_VALUE_RE, message, "MyValue", "my_value", "12345")


def is_config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret: usable as a file name."""
    message = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
    problems = _too_long(value, SUBDOMAIN_LIMIT)
    problems += _mismatch(value, _CONFIG_KEY_RE, message, "key.name", "KEY_NAME", "key-name")
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def is_path_segment_name(value: str) -> list[str]:
    """A name that can stand in a URL's path: the loosest rule, used by the RBAC kinds."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in value]


def is_port_number(value: int) -> list[str]:
    """1 to 65535."""
    return [] if 1 <= value <= 65535 else ["must be between 1 and 65535, inclusive"]


def is_port_name(value: str) -> list[str]:
    """A port's name (RFC 6335 §5.1, lower case): at most 15 bytes with a letter among them."""
    problems = _too_long(value, _PORT_NAME_LIMIT)
    if not _PORT_NAME_RE.fullmatch(value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value.startswith("-") or value.endswith("-"):
        problems.append("must not begin or end with a hyphen")
    return problems


def generate_name(base: str) -> str:
    """``base`` with five random characters behind it, cut so that the whole has at most 63."""
    suffix = "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return base[: LABEL_LIMIT - _SUFFIX_LENGTH] + suffix


_QUALIFIED_MESSAGE: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)


def _prefix_problems(prefix: str) -> list[str]:
    return is_dns1123_subdomain(prefix) if prefix else ["must be non-empty"]


def _name_part_problems(name: str) -> list[str]:
    problems = _too_long(name, LABEL_LIMIT) if name else ["must be non-empty"]
    return problems + _mismatch(name, _QUALIFIED_RE, _QUALIFIED_MESSAGE, "MyName", "my.name", "123-abc")


def _too_long(value: str, limit: int) -> list[str]:
    if len(value.encode("utf-8", "surrogatepass")) <= limit:
        return []
    return [f"must be no more than {limit} bytes"]


def _mismatch(value: str, regex: re.Pattern[str], message: str, *examples: str) -> list[str]:
    return [] if regex.fullmatch(value) else [_regex_error(message, regex.pattern, *examples)]


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    # The comma and the two spaces between examples are upstream's.
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"
