#define _GNU_SOURCE
#include "viewer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common.h"

struct viewers viewers;

/* Scattered, since servers send in the order in which viewers came. */
static int is_prompt(const struct options *options, int number)
{
    uint32_t scattered = (uint32_t)number * 2654435761u >> 12;
    return options->prompt == 0 ||
           scattered % (uint32_t)options->connections < (uint32_t)options->prompt;
}

void viewers_start(const struct options *options, int epoll)
{
    viewers.options = *options;
    viewers.epoll = epoll;
    size_t size = (size_t)options->connections * sizeof *viewers.conns;
    viewers.conns = must_alloc(NULL, size);
    memset(viewers.conns, 0, size);
    for (int i = 0; i < options->connections; i++) {
        viewers.conns[i].number = i;
        viewers.conns[i].fd = -1;
        viewers.conns[i].slow = i < options->slow;
        viewers.conns[i].swept = !is_prompt(options, i);
    }
    hist_clear(&viewers.seen.latency);
}

/* -- ends ---------------------------------------------------------------------------------- */

void viewer_close(struct conn *conn, enum phase phase)
{
    if (conn->phase == CONNECTING || conn->phase == WAITING)
        viewers.opening--;
    if (conn->phase == OPEN)
        viewers.open--;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->phase = (uint8_t)phase;
    http_end(&conn->http);
    ws_end(&conn->ws);
    free(conn->out);
    conn->out = NULL;
    conn->out_size = 0;
}

void viewer_fail(struct conn *conn, const char *why, int number)
{
    if (viewers.failed++ == 0)
        snprintf(viewers.failure, sizeof viewers.failure, "viewer %d: %s %d", conn->number, why,
                 number);
    viewer_close(conn, FAILED);
}

static void run_again(struct conn *conn)
{
    viewer_close(conn, IDLE);
    conn->run++;
    conn->saw_first = conn->finished = 0;
    conn->scan.last = conn->scan.dispatched = 0;
    conn->scan.id[0] = 0;
    viewers.finished--;
    if (conn->number < viewers.next_idle)
        viewers.next_idle = conn->number;
}

void viewer_finish(struct conn *conn)
{
    if (conn->finished)
        return;
    conn->finished = 1;
    viewers.finished++;
    hist_add(&viewers.seen.finish, now_us() - conn->started);
}

/* The stream is over: by the server's word, or because its connection is. */
void viewer_ended(struct conn *conn)
{
    if (viewers.options.until == 0)
        viewer_finish(conn);
    if (conn->finished && conn->run + 1 < viewers.options.repeat) {
        run_again(conn);
        return;
    }
    viewer_close(conn, ENDED);
    viewers.ended++;
}

void viewer_watch(struct conn *conn, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = conn};
    if (epoll_ctl(viewers.epoll, op, conn->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

/* -- opening ------------------------------------------------------------------------------- */

static void open_conn(struct conn *conn)
{
    int yes = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)viewers.options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (conn->slow)
        setsockopt(conn->fd, SOL_SOCKET, SO_RCVBUF, &viewers.options.receive_buffer, sizeof yes);
    conn->started = now_us();
    conn->phase = CONNECTING;
    viewers.opening++;
    http_start(&conn->http);
    scan_start(&conn->scan, !viewers.options.is_ws);
    viewer_watch(conn, EPOLL_CTL_ADD, EPOLLOUT);
    if (connect(conn->fd, (struct sockaddr *)&address, sizeof address) != 0 &&
        errno != EINPROGRESS)
        viewer_fail(conn, "cannot connect, errno", errno);
}

void viewers_open_more(void)
{
    while (viewers.opening < viewers.options.concurrency &&
           viewers.next_idle < viewers.options.connections) {
        struct conn *conn = &viewers.conns[viewers.next_idle++];
        if (conn->phase == IDLE)
            open_conn(conn);
    }
}

void viewers_drop(void)
{
    for (int i = 0; i < viewers.options.connections; i++) {
        struct conn *conn = &viewers.conns[i];
        viewer_close(conn, IDLE);
        conn->scan.last = viewers.options.is_ws ? conn->scan.last : conn->scan.dispatched;
    }
    viewers.next_idle = viewers.options.connections;
    viewers.ended = viewers.failed = 0;
}

void viewers_reconnect(void)
{
    viewers.next_idle = 0;
    viewers.options.concurrency = viewers.options.connections;
    viewers.reconnected = now_us();
    viewers.caught_up = 0;
    for (int i = 0; i < viewers.options.connections; i++)
        viewers.conns[i].caught_up = 0;
}

/* -- how they stand ------------------------------------------------------------------------ */

int viewers_ready(void)
{
    int all = viewers.options.connections;
    return viewers.next_idle >= all && viewers.opening == 0;
}

int viewers_done(void)
{
    int finished = viewers.finished + viewers.failed;
    return finished >= viewers.options.connections;
}

int viewers_caught_up(void)
{
    return viewers.reconnected > 0 && viewers.caught_up == viewers.options.connections;
}
