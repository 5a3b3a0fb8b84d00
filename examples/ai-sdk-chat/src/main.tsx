import { createRoot } from 'react-dom/client';
import '../../shared/chat.css';
import { App } from './App.tsx';
import { load } from './chat.ts';

const root = document.getElementById('root');
if (root === null) throw new Error('the page has no #root');
createRoot(root).render(<App messages={await load()} />);
