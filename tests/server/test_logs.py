# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""Log lines in both formats, what hostile values become in them, and the lines of a stream."""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgate_server import logs
from voxgate_server.errors import InternalError, InvalidFrame, Overloaded
from voxgate_server.settings import Settings

Lines = Callable[[], list[str]]
log = logging.getLogger("voxgate_server.test")


@pytest.fixture(autouse=True)
def the_loggers_as_they_were() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(**settings: Any) -> Lines:
    stream = io.StringIO()
    logs.configure_logging(Settings(**settings), stream)
    return lambda: stream.getvalue().splitlines()


def objects(**settings: Any) -> Callable[[], list[dict[str, Any]]]:
    written = lines(log_format="json", **settings)
    return lambda: [json.loads(line) for line in written()]


def test_text_has_time_level_logger_message_and_fields() -> None:
    written = lines()
    log.warning("slow by %d s", 3, extra={"model": "pillars", "seconds": 0.25, "pinned": True})
    (line,) = written()
    moment, rest = line.split(" ", 1)
    assert datetime.fromisoformat(moment).tzinfo is not None and moment.endswith("Z")
    assert rest == (
        "WARNING voxgate_server.test: slow by 3 s model=pillars seconds=0.25 pinned=True"
    )


def test_json_has_the_same_as_one_object() -> None:
    written = objects()
    log.warning("slow by %d s", 3, extra={"model": "pillars", "seconds": 0.25, "version": None})
    (line,) = written()
    assert datetime.fromisoformat(line.pop("ts")).tzinfo is not None
    assert line == {
        "level": "warning",
        "logger": "voxgate_server.test",
        "message": "slow by 3 s",
        "model": "pillars",
        "seconds": 0.25,
        "version": None,
    }


def test_a_field_does_not_replace_what_every_line_has() -> None:
    written = objects()
    log.info("hello", extra={"level": "forged", "ts": 1})
    (line,) = written()
    assert line["level"] == "info" and line["level_"] == "forged" and line["ts_"] == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, object, [1, "\n"], b"\xff", "\ud800"])
def test_odd_values_are_valid_json(value: object) -> None:
    written = objects()
    log.info("odd", extra={"value": value})
    (line,) = written()
    assert isinstance(line["value"], str)


def test_the_level_holds_for_every_logger() -> None:
    written = lines(log_level="error")
    logging.getLogger("grpc").warning("not shown")
    log.error("shown")
    assert len(written()) == 1


def test_configuring_again_replaces() -> None:
    first = lines()
    second = lines()
    log.info("once")
    assert not first() and len(second()) == 1


def test_warnings_are_logged() -> None:
    written = lines()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    (line,) = written()
    assert "py.warnings" in line and "DeprecationWarning: old" in line


@pytest.mark.parametrize("log_format", ["text", "json"])
@given(text=st.text())
def test_no_client_can_forge_a_line(log_format: str, text: str) -> None:
    written = lines(log_format=log_format)
    log.error("frame %s", text, extra={"frame_id": text})
    assert len(written()) == 1
    assert all(character.isprintable() for character in written()[0])


def test_hostile_values_are_quoted_and_cut() -> None:
    written = lines()
    log.info("m" * 10_000, extra={"a": "x code=OK", "b": "\x1b[2J", "c": "y" * 10_000, "d": ""})
    (line,) = written()
    assert ' a="x code=OK" ' in line
    assert r' b="\\x1b[2J" ' in line
    assert " c=" + "y" * 511 + "… " in line and line.endswith('d=""')
    assert len(line) < logs.MAX_MESSAGE + logs.MAX_VALUE + 200


def failing(message: str) -> None:
    raise ValueError(message)


def test_a_traceback_stands_below_its_line_indented() -> None:
    written = lines()
    try:
        failing("first\n2026-01-01T00:00:00.000Z INFO forged: line")
    except ValueError:
        log.exception("it failed")
    first, *below = written()
    assert first.endswith("ERROR voxgate_server.test: it failed")
    assert "Traceback" in below[0] and any("in failing" in line for line in below)
    assert all(line.startswith("    ") for line in below)


def test_a_traceback_is_a_string_in_json() -> None:
    written = objects()
    try:
        failing("bad\nvalue")
    except ValueError:
        log.exception("it failed", stack_info=True)
    (line,) = written()
    assert line["exc_info"].startswith("Traceback") and "bad\nvalue" in line["exc_info"]
    assert "test_logs.py" in line["stack_info"]


def test_a_stream_has_a_line_when_it_opens_and_one_with_totals_when_it_closes() -> None:
    written = objects()
    stream = logs.StreamLog(log, 100.0, stream=7, client="robot-3")
    stream.opened(model="pillars", version="2")
    for _ in range(3):
        stream.answered()
    stream.failed("f-4", InvalidFrame("coords: 3 bytes"))
    stream.received_bytes += 1000
    stream.sent_bytes += 20
    stream.closed("OK", 102.5)
    opened, failed, closed = written()
    who = {"stream": 7, "client": "robot-3", "model": "pillars", "version": "2"}
    assert opened["message"] == "stream opened" and opened.items() >= who.items()
    assert failed["message"] == "frame failed: coords: 3 bytes" and failed["level"] == "info"
    assert failed.items() >= (who | {"frame_id": "f-4", "code": "INVALID_ARGUMENT"}).items()
    totals = {
        "message": "stream closed",
        "code": "OK",
        "seconds": 2.5,
        "frames": 4,
        "ok": 3,
        "invalid": 1,
        "received_bytes": 1000,
        "sent_bytes": 20,
    }
    assert closed.items() >= (who | totals).items()


def test_a_stream_refused_before_its_open_has_only_the_closing_line() -> None:
    written = objects()
    logs.StreamLog(log, 5.0, client="robot-3").closed("UNAUTHENTICATED", 5.0)
    (line,) = written()
    assert line["code"] == "UNAUTHENTICATED" and line["frames"] == 0


def test_a_failing_model_is_an_error_with_its_traceback() -> None:
    written = objects()
    stream = logs.StreamLog(log, 0.0)
    try:
        raise InternalError("the model failed") from ValueError("shapes")
    except InternalError as error:
        stream.failed("f", error)
    (line,) = written()
    assert line["level"] == "error" and line["code"] == "INTERNAL"
    assert "ValueError: shapes" in line["exc_info"]


def test_a_flood_of_bad_frames_does_not_flood_the_log() -> None:
    written = objects()
    stream = logs.StreamLog(log, 0.0)
    for index in range(1000):
        stream.failed(str(index), Overloaded("full"))
    stream.closed("CANCELLED", 1.0)
    *errors, last_words, closed = written()
    assert len(errors) == logs.MAX_LOGGED_FRAME_ERRORS
    assert last_words["message"] == "further errors of this stream are only counted"
    assert closed["overloaded"] == closed["frames"] == 1000
