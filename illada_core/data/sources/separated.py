"""Tables of separated values, `.csv` and `.tsv`; their first row names the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial

from illada_core.data.sources.lines import BYTE_ORDER_MARK
from illada_core.data.sources.listing import Source
from illada_core.data.sources.reading import (
    CHUNK_BYTES,
    RECORD_BYTES,
    BrokenInput,
    Chunk,
    Fault,
    Meter,
    Texts,
    decoded_blocks,
    end_chunk,
    fault_chunk,
    missing_column,
    open_bytes,
    utf8_blocks,
    utf8_size,
)


def separated_chunks(number: int, source: Source, first: int, key: str) -> Iterator[Chunk]:
    """Yield the chunks of a table, from row `first` on (the first below the names is 0)."""
    csv.field_size_limit(RECORD_BYTES)
    with open_bytes(source) as file:
        meter = Meter(file)
        lines = kept_lines(decoded_blocks(utf8_blocks(meter, source)))
        row, fault = 0, None
        cells: list[str | None] = []
        try:
            rows = csv.reader(lines, "excel-tab" if is_tabbed(source) else "excel", strict=True)
            names = next(rows, [])
            if key not in names:
                fault = missing_column(number, key, names)
                rows = iter(())  # type: ignore[assignment]
            place = names.index(key) if key in names else 0
            for cell in rows:
                if not cell:
                    continue  # a blank line
                if row >= first:
                    cells.append(cell[place] if place < len(cell) else None)
                row += 1
                if cells and meter.bytes - meter.reported >= CHUNK_BYTES:
                    yield cells_chunk(cells, number, row, meter)
                    cells = []
        except (csv.Error, BrokenInput) as error:
            fault = Fault(number, row, "damaged", str(error), row + 1)
        while meter.read(CHUNK_BYTES):
            pass
        if cells:
            yield cells_chunk(cells, number, row, meter)
        if fault:
            yield fault_chunk(fault, meter.digest(number), meter.advance())
        else:
            yield end_chunk(meter.digest(number), meter.advance())


def is_tabbed(source: Source) -> bool:
    """Tell whether a table is separated by tabs, going by its name."""
    return source.path.lower().removesuffix(source.compression).endswith(".tsv")


def kept_lines(blocks: Iterator[str]) -> Iterator[str]:
    """Yield lines with their ends, as csv wants them: a quoted value may hold several."""
    held, is_first = "", True
    for block in blocks:
        if is_first:
            block, is_first = block.removeprefix(BYTE_ORDER_MARK), False
        *lines, held = (held + block).split("\n")
        yield from (line + "\n" for line in lines)
    if held:
        yield held


def cells_chunk(cells: list[str | None], number: int, after: int, meter: Meter) -> Chunk:
    """Return a chunk of the values of a column; the row behind them is `after`."""
    read = partial(read_cells, cells, number, after - len(cells))
    return Chunk(read, sum(len(cell or "") for cell in cells), meter.advance())


def read_cells(cells: list[str | None], number: int, row: int) -> Texts:
    """Take each value of a column as a document."""
    result = Texts()
    for record, cell in enumerate(cells, row):
        if cell is None:
            detail = "the row has no such column"
            result.faults.append(Fault(number, record, "no text", detail, record + 1))
        elif "\0" in cell:
            detail = "it holds a zero byte"
            result.faults.append(Fault(number, record, "binary", detail, record + 1))
        else:
            result.add(cell, number, record, utf8_size(cell))
    return result
