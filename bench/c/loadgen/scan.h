/* Finds payload markers "@TS:SEQ;" in a stream of bytes that is cut anywhere, whatever wraps
   them (SSE and JSON, a WebSocket message, several in one), and the SSE `id` of each event. */
#ifndef BENCH_SCAN_H
#define BENCH_SCAN_H

#include <stddef.h>
#include <stdint.h>

#define ID_SIZE 128

struct scan {
    uint8_t state;
    uint8_t is_sse;
    uint8_t next_size;
    uint8_t matched, is_summary;
    int64_t ts, seq;
    char id[ID_SIZE];   /* of the last event that was dispatched (its blank line was read) */
    char next[ID_SIZE]; /* of the event under way */
    int64_t last;       /* seq of the last marker */
    int64_t dispatched; /* … of the last event that was dispatched */
    uint64_t frames;    /* SSE events with a marker in them */
};

struct conn;
/* Called for each marker. */
void on_marker(struct conn *conn, int64_t ts, int64_t seq);

void scan_start(struct scan *scan, int is_sse);
void scan_feed(struct scan *scan, struct conn *conn, const char *data, size_t size);

#endif
