"""Rows as a Markdown table."""

from collections.abc import Iterable, Sequence


def render(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Return a table whose columns named in `right` stand right."""
    rule = ["---:" if name in right else "---" for name in header]
    lines = [header, rule, *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paper(identifier: str, text: str) -> str:
    """Return a link to an arXiv paper."""
    return f"[{text}](https://huggingface.co/papers/{identifier})"


def linked(text: str, address: str | None) -> str:
    """Return a link, or the text itself without an address."""
    return f"[{text}]({address})" if address else text
