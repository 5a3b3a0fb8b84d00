/** The keys of the console, and who hears them. */

const STORED = 'resonantgenesis.console.single-keys';
/** Milliseconds in which the second key of two has to come. */
const TOGETHER = 1_500;

/** Whether keys without Ctrl do something: somebody who speaks to the computer may not want that. */
export function hasSingleKeys(): boolean {
  return localStorage.getItem(STORED) !== 'off';
}

export function setSingleKeys(on: boolean): void {
  if (on) localStorage.removeItem(STORED);
  else localStorage.setItem(STORED, 'off');
}

export interface Page {
  readonly to: string;
  readonly name: string;
}

/** The letter of each page behind `g`: the first of its name that no page before it has. */
export function lettersOf(pages: readonly Page[]): ReadonlyMap<string, Page> {
  const letters = new Map<string, Page>();
  for (const page of pages) {
    const letter = [...page.name.toLowerCase()].find((one) => !letters.has(one));
    if (letter !== undefined) letters.set(letter, page);
  }
  return letters;
}

export interface KeyActions {
  palette(): void;
  help(): void;
  theme(): void;
  goTo(page: Page): void;
}

/** Hears keys. Returns a function that ends it. */
export function hearKeys(pages: readonly Page[], actions: KeyActions): () => void {
  const letters = lettersOf(pages);
  let gone = Number.NEGATIVE_INFINITY;

  function single(key: string, now: number): boolean {
    const page = now - gone < TOGETHER ? letters.get(key) : undefined;
    gone = key === 'g' && page === undefined ? now : Number.NEGATIVE_INFINITY;
    if (page !== undefined) actions.goTo(page);
    else if (key === '?') actions.help();
    else if (key === 'd') actions.theme();
    else if (key === '/') focusInput();
    else return false;
    return true;
  }

  function onKeyDown(event: KeyboardEvent) {
    const isCommand = event.ctrlKey || event.metaKey;
    if (isCommand && event.key.toLowerCase() === 'k') {
      event.preventDefault();
      actions.palette();
      return;
    }
    const isTyped = isCommand || event.altKey || isWriting(event.target) || !hasSingleKeys();
    if (isTyped || document.querySelector('dialog[open]')) return;
    if (single(event.key, event.timeStamp)) event.preventDefault();
  }

  addEventListener('keydown', onKeyDown);
  return () => removeEventListener('keydown', onKeyDown);
}

/** Whether a key goes into a text or a list of choices. */
function isWriting(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.matches('input, textarea, select');
}

/** The first place of the page where one writes. */
function focusInput(): void {
  const inputs = 'main textarea, main input:not([type="checkbox"], [type="range"])';
  document.querySelector<HTMLElement>(inputs)?.focus();
}
