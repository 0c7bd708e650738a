"""The service as its .proto files describe it, for tests that go over every method or every field."""

import functools
import subprocess

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor

from support.build import ROOT

SERVICE = "linchpin.v1.CompressionService"
TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


@functools.cache
def description():
    """All of proto/, as protoc understands it."""
    files = sorted(str(path) for path in (ROOT / "proto").rglob("*.proto"))
    compiled = subprocess.run(
        ["protoc", f"-I{ROOT / 'proto'}", "--include_imports", "--descriptor_set_out=/dev/stdout", *files],
        capture_output=True, check=True).stdout
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool


def methods():
    """{name: descriptor} of what the service can be asked."""
    return dict(description().FindServiceByName(SERVICE).methods_by_name)


def message_class(descriptor):
    return message_factory.GetMessageClass(descriptor)


def enum_value(enum, name):
    return description().FindEnumTypeByName(f"linchpin.v1.{enum}").values_by_name[name].number


def name_of(field):
    """"Message.field", nested messages after those that they stand in."""
    return f"{field.containing_type.full_name}.{field.name}".removeprefix("linchpin.v1.")


def text_fields(message, above=()):
    """(path, field) of every text and byte string that a message may hold, in its parts too; the path has the
    names of the fields that lead there, between dots."""
    for field in message.fields:
        way = (*above, field)
        if field.type in TEXTS:
            yield ".".join(step.name for step in way), field
        elif field.message_type and all(step.message_type != field.message_type for step in above):
            yield from text_fields(field.message_type, way)


def part_of(message, path):
    """(the part of a message that has the field at the end of `path`, the field's name)."""
    *parts, last = path.split(".")
    for name in parts:
        message = getattr(message, name)
    return message, last
