/** Lists that follow what happens on the server. */

import { EventsStore } from '@resonantgenesis/sdk/store';
import { useEffect } from 'react';
import { client, queries } from './api.ts';
import { may } from './credential/credential.ts';

/** Milliseconds in which events are gathered before the server is asked again. */
const GATHER = 700;

/** Asks again for the queries of `name` after events of `pattern`, if the credential sees events. */
export function useFollow(pattern: string, name: string): void {
  useEffect(() => {
    if (!may('events:read')) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    function onEvent() {
      timer ??= setTimeout(() => {
        timer = undefined;
        void queries.invalidateQueries({ queryKey: [name] });
      }, GATHER);
    }
    const events = new EventsStore(client, { events: [pattern] }, { limit: 1, onEvent });
    const release = events.hold();
    return () => {
      release();
      clearTimeout(timer);
    };
  }, [pattern, name]);
}
