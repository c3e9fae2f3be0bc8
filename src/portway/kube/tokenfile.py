"""The static token file: ``token,user,uid[,"group1,group2"]`` a line, as ``--token-auth-file`` takes it.

Text in, users out; reading the file, and asking it for a token in constant time, is the gateway's. Upstream:
``k8s.io/apiserver/pkg/authentication/token/tokenfile``. Errors name the line and never quote it: it holds a secret.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Final

from portway.kube.identity import User

_COLUMNS: Final = 3


class TokenFileError(ValueError):
    """A line that cannot be read; the message says which one and why."""


def parse_token_file(text: str) -> dict[str, User]:
    """Users by token. A token that occurs twice is the last line's; a line without a token is skipped.

    Raises TokenFileError for a line of fewer than three columns, or with broken quotes.
    """
    users: dict[str, User] = {}
    for line, row in _rows(text):
        if len(row) < _COLUMNS:
            found = f"found {len(row)}"
            raise TokenFileError(f"line {line}: at least 3 columns are needed (token, user name, user uid), {found}")
        token, name, uid = row[:_COLUMNS]
        if token:
            users[token] = User(name, uid, _groups(row[_COLUMNS]) if len(row) > _COLUMNS else ())
    return users


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    # Go's reader, which upstream uses, drops the spaces of nothing and the rows of no characters.
    reader = csv.reader(text.splitlines(keepends=True), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise TokenFileError(f"line {reader.line_num}: {error}") from None


def _groups(column: str) -> tuple[str, ...]:
    return tuple(group for group in column.split(",") if group)
