"""A client without generated code: what it knows of the service it learns by reflection."""

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)
from grpc_status import rpc_status

from support.patience import PATIENCE

SERVICE = "linchpin.v1.CompressionService"
CHUNK = 1 << 20


class ForeignClient:
    """Calls by method name: `client.call("DetectSuperWeights", source=...)`."""

    def __init__(self, endpoint):
        # A connection of its own, whoever else in this process calls that address.
        self.channel = grpc.insecure_channel(endpoint, [("grpc.use_local_subchannel_pool", 1)])
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.service = pool.FindServiceByName(SERVICE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def method(self, name):
        """(callable, class of its requests)."""
        method = self.service.FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        kind = (("stream" if method.client_streaming else "unary") + "_"
                + ("stream" if method.server_streaming else "unary"))
        return getattr(self.channel, kind)(f"/{SERVICE}/{name}", request.SerializeToString,
                                           response.FromString), request

    def call(self, name, timeout=PATIENCE, **fields):
        """The answer of a unary call, or the result that ends a stream."""
        function, request = self.method(name)
        answer = function(request(**fields), timeout=timeout)
        if not isinstance(answer, grpc.Call):
            return answer
        return list(answer)[-1].result

    def upload(self, parts, timeout=PATIENCE):
        """Begins a CompressArtifact call that sends `parts`, dictionaries of one field each."""
        function, request = self.method("CompressArtifact")
        return function((request(**part) for part in parts), timeout=timeout)


def reason_of(error):
    """ErrorInfo.reason of a grpc.RpcError, or None."""
    return _detail(error, error_details_pb2.ErrorInfo, lambda info: info.reason)


def retry_seconds_of(error):
    """RetryInfo.retry_delay in seconds, or None."""
    return _detail(error, error_details_pb2.RetryInfo,
                   lambda info: info.retry_delay.ToTimedelta().total_seconds())


def _detail(error, kind, value):
    status = rpc_status.from_call(error)
    for packed in status.details if status else ():
        detail = kind()
        if packed.Unpack(detail):
            return value(detail)
    return None
