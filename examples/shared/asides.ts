import type { TurnSnapshot } from '@resonantgenesis/sdk/store';

/** What a turn shows beside its answer and its tools, to be opened. */
export interface Aside {
  readonly key: number;
  readonly name: string;
  readonly text: string;
}

/** What the agent thought, what it gave as data, and what the user said to it while it ran. */
export function asidesOf({ parts }: TurnSnapshot): Aside[] {
  return parts.flatMap((part, key): Aside[] => {
    switch (part.type) {
      case 'step':
        return part.progress ? [{ key, name: part.name, text: part.progress }] : [];
      case 'reasoning':
        return [{ key, name: 'thought', text: part.content }];
      case 'data':
        return [{ key, name: part.name, text: JSON.stringify(part.data) }];
      case 'user_message':
        return [{ key, name: 'you', text: part.content }];
      default:
        return [];
    }
  });
}
