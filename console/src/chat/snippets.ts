/** The same question as code, for each client that a person may have. */

export interface Snippet {
  readonly name: string;
  readonly text: string;
}

export function snippetsFor(agentId: string, goal: string): readonly Snippet[] {
  const url = location.origin;
  const json = JSON.stringify({ agent_id: agentId, goal, stream: true });
  const text = JSON.stringify(goal);
  return [
    {
      name: 'curl',
      text: `curl -N ${url}/v1/sessions/execute \\
  -H "Authorization: Bearer $RESONANTGENESIS_API_KEY" -H "Content-Type: application/json" \\
  -d '${json.replaceAll("'", "'\\''")}'`,
    },
    {
      name: 'Python',
      text: `from resonantgenesis import ResonantGenesis

async with ResonantGenesis(base_url="${url}") as client:
    async for chunk in client.sessions.execute_stream(agent_id="${agentId}", goal=${text}):
        print(chunk.content, end="", flush=True)`,
    },
    {
      name: 'TypeScript',
      text: `import { ResonantGenesis } from '@resonantgenesis/sdk';

const client = new ResonantGenesis({ baseUrl: '${url}', apiKey: process.env.RESONANTGENESIS_API_KEY });
const stream = await client.sessions.executeStream({ agentId: '${agentId}', goal: ${text} });
for await (const chunk of stream) if (chunk.type === 'text') process.stdout.write(chunk.content);`,
    },
    {
      name: 'AI SDK',
      text: `const transport = new DefaultChatTransport({
  api: '${url}/v1/agents/${agentId}/chat',
  headers: () => ({ Authorization: \`Bearer \${token}\` }),
});
const { messages, sendMessage } = useChat({ id, transport, resume: true });`,
    },
    {
      name: 'OpenAI',
      text: `from openai import OpenAI

client = OpenAI(base_url="${url}/openai/v1", api_key=os.environ["RESONANTGENESIS_API_KEY"])
for event in client.responses.create(model="${agentId}", input=${text}, stream=True):
    print(event)`,
    },
  ];
}
