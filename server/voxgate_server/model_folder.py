# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""What lies in the folder of models, read without ever leaving it.

`ROOT/<name>/<version>/model.onnx`, the data that it keeps in other files, and `config.yaml` beside
it or in `ROOT/<name>`. Links are followed if they end inside the root, and each file is then opened
component by component from the root with O_NOFOLLOW: turning a link between the check and the
opening leads to an error, not out.

A version is complete when nobody writes to it any more. There are three signs of that:

- two looks in a row find the same files: paths, inodes, sizes, times of change;
- its directory was renamed in: it came, as its own time of change says, after the last look, and
  every file in it was last changed before that look. (A file that is being copied into a new
  directory was changed after it; and who writes to a file can set back its `mtime`, not its
  `ctime`.) A single file that is renamed over another is not told from one that is being
  written, and waits for the second look;
- at the first look: nothing in it has changed for an interval between two looks, at least 2 s.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError

from voxgate_ops.errors import ModelError
from voxgate_ops.metadata import MAX_METADATA_BYTES, METADATA_KEY
from voxgate_ops.onnx_structure import parse_structure
from voxgate_ops.session import external_data
from voxgate_server.model_config import CONFIG_FILE, MAX_CONFIG_BYTES, ModelConfig, parse_config

MODEL_FILE = "model.onnx"
_MAX_MODEL_BYTES = (1 << 31) - 1  # protobuf parses no more

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
# The kernel stamps files with a clock that moves a few milliseconds at a time.
_STAMP_SLACK_NS = 50_000_000
# At the first look, the file system's clock may be another machine's.
_CLOCK_SLACK_NS = 2_000_000_000

Key: TypeAlias = tuple[str, int]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mark:
    """A file as one look found it: equal marks mean that nobody changed it in between."""

    target: str
    inode: tuple[int, int]
    size: int
    modified_ns: int
    changed_ns: int
    link_changed_ns: int

    @property
    def newest_ns(self) -> int:
        return max(self.modified_ns, self.changed_ns, self.link_changed_ns)


@dataclass(frozen=True, slots=True)
class Found:
    """One version in the folder at one look.

    `marks` are its files by their place below the root, None for one that is missing. `problem` is
    why it cannot be opened at all: a link that leads out, something that is no file.
    """

    name: str
    version: int
    folder: Path = Path()
    marks: dict[str, Mark | None] = field(default_factory=dict)
    appeared_ns: int = 0
    problem: str = ""

    @property
    def key(self) -> Key:
        return self.name, self.version

    @property
    def path(self) -> Path:
        """What the engine opens; every component but the last is free of links."""
        return self.folder / MODEL_FILE

    @property
    def newest_ns(self) -> int:
        return max((mark.newest_ns for mark in self.marks.values() if mark), default=0)

    def same_files(self, other: Found | None) -> bool:
        return (
            other is not None
            and (self.folder, self.marks) == (other.folder, other.marks)
            and self.problem == other.problem
        )


@dataclass(frozen=True, slots=True)
class Look:
    """All versions at one time. Those of `unreadable` names may be there or not.

    `root_problem` is why the folder of models itself cannot be read; "": it can.
    """

    at_ns: int
    versions: dict[Key, Found]
    unreadable: frozenset[str] = frozenset()
    root_problem: str = ""

    def hides(self, key: Key) -> bool:
        return bool(self.root_problem) or key[0] in self.unreadable


@dataclass(frozen=True, slots=True)
class Contents:
    """What the server must know of a version before an engine opens it."""

    found: Found
    config: ModelConfig


class Escape(ModelError):
    """A path that leads out of the folder of models."""


