// A chat of the AI SDK without a page: the SDK's own logic over a plain state.
import { readFileSync } from 'node:fs';
import { cutting } from './wire.mjs';

export const { base, key, version, agent } = JSON.parse(readFileSync(0, 'utf8'));
const sdk = await import(version === 'vue' ? 'ai7' : version);
const { AbstractChat, DefaultChatTransport } = sdk;
export const {
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} = sdk;

class State {
  status = 'ready';
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, this.snapshot(message));
  };
  snapshot = (thing) => structuredClone(thing);
}

class PlainChat extends AbstractChat {
  constructor({ messages = [], ...options }) {
    super({ ...options, state: new State(messages) });
  }
}

const DefaultChat = version === 'vue' ? (await import('@ai-sdk/vue')).Chat : PlainChat;
let chats = 0;

/** A chat with `agent`; `ends` collects how its answers ended, `errors` their messages. */
export function chatWith(
  agent,
  {
    id,
    messages: shown,
    pace = 0,
    ended = false,
    credential = key,
    wire = cutting(),
    context = {},
    fields = {},
    Chat = DefaultChat,
    query = '',
    ...more
  } = {},
) {
  const ends = [];
  const errors = [];
  const transport = new DefaultChatTransport({
    api: `${base}/v1/agents/${agent}/chat`,
    headers: { Authorization: `Bearer ${credential}` },
    body: { context: pace ? { words_per_second: pace } : context, ...fields },
    fetch: wire.fetch,
    prepareSendMessagesRequest: query
      ? ({ api, body, id: chatId, messages, trigger, messageId }) => ({
          api: `${api}?${query}`,
          body: { ...body, id: chatId, messages, trigger, messageId },
        })
      : undefined,
    // With it an answer that ended while the client was away is replayed as well.
    prepareReconnectToStreamRequest: ended
      ? ({ api, id: chatId }) => ({
          api: `${api}/${encodeURIComponent(chatId)}/stream?startIndex=0&${query}`,
          headers: { Authorization: `Bearer ${credential}` },
        })
      : undefined,
  });
  const chat = new Chat({
    id: id ?? `chat ${version} ${Date.now()} ${chats++}`,
    messages: shown,
    transport,
    ...more,
    onError: (error) => errors.push(error.message),
    onFinish: (end) => ends.push(end),
  });
  return { chat, ends, errors, wire };
}

export const until = async (condition) => {
  while (!(await condition())) await new Promise((done) => setTimeout(done, 10));
};

export const textOf = (message) =>
  message.parts
    .filter((part) => part.type === 'text')
    .map((part) => part.text)
    .join('');

export const last = (chat) => chat.messages.at(-1);
