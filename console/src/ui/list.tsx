/** Lists: every page of one stands on these. */
import type { InfiniteData, UseInfiniteQueryResult } from '@tanstack/react-query';
import { useInfiniteQuery } from '@tanstack/react-query';
import { useVirtualizer } from '@tanstack/react-virtual';
import type { ReactNode } from 'react';
import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import { isPassing } from '../api.ts';
import { ListState, Table } from './parts.tsx';

/** Rows of a list's first page, and of those that follow when somebody scrolls on. */
const FIRST = 50;
const FURTHER = 500;
/** The guess of a row's height, rows that are drawn on both sides of what one sees, and rows before
 * the end at which the next page is asked for. */
const HEIGHT = 58;
const AROUND = 50;
const AHEAD = 15;

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
  read: (page: { limit: number; cursor: string | undefined }) => Promise<Some<Row>>,
  each?: number,
): Listing<Row> {
  const query = useInfiniteQuery({
    queryKey,
    queryFn: ({ pageParam }) =>
      read({ limit: pageParam === undefined ? FIRST : FURTHER, cursor: pageParam }),
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

interface ListProps<Row> {
  readonly listing: Listing<Row>;
  readonly columns: readonly Column<Row>[];
  readonly idOf: (row: Row) => string;
  /** What can be done with a row: buttons. */
  readonly actions?: ((row: Row) => ReactNode) | false;
}

/** The rows of a listing, or why there are none. On a phone each row is a card. */
export function List<Row>(props: ListProps<Row> & { label: string; empty: ReactNode }) {
  const { label, columns, actions } = props;
  const { rows, query } = props.listing;
  // A search may have found nothing so far.
  if (rows.length === 0 && !query.hasNextPage)
    return <ListState query={query} empty={props.empty} />;
  return (
    <>
      {query.error && (
        <p className="notice warn" role="status">
          This is from <time>{new Date(query.dataUpdatedAt).toLocaleTimeString('en-GB')}</time>:{' '}
          {isPassing(query.error)
            ? 'the server cannot be reached, and is asked again every few seconds.'
            : query.error.message}
        </p>
      )}
      <Table label={label} rows={query.hasNextPage ? -1 : rows.length + 1}>
        <thead>
          <tr aria-rowindex={1}>
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
        <Rows {...props} />
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

/** The rows around what one sees. The page scrolls, and further pages are read as it does. */
function Rows<Row>(props: ListProps<Row>) {
  const { columns, actions, idOf } = props;
  const { rows, query } = props.listing;
  const place = useRef<HTMLTableSectionElement>(null);
  const hasFocus = useRef(false);
  const [above, setAbove] = useState(0);
  const view = useVirtualizer({
    count: rows.length,
    getScrollElement: () => place.current?.closest('main') ?? null,
    getItemKey: (index) => idOf(rows[index] as Row),
    estimateSize: () => HEIGHT,
    overscan: AROUND,
    scrollMargin: above,
  });
  // A key scrolls the page step by step, and a correction in the midst of that would end it.
  view.shouldAdjustScrollPositionOnItemSizeChange = (
    item,
    _change,
    { scrollOffset, isScrolling },
  ) => !isScrolling && item.start < (scrollOffset ?? 0);
  const shown = view.getVirtualItems();
  const start = (shown[0]?.start ?? above) - above;
  const rest = view.getTotalSize() - ((shown.at(-1)?.end ?? above) - above);
  const isNearEnd =
    (view.scrollOffset ?? 0) > 0 && (view.range?.endIndex ?? 0) >= rows.length - AHEAD;
  const wantsMore = isNearEnd && query.hasNextPage && !query.isFetching && !query.error;

  // biome-ignore lint/correctness/useExhaustiveDependencies: a notice above moves the rows
  useLayoutEffect(() => {
    const main = place.current?.closest('main');
    if (!place.current || !main) return;
    const [top, from] = [place.current, main].map((one) => one.getBoundingClientRect().top);
    setAbove(Math.round((top ?? 0) - (from ?? 0) + main.scrollTop));
  }, [query.error]);
  // The list keeps the focus of a row that one scrolls away from: keys go on scrolling.
  useLayoutEffect(() => {
    if (!hasFocus.current || document.activeElement !== document.body) return;
    place.current?.closest('section')?.focus({ preventScroll: true });
  });
  useEffect(() => {
    if (wantsMore) void query.fetchNextPage();
  }, [wantsMore, query.fetchNextPage]);

  return (
    <tbody
      ref={place}
      onFocus={() => {
        hasFocus.current = true;
      }}
      onBlur={() => {
        hasFocus.current = false;
      }}
    >
      {start > 0 && <tr aria-hidden style={{ height: start }} />}
      {shown.map(({ index, key }) => {
        const row = rows[index] as Row;
        return (
          <tr
            key={String(key)}
            ref={view.measureElement}
            data-index={index}
            aria-rowindex={index + 2}
          >
            {columns.map((column) => (
              <td key={column.name} className={classOf(column)} data-label={column.name}>
                <div>{column.cell(row)}</div>
              </td>
            ))}
            {actions && <td className="actions">{actions(row)}</td>}
          </tr>
        );
      })}
      {rest > 0 && <tr aria-hidden style={{ height: rest }} />}
    </tbody>
  );
}

function classOf<Row>({ className = '', isFigure }: Column<Row>): string {
  return isFigure ? `figure ${className}` : className;
}
