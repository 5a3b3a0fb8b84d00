// What an application wrote after the streaming guide, call by call.
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { ref } from 'vue';

export function useGuideStream(agentId: string) {
  const content = ref('');
  const isStreaming = ref(false);
  const error = ref<Error | null>(null);

  async function execute(goal: string) {
    const client = new ResonantGenesis({ apiKey: import.meta.env.VITE_API_KEY });
    isStreaming.value = true;
    content.value = '';
    error.value = null;
    try {
      const stream = await client.sessions.executeStream({ agentId, goal });
      for await (const chunk of stream) {
        if (chunk.type === 'text') {
          content.value += chunk.content;
        }
      }
    } catch (problem) {
      error.value = problem as Error;
    } finally {
      isStreaming.value = false;
    }
  }

  return { content, isStreaming, error, execute };
}
