# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Small files that make up one value, taken over anew when they change and make sense."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from voxgate_server.errors import StartupError

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_BYTES = 16 << 20
# What one look found: every file's bytes, or why they cannot be read.
_Look = tuple[bytes, ...] | str


class ReloadedFiles(Generic[T]):
    """The value that `parse` makes of some files, and the last good one while they are broken.

    Contents are compared, not times of change: these files are small, and a link that is turned
    to other files, as cluster secrets are, changes no time. A change is taken over when two looks
    in a row find the same, because the first half of a list of tokens is a list of tokens.

    Args:
        what: names the value in messages.
        paths: the files; messages name them, never what is in them.
        parse: makes the value of their bytes; raises ValueError with the reason it cannot, which
            must quote nothing secret.
        private: those of the files that others should not be able to read.

    Raises:
        StartupError: the files cannot be read or parsed, or everyone may write to one.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        parse: Callable[[Sequence[bytes]], T],
        private: Sequence[Path] = (),
    ) -> None:
        self._what = what
        self._paths = tuple(paths)
        self._parse = parse
        self._private = frozenset(private)
        look = self._look()
        if isinstance(look, str):
            raise StartupError(f"{what}: {look}")
        try:
            self.value = self._take(look)
        except (ValueError, OSError) as error:
            raise StartupError(f"{what}: {error}") from None
        self._accepted: _Look = look
        self._last: _Look = look
        self._refused: _Look | None = None

    def poll(self) -> bool:
        """Look once; true if `value` is a new one. Never raises: a broken change is logged once."""
        look = self._look()
        last, self._last = self._last, look
        if look == self._accepted:
            self._refused = None
            return False
        if look != last or look == self._refused:
            return False
        try:
            if isinstance(look, str):
                raise ValueError(look)
            self.value = self._take(look)
        except (ValueError, OSError) as error:
            self._refused = look
            log.error("%s changed but stays as it was: %s", self._what, error)
            return False
        self._accepted, self._refused = look, None
        log.info("%s reloaded from %s", self._what, self._names)
        return True

    @property
    def _names(self) -> str:
        return ", ".join(str(path) for path in self._paths)

    def _look(self) -> _Look:
        contents = []
        for path in self._paths:
            try:
                with path.open("rb") as file:
                    mode = os.fstat(file.fileno()).st_mode
                    contents.append(file.read(_MAX_BYTES + 1))
            except OSError as error:
                return f"{path}: {error.strerror or error}"
            if len(contents[-1]) > _MAX_BYTES:
                return f"{path}: larger than {_MAX_BYTES >> 20} MiB"
            if mode & stat.S_IWOTH:
                return (
                    f"{path}: every user of this machine may write to it, so anyone could let "
                    f"themselves in: chmod o-w {path}"
                )
        return tuple(contents)

    def _take(self, look: tuple[bytes, ...]) -> T:
        value = self._parse(look)
        # Whatever `parse` did with the files themselves, it saw the same bytes.
        if self._look() != look:
            raise ValueError(f"{self._names}: changed while being read")
        for path in self._private:
            if os.stat(path).st_mode & stat.S_IROTH:
                log.warning("%s: every user of this machine may read it: chmod o-r %s", path, path)
        return value
