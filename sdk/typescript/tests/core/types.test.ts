import type { Chunk } from '@resonantgenesis/sdk';
import { expectTypeOf, test } from 'vitest';

test('a chunk is told apart by its type, with the names that the guide reads', () => {
  const text = (chunk: Chunk) => (chunk.type === 'text' ? chunk.content : '');
  const tool = (chunk: Chunk) => (chunk.type === 'tool_call' ? chunk.tool : '');
  const session = (chunk: Chunk) => (chunk.type === 'done' ? chunk.sessionId : '');
  expectTypeOf(text).returns.toEqualTypeOf<string>();
  expectTypeOf(tool).returns.toEqualTypeOf<string>();
  expectTypeOf(session).returns.toEqualTypeOf<string>();
});
