"""What options take: checked when they are read, and completed by the shell."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
from click.shell_completion import CompletionItem

from portway.options import values

F = TypeVar("F", bound=Callable[..., Any])
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def files(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of file names."""
    return [CompletionItem(incomplete, type="file")]


def directories(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of directories."""
    return [CompletionItem(incomplete, type="dir")]


def words(*known: str) -> Complete:
    """Completes one of a few words."""

    def complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known if word.startswith(incomplete)]

    return complete


def path_option(*names: str, metavar: str, help: str) -> Callable[[F], F]:  # noqa: A002 - click's own name
    """An option that takes a path: the command gets it absolute, `~` expanded; None when it isn't given."""
    complete = directories if metavar == "DIR" else files
    return click.option(*names, metavar=metavar, help=help, callback=_parsed(values.path), shell_complete=complete)


def checked_option(*names: str, metavar: str, help: str, check: Callable[[str], str]) -> Callable[[F], F]:  # noqa: A002
    """An option that takes a text that `check` returns, or refuses with a ValueError; "" when it isn't given."""
    return click.option(*names, default="", metavar=metavar, help=help, callback=_parsed(check))


def server(text: str) -> str:
    """The address of an API, `https://host:port` or kubectl's `host:port`; ValueError for what nobody can dial."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError(f'"{text}" is not an address such as https://127.0.0.1:6443')
    return text


def token(text: str) -> str:
    """A bearer token, which goes into a header (RFC 6750 section 2.1); ValueError, without it, when it can't."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("a token is letters, digits and punctuation, without spaces or line breaks")
    return text


def _parsed(parse: Callable[[str], str | Path]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    def parsed(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Any:
        if value is None or (value == "" and parse is not values.path):
            return value
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return parsed
