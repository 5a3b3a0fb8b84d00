/* The client side of WebSocket: masked frames out, frames in, permessage-deflate if agreed. */
#ifndef BENCH_WS_H
#define BENCH_WS_H

#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#define WS_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define WS_PREFIX 512

enum { WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

struct ws {
    uint8_t header[14];
    uint8_t have;       /* bytes of the header that are there */
    uint8_t in_payload;
    uint8_t opcode, fin, compressed; /* of the frame; `compressed` of the message */
    uint64_t left;
    uint8_t control[125];
    uint8_t control_size;
    z_stream *inflater; /* made when deflate was agreed */
    char *prefix;       /* the message's first bytes, when somebody compares them */
    size_t prefix_size;
};

struct ws_events {
    void (*data)(void *owner, const char *data, size_t size);  /* of messages, inflated */
    void (*message)(void *owner);                              /* one is complete */
    void (*control)(void *owner, int opcode, const uint8_t *payload, size_t size);
};

void ws_start(struct ws *ws, int deflate, int keep_prefix);
void ws_end(struct ws *ws);
/* 0, or -1 for bytes that are no WebSocket. */
int ws_feed(struct ws *ws, const char *data, size_t size, const struct ws_events *events,
            void *owner);
/* A whole masked frame for `payload`; `out` takes size + 14 bytes. */
size_t ws_frame(char *out, int opcode, const char *payload, size_t size);

#endif
