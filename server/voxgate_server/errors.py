# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The server's errors and the one table from them to gRPC codes and counted outcomes."""

from __future__ import annotations

from typing import Literal

import grpc

from voxgate_ops.errors import VoxgateError

Outcome = Literal[
    "ok",
    "invalid",
    "deadline",
    "superseded",
    "overloaded",
    "cancelled",
    "unavailable",
    "failed",
]


class ServerError(VoxgateError):
    """Base of everything the server raises on purpose."""


class StartupError(ServerError):
    """The server cannot start: a port in use, no models."""


class RequestError(ServerError):
    """Base of the errors that answer a frame or end a call; each has a row in `_STATUS`."""


class InvalidRequest(RequestError):
    """A call that asks for something impossible: a bad `open`, an unparsable message."""


class InvalidFrame(RequestError):
    """A frame whose bytes, counts, values or sites are not what the model takes."""


class DuplicateFrame(RequestError):
    """A frame id that is still unanswered on the same stream."""


class ModelNotFound(RequestError):
    """No such model or version, or none that is ready."""


class Unauthenticated(RequestError):
    """A call whose credential is missing or unknown."""


class Overloaded(RequestError):
    """A bounded queue is full, or a client has all it may have."""


class ModelLimitExceeded(RequestError):
    """A frame that would make the model's own tensors larger than the operators allow."""


class DeadlineExceeded(RequestError):
    """A frame that could not start, or did not arrive completely, in time."""


class Superseded(RequestError):
    """A waiting frame that a newer one of its stream replaced."""


class FrameCancelled(RequestError):
    """A frame that its client took back."""


class Draining(RequestError):
    """A frame that came, or was unfinished, when the server stopped."""


class InternalError(RequestError):
    """The model, or the server itself, failed on a frame that had passed every check."""


_STATUS: dict[type[RequestError], tuple[grpc.StatusCode, Outcome]] = {
    InvalidRequest: (grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
    InvalidFrame: (grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
    DuplicateFrame: (grpc.StatusCode.ALREADY_EXISTS, "invalid"),
    ModelNotFound: (grpc.StatusCode.NOT_FOUND, "invalid"),
    Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, "invalid"),
    Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
    ModelLimitExceeded: (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded"),
    DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline"),
    Superseded: (grpc.StatusCode.ABORTED, "superseded"),
    FrameCancelled: (grpc.StatusCode.CANCELLED, "cancelled"),
    Draining: (grpc.StatusCode.UNAVAILABLE, "unavailable"),
    InternalError: (grpc.StatusCode.INTERNAL, "failed"),
}


def status_code(error: RequestError) -> grpc.StatusCode:
    """The gRPC code that answers `error`."""
    return _STATUS[type(error)][0]


def status_text(error: Exception) -> str:
    """What a status says of `error`: gRPC sends it as a header and takes 8 KiB of those.

    A character takes up to 12 bytes there.
    """
    return str(error)[:600]


def wire_code(error: RequestError) -> int:
    """The google.rpc.Code number of `status_code(error)`, as FrameError carries it."""
    number: int = status_code(error).value[0]
    return number


def outcome_of(error: RequestError) -> Outcome:
    """The outcome under which a frame answered by `error` is counted."""
    return _STATUS[type(error)][1]
