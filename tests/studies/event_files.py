"""TensorBoard event files read back: the record format checked here, the messages decoded by tensorboardX."""

from __future__ import annotations

import struct
from collections import defaultdict
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event


def records(path: Path) -> list[bytes]:
    """The payloads of a TFRecord file: length, its masked CRC-32C, payload, its masked CRC-32C, all little-endian."""
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12])[0] == _masked_crc(data[:8])
        payload, data = data[12 : 12 + length], data[12 + length :]
        assert struct.unpack("<I", data[:4])[0] == _masked_crc(payload)
        found.append(payload)
        data = data[4:]
    return found


def scalars_and_images(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, bytes]]:
    """(step, value) of every scalar tag in the order written, and the PNG of every image tag, of the one file there."""
    (path,) = folder.glob("events.out.tfevents.*")
    scalars, images = defaultdict(list), {}
    for payload in records(path):
        event = Event.FromString(payload)
        for value in event.summary.value:
            if value.WhichOneof("value") == "image":
                images[value.tag] = value.image.encoded_image_string
            else:
                scalars[value.tag].append((event.step, value.simple_value))
    return dict(scalars), images


def _masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
