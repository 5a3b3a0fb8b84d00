#include "ws.h"

#include <stdlib.h>
#include <string.h>

#include "../common.h"

#define INFLATED (64 * 1024)

void ws_start(struct ws *ws, int deflate, int keep_prefix)
{
    ws_end(ws);
    memset(ws, 0, sizeof *ws);
    if (keep_prefix)
        ws->prefix = must_alloc(NULL, WS_PREFIX + 1);
    if (!deflate)
        return;
    ws->inflater = must_alloc(NULL, sizeof *ws->inflater);
    memset(ws->inflater, 0, sizeof *ws->inflater);
    if (inflateInit2(ws->inflater, -15) != Z_OK)
        die("zlib: inflateInit2 failed");
}

void ws_end(struct ws *ws)
{
    if (ws->inflater != NULL)
        inflateEnd(ws->inflater);
    free(ws->inflater);
    free(ws->prefix);
    ws->inflater = NULL;
    ws->prefix = NULL;
}

static void deliver(struct ws *ws, const struct ws_events *events, void *owner, const char *data,
                    size_t size)
{
    if (ws->prefix != NULL && ws->prefix_size < WS_PREFIX) {
        size_t room = WS_PREFIX - ws->prefix_size, part = size < room ? size : room;
        memcpy(ws->prefix + ws->prefix_size, data, part);
        ws->prefix_size += part;
        ws->prefix[ws->prefix_size] = 0;
    }
    events->data(owner, data, size);
}

static int inflate_part(struct ws *ws, const struct ws_events *events, void *owner,
                        const char *data, size_t size)
{
    static char out[INFLATED];
    z_stream *z = ws->inflater;
    z->next_in = (Bytef *)data;
    z->avail_in = (uInt)size;
    do {
        z->next_out = (Bytef *)out;
        z->avail_out = sizeof out;
        int result = inflate(z, Z_SYNC_FLUSH);
        if (result != Z_OK && result != Z_BUF_ERROR)
            return -1;
        if (z->avail_out < sizeof out)
            deliver(ws, events, owner, out, sizeof out - z->avail_out);
    } while (z->avail_in > 0 || z->avail_out == 0);
    return 0;
}

/* How many bytes the header has, as far as it is known. */
static size_t header_size(const struct ws *ws)
{
    if (ws->have < 2)
        return 2;
    int length = ws->header[1] & 127;
    return length == 126 ? 4 : length == 127 ? 10 : 2;
}

static int begin_frame(struct ws *ws)
{
    int first = ws->header[0], length = ws->header[1] & 127, opcode = first & 15;
    if (ws->header[1] & 128)
        return -1; /* a server masks nothing */
    size_t size = length == 126 ? 2 : length == 127 ? 8 : 0;
    ws->left = size == 0 ? (uint64_t)length : 0;
    for (size_t i = 0; i < size; i++)
        ws->left = ws->left << 8 | ws->header[2 + i];
    ws->fin = (uint8_t)(first >> 7);
    ws->opcode = (uint8_t)opcode;
    ws->have = 0;
    ws->in_payload = 1;
    ws->control_size = 0;
    if (opcode >= WS_CLOSE)
        return ws->left > sizeof ws->control || !ws->fin ? -1 : 0;
    if (opcode != 0) {
        ws->compressed = first >> 6 & 1;
        ws->prefix_size = 0;
    }
    return ws->compressed && ws->inflater == NULL ? -1 : 0;
}

static int end_frame(struct ws *ws, const struct ws_events *events, void *owner)
{
    ws->in_payload = 0;
    if (ws->opcode >= WS_CLOSE) {
        events->control(owner, ws->opcode, ws->control, ws->control_size);
        return 0;
    }
    if (!ws->fin)
        return 0;
    if (ws->compressed && inflate_part(ws, events, owner, "\0\0\xff\xff", 4) < 0)
        return -1;
    events->message(owner);
    return 0;
}

static int take_payload(struct ws *ws, const struct ws_events *events, void *owner,
                        const char *data, size_t size)
{
    if (ws->opcode >= WS_CLOSE) {
        memcpy(ws->control + ws->control_size, data, size);
        ws->control_size = (uint8_t)(ws->control_size + size);
        return 0;
    }
    if (ws->compressed)
        return inflate_part(ws, events, owner, data, size);
    deliver(ws, events, owner, data, size);
    return 0;
}

int ws_feed(struct ws *ws, const char *data, size_t size, const struct ws_events *events,
            void *owner)
{
    size_t at = 0;
    while (at < size || (ws->in_payload && ws->left == 0)) {
        if (!ws->in_payload) {
            ws->header[ws->have++] = (uint8_t)data[at++];
            if (ws->have == header_size(ws) && begin_frame(ws) < 0)
                return -1;
            continue;
        }
        size_t part = size - at < ws->left ? size - at : ws->left;
        if (part > 0 && take_payload(ws, events, owner, data + at, part) < 0)
            return -1;
        at += part;
        ws->left -= part;
        if (ws->left == 0 && end_frame(ws, events, owner) < 0)
            return -1;
    }
    return 0;
}

size_t ws_frame(char *out, int opcode, const char *payload, size_t size)
{
    static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 0;
    out[at++] = (char)(0x80 | opcode);
    if (size < 126) {
        out[at++] = (char)(0x80 | size);
    } else {
        if (size > 65535)
            die("a message of %zu bytes is too long to send", size);
        out[at++] = (char)(0x80 | 126);
        out[at++] = (char)(size >> 8);
        out[at++] = (char)size;
    }
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < size; i++)
        out[at++] = (char)(payload[i] ^ mask[i & 3]);
    return at;
}
