import type { ResonantGenesis } from '@resonantgenesis/sdk';
import {
  type SendParams,
  type TurnSnapshot,
  useAgentStream,
  useEvents,
  useSession,
} from '@resonantgenesis/sdk/react';
import { expectTypeOf, test } from 'vitest';

type Of<F extends (...args: never[]) => unknown> = ReturnType<F>;

test('the guide’s hook has its shape, and more', () => {
  expectTypeOf(useAgentStream).toBeCallableWith('agent_123', 'Write a story');
  expectTypeOf<Of<typeof useAgentStream>>().toExtend<{
    content: string;
    isStreaming: boolean;
    error: Error | null;
  }>();
  expectTypeOf<Of<typeof useAgentStream>['cancel']>().toEqualTypeOf<() => Promise<void>>();
  expectTypeOf<Of<typeof useAgentStream>['status']>().toEqualTypeOf<
    'idle' | 'connecting' | 'streaming' | 'waiting' | 'success' | 'failed' | 'cancelled' | 'timeout'
  >();
});

test('options are those of an execute', () => {
  const client = {} as ResonantGenesis;
  expectTypeOf(useAgentStream).toBeCallableWith('a', 'g', {
    client,
    maxSteps: 3,
    ifBusy: 'reject',
  });
  // @ts-expect-error: the position is the hook's own business
  expectTypeOf(useAgentStream).toBeCallableWith('a', 'g', { resumeFrom: 3 });
  expectTypeOf(useSession).toBeCallableWith(null, { agentId: 'a', storage: 'session' });
  expectTypeOf(useEvents).toBeCallableWith({ channels: ['sessions'], filters: { agent_id: 'a' } });
});

test('states cannot be written to', () => {
  const turn = {} as TurnSnapshot;
  // @ts-expect-error: snapshots never change
  turn.content = 'other';
  expectTypeOf<Of<typeof useSession>['turns']>().toEqualTypeOf<readonly TurnSnapshot[]>();
  expectTypeOf<Of<typeof useSession>['send']>().parameters.toEqualTypeOf<[string, SendParams?]>();
});
