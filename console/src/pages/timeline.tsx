import type { Chunk } from '@resonantgenesis/sdk';
import { useVirtualizer } from '@tanstack/react-virtual';
import { useEffect, useRef, useState } from 'react';
import { client } from '../api.ts';
import { Json, number, sayWhy } from '../ui/parts.tsx';

const ROW = 32;
/** Milliseconds between two renders while a log is read. */
const FRAME = 100;

/** The log of a session, entry by entry, and what comes while one looks. */
export default function Timeline(props: { sessionId: string }) {
  const chunks = useChunks(props.sessionId);
  const [open, setOpen] = useState<Chunk | null>(null);
  const scroll = useRef<HTMLDivElement>(null);
  const rows = useVirtualizer({
    count: chunks.length,
    getScrollElement: () => scroll.current,
    estimateSize: () => ROW,
    overscan: 12,
  });
  return (
    <div className="stack">
      <div className="panel log" ref={scroll}>
        <div style={{ height: rows.getTotalSize(), position: 'relative' }}>
          {rows.getVirtualItems().map((item) => {
            const chunk = chunks[item.index];
            if (chunk === undefined) return null;
            return (
              <button
                key={item.key}
                type="button"
                className="log-row"
                style={{ position: 'absolute', top: 0, transform: `translateY(${item.start}px)` }}
                onClick={() => setOpen(chunk)}
              >
                <span>{chunk.position}</span>
                <span>{chunk.type}</span>
                <span>{summaryOf(chunk)}</span>
                <span>{number.format(JSON.stringify(chunk).length)}</span>
              </button>
            );
          })}
        </div>
      </div>
      <p className="small muted">
        {number.format(chunks.length)} entries. Select one to see it whole; the last column is its
        size in characters.
      </p>
      {open && <Json value={open} />}
    </div>
  );
}

function summaryOf(chunk: Chunk): string {
  if (chunk.type === 'text' || chunk.type === 'reasoning') return JSON.stringify(chunk.content);
  const { type: _type, position: _position, ...rest } = chunk;
  return JSON.stringify(rest);
}

function useChunks(sessionId: string): readonly Chunk[] {
  const [chunks, setChunks] = useState<readonly Chunk[]>([]);
  useEffect(() => {
    const stop = new AbortController();
    const read: Chunk[] = [];
    let timer: ReturnType<typeof setTimeout> | undefined;
    const show = () => {
      timer = undefined;
      setChunks([...read]);
    };
    async function follow() {
      const stream = await client.sessions.join(sessionId, {
        resumeFrom: 0,
        follow: true,
        raiseOnError: false,
        signal: stop.signal,
      });
      for await (const chunk of stream) {
        read.push(chunk);
        timer ??= setTimeout(show, FRAME);
      }
    }
    follow().catch((error) => {
      if (!stop.signal.aborted) sayWhy(error);
    });
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [sessionId]);
  return chunks;
}
