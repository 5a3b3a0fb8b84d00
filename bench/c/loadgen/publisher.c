#define _GNU_SOURCE
#include "publisher.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "../common.h"
#include "http.h"

/* Leaving so much after its time is the timer's doing, more is the server's. */
#define TIMER_US 2000

struct channel {
    int fd, number;
    int groups; /* how many are this connection's: number, number + connections, … */
    long sent, answered;
    struct http http;
};

static struct {
    struct options options;
    struct channel *channels;
    int64_t started, cpu;
    long published, refused;
    int status; /* of the first refusal */
    int64_t latest;
} state;

static int64_t due(const struct channel *channel, long number)
{
    const struct options *o = &state.options;
    double interval = 1e6 / (o->rate * channel->groups);
    double phase = interval * channel->number / o->connections;
    return state.started + (int64_t)(interval * (double)number + phase);
}

static int is_over(const struct channel *channel)
{
    return channel->sent >= state.options.count * channel->groups;
}

static void connect_channel(struct channel *channel)
{
    int yes = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)state.options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    channel->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (channel->fd < 0 || connect(channel->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("publisher: cannot connect: %s", strerror(errno));
    setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    http_start(&channel->http);
}

/* Blocking: a request is far smaller than a socket's buffer. */
static void send_all(struct channel *channel, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(channel->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0)
            die("publisher: cannot send: %s", strerror(errno));
        data += sent;
        size -= (size_t)sent;
    }
}

static void send_next(struct channel *channel, int64_t now)
{
    const struct options *o = &state.options;
    int64_t when = due(channel, channel->sent), late = now - when;
    long seq = channel->sent / channel->groups + 1;
    int group = channel->number + (int)(channel->sent % channel->groups) * o->connections;
    char *payload = must_alloc(NULL, (size_t)o->bytes + 64), *request;
    size_t size = make_payload(payload, (size_t)o->bytes, late < TIMER_US ? now : when, seq);
    payload[size] = 0;
    struct words words = {.i = channel->number, .n = channel->sent, .g = group,
                          .payload = payload};
    char *path = expand(o->path, &words), *body = expand(o->body, &words), headers[2048] = "";
    for (int i = 0, at = 0; i < o->header_count; i++)
        at += snprintf(headers + at, sizeof headers - (size_t)at, "%s\r\n", o->headers[i]);
    int length = asprintf(&request,
                          "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%sContent-Length: %zu\r\n\r\n%s",
                          o->method, path, o->port, headers, strlen(body), body);
    send_all(channel, request, (size_t)length);
    channel->sent++;
    if (late > state.latest)
        state.latest = late;
    free(request);
    free(path);
    free(body);
    free(payload);
}

static void ignore_body(void *owner, const char *data, size_t size)
{
    (void)owner, (void)data, (void)size;
}

static void take_answer(struct channel *channel)
{
    static char buffer[65536];
    ssize_t size = recv(channel->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0)
        die("publisher: the server closed the connection");
    long taken = 0;
    if (channel->http.state == HTTP_HEAD)
        taken = http_head(&channel->http, buffer, (size_t)size);
    if (taken < 0 || (channel->http.state != HTTP_HEAD &&
                      http_feed(&channel->http, buffer + taken, (size_t)(size - taken),
                                ignore_body, NULL) < 0))
        die("publisher: an answer that is no HTTP");
    if (channel->http.state != HTTP_DONE)
        return;
    if (channel->http.status >= 300 && state.refused++ == 0)
        state.status = channel->http.status;
    channel->answered++;
    state.published++;
    http_start(&channel->http);
}

static void report(const char *event)
{
    printf("{\"event\":\"%s\",\"published\":%ld,\"refused\":%ld,\"status\":%d,"
           "\"late_us\":%lld,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n",
           event, state.published, state.refused, state.status, (long long)state.latest,
           (double)(now_us() - state.started) / 1e6, (double)(own_cpu_ns() - state.cpu) / 1e9);
    fflush(stdout);
    state.latest = 0;
}

/* Sends what is due; returns microseconds until something is, at most a tenth of a second. */
static int64_t send_due(int64_t now)
{
    int64_t wait = 100000;
    for (int i = 0; i < state.options.connections; i++) {
        struct channel *channel = &state.channels[i];
        if (channel->sent > channel->answered || is_over(channel))
            continue;
        int64_t left = due(channel, channel->sent) - now;
        if (left <= 0)
            send_next(channel, now);
        else if (left < wait)
            wait = left;
    }
    return wait;
}

static int has_line(char *line, size_t size)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    if (poll(&input, 1, 0) <= 0)
        return 0;
    ssize_t got = read(STDIN_FILENO, line, size - 1);
    if (got <= 0)
        exit(0);
    line[got] = 0;
    return 1;
}

static void prepare(int epoll)
{
    const struct options *o = &state.options;
    state.channels = must_alloc(NULL, (size_t)o->connections * sizeof *state.channels);
    memset(state.channels, 0, (size_t)o->connections * sizeof *state.channels);
    for (int i = 0; i < o->connections; i++) {
        struct channel *channel = &state.channels[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = channel};
        channel->number = i;
        channel->groups = (o->groups - i + o->connections - 1) / o->connections;
        connect_channel(channel);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, channel->fd, &event) != 0)
            die("epoll_ctl: %s", strerror(errno));
    }
}

int publish(const struct options *options)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC), is_running = 0;
    char line[256];
    struct epoll_event events[256];
    state.options = *options;
    if (state.options.connections > state.options.groups)
        state.options.connections = state.options.groups;
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    prepare(epoll);
    report("ready");
    long total = options->count * options->groups;
    int64_t give_up = now_us() + (int64_t)(options->seconds * 1e6), checked = 0;
    while (now_us() < give_up) {
        int64_t now = now_us(), wait = 20000;
        if (now - checked > 10000) {
            checked = now;
            if (has_line(line, sizeof line)) {
                if (strncmp(line, "quit", 4) == 0)
                    break;
                if (strncmp(line, "start", 5) == 0) {
                    is_running = 1;
                    state.started = now;
                    state.cpu = own_cpu_ns();
                } else {
                    report("mark");
                }
            }
        }
        if (is_running)
            wait = send_due(now);
        struct timespec pause = {.tv_nsec = (wait > 10000 ? 10000 : wait) * 1000};
        int count = epoll_pwait2(epoll, events, 256, &pause, NULL);
        for (int i = 0; i < count; i++)
            take_answer(events[i].data.ptr);
        if (is_running && state.published == total) {
            is_running = 0;
            report("published");
        }
    }
    report("end");
    return 0;
}
