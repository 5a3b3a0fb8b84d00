/** Light or dark: what the person chose, else what the system says. */
const STORED = 'resonantgenesis.console.theme';
const system = matchMedia('(prefers-color-scheme: dark)');
const listeners = new Set<() => void>();

export function isDark(): boolean {
  const chosen = localStorage.getItem(STORED);
  return chosen === null ? system.matches : chosen === 'dark';
}

export function applyTheme(): void {
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
  for (const listener of listeners) listener();
}

export function toggleTheme(): void {
  localStorage.setItem(STORED, isDark() ? 'light' : 'dark');
  applyTheme();
}

/** Calls back when the theme changes: what is drawn on a canvas must be drawn anew. */
export function onTheme(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

system.addEventListener('change', applyTheme);
