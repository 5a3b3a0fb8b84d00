#define _GNU_SOURCE
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../common.h"

enum {
    PORT = 256, CONNECTIONS, CONCURRENCY, WS, DEFLATE, METHOD, PATH, BODY, HEADER, MESSAGE,
    REPLY, READY, GROUPS, UNTIL, REPEAT, FROM_ONE, SLOW, SLOW_BYTES, RECEIVE_BUFFER, PROMPT, SWEEP_MS, SECONDS,
    RATE, COUNT, BYTES
};

static const struct option names[] = {
    {"port", required_argument, NULL, PORT},
    {"connections", required_argument, NULL, CONNECTIONS},
    {"concurrency", required_argument, NULL, CONCURRENCY},
    {"ws", no_argument, NULL, WS},
    {"deflate", no_argument, NULL, DEFLATE},
    {"method", required_argument, NULL, METHOD},
    {"path", required_argument, NULL, PATH},
    {"body", required_argument, NULL, BODY},
    {"header", required_argument, NULL, HEADER},
    {"message", required_argument, NULL, MESSAGE},
    {"reply", required_argument, NULL, REPLY},
    {"ready", required_argument, NULL, READY},
    {"groups", required_argument, NULL, GROUPS},
    {"until", required_argument, NULL, UNTIL},
    {"repeat", required_argument, NULL, REPEAT},
    {"from-one", no_argument, NULL, FROM_ONE},
    {"slow", required_argument, NULL, SLOW},
    {"slow-bytes", required_argument, NULL, SLOW_BYTES},
    {"receive-buffer", required_argument, NULL, RECEIVE_BUFFER},
    {"prompt", required_argument, NULL, PROMPT},
    {"sweep-ms", required_argument, NULL, SWEEP_MS},
    {"seconds", required_argument, NULL, SECONDS},
    {"rate", required_argument, NULL, RATE},
    {"count", required_argument, NULL, COUNT},
    {"bytes", required_argument, NULL, BYTES},
    {NULL, 0, NULL, 0},
};

static void add(const char **list, int *count, int limit, const char *value)
{
    if (*count == limit)
        die("at most %d of these: %s", limit, value);
    list[(*count)++] = value;
}

/* "WHAT=ANSWER" */
static void set_reply(struct options *options, char *value)
{
    char *equals = strchr(value, '=');
    if (equals == NULL)
        die("--reply takes MESSAGE=ANSWER");
    *equals = 0;
    options->reply_to = value;
    options->reply = equals + 1;
}

static void set_text(struct options *o, int name, char *value)
{
    switch (name) {
    case METHOD: o->method = value; break;
    case PATH: o->path = value; break;
    case BODY: o->body = value; break;
    case HEADER: add(o->headers, &o->header_count, MAX_HEADERS, value); break;
    case MESSAGE: add(o->messages, &o->message_count, MAX_MESSAGES, value); break;
    case REPLY: set_reply(o, value); break;
    case READY: o->ready_text = value; break;
    case WS: o->is_ws = 1; break;
    case DEFLATE: o->deflate = 1; break;
    case FROM_ONE: o->from_one = 1; break;
    default: exit(2); /* getopt has said why */
    }
}

static void set_number(struct options *o, int name, const char *value)
{
    char *end;
    double number = strtod(value, &end);
    if (*end != 0 || end == value || number < 0)
        die("not a number: %s", value);
    switch (name) {
    case PORT: o->port = (int)number; break;
    case CONNECTIONS: o->connections = (int)number; break;
    case CONCURRENCY: o->concurrency = (int)number; break;
    case GROUPS: o->groups = (int)number; break;
    case UNTIL: o->until = (long)number; break;
    case REPEAT: o->repeat = (int)number; break;
    case SLOW: o->slow = (int)number; break;
    case SLOW_BYTES: o->slow_bytes = (int)number; break;
    case RECEIVE_BUFFER: o->receive_buffer = (int)number; break;
    case PROMPT: o->prompt = (int)number; break;
    case SWEEP_MS: o->sweep_ms = (int)number; break;
    case SECONDS: o->seconds = number; break;
    case RATE: o->rate = number; break;
    case COUNT: o->count = (long)number; break;
    default: o->bytes = (int)number; break;
    }
}

static int takes_number(int name)
{
    return name == PORT || name == CONNECTIONS || name == CONCURRENCY || name == GROUPS ||
           (name >= UNTIL && name != FROM_ONE);
}

void parse_options(struct options *options, int argc, char **argv)
{
    *options = (struct options){
        .connections = 1, .concurrency = 100, .method = "GET", .path = "/", .groups = 1,
        .repeat = 1, .slow_bytes = 1024, .receive_buffer = 4096, .sweep_ms = 200, .seconds = 600, .rate = 1,
        .count = 1, .bytes = 64,
    };
    int name;
    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (takes_number(name))
            set_number(options, name, optarg);
        else
            set_text(options, name, optarg);
    }
    if (optind < argc)
        die("what is %s?", argv[optind]);
    if (options->port < 1 || options->connections < 1 || options->concurrency < 1 ||
        options->groups < 1 || options->repeat < 1 || options->slow > options->connections)
        die("needs --port, and at least one connection, group and run");
}

char *expand(const char *text, const struct words *words)
{
    size_t payload = words->payload != NULL ? strlen(words->payload) : 0;
    size_t room = strlen(text) + 1, size = 0;
    for (const char *at = text; (at = strchr(at, '{')) != NULL; at++)
        room += payload + 24;
    char *out = must_alloc(NULL, room);
    for (const char *at = text; *at != 0;) {
        int is_word = at[0] == '{' && at[1] != 0 && at[2] == '}';
        if (is_word && (at[1] == 'i' || at[1] == 'n' || at[1] == 'g')) {
            long value = at[1] == 'i' ? words->i : at[1] == 'n' ? words->n : words->g;
            size += (size_t)sprintf(out + size, "%ld", value);
            at += 3;
        } else if (is_word && at[1] == 'p' && payload > 0) {
            memcpy(out + size, words->payload, payload);
            size += payload;
            at += 3;
        } else {
            out[size++] = *at++;
        }
    }
    out[size] = 0;
    return out;
}
