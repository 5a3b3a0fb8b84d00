#include <stdlib.h>
#include <string.h>

#include "../common.h"
#include "limit.h"

#define GROUPS 1024
#define KEPT 4096 /* events of a group that a viewer who returns may have missed */

struct group {
    struct client **members;
    int size, room;
    long seq;
    struct text kept[KEPT];
};

static struct group *groups[GROUPS];

static struct {
    double interval;
    int64_t started;
    long count, sent;
    size_t bytes;
    int groups;
} ticker;

static struct group *group_of(int number)
{
    if (number < 0 || number >= GROUPS)
        die("group %d: there are %d", number, GROUPS);
    if (groups[number] == NULL) {
        groups[number] = must_alloc(NULL, sizeof **groups);
        memset(groups[number], 0, sizeof **groups);
    }
    return groups[number];
}

void group_add(struct client *client)
{
    struct group *group = group_of(client->group);
    if (group->size == group->room) {
        group->room = group->room == 0 ? 64 : group->room * 2;
        group->members =
            must_alloc(group->members, (size_t)group->room * sizeof *group->members);
    }
    client->place = group->size;
    group->members[group->size++] = client;
}

void group_remove(struct client *client)
{
    if (client->place < 0)
        return;
    struct group *group = groups[client->group];
    struct client *last = group->members[--group->size];
    group->members[client->place] = last;
    last->place = client->place;
    client->place = -1;
}

void group_replay(struct client *client, long after)
{
    struct group *group = group_of(client->group);
    if (after + KEPT < group->seq)
        after = group->seq - KEPT;
    for (long seq = after + 1; seq <= group->seq; seq++) {
        const struct text *frame = &group->kept[seq % KEPT];
        if (send_whole(client, frame->data, frame->size) < 0)
            return;
    }
}

static void send_to_group(struct group *group)
{
    int64_t now = now_us();
    struct text messages[2] = {{0}, {0}};
    long seq = ++group->seq;
    struct text *frame = &group->kept[seq % KEPT];
    free(frame->data);
    *frame = sse_frame(seq, ticker.bytes, now);
    /* From the end, since a member that is gone is replaced by the last one. */
    for (int i = group->size - 1; i >= 0; i--) {
        struct client *client = group->members[i];
        struct text *out = frame;
        if (client->is_ws) {
            out = &messages[client->deflate];
            if (out->data == NULL)
                *out = ws_message(seq, ticker.bytes, now, client->deflate);
        }
        send_whole(client, out->data, out->size);
    }
    free(messages[0].data);
    free(messages[1].data);
}

void ticker_start(double rate, long count, size_t bytes, int number)
{
    ticker.interval = 1e6 / (rate * number);
    ticker.started = now_us();
    ticker.count = count * number;
    ticker.sent = 0;
    ticker.bytes = bytes;
    ticker.groups = number;
}

int64_t ticker_run(int64_t now)
{
    while (ticker.sent < ticker.count) {
        int64_t due = ticker.started + (int64_t)(ticker.interval * (double)ticker.sent);
        if (due > now)
            return due - now;
        send_to_group(group_of((int)(ticker.sent++ % ticker.groups)));
    }
    return 100000;
}
