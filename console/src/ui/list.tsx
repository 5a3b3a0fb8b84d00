/** Lists: every page of one stands on these. */
import type { InfiniteData, UseInfiniteQueryResult } from '@tanstack/react-query';
import { useInfiniteQuery } from '@tanstack/react-query';
import type { ReactNode } from 'react';
import { isPassing } from '../api.ts';
import { ListState, Table } from './parts.tsx';

interface Some<Row> {
  readonly data: readonly Row[];
  readonly nextCursor: string | null;
}

export interface Listing<Row> {
  readonly rows: readonly Row[];
  readonly query: UseInfiniteQueryResult<InfiniteData<Some<Row>>>;
}

/** The pages of a list that were asked for, as the API orders them; `each`: milliseconds until it is
 * asked again. */
export function useListing<Row>(
  queryKey: readonly unknown[],
  page: (cursor: string | undefined) => Promise<Some<Row>>,
  each?: number,
): Listing<Row> {
  const query = useInfiniteQuery({
    queryKey,
    queryFn: ({ pageParam }) => page(pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (some) => some.nextCursor ?? undefined,
    ...(each !== undefined && { refetchInterval: each }),
  });
  return { rows: query.data?.pages.flatMap((some) => some.data) ?? [], query };
}

export interface Column<Row> {
  readonly name: string;
  /** Null, where there is nothing to tell. */
  readonly cell: (row: Row) => ReactNode;
  readonly className?: string;
  /** Whether its cells are figures, which stand below one another digit by digit. */
  readonly isFigure?: boolean;
}

/** The rows of a listing, or why there are none. On a phone each row is a card. */
export function List<Row>(props: {
  label: string;
  listing: Listing<Row>;
  columns: readonly Column<Row>[];
  idOf: (row: Row) => string;
  /** What can be done with a row: buttons. */
  actions?: ((row: Row) => ReactNode) | false;
  empty: ReactNode;
}) {
  const { label, columns, actions } = props;
  const { rows, query } = props.listing;
  // A search may have found nothing so far.
  if (rows.length === 0 && !query.hasNextPage)
    return <ListState query={query} empty={props.empty} />;
  return (
    <>
      {query.error && (
        <p className="notice warn" role="status">
          This is from <time>{new Date(query.dataUpdatedAt).toLocaleTimeString()}</time>:{' '}
          {isPassing(query.error)
            ? 'the server cannot be reached, and is asked again every few seconds.'
            : query.error.message}
        </p>
      )}
      <Table label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} className={column.isFigure ? 'figure' : undefined}>
                {column.name}
              </th>
            ))}
            {actions && (
              <th>
                <span className="visually-hidden">Actions</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={props.idOf(row)}>
              {columns.map((column) => (
                <td key={column.name} className={classOf(column)} data-label={column.name}>
                  <div>{column.cell(row)}</div>
                </td>
              ))}
              {actions && <td className="actions">{actions(row)}</td>}
            </tr>
          ))}
        </tbody>
      </Table>
      {query.hasNextPage && (
        <button
          className="button"
          type="button"
          disabled={query.isFetchingNextPage}
          onClick={() => void query.fetchNextPage()}
        >
          {query.isFetchingNextPage ? 'Loading …' : `More ${label.toLowerCase()}`}
        </button>
      )}
    </>
  );
}

function classOf<Row>({ className = '', isFigure }: Column<Row>): string {
  return isFigure ? `figure ${className}` : className;
}