class ModelFolder:
    """Looks at the folder. All methods block on the disk; none may run twice at a time."""

    def __init__(self, root: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._given = root
        self._clock_ns = clock_ns
        self._odd: set[str] = set()
        self._unreadable: set[str] = set()
        self._root_complaint = ""
        # Which further files a model names, for the model.onnx that named them.
        self._external: dict[Key, tuple[Mark, tuple[str, ...]]] = {}

    def look(self) -> Look:
        """Find every version. What cannot be read is logged, never raised."""
        at_ns = self._clock_ns()
        odd: set[str] = set()
        unreadable: set[str] = set()
        versions: dict[Key, Found] = {}
        try:
            root = self._root()
            names = _folders(root)
        except OSError as error:
            self._complain_of_root(error)
            return Look(at_ns, {}, root_problem=str(error.strerror))
        self._root_complaint = ""
        for name in names:
            if not _NAME.fullmatch(name):
                odd.add(name)
                continue
            try:
                found = self._look_at_name(root, name, odd)
            except (OSError, ModelError) as error:
                if name not in self._unreadable:
                    log.error("model %s cannot be looked at and stays as it is: %s", name, error)
                unreadable.add(name)
                continue
            versions.update((item.key, item) for item in found)
        self._log_odd(odd)
        self._odd, self._unreadable = odd, unreadable
        for key in self._external.keys() - versions.keys():
            if key[0] not in unreadable:
                del self._external[key]
        return Look(at_ns, versions, frozenset(unreadable))

    def look_at(self, key: Key) -> Found | None:
        """Find one version; None if it is not there.

        Raises:
            OSError: the folder cannot be read.
        """
        name, version = key
        root = self._root()
        if not _may_be_there(root / name / str(version) / MODEL_FILE):
            return None
        return self._look_at_version(root, name, version)

    def inspect(self, found: Found) -> Contents:
        """Read what the server needs of a version; the result's marks have all its files.

        Whoever goes on with the result must look at its `problem` first.

        Raises:
            ModelError: a file is missing, broken or too large, or leads out of the folder.
        """
        if found.problem:
            raise ModelError(found.problem)
        root = self._root()
        place = f"{found.name}/{found.version}"
        config = self._config(root, f"{place}/{CONFIG_FILE}").over(
            self._config(root, f"{found.name}/{CONFIG_FILE}")
        )
        raw = self._read(root, f"{place}/{MODEL_FILE}", _MAX_MODEL_BYTES)
        model = _parse(raw, f"{place}/{MODEL_FILE}")
        _check_metadata(model, f"{place}/{MODEL_FILE}")
        external = {location for _, location in external_data(model)}
        for location in external:
            if os.path.isabs(location) or "\0" in location:
                raise Escape(f"{place}/{MODEL_FILE} keeps data in {location!r}, no relative path")
        mark = found.marks[f"{place}/{MODEL_FILE}"]
        if mark is not None:
            self._external[found.key] = (mark, tuple(sorted(external)))
        known = self._look_at_version(root, found.name, found.version)
        return Contents(replace(known, appeared_ns=found.appeared_ns), config)

    # Looking ------------------------------------------------------------------------------------

    def _root(self) -> Path:
        return Path(os.path.realpath(self._given, strict=True))

    def _look_at_name(self, root: Path, name: str, odd: set[str]) -> list[Found]:
        folder = _inside(root, root / name)
        found = []
        for version in _folders(folder):
            if not _may_be_there(folder / version / MODEL_FILE):
                continue
            if _VERSION.fullmatch(version):
                found.append(self._look_at_version(root, name, int(version)))
            else:
                odd.add(f"{name}/{version}")
        return sorted(found, key=lambda item: item.version)

    def _look_at_version(self, root: Path, name: str, version: int) -> Found:
        place = f"{name}/{version}"
        entry = root / place
        try:
            appeared_ns = os.lstat(entry).st_ctime_ns
            folder = _inside(root, entry)
            marks: dict[str, Mark | None] = {}
            model = self._mark(root, f"{place}/{MODEL_FILE}")
            marks[f"{place}/{MODEL_FILE}"] = model
            for config in (f"{name}/{CONFIG_FILE}", f"{place}/{CONFIG_FILE}"):
                if os.path.lexists(root / config):
                    marks[config] = self._mark(root, config)
            known = self._external.get((name, version))
            if known is not None and known[0] == model:
                marks.update((f"{place}/{p}", self._mark(root, f"{place}/{p}")) for p in known[1])
        except ModelError as error:
            return Found(name, version, problem=str(error))
        except OSError as error:
            return Found(name, version, problem=f"{place} cannot be looked at: {error.strerror}")
        return Found(name, version, folder, marks, appeared_ns)

    def _mark(self, root: Path, place: str) -> Mark | None:
        """The mark of a file; None if there is none.

        Raises:
            ModelError: it is outside the root, or no regular file.
        """
        path = root / place
        try:
            link = os.lstat(path)
            target = _inside(root, path)
            seen = os.stat(target, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(seen.st_mode):
            raise ModelError(f"{place} is no regular file")
        return Mark(
            str(target),
            (seen.st_dev, seen.st_ino),
            seen.st_size,
            seen.st_mtime_ns,
            seen.st_ctime_ns,
            link.st_ctime_ns,
        )

    def _complain_of_root(self, error: OSError) -> None:
        complaint = f"{self._given} cannot be read, its models stay as they are: {error.strerror}"
        if complaint != self._root_complaint:
            log.warning("%s", complaint)
        self._root_complaint = complaint

    def _log_odd(self, odd: set[str]) -> None:
        for name in sorted(odd - self._odd):
            if "/" in name:
                rule = "a version is a whole number from 1, without leading zeros"
            else:
                rule = "a name is 1 to 128 of A-Z a-z 0-9 . _ - and starts with a letter or digit"
            log.warning("%s: %.200r is skipped: %s", self._given, name, rule)

    # Reading ------------------------------------------------------------------------------------

    def _config(self, root: Path, place: str) -> ModelConfig:
        if not os.path.lexists(root / place):
            return ModelConfig()
        return parse_config(self._read(root, place, MAX_CONFIG_BYTES), place)

    def _read(self, root: Path, place: str, limit: int) -> bytes:
        """The bytes of a file in the folder.

        Raises:
            ModelError: it is missing, unreadable, over `limit` bytes or leads out of the folder.
        """
        try:
            with open(_open_inside(root, _inside(root, root / place)), "rb") as file:
                seen = os.fstat(file.fileno())
                if not stat.S_ISREG(seen.st_mode):
                    raise ModelError(f"{place} is no regular file")
                raw = b"" if seen.st_size > limit else file.read(limit + 1)
        except OSError as error:
            raise ModelError(f"{place} cannot be read: {error.strerror}") from error
        size = max(seen.st_size, len(raw))
        if size > limit:
            raise ModelError(f"{place}: {size} bytes, the limit is {limit}")
        return raw


def valid_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def parse_version(version: str) -> int | None:
    """The number of a version as clients write it; None if it is none."""
    return int(version) if _VERSION.fullmatch(version) else None


def complete(found: Found, last: Look) -> bool:
    """Whether nobody has written to `found` since `last`; see the module's text."""
    before = last.versions.get(found.key)
    if found.same_files(before):
        return True
    if before is not None or last.hides(found.key) or found.problem:
        return False
    since_ns = last.at_ns - _STAMP_SLACK_NS
    return found.newest_ns < since_ns <= found.appeared_ns


def at_rest(found: Found, now_ns: int, interval: float) -> bool:
    """Whether nothing of `found` has changed for `interval` s, with room for clocks that differ."""
    quiet_ns = max(int(interval * 1e9), _CLOCK_SLACK_NS)
    return bool(found.problem) or found.newest_ns < now_ns - quiet_ns


def _folders(parent: Path) -> list[str]:
    # What begins with a dot is somebody's staging area; a file is nobody's model.
    with os.scandir(parent) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".") and (entry.is_symlink() or entry.is_dir())
        )


