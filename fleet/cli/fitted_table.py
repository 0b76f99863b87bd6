"""A table that leaves out columns where the terminal is too narrow for all of them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rich.console import ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
#: The last column is shown where it has at least this many cells.
_MIN_REST = 24


@dataclass(frozen=True)
class FittedTable:
    """Cells by column. The last column takes the width that the others leave, and wraps; no other one is cut.

    Columns are left out in the order of ``droppable`` until the rest fits. Where the last one is left out, the
    lines ``below`` follow the table.
    """

    columns: dict[str, list[Text]]
    droppable: Sequence[str]
    right: Collection[str] = ()
    below: Sequence[str] = field(default_factory=list)

    def __rich_console__(self, console: object, options: ConsoleOptions) -> RenderResult:
        """What rich prints."""
        shown = self.shown(options.max_width)
        last = [*self.columns][-1]
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in shown:
            right = name in self.right
            table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name != last)
        for row in zip(*(self.columns[name] for name in shown), strict=True):
            table.add_row(*row)
        yield table
        if last not in shown:
            yield from (Text(line) for line in self.below)

    def shown(self, width: int) -> list[str]:
        """The columns that a terminal of this many cells shows."""
        shown = [*self.columns]
        for name in self.droppable:
            if self._width(shown) <= width:
                break
            shown.remove(name)
        return shown

    def _width(self, shown: list[str]) -> int:
        last = [*self.columns][-1]
        widths = [_MIN_REST if name == last else self._natural(name) for name in shown]
        return sum(widths) + _GAP * (len(widths) - 1)

    def _natural(self, name: str) -> int:
        lines = [line for cell in self.columns[name] for line in cell.split("\n")]
        return max([len(name), *(line.cell_len for line in lines)])
