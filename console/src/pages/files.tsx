import type { StoredFile } from '@resonantgenesis/sdk';
import { Link } from '@tanstack/react-router';
import { Download, Trash2, Upload, X } from 'lucide-react';
import { useRef, useState } from 'react';
import { calls, queries, transfers } from '../api.ts';
import { saveBlob } from '../chat/save.ts';
import { may } from '../credential/credential.ts';
import { List, useListing } from '../ui/list.tsx';
import { Ago, Confirm, Empty, IconButton, Page, say, sayWhy, size } from '../ui/parts.tsx';

/** A file on its way, up or down. */
interface Transfer {
  readonly id: number;
  readonly name: string;
  readonly done: number;
  readonly size: number;
  readonly stop: AbortController;
}

/** Turns that were answered with files, and what programs have stored. */
export function Files() {
  const listing = useListing(['files'], (page) => calls.files.list(page));
  const [deleting, setDeleting] = useState<StoredFile | null>(null);
  const { transfers: running, upload, download } = useTransfers();
  const chooser = useRef<HTMLInputElement>(null);
  const mayWrite = may('files:write');
  const changed = () => queries.invalidateQueries({ queryKey: ['files'] });

  return (
    <Page
      title="Files"
      actions={
        mayWrite && (
          <>
            <input
              ref={chooser}
              type="file"
              multiple
              hidden
              aria-label="Files to upload"
              onChange={(event) => {
                for (const file of event.target.files ?? []) void upload(file);
                event.target.value = '';
              }}
            />
            <button
              className="button primary"
              type="button"
              onClick={() => chooser.current?.click()}
            >
              <Upload aria-hidden /> Upload
            </button>
          </>
        )
      }
    >
      {running.map((one) => (
        <Running key={one.id} transfer={one} />
      ))}
      <List
        label="Files"
        listing={listing}
        idOf={(file) => file.id}
        empty={
          <Empty title="No files yet">
            Upload one here, or let an agent make one; turns take files as input.
          </Empty>
        }
        columns={[
          {
            name: 'Name',
            className: 'address',
            cell: (file) => (
              <>
                {file.name}
                <div className="small muted mono">{file.id}</div>
              </>
            ),
          },
          { name: 'Type', className: 'muted', cell: (file) => file.contentType },
          { name: 'Size', className: 'nowrap', isFigure: true, cell: (file) => size(file.size) },
          {
            name: 'Made in',
            cell: (file) =>
              file.sessionId === null ? (
                file.subject
              ) : (
                <Link
                  to="/sessions/$sessionId"
                  params={{ sessionId: file.sessionId }}
                  className="mono"
                >
                  {file.sessionId}
                </Link>
              ),
          },
          { name: 'Made', className: 'muted', cell: (file) => <Ago time={file.createdAt} /> },
        ]}
        actions={(file) => (
          <>
            <IconButton
              icon={Download}
              name={`Download ${file.name}`}
              onClick={() => void download(file)}
            />
            {mayWrite && (
              <IconButton
                icon={Trash2}
                name={`Delete ${file.name}`}
                onClick={() => setDeleting(file)}
              />
            )}
          </>
        )}
      />
      <Confirm
        open={deleting !== null}
        onOpenChange={() => setDeleting(null)}
        title={`Delete ${deleting?.name}?`}
        description="Its content is gone for good. Turns that name it keep their text."
        action="Delete"
        onConfirm={() => deleting && calls.files.delete(deleting.id).then(changed)}
      />
    </Page>
  );
}

function Running(props: { transfer: Transfer }) {
  const { name, done, size: whole, stop } = props.transfer;
  return (
    <div className="panel padded row" role="status" aria-label={`Transfer of ${name}`}>
      <span className="grow">{name}</span>
      <progress max={whole || 1} value={done} aria-label={name} />
      <span className="small muted nowrap">
        {size(done)} of {size(whole)}
      </span>
      <IconButton icon={X} name={`Stop ${name}`} onClick={() => stop.abort()} />
    </div>
  );
}

let lastTransfer = 0;

/** Uploads and downloads with their progress. A lost connection delays them. */
function useTransfers() {
  const [running, setRunning] = useState<readonly Transfer[]>([]);

  async function run(
    name: string,
    whole: number,
    work: (onProgress: (done: number) => void, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    lastTransfer += 1;
    const own = { id: lastTransfer, name, done: 0, size: whole, stop: new AbortController() };
    setRunning((all) => [...all, own]);
    try {
      await work(
        (done) =>
          setRunning((all) => all.map((one) => (one.id === own.id ? { ...one, done } : one))),
        own.stop.signal,
      );
    } catch (error) {
      if (own.stop.signal.aborted) say(`${name} was stopped`);
      else sayWhy(error);
    } finally {
      setRunning((all) => all.filter((one) => one.id !== own.id));
    }
  }

  return {
    transfers: running,
    upload: (file: File) =>
      run(file.name, file.size, async (onProgress, signal) => {
        await transfers.files.upload(file, { onProgress, signal });
        say(`${file.name} is stored`);
        await queries.invalidateQueries({ queryKey: ['files'] });
      }),
    download: (file: StoredFile) =>
      run(file.name, file.size, async (onProgress, signal) => {
        const found = await transfers.files.download(file.id, { onProgress, signal });
        saveBlob(await found.blob(), file.name);
      }),
  };
}
