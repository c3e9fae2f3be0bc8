"""A setting is declared once, as a field of a frozen dataclass; its flag, its key in a configuration file and its help
follow from the field. Precedence: flag, then file, then default.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, TypeVar

from portway.options.errors import SettingsError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """How one setting is written.

    Attributes:
        name: the flag without its dashes, which is also the key in the configuration file.
        parse: text → value; ValueError says what is wrong with it.
        metavar: what stands for the value in the help.
        help: one line for the help.
        many: the flag may be repeated, the key may hold a list, and either may hold a comma-separated text.
        shown_default: the default in words, where the value would say too little.
    """

    name: str
    parse: Callable[[str], Any]
    metavar: str
    help: str
    many: bool = False
    shown_default: str = ""

    def value(self, raw: object) -> Any:
        """The value of what stood in a file or on the command line; ValueError when it cannot be."""
        if self.many:
            items = raw if isinstance(raw, (list, tuple)) else [raw]
            pieces = [piece.strip() for item in items for piece in _as_text(item).split(",")]
            return tuple(self.parse(piece) for piece in pieces if piece)
        return self.parse(_as_text(raw))


def _as_text(raw: object) -> str:
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if raw is None:
        raise ValueError("has no value")
    if isinstance(raw, (list, dict)):
        raise ValueError("must be a single value")
    return str(raw)


def option(parse: Callable[[str], Any], metavar: str, help: str, **more: Any) -> Any:  # noqa: A002
    """A field of a settings class, and its option: `default` and the attributes of `Option`."""
    declared: dict[str, Any] = {"parse": parse, "metavar": metavar, "help": help}
    default = more.pop("default", None)
    return field(default=default, metadata=declared | more)


class Options(Generic[T]):
    """The options of a settings class, by their names and in the order in which the help lists them.

    `command` is who is asked for help: "portway up".
    """

    def __init__(self, settings: type[T], command: str) -> None:
        declared = fields(settings)  # type: ignore[arg-type]
        self.by_name: Mapping[str, Option] = {
            name: Option(name=name, **one.metadata)
            for one, name in ((one, one.name.replace("_", "-")) for one in declared)
        }
        self.defaults: Mapping[str, Any] = {one.name.replace("_", "-"): one.default for one in declared}
        self._command = command

    def given(self, flags: Mapping[str, object], config_file: Path | None = None) -> dict[str, Any]:
        """The fields that flags (name → text or texts, only those that were given) and a YAML file set.

        Raises SettingsError with one line that names the flag or key.
        """
        typed = self._parsed(flags, "--", usage=True)
        written = self.read_config(config_file) if config_file is not None else {}
        chosen = self._parsed(written, f"{config_file}: ", usage=False) | typed
        return {name.replace("-", "_"): value for name, value in chosen.items()}

    def read_config(self, file: Path) -> Mapping[str, object]:
        """A configuration file's keys; SettingsError when it cannot be read, isn't a mapping or has an unknown key."""
        return _read_config(file, self._command, self.by_name)

    def _parsed(self, raw: Mapping[str, object], where: str, *, usage: bool) -> dict[str, Any]:
        parsed = {}
        for name, value in raw.items():
            try:
                parsed[name] = self.by_name[name].value(value)
            except ValueError as error:
                raise SettingsError(f"{where}{name}: {error}", usage=usage) from None
        return parsed


def _read_config(file: Path, command: str, known: Collection[str]) -> Mapping[str, object]:
    """The configuration file's keys; SettingsError when it cannot be read, isn't a mapping or has an unknown key."""
    import yaml  # here, because a start without a file needn't pay for it

    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"--config: cannot read {file}: {error.strerror}", usage=True) from error
    except RecursionError:
        raise SettingsError(f"{file}: not YAML that can be read: nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: not UTF-8, or a date that the calendar doesn't have
        raise SettingsError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"{file}: must hold keys and values, such as secure-port: 6443")
    for key in content:
        if key not in known:
            hint = closest(str(key), known) or f"; `{command} --help` lists the names"
            raise SettingsError(f'{file}: unknown key "{key}"{hint}')
    return content


def closest(name: str, known: Iterable[str]) -> str:
    """`; did you mean "x"?` for a misspelt name, "" when it is like none."""
    import difflib  # here, because only a mistake needs it

    close = difflib.get_close_matches(name.lower().replace("_", "-"), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""
