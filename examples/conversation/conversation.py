"""Several turns of one session: python conversation.py MODEL QUESTION [QUESTION …]"""

import asyncio
import sys

from resonantgenesis import ResonantGenesis


async def main(model: str, questions: list[str]) -> None:
    async with ResonantGenesis() as client:
        agent = await client.agents.create(name="Guide of a museum", engine="llm", model=model)
        session = await client.sessions.create(
            agent_id=agent.id,
            context={"user_name": "Alice", "preferences": {"language": "en"}},
        )
        for question in questions:
            print(f"You: {question}\nAgent: ", end="")
            async for chunk in session.execute_stream(goal=question):
                if chunk.type == "text":
                    print(chunk.content, end="", flush=True)
            print("\n")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
