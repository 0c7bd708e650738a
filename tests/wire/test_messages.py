"""What programs of 0.1.0 send and get is understood today as it was meant then (README.md beside this file)."""

import json
import pathlib

import pytest
from google.protobuf import json_format

from support.service_description import description, message_class
from wire.write_messages import api

MESSAGES = json.loads(pathlib.Path(__file__).with_name("messages-0.1.0.json").read_text(encoding="utf-8"))


@pytest.fixture(name="today", scope="module")
def today_fixture():
    """today(name): the class of a message as the .proto files of this tree have it."""
    pool = description()
    return lambda name: message_class(pool.FindMessageTypeByName(name))


def parsed(entry, classes):
    message = classes(entry["message"])()
    message.ParseFromString(bytes.fromhex(entry["bytes"]))
    return message


def test_the_bytes_mean_what_they_meant(today):
    for entry in MESSAGES:
        message = parsed(entry, today)
        said = json_format.MessageToDict(message, preserving_proto_field_name=True)
        assert said == entry["fields"], entry["message"]


def test_what_was_meant_has_the_same_bytes(today):
    """What is sent today is what programs of 0.1.0 read."""
    for entry in MESSAGES:
        message = json_format.ParseDict(entry["fields"], today(entry["message"])())
        assert message.SerializeToString(deterministic=True).hex() == entry["bytes"], entry["message"]


def parts(message):
    """A message and all that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for part in value if field.is_repeated else [value]:
                yield from parts(part)


def members(descriptor, found):
    """Adds all fields and values of enums that a message may hold."""
    for field in descriptor.fields:
        if field.full_name in found:
            continue
        found.add(field.full_name)
        if field.enum_type:
            found |= {(field.enum_type.name, value.name) for value in field.enum_type.values if value.number}
        if field.message_type and not field.message_type.GetOptions().map_entry:
            members(field.message_type, found)


def test_no_field_and_no_value_of_0_1_0_is_left_out(today):
    meant, seen, pool = set(), set(), api()
    for method in pool.FindServiceByName("linchpin.v1.CompressionService").methods:
        members(method.input_type, meant)
        members(method.output_type, meant)
    for part in (part for entry in MESSAGES for part in parts(parsed(entry, today))):
        for field, value in part.ListFields():
            seen.add(field.full_name)
            if field.enum_type:
                seen.add((field.enum_type.name, field.enum_type.values_by_number[value].name))
    assert len(meant) > 200
    assert meant - seen == set()
