import type { Agent } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { calls } from './api.ts';

/** The agents to choose from: the first hundred. */
export function useAgents() {
  return useQuery<Agent[]>({
    queryKey: ['agents'],
    queryFn: async () => [...(await calls.agents.list({ limit: 100 })).data],
  });
}
