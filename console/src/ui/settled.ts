import { useEffect, useState } from 'react';

/** Milliseconds without a key until a search is asked for. */
const QUIET = 250;

/** The text once nobody has typed for a moment. An empty one counts at once. */
export function useSettled(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), QUIET);
    return () => clearTimeout(timer);
  }, [text]);
  return text === '' ? '' : settled;
}
