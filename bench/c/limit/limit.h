/* The limit: what a server costs that does nothing but accept connections and send(). */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <stddef.h>
#include <stdint.h>

#define REQUEST_SIZE 2048

struct text {
    char *data;
    size_t size;
};

struct client {
    int fd;
    uint8_t is_ws, deflate, blocked;
    int group, place;       /* in `groups[group].members`; place -1: in none */
    char request[REQUEST_SIZE];
    size_t request_size;
    struct text rest;       /* what a replay has still to send; owned by the replay */
    int64_t due;            /* a token stream: when its next token is */
    int64_t interval;
    long sent, count, bytes;
    struct client *next;    /* in the queue of token streams */
};

/* frames.c: one event as it goes over the wire. The texts must be freed. */
struct text sse_frame(long seq, size_t bytes, int64_t ts);
struct text ws_message(long seq, size_t bytes, int64_t ts, int deflate);
/* A whole stream of `count` events, built once for each size and kept. */
struct text replay_body(long count, size_t bytes);

/* request.c */
long parameter(const char *path, const char *name, long otherwise);
/* The value of a header in a request, or NULL; `size` gets its length. */
const char *header_value(const char *request, const char *name, size_t *size);

/* fanout.c: groups of viewers and the ticker that sends to them. */
void group_add(struct client *client);
void group_remove(struct client *client);
void group_replay(struct client *client, long after);
void ticker_start(double rate, long count, size_t bytes, int groups);
/* Sends what is due; returns microseconds until something is. */
int64_t ticker_run(int64_t now);

/* tokens.c: streams of their own. */
void tokens_add(struct client *client);
void tokens_remove(struct client *client);
int64_t tokens_run(int64_t now);

/* main.c: sends all or gives the client up. Returns 0, or -1 when it is gone. */
int send_whole(struct client *client, const char *data, size_t size);

#endif
