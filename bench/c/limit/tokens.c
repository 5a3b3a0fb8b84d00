#include <stdlib.h>

#include "../common.h"
#include "limit.h"

/* All streams have one rate, so the order in which they came is the order in which they are due. */
static struct client *first, *last;

static void push(struct client *client)
{
    client->next = NULL;
    if (last != NULL)
        last->next = client;
    else
        first = client;
    last = client;
}

void tokens_add(struct client *client)
{
    client->due = now_us() + client->interval;
    push(client);
}

void tokens_remove(struct client *client)
{
    struct client **link = &first, *before = NULL;
    while (*link != NULL && *link != client) {
        before = *link;
        link = &before->next;
    }
    if (*link == NULL)
        return;
    *link = client->next;
    if (last == client)
        last = before;
}

static void send_token(struct client *client)
{
    struct text frame = sse_frame(++client->sent, (size_t)client->bytes, now_us());
    int gone = send_whole(client, frame.data, frame.size);
    free(frame.data);
    if (gone < 0)
        return;
    client->due += client->interval;
    if (client->sent < client->count)
        push(client);
    else
        send_whole(client, "0\r\n\r\n", 5);
}

int64_t tokens_run(int64_t now)
{
    while (first != NULL && first->due <= now) {
        struct client *client = first;
        first = client->next;
        if (first == NULL)
            last = NULL;
        send_token(client);
    }
    return first == NULL ? 100000 : first->due - now;
}
