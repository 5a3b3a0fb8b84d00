"""Models that see images, and how the images of tools reach them.

Most providers take results of tools as texts. So the images of a step follow its results in a
message of their own. Later turns show the texts only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ....model.limits import MIB
from ...tools.images import Image
from .calls import FailureKind, Message, ModelCall, ModelFailure, UserMessage
from .settings import ModelName

#: Images of one step that a model is shown.
MAX_IMAGES = 4
#: Bytes of base64 in one call of a model; the oldest images are left out first.
_MAX_BYTES = 16 * MIB
#: Models kept that were found not to see.
_MAX_BLIND = 1_000

#: Refusals that are not about the content of a request.
_OTHER_KINDS: frozenset[FailureKind] = frozenset({"rate_limited", "key", "quota", "filtered"})
#: What a refusal of images, or of the message that they came in, speaks of.
ABOUT_IMAGES = re.compile(
    r"image|\bvision|visual|multi-?modal|modalit|mmproj|content[_ .-]?(type|part|block)"
    r"|(be|expected|valid|not) (a |an )?(valid )?string|str type expected|text.only"
    r"|unexpected role|roles?\b[^.]{0,40}(after|alternat)"
)
#: Words about these images, not about images.
_ABOUT_THESE = re.compile(
    r"format|corrupt|decod|dimension|pixel|too (large|big|small|many|long)|exceed|size|download"
    r"|base64|media[_ ]type|process(ing)? (the |this |your |input )?image\b|at most [1-9]"
)
_UNSUPPORTED = re.compile(r"support|multi-?modal|mmproj|vision")


class Sight:
    """Whether one model sees images. `blind` holds the models that were found not to, for all
    turns."""

    def __init__(self, model: ModelName, patterns: Sequence[str], blind: set[str]) -> None:
        self._name = str(model)
        self._patterns = patterns
        self._blind = blind
        #: Images were refused in words about any, and the call is made without them.
        self._is_suspect = False

    @property
    def sees(self) -> bool:
        if self._name in self._blind:
            return False
        return any(fnmatchcase(self._name, pattern) for pattern in self._patterns)

    def show(self, messages: list[Message], images: Sequence[tuple[str, Image]]) -> None:
        """Add the images of a step, each with the name of its tool, behind its results."""
        if not images or not self.sees:
            return
        shown, rest = images[:MAX_IMAGES], len(images) - MAX_IMAGES
        text = f"The images of the results above: {', '.join(tool for tool, _ in shown)}."
        if rest > 0:
            text += f" {rest} more are not shown."
        messages.append(UserMessage(text, [image for _, image in shown]))
        _make_room(messages)

    def gives_up(self, call: ModelCall, failure: ModelFailure) -> bool:
        """True if the call was refused for its images, as it seems. Its images are then removed."""
        if not has_images(call) or not _is_about_images(failure):
            return False
        call.messages[:] = _without_images(call.messages)
        self._is_suspect = not _ABOUT_THESE.search(failure.said.lower())
        return True

    def answered(self) -> None:
        """The call was taken. If that was for want of images, the model is shown none again."""
        if self._is_suspect:
            if len(self._blind) >= _MAX_BLIND:
                self._blind.clear()
            self._blind.add(self._name)


def has_images(call: ModelCall) -> bool:
    return any(isinstance(each, UserMessage) and each.images for each in call.messages)


def _is_about_images(failure: ModelFailure) -> bool:
    words = failure.said.lower()
    if failure.kind in _OTHER_KINDS or not ABOUT_IMAGES.search(words):
        return False
    return failure.kind != "unavailable" or _UNSUPPORTED.search(words) is not None


def _without_images(messages: Iterable[Message]) -> list[Message]:
    return [each for each in messages if not (isinstance(each, UserMessage) and each.images)]


def _make_room(messages: list[Message]) -> None:
    room = _MAX_BYTES
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if isinstance(message, UserMessage) and message.images:
            room -= sum(image.size for image in message.images)
            if room < 0:
                del messages[place]
