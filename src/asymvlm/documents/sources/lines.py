"""Lines of JSON in files as people have them: BOM, gzip, U+2028 inside of a text, broken lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DataError
from .records import FileRecords

_GZIP = b"\x1f\x8b"


def is_lines(file: Path) -> bool:
    """Return whether a file's name says that it holds lines of JSON."""
    return file.name.lower().endswith((".jsonl", ".jsonl.gz"))


def read_bytes(file: Path) -> bytes:
    """Read a file, unpacked where it is gzip, without a byte order mark.

    Raises DataError where it cannot be read.
    """
    try:
        content = file.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError) as error:
        raise DataError(f"path: {file} cannot be read ({error})") from error
    return content.removeprefix(b"\xef\xbb\xbf")


def add_lines(records: FileRecords, file: Path) -> None:
    """Add the record on each line of a file; the line's number names it."""
    for number, line in enumerate(_lines(read_bytes(file)), start=1):
        name = f"{file.name}:{number}"
        if not line.strip():
            continue
        try:
            record = _parsed(line)
        except ValueError as error:
            records.table.report.skip(name, str(error), str(file))
            continue
        records.add(record, name, file)


def _lines(content: bytes) -> Iterator[bytes]:
    """Split at line feeds alone: other separators of Unicode may stand within a text."""
    return iter(content.split(b"\n"))


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 (byte 0x{line[error.start]:02x} at {error.start}); store the file so"
        ) from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
