/** A page of things that are made, changed and deleted: a list, a form, and a question before a loss. */
import { Pencil, Plus, Trash2 } from 'lucide-react';
import type { ReactNode } from 'react';
import { useState } from 'react';
import { queries } from '../api.ts';
import { may } from '../credential/credential.ts';
import { type Column, List, type Listing } from './list.tsx';
import { Confirm, IconButton, Page } from './parts.tsx';

interface Thing {
  readonly id: string;
}

export function Managed<Row extends Thing>(props: {
  title: string;
  /** What one of them is called: “agent”. */
  noun: string;
  /** Without this scope nothing is offered that changes something. */
  scope: string;
  /** The keys of the queries that a change makes stale. */
  changes: readonly string[];
  listing: Listing<Row>;
  columns: readonly Column<Row>[];
  empty: ReactNode;
  /** Makes one, or changes the one that it gets. */
  form: (row: Row | null, onClose: () => void) => ReactNode;
  /** What each row offers; left out: nothing. */
  rows?: {
    nameOf: (row: Row) => string;
    /** Whether this one can be changed; left out: each can. */
    canChange?: (row: Row) => boolean;
    /** What a deletion means, for the person who is asked. */
    warning: string;
    onDelete: (row: Row) => Promise<unknown>;
  };
}) {
  const { title, noun, scope, changes, listing, columns, empty, form, rows } = props;
  const [editing, setEditing] = useState<Row | 'new' | null>(null);
  const [deleting, setDeleting] = useState<Row | null>(null);
  const mayWrite = may(scope);
  const changed = () =>
    Promise.all(changes.map((key) => queries.invalidateQueries({ queryKey: [key] })));

  function closeForm() {
    setEditing(null);
    void changed();
  }

  return (
    <Page
      title={title}
      actions={
        mayWrite && (
          <button className="button primary" type="button" onClick={() => setEditing('new')}>
            <Plus aria-hidden /> New {noun}
          </button>
        )
      }
    >
      <List
        label={title}
        listing={listing}
        idOf={(row) => row.id}
        columns={columns}
        empty={empty}
        actions={
          mayWrite &&
          rows &&
          ((row) =>
            (rows.canChange?.(row) ?? true) && (
              <>
                <IconButton
                  icon={Pencil}
                  name={`Edit ${rows.nameOf(row)}`}
                  onClick={() => setEditing(row)}
                />
                <IconButton
                  icon={Trash2}
                  name={`Delete ${rows.nameOf(row)}`}
                  onClick={() => setDeleting(row)}
                />
              </>
            ))
        }
      />
      {editing !== null && form(editing === 'new' ? null : editing, closeForm)}
      {rows && deleting !== null && (
        <Confirm
          open
          onOpenChange={() => setDeleting(null)}
          title={`Delete ${rows.nameOf(deleting)}?`}
          description={rows.warning}
          action="Delete"
          onConfirm={() => rows.onDelete(deleting).then(changed)}
        />
      )}
    </Page>
  );
}