def _may_be_there(path: Path) -> bool:
    """False only where it is certain: a folder that may not be entered is no empty one."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _inside(root: Path, path: Path) -> Path:
    """`path` without links.

    Raises:
        Escape: it leads out of `root`.
        FileNotFoundError: it leads nowhere.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
    except FileNotFoundError:
        # A link that leads out and nowhere leads out.
        real = Path(os.path.realpath(path))
        if real.is_relative_to(root):
            raise
    except OSError as error:  # a circle of links
        raise ModelError(f"{path.relative_to(root)}: {error.strerror}") from error
    if not real.is_relative_to(root):
        raise Escape(f"{path.relative_to(root)} leads out of the folder of models, to {real}")
    return real


def _open_inside(root: Path, path: Path) -> int:
    """Open a file whose `path` is free of links, and stays so: every component is checked anew."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    *parents, last = path.relative_to(root).parts
    try:
        for part in parents:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner = os.open(part, flags, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe in the place of the file must not hold us up.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(last, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _parse(raw: bytes, place: str) -> onnx.ModelProto:
    try:
        return parse_structure(raw)
    except DecodeError as error:
        raise ModelError(f"{place} ({len(raw)} bytes) is not an ONNX model: {error}") from error


def _check_metadata(model: onnx.ModelProto, place: str) -> None:
    for entry in model.metadata_props:
        size = len(entry.value.encode())
        if entry.key == METADATA_KEY and size > MAX_METADATA_BYTES:
            raise ModelError(
                f"{place}: its metadata {METADATA_KEY!r} has {size} bytes, the limit is "
                f"{MAX_METADATA_BYTES}"
            )
