"""The matrix as text: a row for each client, and below what is neither a plain yes nor a plain no."""

from clients import CELLS

Row = dict[str, str]
HEADER = """\
What each client does through the gateway. "ok": an answer was shown as the server made it; a limit that is reached and a
wrong key ended the client within 10 seconds with our sentence. The charges of each client equal what the server produced.

"""


def text(rows: dict[str, Row]) -> str:
    """Rows by client."""
    first = max(map(len, rows), default=0)
    width = max(map(len, CELLS))
    lines = ["  ".join([" " * first, *(cell.ljust(width) for cell in CELLS)]).rstrip()]
    notes = []
    for client, row in rows.items():
        short = [row.get(cell, "").partition(": ")[0].ljust(width) for cell in CELLS]
        lines.append("  ".join([client.ljust(first), *short]).rstrip())
        notes += [f"{client}, {cell}: {row[cell]}" for cell in CELLS if ": " in row.get(cell, "")]
    return HEADER + "\n".join([*lines, "", *notes]) + "\n"


def parsed(text: str) -> dict[str, Row]:
    """The same, back."""
    lines = text.removeprefix(HEADER).splitlines()
    blank = lines.index("")
    starts = [lines[0].index(cell) for cell in CELLS]
    rows: dict[str, Row] = {}
    for line in lines[1:blank]:
        cells = [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
        rows[line[: starts[0]].strip()] = dict(zip(CELLS, cells, strict=True))
    for note in lines[blank + 1 :]:
        for client, row in rows.items():
            for cell in CELLS:
                if note.startswith(f"{client}, {cell}: "):
                    row[cell] = note.removeprefix(f"{client}, {cell}: ")
    return rows
