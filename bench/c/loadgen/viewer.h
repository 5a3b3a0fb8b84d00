/* The viewers: connections that read one stream each, and what they have seen. */
#ifndef BENCH_VIEWER_H
#define BENCH_VIEWER_H

#include "hist.h"
#include "http.h"
#include "options.h"
#include "scan.h"
#include "ws.h"

enum phase { IDLE, CONNECTING, WAITING, OPEN, ENDED, FAILED };

struct conn {
    int fd;
    uint8_t phase;
    uint8_t counted_open, finished, slow, swept, caught_up;
    int number;
    int run;
    int64_t started; /* when connect() was called */
    uint8_t saw_first;
    struct scan scan;
    struct http http;
    struct ws ws;
    char *out; /* not yet sent */
    size_t out_size;
};

/* What was seen since the last mark, and how the connections stand. */
struct seen {
    uint64_t delivered, bytes, reads, gaps, duplicates;
    struct hist latency, first, opening, finish;
};

struct viewers {
    struct options options;
    int epoll;
    struct conn *conns;
    int next_idle;      /* index from which connections may wait to be opened */
    int opening, open, ended, failed, finished, caught_up;
    int64_t reconnected; /* when the reconnect began; 0: none */
    char failure[160];   /* the first one, in words */
    struct seen seen;
};

extern struct viewers viewers;

void viewers_start(const struct options *options, int epoll);
/* Opens connections up to the allowed concurrency. */
void viewers_open_more(void);
/* What epoll says of a connection. */
void viewer_event(struct conn *conn, uint32_t events);
/* Gives the slow ones what `elapsed_us` allows them to read. */
void viewers_read_slowly(int64_t elapsed_us);
/* Reads those of the others whose turn has come. */
void viewers_sweep(int64_t now);
/* Closes all; `viewers_reconnect` lets them come back where they were. */
void viewers_drop(void);
void viewers_reconnect(void);
/* One viewer: its run is over as it should be; its stream ended; it failed; it is closed. */
void viewer_finish(struct conn *conn);
void viewer_ended(struct conn *conn);
void viewer_fail(struct conn *conn, const char *why, int number);
void viewer_close(struct conn *conn, enum phase phase);
void viewer_watch(struct conn *conn, int op, uint32_t events);
/* All have been opened or failed; all are at their end; all have caught up after a reconnect. */
int viewers_ready(void);
int viewers_done(void);
int viewers_caught_up(void);

#endif
