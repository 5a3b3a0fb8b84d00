import { useNavigate } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { toggleTheme } from '../ui/theme.ts';
// Not loaded when a key asks for them: they must be there at once, and without a server.
import { Help } from './help.tsx';
import { hearKeys, type Page } from './keys.ts';
import { Palette } from './palette.tsx';

const listeners = new Set<() => void>();

/** Opens the palette, for those who have no key at hand. */
export function openPalette(): void {
  for (const listener of listeners) listener();
}

/** The keys of every page: the palette, the list of the keys, and the way to each page. */
export function Keyboard(props: { pages: readonly Page[] }) {
  const { pages } = props;
  const [shown, setShown] = useState<'palette' | 'help' | null>(null);
  const navigate = useNavigate();
  useEffect(() => {
    const toPalette = () => setShown('palette');
    listeners.add(toPalette);
    const end = hearKeys(pages, {
      palette: () => setShown((before) => (before === 'palette' ? null : 'palette')),
      help: () => setShown('help'),
      theme: toggleTheme,
      goTo: ({ to }) => void navigate({ to }),
    });
    return () => {
      listeners.delete(toPalette);
      end();
    };
  }, [pages, navigate]);
  // The browser tells that a dialog has closed when the next one may already have been asked for.
  const close = (dialog: 'palette' | 'help') => setShown((now) => (now === dialog ? null : now));
  return (
    <>
      {shown === 'palette' && (
        <Palette pages={pages} onClose={() => close('palette')} onHelp={() => setShown('help')} />
      )}
      {shown === 'help' && <Help pages={pages} onClose={() => close('help')} />}
    </>
  );
}
