"""Figures for people at a terminal."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    """Return a table with a column for each key, the first one left-justified."""
    from rich.table import Table

    out = Table(title=title, title_justify='left')
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        out.add_column(column, justify='left' if column == columns[0] else 'right')
    for row in rows:
        out.add_row(*(_cell(row.get(column, '')) for column in columns))
    return out


def _cell(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
