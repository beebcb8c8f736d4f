# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
"""The service `voxgate.admin.v1.ModelAdmin`, on a port of its own that only this machine reaches.

Every call must carry a credential, whatever its method: it is checked before a request is parsed.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast

import grpc

from voxgate_ops.errors import ModelError
from voxgate_protos import admin_pb2 as pb
from voxgate_protos import admin_pb2_grpc as pb_grpc
from voxgate_server.errors import (
    RequestError,
    StartupError,
    Unauthenticated,
    status_code,
    status_text,
)
from voxgate_server.repository import Model, Repository
from voxgate_server.tokens import Metadata

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["ModelAdmin"].full_name
HOST = "127.0.0.1"

# Names and versions: nothing that is asked for is longer.
_MAX_REQUEST_BYTES = 16 << 10

CheckCredential: TypeAlias = Callable[[Metadata], None]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
T = TypeVar("T")

log = logging.getLogger(__name__)


class AdminService(pb_grpc.ModelAdminServicer):
    """What an operator may do, as calls on the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def LoadModel(
        self, request: pb.LoadModelRequest, context: Context
    ) -> pb.LoadModelResponse:
        model = await _answer(context, self._repository.load(request.name, request.version))
        return pb.LoadModelResponse(model=_listed(model))

    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: Context
    ) -> pb.UnloadModelResponse:
        keys = await _answer(context, self._repository.unload(request.name, request.version))
        return pb.UnloadModelResponse(models=[_unloaded(*key) for key in keys])

    async def ReloadModel(
        self, request: pb.ReloadModelRequest, context: Context
    ) -> pb.ReloadModelResponse:
        models = await _answer(context, self._repository.reload(request.name, request.version))
        return pb.ReloadModelResponse(models=[_listed(model) for model in models])

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        listed = [_listed(model) for model in self._repository.all()]
        listed += [_unloaded(*key) for key in self._repository.unloaded()]
        listed.sort(key=lambda item: (item.name, int(item.version)))
        return pb.ListModelsResponse(models=listed)


class AdminServer:
    """The service on its port: `start`, then `stop`."""

    def __init__(
        self,
        repository: Repository,
        check: CheckCredential,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            check: raises Unauthenticated unless a call's metadata holds the credential.
            on_refused: called for every call that it refuses.
        """
        self._server = grpc.aio.server(
            interceptors=[_Doorkeeper(check, on_refused)],
            options=(
                ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
                ("grpc.so_reuseport", 0),
            ),
        )
        pb_grpc.add_ModelAdminServicer_to_server(AdminService(repository), self._server)

    async def start(self, port: int) -> int:
        """Listen on 127.0.0.1 and return the port; 0 takes a free one.

        Raises:
            StartupError: the port cannot be had.
        """
        try:
            bound = self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            raise StartupError(
                f"cannot listen on {HOST}:{port} for the admin service: the port is in use or not "
                "allowed. Choose another one with --admin-port"
            ) from error
        await self._server.start()
        return bound

    async def stop(self) -> None:
        """End open calls; what they began goes on until the repository is closed."""
        await self._server.stop(grace=None)


class _Doorkeeper(grpc.aio.ServerInterceptor):
    def __init__(self, check: CheckCredential, on_refused: Callable[[], None]) -> None:
        self._check = check
        self._on_refused = on_refused

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        # The stubs allow for None; grpc.aio always has a tuple.
        metadata = cast(Metadata, handler_call_details.invocation_metadata or ())
        try:
            self._check(metadata)
        except Unauthenticated as error:
            self._on_refused()
            log.warning("admin: %s refused: no valid credential", handler_call_details.method)
            return _refusal(status_text(error))
        return await continuation(handler_call_details)


def _refusal(reason: str) -> Any:
    async def refuse(_: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)

    return grpc.unary_unary_rpc_method_handler(refuse)


async def _answer(context: Context, work: Awaitable[T]) -> T:
    """The result of `work`, with its errors as the status of the call."""
    try:
        return await work
    except RequestError as error:
        code, reason = status_code(error), status_text(error)
    except ModelError as error:
        code, reason = grpc.StatusCode.FAILED_PRECONDITION, status_text(error)
    await context.abort(code, reason)


def _listed(model: Model) -> pb.ModelVersion:
    listed = pb.ModelVersion(
        name=model.name,
        version=str(model.version),
        state=pb.ModelVersion.State.Value(model.state),
        state_reason=model.reason,
    )
    if model.engine is not None:
        listed.device = model.engine.device
        listed.instances = model.engine.instances
        listed.memory_bytes = model.engine.memory_bytes
    return listed


def _unloaded(name: str, version: int) -> pb.ModelVersion:
    return pb.ModelVersion(name=name, version=str(version), state=pb.ModelVersion.UNLOADED)
