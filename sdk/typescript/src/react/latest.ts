import type { RefObject } from 'react';
import { useEffect, useRef } from 'react';

/** What the last render was given, for effects and handlers that must not depend on it. */
export function useLatest<T>(value: T): Readonly<RefObject<T>> {
  const latest = useRef(value);
  useEffect(() => {
    latest.current = value;
  });
  return latest;
}
