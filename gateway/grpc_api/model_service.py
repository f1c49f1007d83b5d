"""octavo.v1.ModelService."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.generation import Generation
from gateway.grpc_api.convert_event import model_to_pb
from octavo.v1 import generation_pb2 as pb
from octavo.v1 import generation_pb2_grpc

if TYPE_CHECKING:
    from gateway.grpc_api.call import Context


class ModelService(generation_pb2_grpc.ModelServiceServicer):
    """Describes the models that the gateway serves."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        """Lists the models that the gateway serves."""
        cards = self._generation.list_models()
        return pb.ListModelsResponse(models=[model_to_pb(card) for card in cards])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """Describes one model."""
        name = request.model if request.HasField("model") else None
        return pb.GetModelResponse(model=model_to_pb(self._generation.get_model(name)))
