/* What a viewer sends and reads. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "../common.h"
#include "viewer.h"

#define READ_SIZE (256 * 1024)

/* -- what was read ------------------------------------------------------------------------- */

static int64_t read_at; /* one look at the clock for each read */

static int by_clock(const struct conn *conn)
{
    return (conn->slow || conn->swept) && conn->phase == OPEN;
}

/* The end of a turn repeats its whole output: no second delivery. */
static int in_summary(const struct conn *conn)
{
    if (conn->ws.prefix != NULL)
        return strstr(conn->ws.prefix, "\"type\":\"done\"") != NULL;
    return conn->scan.is_summary;
}

void on_marker(struct conn *conn, int64_t ts, int64_t seq)
{
    struct scan *scan = &conn->scan;
    struct seen *seen = &viewers.seen;
    int64_t expected = scan->last + 1;
    if (scan->last == 0 && !viewers.options.from_one)
        expected = seq;
    if (seq < expected) {
        seen->duplicates += !in_summary(conn);
        return;
    }
    /* Those who are read by the clock are late by this program's doing. */
    seen->delivered += !conn->slow;
    if (!by_clock(conn))
        hist_add(&seen->latency, read_at - ts);
    seen->gaps += (uint64_t)(seq - expected);
    scan->last = seq;
    if (!conn->saw_first) {
        conn->saw_first = 1;
        hist_add(&seen->first, read_at - conn->started);
    }
    if (viewers.reconnected > 0 && !conn->caught_up && ts >= viewers.reconnected) {
        conn->caught_up = 1;
        viewers.caught_up++;
    }
    if (viewers.options.until > 0 && seq >= viewers.options.until)
        viewer_finish(conn);
}

static void on_bytes(void *owner, const char *data, size_t size)
{
    struct conn *conn = owner;
    scan_feed(&conn->scan, conn, data, size);
}

static void opened(struct conn *conn)
{
    if (conn->phase == OPEN)
        return;
    conn->phase = OPEN;
    viewers.opening--;
    viewers.open++;
    hist_add(&viewers.seen.opening, read_at - conn->started);
}

/* -- sending ------------------------------------------------------------------------------- */

/* What to wait for: slow and swept viewers are read by the clock. */
static uint32_t wanted(const struct conn *conn)
{
    int reads = !by_clock(conn);
    /* Edges: with levels the kernel looks at every socket twice for each event. */
    return EPOLLET | (reads ? EPOLLIN | EPOLLRDHUP : 0) | (conn->out_size > 0 ? EPOLLOUT : 0);
}

