#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "../common.h"
#include "limit.h"

#define PIECE 65536

/* The same JSON as our server's chunk, so that the bytes on the wire are as many. */
static struct text json(long seq, size_t bytes, int64_t ts)
{
    char *payload = must_alloc(NULL, bytes + 64), *out = must_alloc(NULL, bytes + 160);
    size_t size = make_payload(payload, bytes, ts, seq);
    size = (size_t)sprintf(out, "{\"type\":\"text\",\"content\":\"%.*s\",\"position\":%ld}",
                           (int)size, payload, seq);
    free(payload);
    return (struct text){out, size};
}

static struct text bare_frame(long seq, size_t bytes, int64_t ts)
{
    struct text body = json(seq, bytes, ts);
    char *out = must_alloc(NULL, body.size + 80);
    size_t size = (size_t)sprintf(out, "id: %ld\nevent: message\ndata: %.*s\n\n", seq,
                                  (int)body.size, body.data);
    free(body.data);
    return (struct text){out, size};
}

struct text sse_frame(long seq, size_t bytes, int64_t ts)
{
    struct text bare = bare_frame(seq, bytes, ts);
    char *out = must_alloc(NULL, bare.size + 24);
    size_t size =
        (size_t)sprintf(out, "%zx\r\n%.*s\r\n", bare.size, (int)bare.size, bare.data);
    free(bare.data);
    return (struct text){out, size};
}

static struct text deflated(struct text plain)
{
    z_stream z = {0};
    if (deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        die("zlib: deflateInit2 failed");
    size_t room = deflateBound(&z, plain.size) + 16;
    char *out = must_alloc(NULL, room);
    z.next_in = (Bytef *)plain.data;
    z.avail_in = (uInt)plain.size;
    z.next_out = (Bytef *)out;
    z.avail_out = (uInt)room;
    deflate(&z, Z_SYNC_FLUSH);
    size_t size = room - z.avail_out - 4; /* without the 00 00 FF FF of the flush */
    deflateEnd(&z);
    free(plain.data);
    return (struct text){out, size};
}

struct text ws_message(long seq, size_t bytes, int64_t ts, int deflate)
{
    struct text body = json(seq, bytes, ts);
    if (deflate)
        body = deflated(body);
    char *out = must_alloc(NULL, body.size + 4);
    size_t at = 0;
    out[at++] = (char)(deflate ? 0xC1 : 0x81);
    if (body.size < 126) {
        out[at++] = (char)body.size;
    } else {
        out[at++] = 126;
        out[at++] = (char)(body.size >> 8);
        out[at++] = (char)body.size;
    }
    memcpy(out + at, body.data, body.size);
    free(body.data);
    return (struct text){out, at + body.size};
}

static void append(struct text *text, size_t *room, const char *data, size_t size)
{
    if (text->size + size > *room) {
        *room = (text->size + size) * 2;
        text->data = must_alloc(text->data, *room);
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
}

static void append_piece(struct text *text, size_t *room, struct text *piece)
{
    char line[24];
    append(text, room, line, (size_t)sprintf(line, "%zx\r\n", piece->size));
    append(text, room, piece->data, piece->size);
    append(text, room, "\r\n", 2);
    piece->size = 0;
}

struct text replay_body(long count, size_t bytes)
{
    static struct text kept;
    static long kept_count;
    static size_t kept_bytes;
    if (kept.data != NULL && kept_count == count && kept_bytes == bytes)
        return kept;
    struct text piece = {0};
    size_t piece_room = 0, room = 0;
    free(kept.data);
    kept = (struct text){0};
    for (long seq = 1; seq <= count; seq++) {
        struct text frame = bare_frame(seq, bytes, now_us());
        append(&piece, &piece_room, frame.data, frame.size);
        free(frame.data);
        if (piece.size >= PIECE || seq == count)
            append_piece(&kept, &room, &piece);
    }
    append(&kept, &room, "0\r\n\r\n", 5);
    free(piece.data);
    kept_count = count;
    kept_bytes = bytes;
    return kept;
}
