"""A model call that is tried again while nothing of its answer has come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog

from .... import metrics
from .calls import Delta, ModelCall, ModelClient, ModelFailure
from .vision import Sight

#: The longest that a provider's wish to wait is followed; a client may come back later by itself.
_LONGEST = 15.0
log_ = structlog.get_logger("resonantgenesis.llm")


async def ask(
    client: ModelClient, call: ModelCall, sight: Sight, *, retries: int, delay: float
) -> AsyncGenerator[Delta, None]:
    """As `ModelClient.stream` promises, but what is `unavailable` is tried `retries` times more.

    Never once a delta has come: it may have been shown. Waits `delay` seconds first, then twice as
    long each time, with jitter, or as long as the provider says if that is longer. A call that is
    refused for its images is made once more without them.
    """
    attempt = 0
    while True:
        has_begun = False
        try:
            async with aclosing(client.stream(call)) as deltas:
                async for delta in deltas:
                    if not has_begun:
                        has_begun = True
                        sight.answered()
                    yield delta
            return
        except ModelFailure as failure:
            metrics.model_failed(failure.kind)
            if not has_begun and sight.gives_up(call, failure):
                log_.info("the model is asked without images", model=call.model, said=failure.said)
                continue
            wait = max(delay * 2**attempt, failure.retry_after or 0.0)
            if has_begun or failure.kind != "unavailable" or attempt >= retries or wait > _LONGEST:
                raise
            log_.info("model call is tried again", model=call.model, said=failure.said, wait=wait)
        await asyncio.sleep(wait * random.uniform(1.0, 1.25))  # noqa: S311 - no secret
        attempt += 1
