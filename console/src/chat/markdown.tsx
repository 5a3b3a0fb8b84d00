import Renderer from 'react-markdown';
import gfm from 'remark-gfm';

const PLUGINS = [gfm];

/** An agent's text as Markdown. HTML in it stays text, and links open elsewhere. */
export default function Markdown(props: { text: string }) {
  return (
    <div className="markdown">
      <Renderer
        remarkPlugins={PLUGINS}
        components={{
          a: ({ href, children }) => (
            <a href={href} target="_blank" rel="noreferrer">
              {children}
            </a>
          ),
          // No request to another host.
          img: ({ alt }) => <em>[image: {alt}]</em>,
        }}
      >
        {props.text}
      </Renderer>
    </div>
  );
}
