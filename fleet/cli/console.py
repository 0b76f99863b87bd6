"""The console that all commands print tables and progress on."""

import errno
from collections.abc import Iterable

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from fleet.terminal import harmless_lines


class Console(rich.console.Console):
    """A rich console on which no text, whatever its source, controls the terminal or shows a key.

    Only rich's own control codes reach the terminal. Markup such as ``[bold]`` works in :meth:`print`, so text
    from outside is passed to :meth:`say`, or escaped with :func:`fleet.cli.show.shown`.

    Example:
        console = Console()
        console.say(f"starting {name} ...")
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, emoji=False)

    def say(self, text: str) -> None:
        """Print plain lines; nothing in them is markup. If the terminal has been closed, they are dropped, so that
        a command that ends a fleet can finish."""
        try:
            self.print(Text(text), soft_wrap=True)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render anything; see the class."""
        if isinstance(renderable, str):
            # As markup first: escaping would change what is markup.
            renderable = self.render_str(renderable, highlight=options.highlight if options else None)
        if isinstance(renderable, Text):
            renderable = _harmless_text(renderable)
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless_lines(segment.text), segment.style)


def _harmless_text(text: Text) -> Text:
    """The text as it is, or harmless and without the styles of its parts."""
    clean = harmless_lines(text.plain)
    if clean == text.plain:
        return text
    return Text(
        clean, text.style, justify=text.justify, overflow=text.overflow, no_wrap=text.no_wrap, end=text.end
    )
