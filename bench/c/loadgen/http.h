/* The receiving side of HTTP/1.1: head, then a body that is chunked, of known length, or open. */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stddef.h>
#include <stdint.h>

#define HEAD_LIMIT 16384

struct http {
    uint8_t state;
    uint8_t chunked, has_length, deflate;
    int status;
    uint64_t left;  /* of the chunk or of the body */
    char *head;     /* only until it is complete */
    size_t head_size;
    char accept[29]; /* Sec-WebSocket-Accept */
};

enum { HTTP_HEAD, HTTP_SIZE, HTTP_EXTENSION, HTTP_DATA, HTTP_DATA_END, HTTP_TRAILER, HTTP_DONE };

typedef void (*http_body)(void *owner, const char *data, size_t size);

void http_start(struct http *http);
void http_end(struct http *http);
/* Takes bytes while the head is incomplete. Returns how many were the head's; -1 for no HTTP. */
long http_head(struct http *http, const char *data, size_t size);
/* Takes bytes of the body, calling `body` for what is in it. Returns how many it took (fewer
   than given once the body is over), or -1 for a body that is no HTTP. */
long http_feed(struct http *http, const char *data, size_t size, http_body body, void *owner);

#endif
