"""A search's file of JSON lines: a header that identifies the search, then a row per trial, written as it ends.

Each line is written at once. A killed search leaves all completed rows and at most one truncated line, which is removed
on resuming.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from minidl.search.trial import Row
from minidl.shared.files import FilePath

_VERSION = {"minidl search": 1}


class SearchError(ValueError):
    """A search cannot resume from a file; the message names it and says why."""


class Journal:
    """The rows of a search, and the file that keeps them, if any.

    path      the file, or None;  header: identifies the search
    resume    continue from the file if it exists; else an existing file raises FileExistsError

    SearchError: not a file of this search. OSError: it cannot be read or written.
    """

    def __init__(self, path: FilePath | None, header: Mapping[str, Any], resume: bool) -> None:
        self.rows: list[Row] = []
        self._file = None
        if path is None:
            return
        mine = json.loads(json.dumps({**_VERSION, **header}))
        # Append mode, so that nothing written by others is lost.
        file = open(path, "ab+")  # noqa: SIM115 (closed by close())
        try:
            file.seek(0)
            content = file.read()
            if content and not resume:
                raise FileExistsError(f"{os.fspath(path)}: there is a search already; resume it, or name another file")
            whole = content[: content.rfind(b"\n") + 1]
            if content and not (whole or mine_begins(content)):
                raise SearchError(f"{os.fspath(path)}: expected a search's file, found another")
            if whole:
                self.rows = _read(os.fspath(path), whole, mine)
            file.truncate(len(whole))
        except BaseException:
            file.close()
            raise
        self._file = file
        if not whole:
            self._write(mine)

    def add(self, row: Row) -> None:
        """Record a row."""
        self.rows.append(row)
        if self._file is not None:
            self._write(asdict(row))

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(f"{json.dumps(line, allow_nan=False)}\n".encode())
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def mine_begins(content: bytes) -> bool:
    """Whether these bytes, perhaps truncated, start a first line of ours."""
    start = json.dumps(_VERSION).encode()[:-1]
    return content.startswith(start) or start.startswith(content)


def _read(path: str, content: bytes, mine: dict[str, Any]) -> list[Row]:
    first, *lines = content.splitlines()
    header = _parsed(first)
    if not isinstance(header, dict) or not header.keys() >= _VERSION.keys():
        raise SearchError(f"{path}: expected a search's file, found another")
    for name in (*mine, *header):
        # As text, since the order of parameters matters: values are drawn in it.
        asked, found = (json.dumps(of.get(name)) for of in (mine, header))
        if asked != found:
            raise SearchError(f"{path}: expected a search with {name} {asked:.200}, found one with {found:.200}")
    return [_row(path, number, line) for number, line in enumerate(lines, 2)]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _row(path: str, number: int, line: bytes) -> Row:
    found = _parsed(line)
    try:
        row = Row(**found)
        whole = isinstance(row.trial, int) and row.trial >= 0 and isinstance(row.budget, int | None)
        told = isinstance(row.settings, dict) and isinstance(row.seconds, int | float)
        value = isinstance(row.error, str) if row.value is None else isinstance(row.value, int | float)
        good = whole and told and value and math.isfinite(row.value or 0)
    except TypeError:
        good = False
    if not good:
        raise SearchError(f"{path}, line {number}: expected a trial's row, found {line.decode(errors='replace'):.80}")
    return row
