import { useCallback, useEffect, useState } from 'react';
import { Field } from '../ui/parts.tsx';
import { credential, SignInError, signInWithCode, signInWithKey } from './credential.ts';
import './sign-in.css';

/** The page before all others. A link with `#sign-in=CODE` signs in by itself. */
export function SignIn() {
  const [key, setKey] = useState('');
  const [keep, setKeep] = useState(true);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState('');

  const attempt = useCallback(async (signIn: () => Promise<void>) => {
    setBusy(true);
    setProblem('');
    try {
      await signIn();
    } catch (error) {
      if (!(error instanceof SignInError)) throw error;
      setProblem(error.message);
    } finally {
      setBusy(false);
    }
  }, []);

  useEffect(() => {
    function signInByLink() {
      const code = /^#sign-in=([\w.-]+)$/.exec(location.hash)?.[1];
      if (code === undefined) return;
      history.replaceState(null, '', location.pathname);
      void attempt(() => signInWithCode(code));
    }
    signInByLink();
    addEventListener('hashchange', signInByLink);
    return () => removeEventListener('hashchange', signInByLink);
  }, [attempt]);

  return (
    <main className="sign-in">
      <form
        className="panel stack"
        onSubmit={(event) => {
          event.preventDefault();
          void attempt(() => signInWithKey(key.trim(), keep));
        }}
      >
        <div className="row">
          <img src={`${import.meta.env.BASE_URL}logo.svg`} alt="" width={30} height={30} />
          <h1>ResonantGenesis</h1>
        </div>
        {credential.whyNot() === 'refused' && (
          <p className="notice warn" role="status">
            Your sign-in has ended. Sign in again, and you are back at this page.
          </p>
        )}
        <Field label="API key" hint="The first start writes it to api-key in the data directory.">
          <input
            className="input mono"
            type="password"
            autoComplete="off"
            required
            value={key}
            onChange={(event) => setKey(event.target.value)}
          />
        </Field>
        <label className="row small">
          <input type="checkbox" checked={keep} onChange={() => setKeep(!keep)} />
          Stay signed in until this tab is closed
        </label>
        {problem && (
          <p className="notice bad" role="alert">
            {problem}
          </p>
        )}
        <button className="button primary" type="submit" disabled={busy}>
          {busy ? 'Signing in …' : 'Sign in'}
        </button>
        <p className="small muted">
          The key is exchanged for a token at once and is kept nowhere. <a href="/docs/">Docs</a>
        </p>
      </form>
    </main>
  );
}
