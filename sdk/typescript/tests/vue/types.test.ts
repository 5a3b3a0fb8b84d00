import type { PlatformEvent } from '@resonantgenesis/sdk';
import { useAgentStream, type useEvents, type useSession } from '@resonantgenesis/sdk/vue';
import { expectTypeOf, test } from 'vitest';
import { type Ref, ref } from 'vue';

type Of<F extends (...args: never[]) => unknown> = ReturnType<F>;

test('the guide’s composable has its shape, and more', () => {
  expectTypeOf(useAgentStream).toBeCallableWith('agent_123');
  expectTypeOf(useAgentStream).toBeCallableWith(ref('agent_123'));
  expectTypeOf<Of<typeof useAgentStream>>().toExtend<{
    content: Readonly<Ref<string>>;
    isStreaming: Readonly<Ref<boolean>>;
    error: Readonly<Ref<Error | null>>;
    execute(goal: string): Promise<void>;
  }>();
});

test('what is shown is unwrapped by a ref of its own type', () => {
  expectTypeOf<Of<typeof useSession>['sessionId']['value']>().toEqualTypeOf<string | null>();
  expectTypeOf<Of<typeof useEvents>['events']['value']>().toEqualTypeOf<readonly PlatformEvent[]>();
});
