"""How results are printed: JSON, YAML, and kubectl's kind of table. Pure."""

import json
from collections.abc import Sequence
from typing import Any

GAP = "   "


def as_json(value: Any) -> str:
    """Indented as kubectl's `-o json`."""
    return json.dumps(value, indent=4, ensure_ascii=False)


def as_yaml(value: Any) -> str:
    """Block style, keys in the order they have."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip("\n")


def as_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, three spaces apart, no trailing spaces; just the heads when there are no rows."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = (GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))
    return "\n".join(line.rstrip() for line in lines)
