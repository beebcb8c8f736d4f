# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Bearer tokens: made, hashed, listed in a file, and found again in a call's metadata.

A token is 256 bits from the system's random generator, so its plain SHA-256 is what a file may
keep: there is nothing to guess that a slow hash (bcrypt, Argon2) would slow down, and that hash
would cost every call a tenth of a second.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from voxgate_server.errors import Unauthenticated
from voxgate_server.reloaded_files import ReloadedFiles

HEADER = "authorization"
EXPECTED = f"expected the metadata `{HEADER}: Bearer TOKEN`"
# By this a token is recognised where it should not be: in a log, in a repository.
PREFIX = "vxg_"

T = TypeVar("T")
Metadata = Iterable[tuple[str, str | bytes]]


def new_token() -> str:
    """A token of 256 random bits, safe in a URL and on a command line."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """The SHA-256 of `token` in hexadecimal, as the file of tokens lists it."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def bearer_token(metadata: Metadata) -> str:
    """The token in a call's metadata.

    Raises:
        Unauthenticated: there is none, more than one, or another kind of credential.
    """
    values = [value for key, value in metadata if key == HEADER]
    if len(values) != 1:
        raise Unauthenticated(f"{EXPECTED} once, got it {len(values)} times")
    value = values[0].decode("latin-1") if isinstance(values[0], bytes) else values[0]
    scheme, _, token = value.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(f"{EXPECTED}, got another kind of credential")
    return token.strip()


def _printable(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("must be printable, without spaces around it")
    if name.startswith(PREFIX):
        raise ValueError("is a token, and names are logged")
    return name


class TokenEntry(BaseModel):
    """One token of the file: whose it is and what it may use; None: what every client may."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[
        str, StringConstraints(min_length=1, max_length=128), AfterValidator(_printable)
    ]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(repr=False)
    models: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    max_priority: Annotated[int, Field(strict=True, ge=-(1 << 31), lt=1 << 31)] | None = None
    max_streams: Annotated[int, Field(strict=True, ge=1)] | None = None
    max_in_flight_bytes: Annotated[ByteSize, Field(ge=1)] | None = None


class TokenFile(Generic[T]):
    """The tokens of a YAML (or JSON) file, taken over anew when it changes.

    The file is a list of entries, each with the keys of `TokenEntry`; `make` turns each into
    what `find` is to answer.

    Raises:
        StartupError: the file cannot be read, or is not such a list.
    """

    def __init__(self, path: Path, make: Callable[[TokenEntry], T]) -> None:
        def parse(contents: Sequence[bytes]) -> dict[bytes, T]:
            entries = parse_tokens(contents[0], str(path))
            return {bytes.fromhex(entry.sha256): make(entry) for entry in entries}

        self._files = ReloadedFiles("list of tokens", [path], parse, private=[path])

    def poll(self) -> bool:
        """Look for a changed file; true if its tokens are now in use."""
        return self._files.poll()

    def find(self, token: str) -> T | None:
        """What `make` gave for `token`, in a time that does not tell how much of a hash agreed."""
        digest = bytes.fromhex(hash_token(token))
        found: T | None = None
        for listed, made in self._files.value.items():
            if hmac.compare_digest(listed, digest):
                found = made  # and on: where in the list it stands shall not be told either
        return found

    def find_hash(self, sha256: str) -> T | None:
        """What `find` would give for the token with this hash, which no client sent."""
        return self._files.value.get(bytes.fromhex(sha256))


def parse_tokens(raw: bytes, source: str) -> list[TokenEntry]:
    """The entries of a file of tokens; `source` names it in messages.

    Raises:
        ValueError: it is no list of entries, or two have one name or one token. The message
            quotes no values, because a token pasted in place of its hash is one of them.
    """
    try:
        listed: Any = yaml.load(raw, _Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ValueError(f"{source}{where}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ValueError(f"{source}: not YAML") from None
    if not isinstance(listed, list) or not listed:
        raise ValueError(
            f"{source}: expected a list with at least one token, each an entry as "
            "`voxgate token` prints it"
        )
    entries: list[TokenEntry] = []
    for index, item in enumerate(listed):
        try:
            entries.append(TokenEntry.model_validate(item))
        except ValidationError as error:
            raise ValueError(f"{source}: {_first_problem(index, item, error)}") from None
    for key in ("name", "sha256"):
        seen: dict[str, int] = {}
        for index, entry in enumerate(entries):
            first = seen.setdefault(getattr(entry, key), index)
            if first != index:
                raise ValueError(
                    f"{source}: tokens {first + 1} and {index + 1} have the same {key}: "
                    f"each needs its own"
                )
    return entries


def _first_problem(index: int, item: object, error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    name = item.get("name") if isinstance(item, dict) else None
    whose = f" ({name})" if isinstance(name, str) and _may_be_shown(name) else ""
    place = f"token {index + 1}{whose}"
    for part in first["loc"]:
        place += f": {part}" if _may_be_shown(str(part)) else ": (a token)"
    if first["type"] == "extra_forbidden":
        return f"{place}: unknown key, known are {', '.join(TokenEntry.model_fields)}"
    if not isinstance(item, dict):
        return f"{place}: expected keys with values, such as name: robot-7"
    return f"{place}: {first['msg']}"


def _may_be_shown(text: str) -> bool:
    return text.isprintable() and PREFIX not in text


class _Loader(yaml.SafeLoader):
    """Refuses a key given twice, of which YAML would keep the last: it is a forgotten `- `."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                mark = node.value[index][0].start_mark
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} is given twice in one entry", mark
                )
        return super().construct_mapping(node, deep)
