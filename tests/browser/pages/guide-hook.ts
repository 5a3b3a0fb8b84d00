// What an application wrote after the streaming guide, call by call.
import { ResonantGenesis } from '@resonantgenesis/sdk';
import { useEffect, useState } from 'react';

export function useGuideStream(agentId: string, goal: string) {
  const [content, setContent] = useState('');
  const [isStreaming, setIsStreaming] = useState(false);
  const [error, setError] = useState<Error | null>(null);

  useEffect(() => {
    if (!goal) return;

    const client = new ResonantGenesis({ apiKey: process.env.API_KEY });
    let gone = false;

    const follow = async () => {
      setIsStreaming(true);
      setContent('');
      setError(null);
      try {
        const stream = await client.sessions.executeStream({ agentId, goal });
        for await (const chunk of stream) {
          if (gone) break;
          if (chunk.type === 'text') {
            setContent((before) => before + chunk.content);
          }
        }
      } catch (problem) {
        if (!gone) setError(problem as Error);
      } finally {
        if (!gone) setIsStreaming(false);
      }
    };
    follow();

    return () => {
      gone = true;
    };
  }, [agentId, goal]);

  return { content, isStreaming, error };
}
