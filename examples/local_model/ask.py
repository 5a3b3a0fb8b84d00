"""Asks a model through an agent made for it: python ask.py local:qwen3 "Why is the sky blue?" """

import asyncio
import sys

from resonantgenesis import ResonantGenesis


async def main(model: str, question: str) -> None:
    async with ResonantGenesis() as client:
        agent = await client.agents.create(
            name="Local",
            engine="llm",
            model=model,
            instructions="Answer in three sentences. Calculate with the calculator.",
            tools=["calculator", "current_time"],
        )
        async for chunk in client.sessions.execute_stream(agent_id=agent.id, goal=question):
            if chunk.type == "text":
                print(chunk.content, end="", flush=True)
            elif chunk.type == "tool_call":
                print(f"\n[{chunk.tool} {chunk.args}]")
            elif chunk.type == "done":
                print(f"\n\n{chunk.usage.output_tokens} tokens, session {chunk.session_id}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
