/** Light or dark: what the person chose, else what the system says. */
const STORED = 'resonantgenesis.console.theme';
const system = matchMedia('(prefers-color-scheme: dark)');

export function isDark(): boolean {
  const chosen = localStorage.getItem(STORED);
  return chosen === null ? system.matches : chosen === 'dark';
}

export function applyTheme(): void {
  document.documentElement.dataset.theme = isDark() ? 'dark' : 'light';
}

export function toggleTheme(): void {
  localStorage.setItem(STORED, isDark() ? 'light' : 'dark');
  applyTheme();
}

system.addEventListener('change', applyTheme);
