// A chat with a real model, cut in mid-answer and resumed; prints one JSON object for the test.
import { agent, chatWith, last, textOf, until } from './chat.mjs';
import { cutting } from './wire.mjs';

const wire = cutting();
const { chat } = chatWith(agent, { wire });
wire.after = 900;
await chat.sendMessage({ text: 'The sea is' });
const seen = textOf(last(chat));
const page = chatWith(agent, { id: chat.id, messages: chat.messages.slice(0, 1), ended: true });
await page.chat.resumeStream();
await until(() => page.chat.status === 'ready');
const { metadata } = last(page.chat);
console.log(JSON.stringify({ seen, text: textOf(last(page.chat)), metadata }));
