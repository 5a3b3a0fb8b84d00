import { useState } from 'react';
import { Dialog } from '../ui/parts.tsx';
import { hasSingleKeys, lettersOf, type Page, setSingleKeys } from './keys.ts';
import './keyboard.css';

const COMMAND = /Mac|iP(hone|ad)/.test(navigator.platform) ? '⌘ K' : 'Ctrl K';
const ALWAYS: readonly [keys: string, meaning: string][] = [
  [COMMAND, 'Everything: pages, sessions, agents, theme, sign out'],
  ['Tab, Shift Tab', 'The next and the last thing that can be used'],
  ['Enter, Shift Enter', 'In a question: ask, a new line'],
  ['↑ ↓ Page Home End', 'In a log: choose an entry'],
  ['Esc', 'Closes what is open'],
];
const SINGLE: readonly [keys: string, meaning: string][] = [
  ['?', 'These keys'],
  ['/', 'Write: the question, or the first field of the page'],
  ['d', 'Light or dark'],
];

/** The keys, and whether the single ones are heard. */
export function Help(props: { pages: readonly Page[]; onClose: () => void }) {
  const [isOn, setOn] = useState(hasSingleKeys);
  const pages = [...lettersOf(props.pages)].map(([key, page]) => [`g ${key}`, page.name] as const);
  return (
    <Dialog open onOpenChange={props.onClose} title="Keys">
      <Keys keys={ALWAYS} />
      <label className="row single-keys">
        <input
          type="checkbox"
          checked={isOn}
          onChange={() => {
            setSingleKeys(!isOn);
            setOn(!isOn);
          }}
        />
        Single keys, where nothing is being written
      </label>
      {isOn && <Keys keys={[...SINGLE, ...pages]} />}
    </Dialog>
  );
}

function Keys(props: { keys: readonly (readonly [keys: string, meaning: string])[] }) {
  return (
    <dl className="keys">
      {props.keys.map(([keys, meaning]) => (
        <div key={keys}>
          <dt>
            <kbd>{keys}</kbd>
          </dt>
          <dd>{meaning}</dd>
        </div>
      ))}
    </dl>
  );
}
