"""A response that is broken off and read on, with OpenAI's own SDK."""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ["RESONANTGENESIS_BASE_URL"] + "/openai/v1",
    api_key=os.environ["RESONANTGENESIS_API_KEY"],
)
goal = " ".join(sys.argv[1:]) or "count to 20"
stream = client.responses.create(model="guide", input=goal, stream=True)
response_id, position = "", 0
for event in stream:
    position = event.sequence_number
    if event.type == "response.created":
        response_id = event.response.id
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
        break
stream.close()  # as a lost connection does; the response goes on

for event in client.responses.retrieve(response_id, stream=True, starting_after=position):
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
print()
