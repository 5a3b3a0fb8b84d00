import { createRoot } from 'react-dom/client';
import '../../shared/chat.css';
import { App } from './App.tsx';
import { load } from './chat.ts';

const root = document.getElementById('root');
if (root === null) throw new Error('the page has no #root');
const page = createRoot(root);
try {
  page.render(<App messages={await load()} />);
} catch (error) {
  page.render(<p role="alert">{String(error)} Load the page again.</p>);
}
