import type { SessionData } from '@resonantgenesis/sdk';

/** What people know a session by: the title in its metadata, else its first question. */
export function titleOf({ metadata, firstGoal }: SessionData): string {
  return typeof metadata.title === 'string' ? metadata.title : (firstGoal ?? '');
}
