"""Images that tools give, for models that see."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...model.limits import MIB

#: Bytes of one image; its base64 is below the 5 MB that Anthropic takes.
MAX_IMAGE = 3 * MIB
_BASE64_SIZE = -(-MAX_IMAGE // 3) * 4
#: How files of the types begin that the providers of models take.
_BEGINNINGS: Mapping[str, re.Pattern[bytes]] = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "image/gif": re.compile(rb"GIF8[79]a"),
}


@dataclass(frozen=True, slots=True)
class Image:
    """`content_type` is one of four, `data` the file as base64."""

    content_type: str
    data: str

    @property
    def size(self) -> int:
        """In bytes, as base64."""
        return len(self.data)


def read_image(data: str) -> Image | None:
    """Read an image from base64; None for an unknown type, or a size over MAX_IMAGE.

    The first bytes tell the type: the type that a tool states is often wrong, and then refused.
    """
    data = "".join(data.split())
    if len(data) > _BASE64_SIZE:
        return None
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    for content_type, beginning in _BEGINNINGS.items():
        if beginning.match(raw):
            return Image(content_type, data)
    return None
