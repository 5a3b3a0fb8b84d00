import type { Agent } from '@resonantgenesis/sdk';
import { useQuery } from '@tanstack/react-query';
import { calls } from './api.ts';
import { may } from './credential/credential.ts';

/** The agents to choose from: the first hundred. */
export function useAgents() {
  return useQuery<Agent[]>({
    queryKey: ['agents'],
    queryFn: async () => [...(await calls.agents.list({ limit: 100 })).data],
    enabled: may('agents:read'),
  });
}

/** The name of an agent by its id. An agent that is not known here, or no more, has its id. */
export function useNamesOfAgents(): (id: string) => string {
  const agents = useAgents();
  const names = new Map(agents.data?.map(({ id, name }) => [id, name]));
  return (id) => names.get(id) ?? id;
}
