import type { PlatformEvent } from '@resonantgenesis/sdk';
import { useEvents } from '@resonantgenesis/sdk/react';
import { Pause, Play, Send } from 'lucide-react';
import { useState } from 'react';
import { calls } from '../api.ts';
import { may } from '../credential/credential.ts';
import { Form, TextField } from '../ui/form.tsx';
import { Ago, Dialog, Empty, Json, Page, say, Table } from '../ui/parts.tsx';

const SHOWN = 500;
/** Milliseconds before now from which on events are shown if no time is chosen. */
const RECENT = 3_600_000;

/** What happens in the organization, live. A pause hides nothing: what came meanwhile follows. */
export function Events() {
  const [pattern, setPattern] = useState('');
  const [since, setSince] = useState('');
  const [selection, setSelection] = useState<{ events?: string[]; since: string }>(() => ({
    since: timeOf(''),
  }));
  const [paused, setPaused] = useState<readonly PlatformEvent[] | null>(null);
  const [open, setOpen] = useState<PlatformEvent | null>(null);
  const [publishing, setPublishing] = useState(false);
  const live = useEvents({ ...selection, limit: SHOWN });
  const events = paused ?? live.events;
  const missed = paused === null ? 0 : live.events.filter((one) => !paused.includes(one)).length;

  return (
    <Page
      title="Events"
      actions={
        <>
          <button
            className="button"
            type="button"
            onClick={() => setPaused(paused === null ? live.events : null)}
          >
            {paused === null ? <Pause aria-hidden /> : <Play aria-hidden />}
            {paused === null ? 'Pause' : `Go on (${missed} new)`}
          </button>
          {may('events:write') && (
            <button className="button" type="button" onClick={() => setPublishing(true)}>
              <Send aria-hidden /> Publish
            </button>
          )}
        </>
      }
    >
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          const names = pattern.split(/[\s,]+/).filter(Boolean);
          setPaused(null);
          setSelection({
            ...(names.length > 0 && { events: names }),
            since: timeOf(since),
          });
        }}
      >
        <input
          className="input mono patterns"
          placeholder="session.*, agent.error"
          aria-label="Patterns"
          value={pattern}
          onChange={(event) => setPattern(event.target.value)}
        />
        <input
          className="input fit"
          type="datetime-local"
          // To the second.
          step={1}
          aria-label="Since"
          title="An hour ago, if empty"
          value={since}
          onChange={(event) => setSince(event.target.value)}
        />
        <button className="button" type="submit">
          Show
        </button>
      </form>
      {live.error && (
        <p className="notice bad" role="alert">
          {live.error.message}{' '}
          <button className="button" type="button" onClick={live.retry}>
            Try again
          </button>
        </p>
      )}
      {events.length === 0 ? (
        live.error === null && (
          <Empty title="Waiting for the first event">
            Ask an agent in the playground, or publish one.
          </Empty>
        )
      ) : (
        <Table label="Events">
          <thead>
            <tr>
              <th>Type</th>
              <th>Data</th>
              <th>When</th>
            </tr>
          </thead>
          <tbody>
            {[...events].reverse().map((event) => (
              <tr key={event.id}>
                <td data-label="Type">
                  <button className="link mono" type="button" onClick={() => setOpen(event)}>
                    {event.type}
                  </button>
                </td>
                <td className="mono muted excerpt" data-label="Data">
                  {JSON.stringify(event.data).slice(0, 160)}
                </td>
                <td className="muted" data-label="When">
                  <Ago time={event.createdAt} />
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      <Dialog
        open={open !== null}
        onOpenChange={() => setOpen(null)}
        title={open?.type ?? ''}
        description="The event as clients get it."
      >
        <Json value={open && { ...open, created_at: open.createdAt, createdAt: undefined }} />
      </Dialog>
      {publishing && <Publish onClose={() => setPublishing(false)} />}
    </Page>
  );
}

/** What is chosen, as a time of the API. */
function timeOf(since: string): string {
  return new Date(since || Date.now() - RECENT).toISOString();
}

function Publish(props: { onClose: () => void }) {
  const [type, setType] = useState('app.test');
  const [data, setData] = useState('{"hello": "world"}');
  async function publish() {
    await calls.events.publish(type, JSON.parse(data));
    props.onClose();
    say('Published');
  }
  return (
    <Form
      title="Publish an event"
      description="Types of your own begin with app., team., billing. or system."
      action="Publish"
      onSave={publish}
      onClose={props.onClose}
    >
      <TextField label="Type" name="type" required isCode value={type} onChange={setType} />
      <TextField
        label="Data"
        name="data"
        hint="JSON"
        lines
        isCode
        value={data}
        onChange={setData}
      />
    </Form>
  );
}
