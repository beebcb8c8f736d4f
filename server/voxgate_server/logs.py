# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Log lines: text for people or one JSON object a line, with the record's extra fields.

What a client chose (ids, names, messages with its values) may stand in any message or field: it is
escaped and cut here, so that it can neither forge a line nor flood the log.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TextIO

from voxgate_server.errors import Outcome, RequestError, outcome_of, status_code
from voxgate_server.settings import Settings

MAX_MESSAGE = 4096
MAX_VALUE = 512
MAX_TRACEBACK = 16_384
# Of one stream; the others are counted in the line that closes it.
MAX_LOGGED_FRAME_ERRORS = 10

_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_JSON_FIELDS = frozenset({"ts", "level", "logger", "message", "exc_info", "stack_info"})


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every logger's lines to `stream` (default: stderr) in the settings' format and level."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


class TextFormatter(logging.Formatter):
    """`2026-01-31T09:15:00.123Z INFO voxgate_server.app: stream closed stream=7 code=OK`."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_time(record)} {record.levelname} {record.name}: {_message(record)}"
        pairs = [f" {name}={_quoted(value)}" for name, value in _extra(record).items()]
        # Below their line, indented: no line of a traceback looks like a record.
        below = [f"    {escape(line)}" for line in self._trace(record).splitlines()]
        return "\n".join([head + "".join(pairs), *below])

    def _trace(self, record: logging.LogRecord) -> str:
        return "\n".join(text for text in _traces(self, record).values())


class JsonFormatter(logging.Formatter):
    """`ts` (RFC 3339, UTC), `level`, `logger`, `message`, extra fields, `exc_info` as a string."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        for name, value in _extra(record).items():
            line[f"{name}_" if name in _JSON_FIELDS else name] = value
        return json.dumps(line | _traces(self, record))


def escape(text: str, limit: int = MAX_VALUE) -> str:
    """`text` without control or invisible characters, at most `limit` characters of it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    return escape(record.getMessage(), MAX_MESSAGE)


def _extra(record: logging.LogRecord) -> dict[str, str | int | float | bool | None]:
    return {
        name: _scalar(value) for name, value in vars(record).items() if name not in _RECORD_FIELDS
    }


def _scalar(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return round(value, 6)
    return escape(str(value))


def _quoted(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    plain = text and not any(character in ' "=\\' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _traces(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    traces: dict[str, str] = {}
    if record.exc_info:
        # The end says what happened.
        traces["exc_info"] = formatter.formatException(record.exc_info)[-MAX_TRACEBACK:]
    if record.stack_info:
        traces["stack_info"] = formatter.formatStack(record.stack_info)[-MAX_TRACEBACK:]
    return traces


class StreamLog:
    """One line when a stream opens, one with its totals when it closes, some of its errors between.

    `fields` are on all of them: who the client is (never its secret), model, version.
    """

    def __init__(self, log: logging.Logger, now: float, **fields: object) -> None:
        self._log = log
        self._opened_at = now
        self._fields = fields
        self._outcomes: Counter[str] = Counter()
        self._logged_errors = 0
        self.received_bytes = 0
        self.sent_bytes = 0

    def opened(self, **fields: object) -> None:
        """The stream's `open` was accepted; `fields` are added to this line and the later ones."""
        self._fields |= fields
        self._log.info("stream opened", extra=self._fields)

    def answered(self) -> None:
        """A frame's result was written."""
        self._outcomes["ok"] += 1

    def counted(self, outcome: Outcome) -> None:
        """A frame that got no answer, as its call had ended."""
        self._outcomes[outcome] += 1

    def failed(self, frame_id: str, error: RequestError) -> None:
        """A frame was answered by `error`."""
        outcome = outcome_of(error)
        self._outcomes[outcome] += 1
        if self._logged_errors == MAX_LOGGED_FRAME_ERRORS:
            return
        self._logged_errors += 1
        level, trace = (logging.ERROR, error) if outcome == "failed" else (logging.INFO, None)
        extra = self._fields | {"frame_id": frame_id, "code": status_code(error).name}
        self._log.log(level, "frame failed: %s", error, extra=extra, exc_info=trace)
        if self._logged_errors == MAX_LOGGED_FRAME_ERRORS:
            self._log.info("further errors of this stream are only counted", extra=self._fields)

    def closed(self, code: str, now: float) -> None:
        """The stream ended with this gRPC code's name; `now` is monotonic, in seconds."""
        totals = {
            "code": code,
            "seconds": now - self._opened_at,
            "frames": self._outcomes.total(),
            **self._outcomes,
            "received_bytes": self.received_bytes,
            "sent_bytes": self.sent_bytes,
        }
        self._log.info("stream closed", extra=self._fields | totals)