static void flush(struct conn *conn)
{
    size_t at = 0;
    while (at < conn->out_size) {
        ssize_t sent = send(conn->fd, conn->out + at, conn->out_size - at, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            break; /* the reading side will tell */
        if (sent < 0)
            break;
        at += (size_t)sent;
    }
    memmove(conn->out, conn->out + at, conn->out_size - at);
    conn->out_size -= at;
    viewer_watch(conn, EPOLL_CTL_MOD, wanted(conn));
}

static void put(struct conn *conn, const char *data, size_t size)
{
    conn->out = must_alloc(conn->out, conn->out_size + size);
    memcpy(conn->out + conn->out_size, data, size);
    conn->out_size += size;
}

static void put_frame(struct conn *conn, int opcode, const char *payload, size_t size)
{
    char *frame = must_alloc(NULL, size + 14);
    size_t whole = ws_frame(frame, opcode, payload, size);
    put(conn, frame, whole);
    free(frame);
}

static struct words words_of(const struct conn *conn)
{
    const struct options *o = &viewers.options;
    return (struct words){
        .i = conn->number,
        .n = (long)conn->run * o->connections + conn->number,
        .g = conn->number % o->groups,
    };
}

static void put_line(struct conn *conn, const char *line)
{
    put(conn, line, strlen(line));
    put(conn, "\r\n", 2);
}

static void put_request(struct conn *conn)
{
    const struct options *o = &viewers.options;
    struct words words = words_of(conn);
    char *path = expand(o->path, &words), line[512];
    put(conn, o->method, strlen(o->method));
    put(conn, " ", 1);
    put(conn, path, strlen(path));
    snprintf(line, sizeof line, " HTTP/1.1\r\nHost: 127.0.0.1:%d", o->port);
    put_line(conn, line);
    for (int i = 0; i < o->header_count; i++)
        put_line(conn, o->headers[i]);
    if (conn->scan.id[0] != 0) {
        snprintf(line, sizeof line, "Last-Event-ID: %s", conn->scan.id);
        put_line(conn, line);
    }
    if (o->is_ws)
        put_line(conn, "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " WS_KEY);
    if (o->deflate)
        put_line(conn, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits");
    char *body = o->body != NULL ? expand(o->body, &words) : NULL;
    if (body != NULL) {
        snprintf(line, sizeof line, "Content-Type: application/json\r\nContent-Length: %zu",
                 strlen(body));
        put_line(conn, line);
    }
    put_line(conn, "");
    if (body != NULL)
        put(conn, body, strlen(body));
    free(body);
    free(path);
}

/* -- WebSocket ----------------------------------------------------------------------------- */

static void on_message(void *owner)
{
    struct conn *conn = owner;
    const struct options *o = &viewers.options;
    if (conn->ws.prefix == NULL)
        return;
    if (conn->phase == WAITING && strstr(conn->ws.prefix, o->ready_text) != NULL)
        opened(conn);
    if (o->reply_to != NULL && strcmp(conn->ws.prefix, o->reply_to) == 0)
        put_frame(conn, WS_TEXT, o->reply, strlen(o->reply));
}

static void on_control(void *owner, int opcode, const uint8_t *payload, size_t size)
{
    if (opcode == WS_PING)
        put_frame(owner, WS_PONG, (const char *)payload, size);
    else if (opcode == WS_CLOSE)
        put_frame(owner, WS_CLOSE, (const char *)payload, size < 2 ? 0 : 2);
}

static const struct ws_events ws_events = {on_bytes, on_message, on_control};

static int upgraded(struct conn *conn)
{
    const struct options *o = &viewers.options;
    char accept[29];
    websocket_accept(WS_KEY, strlen(WS_KEY), accept);
    if (conn->http.status != 101 || strcmp(accept, conn->http.accept) != 0)
        return -1;
    if (o->deflate && !conn->http.deflate)
        return -1;
    ws_start(&conn->ws, conn->http.deflate, o->ready_text != NULL || o->reply_to != NULL);
    struct words words = words_of(conn);
    for (int i = 0; i < o->message_count; i++) {
        char *message = expand(o->messages[i], &words);
        put_frame(conn, WS_TEXT, message, strlen(message));
        free(message);
    }
    if (o->ready_text == NULL)
        opened(conn);
    return 0;
}

/* -- reading ------------------------------------------------------------------------------- */

static long take_head(struct conn *conn, const char *data, size_t size)
{
    long taken = http_head(&conn->http, data, size);
    if (taken < 0)
        viewer_fail(conn, "an answer that is no HTTP", 0);
    if (taken < 0 || conn->http.state == HTTP_HEAD)
        return taken;
    if (viewers.options.is_ws) {
        if (upgraded(conn) < 0) {
            viewer_fail(conn, "no upgrade as asked for, status", conn->http.status);
            return -1;
        }
    } else if (conn->http.status != 200) {
        viewer_fail(conn, "HTTP status", conn->http.status);
        return -1;
    } else {
        opened(conn);
    }
    return taken;
}

static void take(struct conn *conn, const char *data, size_t size)
{
    if (conn->http.state == HTTP_HEAD) {
        long taken = take_head(conn, data, size);
        if (taken < 0)
            return;
        data += taken;
        size -= (size_t)taken;
    }
    if (viewers.options.is_ws && conn->http.state != HTTP_HEAD) {
        if (ws_feed(&conn->ws, data, size, &ws_events, conn) < 0)
            viewer_fail(conn, "bytes that are no WebSocket", 0);
        return;
    }
    if (size > 0 && http_feed(&conn->http, data, size, on_bytes, conn) < 0)
        viewer_fail(conn, "a body that is no HTTP", 0);
    else if (conn->http.state == HTTP_DONE)
        viewer_ended(conn);
}

/* Returns whether there may be more to read. */
static int read_some(struct conn *conn, size_t limit)
{
    static char buffer[READ_SIZE];
    ssize_t size = recv(conn->fd, buffer, limit < READ_SIZE ? limit : READ_SIZE, 0);
    if (size < 0 && errno == EAGAIN)
        return 0;
    read_at = now_us();
    if (size < 0 || (size == 0 && conn->phase != OPEN)) {
        viewer_fail(conn, "connection lost, errno", size < 0 ? errno : 0);
        return 0;
    }
    if (size == 0) {
        viewer_ended(conn);
        return 0;
    }
    viewers.seen.reads++;
    viewers.seen.bytes += (uint64_t)size;
    uint8_t phase = conn->phase;
    take(conn, buffer, (size_t)size);
    if (conn->finished && conn->fd >= 0 && conn->run + 1 < viewers.options.repeat)
        viewer_ended(conn); /* enough seen: the next run */
    if (conn->fd >= 0 && (conn->out_size > 0 || (by_clock(conn) && phase != conn->phase)))
        flush(conn);
    /* Nothing is left after a short read, and what comes later is another edge. */
    return (size_t)size == limit && conn->fd >= 0;
}

static void connected(struct conn *conn)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        viewer_fail(conn, "cannot connect, errno", error);
        return;
    }
    conn->phase = WAITING;
    put_request(conn);
    flush(conn);
}

void viewer_event(struct conn *conn, uint32_t events)
{
    if (conn->fd < 0)
        return; /* closed earlier in the same round */
    if (conn->phase == CONNECTING) {
        connected(conn);
        return;
    }
    if (events & EPOLLOUT)
        flush(conn);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        while (read_some(conn, READ_SIZE) || (events & EPOLLRDHUP && conn->fd >= 0))
            continue; /* what the server sent before it closed, and its end */
}

void viewers_read_slowly(int64_t elapsed_us)
{
    int64_t share = elapsed_us * viewers.options.slow_bytes / 1000000;
    for (int i = 0; i < viewers.options.slow && share > 0; i++) {
        struct conn *conn = &viewers.conns[i];
        if (conn->fd >= 0 && conn->phase == OPEN)
            read_some(conn, (size_t)share);
    }
}

void viewers_sweep(int64_t now)
{
    static int next;
    static int64_t swept_at;
    int all = viewers.options.connections;
    if (swept_at == 0)
        swept_at = now;
    int64_t due = (now - swept_at) * all / (viewers.options.sweep_ms * 1000);
    if (due == 0)
        return;
    swept_at = now;
    for (int64_t i = 0; i < due && i < all; i++, next = (next + 1) % all) {
        struct conn *conn = &viewers.conns[next];
        while (conn->swept && conn->fd >= 0 && conn->phase == OPEN && read_some(conn, READ_SIZE))
            continue;
    }
}
