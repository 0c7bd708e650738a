#!/usr/bin/env python3
"""Writes messages of the API as 0.1.0 had it, every field set, as bytes and as text (tests/wire/README.md).

    write_messages.py OUT.json

One for each choice that the `oneof`s of a message leave.  Enums take turns, so that every value is somewhere.
"""

import collections
import itertools
import json
import pathlib
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor as Field

API = pathlib.Path(__file__).with_name("linchpin-0.1.0.binpb")


def api():
    """The API as 0.1.0 had it."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(API.read_bytes()).file:
        pool.Add(file)
    return pool


class Filler:
    """Fills messages with values of which no two are the same, where a type has as many."""

    def __init__(self):
        self.number = itertools.count(1)
        self.turns = collections.defaultdict(itertools.count)  # by enum

    def value(self, field):
        number = next(self.number)
        if field.type == Field.TYPE_ENUM:
            values = [value.number for value in field.enum_type.values if value.number]
            return values[next(self.turns[field.enum_type.full_name]) % len(values)]
        if field.type == Field.TYPE_BOOL:
            return True
        if field.type in (Field.TYPE_STRING, Field.TYPE_BYTES):
            text = f"{field.name} {number}"
            return text if field.type == Field.TYPE_STRING else text.encode()
        if field.type in (Field.TYPE_DOUBLE, Field.TYPE_FLOAT):
            return number + 0.5  # the same in both
        return 1000 + number

    def fill(self, message, choice):
        """`choice`: which field of a oneof."""
        for field in message.DESCRIPTOR.fields:
            oneof = field.containing_oneof
            if oneof and field is not oneof.fields[choice % len(oneof.fields)]:
                continue
            target = getattr(message, field.name)
            if field.message_type and field.message_type.GetOptions().map_entry:
                target[f"{field.name} {next(self.number)}"] = next(self.number) + 0.25
            elif field.message_type:
                for part in [target.add(), target.add()] if field.is_repeated else [target]:
                    part.SetInParent()
                    self.fill(part, choice)
            elif field.is_repeated:
                target.extend([self.value(field), self.value(field)])
            else:
                setattr(message, field.name, self.value(field))
        return message


def choices(descriptor, above=()):
    """How many fillings show all that a message's oneofs offer."""
    counts = [len(oneof.fields) for oneof in descriptor.oneofs]
    counts += [choices(field.message_type, (*above, descriptor)) for field in descriptor.fields
               if field.message_type and field.message_type not in above]
    return max(counts, default=1)


def messages(pool):
    """A message of every kind that a call takes or gives."""
    filler = Filler()
    for method in pool.FindServiceByName("linchpin.v1.CompressionService").methods:
        for descriptor in (method.input_type, method.output_type):
            for choice in range(choices(descriptor)):
                yield filler.fill(message_factory.GetMessageClass(descriptor)(), choice)
    # There are more schemes than messages above that have one.
    plan = message_factory.GetMessageClass(pool.FindMessageTypeByName("linchpin.v1.TensorPlan"))
    for _ in pool.FindEnumTypeByName("linchpin.v1.Scheme").values:
        yield filler.fill(plan(), 0)


def main(out):
    documents = [{"message": message.DESCRIPTOR.full_name,
                  "bytes": message.SerializeToString(deterministic=True).hex(),
                  "fields": json_format.MessageToDict(message, preserving_proto_field_name=True)}
                 for message in messages(api())]
    lines = ",\n".join(json.dumps(document) for document in documents)
    pathlib.Path(out).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
