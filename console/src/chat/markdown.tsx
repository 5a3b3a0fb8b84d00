import { Copy } from 'lucide-react';
import type { ReactNode } from 'react';
import { lazy, memo, Suspense } from 'react';
import type { Components } from 'react-markdown';
import Renderer from 'react-markdown';
import gfm from 'remark-gfm';
import { copy, IconButton, sayWhy } from '../ui/parts.tsx';
import { type Block, blocksOf } from './blocks.ts';
import './chat.css';

const Highlighted = lazy(() => import('./highlighted.tsx'));
const PLUGINS = [gfm];

const COMPONENTS: Components = {
  a: ({ href, children }) => (
    <a href={href} target="_blank" rel="noreferrer">
      {children}
    </a>
  ),
  // No request to another host.
  img: ({ alt }) => <em>[image: {alt}]</em>,
  pre: ({ children }) => children,
  table: ({ children }) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse
    <section className="scroll-x" aria-label="Table" tabIndex={0}>
      <table>{children}</table>
    </section>
  ),
  code: ({ className, children }) => {
    const text = String(children);
    // Text between two backquotes has no end of a line.
    if (!text.endsWith('\n')) return <code>{children}</code>;
    return <Listing language={languageOf(className)} text={text} isColoured />;
  },
};
/** Of text that still grows: a listing is coloured when it is there. */
const GROWING: Components = {
  ...COMPONENTS,
  code: ({ className, children }) => {
    const text = String(children);
    if (!text.endsWith('\n')) return <code>{children}</code>;
    return <Listing language={languageOf(className)} text={text} isColoured={false} />;
  },
};

function languageOf(className = ''): string | undefined {
  return /language-([\w+#-]+)/.exec(className)?.[1];
}

/** An agent's text as Markdown. HTML in it stays text, and links open elsewhere. */
export default function Markdown(props: { text: string; isGrowing: boolean }) {
  const blocks = blocksOf(props.text);
  return (
    <div className="markdown">
      {blocks.map((block, index) => (
        <BlockOf
          // biome-ignore lint/suspicious/noArrayIndexKey: blocks are only added behind the others
          key={index}
          kind={block.kind}
          text={block.text}
          isGrowing={props.isGrowing && index === blocks.length - 1}
        />
      ))}
    </div>
  );
}

const BlockOf = memo(function BlockOf({ kind, text, isGrowing }: Block & { isGrowing: boolean }) {
  if (kind === 'plain') return <div className="piece">{text}</div>;
  if (kind === 'code') return <pre className="piece">{text}</pre>;
  return (
    <Renderer remarkPlugins={PLUGINS} components={isGrowing ? GROWING : COMPONENTS}>
      {text}
    </Renderer>
  );
});

/** A listing with its language, to be copied. */
function Listing(props: { language: string | undefined; text: string; isColoured: boolean }) {
  const { language, text } = props;
  const plain: ReactNode = <code>{text}</code>;
  return (
    <figure className="listing">
      <figcaption className="row spread small muted">
        <span>{language ?? 'text'}</span>
        <IconButton icon={Copy} name="Copy the listing" onClick={() => copy(text).catch(sayWhy)} />
      </figcaption>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: else nobody scrolls it without a mouse */}
      <pre tabIndex={0}>
        {language === undefined || !props.isColoured ? (
          plain
        ) : (
          <Suspense fallback={plain}>
            <Highlighted language={language} text={text} />
          </Suspense>
        )}
      </pre>
    </figure>
  );
}
