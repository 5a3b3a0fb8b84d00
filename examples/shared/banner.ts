import type { StreamError } from '@resonantgenesis/sdk';
import { ConnectionLost } from '@resonantgenesis/sdk';

/** What the page as a whole has to say. */
export interface Banner {
  readonly kind: 'offline' | 'away' | 'refused';
  readonly text: string;
}

export interface Circumstances {
  /** The browser has no network. */
  readonly isOffline: boolean;
  /** Why the server cannot be reached, while it is tried again. */
  readonly away: StreamError | null;
  /** Why the server wants nothing of this page. */
  readonly refused: Error | null;
  /** Whether a message has not reached it yet. */
  readonly isUnsent: boolean;
}

export function bannerOf({ isOffline, away, refused, isUnsent }: Circumstances): Banner | null {
  if (isOffline) {
    const rest = isUnsent
      ? 'Your message is kept, and sent when you are back.'
      : 'The agent goes on; what it says meanwhile comes when you are back.';
    return { kind: 'offline', text: `You are offline. ${rest}` };
  }
  if (away !== null) {
    const rest = isUnsent
      ? 'Your message is kept, and sent as soon as the server is back.'
      : 'This page goes on by itself as soon as the server is back.';
    return { kind: 'away', text: `${whyAway(away)} ${rest}` };
  }
  return refused === null ? null : { kind: 'refused', text: sentence(refused.message) };
}

/** What is behind this page's own server, that one says in its answers. */
function whyAway(error: StreamError): string {
  return error instanceof ConnectionLost
    ? `The server at ${location.host} cannot be reached.`
    : sentence(error.message);
}

function sentence(text: string): string {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}
