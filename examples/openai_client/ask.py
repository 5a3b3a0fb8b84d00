"""A response that is broken off and read on, with OpenAI's own SDK."""

import os
import sys
import time
from collections.abc import Iterator
from uuid import uuid4

from openai import APIConnectionError, OpenAI
from openai.types.responses import ResponseStreamEvent

#: A second each; a server that restarts is back before.
TRIES = 60

client = OpenAI(
    base_url=os.environ["RESONANTGENESIS_BASE_URL"] + "/openai/v1",
    api_key=os.environ["RESONANTGENESIS_API_KEY"],
)


def answer(goal: str) -> Iterator[ResponseStreamEvent]:
    """The events of a response, each once, however often the connection breaks."""
    response_id, position = "", -1
    once = {"Idempotency-Key": str(uuid4())}  # a question that is sent again is the same one
    for attempt in range(TRIES):
        try:
            if response_id:
                stream = client.responses.retrieve(
                    response_id, stream=True, starting_after=position
                )
            else:
                stream = client.responses.create(
                    model="guide", input=goal, stream=True, extra_headers=once
                )
            for event in stream:
                position = event.sequence_number
                if event.type == "response.created":
                    response_id = event.response.id
                yield event
                if attempt == 0 and event.type == "response.output_text.delta":
                    stream.close()  # as a lost connection does; the response goes on
                    break
            else:
                return
        except APIConnectionError:
            time.sleep(1)
    sys.exit("The server cannot be reached.")


for event in answer(" ".join(sys.argv[1:]) or "count to 20"):
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
    elif event.type == "response.failed" and event.response.error:
        sys.exit(f"\n{event.response.error.message}")
print()
