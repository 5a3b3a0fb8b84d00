import { toJsxRuntime } from 'hast-util-to-jsx-runtime';
import { common, createLowlight } from 'lowlight';
import { Fragment, useMemo } from 'react';
import { jsx, jsxs } from 'react/jsx-runtime';

const lowlight = createLowlight(common);

/** Code in the colours of its language; as it is in a language that nobody here knows. */
export default function Highlighted(props: { language: string; text: string }) {
  const { language, text } = props;
  const shown = useMemo(() => {
    if (!lowlight.registered(language)) return text;
    return toJsxRuntime(lowlight.highlight(language, text), { Fragment, jsx, jsxs });
  }, [language, text]);
  return <code>{shown}</code>;
}
