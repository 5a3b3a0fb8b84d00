/** Lists that follow what happens on the server. */

import { useEvents } from '@resonantgenesis/sdk/react';
import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';
import { may } from './credential/credential.ts';

/** Milliseconds in which events are gathered before the server is asked again. */
const GATHER = 700;

/** Asks again for the queries of `name` after events of `pattern`, if the credential sees events. */
export function useFollow(pattern: string, name: string): void {
  const queries = useQueryClient();
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEvents(
    may('events:read')
      ? {
          events: [pattern],
          limit: 1,
          onEvent: () => {
            timer.current ??= setTimeout(() => {
              timer.current = undefined;
              void queries.invalidateQueries({ queryKey: [name] });
            }, GATHER);
          },
        }
      : { limit: 1 },
  );
  useEffect(() => () => clearTimeout(timer.current), []);
}
