/** The same turn as code, for each client that a person may have. */

/** What is asked, with the fields of an execute as the API names them. */
export interface Asked {
  readonly agentId: string;
  readonly goal: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

const URL = location.origin;

export const SNIPPETS: readonly { readonly name: string; text(asked: Asked): string }[] = [
  { name: 'curl', text: curl },
  { name: 'Python', text: python },
  { name: 'TypeScript', text: typescript },
  { name: 'AI SDK', text: aiSdk },
  { name: 'OpenAI', text: openai },
];

function curl({ agentId, goal, fields }: Asked): string {
  const body = JSON.stringify({ agent_id: agentId, goal, ...fields, stream: true });
  return `curl -N ${URL}/v1/sessions/execute \\
  -H "Authorization: Bearer $RESONANTGENESIS_API_KEY" -H "Content-Type: application/json" \\
  -d '${body.replaceAll("'", "'\\''")}'
`;
}

function python({ agentId, goal, fields }: Asked): string {
  const named = Object.entries({ agent_id: agentId, goal, ...fields });
  const given = named.map(([name, value]) => `${name}=${pythonic(value)}`).join(', ');
  return `import asyncio

from resonantgenesis import ResonantGenesis


async def main():
    # The key is that of RESONANTGENESIS_API_KEY.
    async with ResonantGenesis(base_url="${URL}") as client:
        async for chunk in client.sessions.execute_stream(${given}):
            if chunk.type == "text":
                print(chunk.content, end="", flush=True)


asyncio.run(main())
`;
}

/** A value of JSON as Python writes it. */
function pythonic(value: unknown): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (Array.isArray(value)) return `[${value.map(pythonic).join(', ')}]`;
  if (typeof value !== 'object') return JSON.stringify(value);
  const pairs = Object.entries(value ?? {});
  return `{${pairs.map(([name, one]) => `${JSON.stringify(name)}: ${pythonic(one)}`).join(', ')}}`;
}

function typescript({ agentId, goal, fields }: Asked): string {
  const params = { agentId, goal, ...fields };
  const given = Object.entries(params).map(([name, value]) => {
    const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    return `  ${camel}: ${JSON.stringify(value)},\n`;
  });
  return `import { ResonantGenesis } from '@resonantgenesis/sdk';

const client = new ResonantGenesis({
  baseUrl: '${URL}',
  apiKey: process.env.RESONANTGENESIS_API_KEY,
});
const stream = await client.sessions.executeStream({
${given.join('')}});
for await (const chunk of stream) {
  if (chunk.type === 'text') process.stdout.write(chunk.content);
}
`;
}

function aiSdk({ agentId, goal, fields }: Asked): string {
  const { session_id: id, tools, ...body } = fields;
  const more = Object.keys(body).length > 0 ? `\n  body: ${JSON.stringify(body)},` : '';
  return `import { DefaultChatTransport } from 'ai';

// In a page: useChat({ id, transport, resume: true }), with a client token in the place of the key.
const transport = new DefaultChatTransport({
  api: '${URL}/v1/agents/${agentId}/chat',
  headers: { Authorization: \`Bearer \${process.env.RESONANTGENESIS_API_KEY}\` },${more}
});
${leftOut('//', { tools })}const chunks = await transport.sendMessages({
  trigger: 'submit-message',
  chatId: ${id ? `'${id}'` : 'crypto.randomUUID()'},
  messageId: undefined,
  messages: [
    { id: crypto.randomUUID(), role: 'user', parts: [{ type: 'text', text: ${JSON.stringify(goal)} }] },
  ],
  abortSignal: undefined,
});
for await (const chunk of chunks) {
  if (chunk.type === 'text-delta') process.stdout.write(chunk.delta);
}
`;
}

function openai({ agentId, goal, fields }: Asked): string {
  const { session_id: id, ...others } = fields;
  const conversation = id ? `, conversation="conv_${id}"` : '';
  return `import os

from openai import OpenAI

client = OpenAI(base_url="${URL}/openai/v1", api_key=os.environ["RESONANTGENESIS_API_KEY"])
${leftOut('#', others)}for event in client.responses.create(
    model="${agentId}", input=${JSON.stringify(goal)}${conversation}, stream=True
):
    if event.type == "response.output_text.delta":
        print(event.delta, end="", flush=True)
`;
}

/** A comment that names the fields which a client's protocol has no place for. */
function leftOut(sign: string, fields: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(fields).filter((name) => fields[name] !== undefined);
  return names.length > 0 ? `${sign} This client cannot set: ${names.join(', ')}.\n` : '';
}
