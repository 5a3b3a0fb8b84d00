/* loadgen view …: viewers; loadgen publish …: a publisher. Commands come by lines on stdin:
   mark NAME, drop, reconnect, quit. bench/README.md says what each option does. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "../common.h"
#include "publisher.h"
#include "report.h"
#include "viewer.h"

#define EVENTS 512
#define TICK_US 20000

static int64_t started;
static int told_ready, told_done, told_caught_up;

static void obey(char *line)
{
    if (strncmp(line, "mark", 4) == 0) {
        report_mark(line[4] == ' ' ? line + 5 : "");
    } else if (strcmp(line, "drop") == 0) {
        viewers_drop();
        report_event("dropped", 0);
    } else if (strcmp(line, "reconnect") == 0) {
        started = now_us();
        told_ready = told_caught_up = 0;
        viewers_reconnect();
    } else if (strcmp(line, "quit") == 0) {
        report_mark("end");
        exit(0);
    } else {
        die("no such command: %s", line);
    }
}

static void read_commands(void)
{
    static char pending[1024];
    static size_t size;
    ssize_t got = read(STDIN_FILENO, pending + size, sizeof pending - size - 1);
    if (got <= 0)
        exit(0); /* whoever started this is gone */
    size += (size_t)got;
    pending[size] = 0;
    for (char *end = strchr(pending, '\n'); end != NULL; end = strchr(pending, '\n')) {
        *end = 0;
        obey(pending);
        size -= (size_t)(end + 1 - pending);
        memmove(pending, end + 1, size + 1);
    }
}

static void tell_changes(void)
{
    double seconds = (double)(now_us() - started) / 1e6;
    if (!told_ready && viewers_ready()) {
        told_ready = 1;
        report_event("ready", seconds);
    }
    if (!told_caught_up && viewers_caught_up()) {
        told_caught_up = 1;
        report_event("caught_up", seconds);
    }
    if (!told_done && viewers_done()) {
        told_done = 1;
        report_event("done", seconds);
    }
}

static int view(const struct options *options)
{
    struct epoll_event events[EVENTS], input = {.events = EPOLLIN, .data.ptr = NULL};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0)
        die("epoll: %s", strerror(errno));
    viewers_start(options, epoll);
    started = now_us();
    int64_t give_up = started + (int64_t)(options->seconds * 1e6), slow_read = started;
    while (now_us() < give_up) {
        viewers_open_more();
        int count = epoll_wait(epoll, events, EVENTS, TICK_US / 1000);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                read_commands();
            else
                viewer_event(events[i].data.ptr, events[i].events);
        }
        if (options->slow > 0 && now_us() - slow_read >= 5 * TICK_US) {
            viewers_read_slowly(now_us() - slow_read);
            slow_read = now_us();
        }
        if (options->prompt > 0)
            viewers_sweep(now_us());
        tell_changes();
    }
    die("time is up");
}

int main(int argc, char **argv)
{
    struct options options;
    raise_file_limit();
    if (argc < 2)
        die("usage: loadgen view|publish OPTIONS");
    parse_options(&options, argc - 1, argv + 1);
    if (strcmp(argv[1], "publish") == 0)
        return publish(&options);
    return view(&options);
}
