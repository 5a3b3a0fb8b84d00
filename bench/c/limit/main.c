/* limit PORT: GET /stream?group=G[&count=&bytes=] (a viewer), GET /ws?group=G (the same over
   WebSocket), POST /start?rate=&count=&bytes=&groups= (send to all viewers), POST
   /tokens?rate=&count=&bytes= (a stream of its own), GET /replay?count=&bytes=. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../common.h"
#include "limit.h"

#define EVENTS 512

static int epoll;
static struct client *closed[EVENTS * 64]; /* freed once no event can name them */
static size_t closed_count;

static void give_up(struct client *client)
{
    if (client->fd < 0)
        return;
    group_remove(client);
    tokens_remove(client);
    close(client->fd);
    client->fd = -1;
    if (closed_count == sizeof closed / sizeof *closed)
        die("too many connections end at once");
    closed[closed_count++] = client;
}

static void watch(struct client *client, int op, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll, op, client->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

int send_whole(struct client *client, const char *data, size_t size)
{
    ssize_t sent = send(client->fd, data, size, MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return 0;
    give_up(client); /* the limit keeps nothing for those who do not read */
    return -1;
}

static void send_rest(struct client *client)
{
    while (client->rest.size > 0) {
        ssize_t sent = send(client->fd, client->rest.data, client->rest.size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            give_up(client);
            return;
        }
        client->rest.data += sent;
        client->rest.size -= (size_t)sent;
    }
    int blocked = client->rest.size > 0;
    if (blocked != client->blocked)
        watch(client, EPOLL_CTL_MOD, EPOLLIN | (blocked ? EPOLLOUT : 0));
    client->blocked = (uint8_t)blocked;
}

static int send_text(struct client *client, const char *text)
{
    return send_whole(client, text, strlen(text));
}

static int send_head(struct client *client)
{
    return send_text(client, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                             "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
}

static void upgrade(struct client *client)
{
    size_t size;
    char accept[29], answer[256];
    const char *key = header_value(client->request, "Sec-WebSocket-Key", &size);
    if (key == NULL) {
        give_up(client);
        return;
    }
    websocket_accept(key, size, accept);
    const char *offered = header_value(client->request, "Sec-WebSocket-Extensions", &size);
    client->deflate = offered != NULL;
    client->is_ws = 1;
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n%s\r\n",
             accept,
             offered ? "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover;"
                       " client_no_context_takeover\r\n"
                     : "");
    if (send_text(client, answer) == 0)
        group_add(client);
}

static void view(struct client *client)
{
    size_t size;
    const char *after = header_value(client->request, "Last-Event-ID", &size);
    if (send_head(client) < 0)
        return;
    if (after != NULL)
        group_replay(client, atol(after));
    if (client->fd >= 0)
        group_add(client);
}

static void begin_tokens(struct client *client, const char *path)
{
    client->count = parameter(path, "count", 1);
    client->bytes = parameter(path, "bytes", 64);
    client->interval = 1000000 / parameter(path, "rate", 1);
    if (send_head(client) == 0)
        tokens_add(client);
}

static void start(struct client *client, const char *path)
{
    ticker_start((double)parameter(path, "rate", 1), parameter(path, "count", 1),
                 (size_t)parameter(path, "bytes", 64), (int)parameter(path, "groups", 1));
    send_text(client, "HTTP/1.1 204 No Content\r\n\r\n");
}

static void answer(struct client *client)
{
    char *path = strchr(client->request, ' ') + 1;
    client->group = (int)parameter(path, "group", 0);
    if (strncmp(path, "/stream", 7) == 0)
        view(client);
    else if (strncmp(path, "/ws", 3) == 0)
        upgrade(client);
    else if (strncmp(path, "/start", 6) == 0)
        start(client, path);
    else if (strncmp(path, "/tokens", 7) == 0)
        begin_tokens(client, path);
    else if (strncmp(path, "/replay", 7) == 0 && send_head(client) == 0) {
        client->rest = replay_body(parameter(path, "count", 1),
                                   (size_t)parameter(path, "bytes", 64));
        send_rest(client);
    } else if (client->fd >= 0)
        send_text(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
}

static void readable(struct client *client)
{
    size_t room = REQUEST_SIZE - 1 - client->request_size;
    ssize_t size = recv(client->fd, client->request + client->request_size, room, 0);
    if (size < 0 && errno == EAGAIN)
        return;
    if (size <= 0) {
        give_up(client);
        return;
    }
    client->request_size += (size_t)size;
    client->request[client->request_size] = 0;
    if (client->is_ws || client->place >= 0) {
        client->request_size = 0; /* what a viewer says is not listened to */
        return;
    }
    if (strstr(client->request, "\r\n\r\n") == NULL)
        return;
    client->request_size = 0;
    answer(client);
}

static void accept_all(int listener)
{
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *client = must_alloc(NULL, sizeof *client);
        memset(client, 0, sizeof *client);
        client->fd = fd;
        client->place = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(client, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on(int port)
{
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 4096) != 0)
        die("cannot listen on port %d: %s", port, strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    if (argc != 2)
        die("usage: limit PORT");
    raise_file_limit();
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[1]));
    for (;;) {
        int64_t now = now_us(), wait = ticker_run(now), other = tokens_run(now);
        wait = wait < other ? wait : other;
        struct timespec pause = {.tv_nsec = (wait < 0 ? 0 : wait) * 1000};
        int count = epoll_pwait2(epoll, events, EVENTS, &pause, NULL);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == NULL)
                accept_all(listener);
            else if (client->fd >= 0 && events[i].events & EPOLLOUT)
                send_rest(client);
            else if (client->fd >= 0)
                readable(client);
        }
        while (closed_count > 0)
            free(closed[--closed_count]);
    }
}
