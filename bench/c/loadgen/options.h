/* The command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#define MAX_HEADERS 16
#define MAX_MESSAGES 8

struct options {
    int port;
    int connections; /* viewers, or the publisher's connections */
    int concurrency; /* how many may be opening at once */
    int is_ws, deflate;
    const char *method, *path, *body;
    const char *headers[MAX_HEADERS];
    int header_count;
    const char *messages[MAX_MESSAGES]; /* WebSocket: sent once it is open */
    int message_count;
    const char *reply_to, *reply; /* WebSocket: a message that is exactly this gets that */
    const char *ready_text;       /* WebSocket: ready once a message holds this */
    int groups;                   /* {g} is the connection's number modulo this */
    long until;                   /* a viewer has finished at this seq; 0: when its stream ends */
    int repeat;                   /* how often each viewer does it, one after the other */
    int from_one;                 /* the first marker must be 1 */
    int slow, slow_bytes;         /* so many viewers read so many bytes a second */
    int receive_buffer;           /* SO_RCVBUF of the slow ones */
    int prompt;                   /* so many viewers are read at once; 0: all. The others … */
    int sweep_ms;                 /* … each so often: they cost less and tell no latency */
    double seconds;               /* ends by itself after */
    /* publisher */
    double rate; /* per group and second */
    long count;  /* per group */
    int bytes;
};

/* Ends the program with a message when it does not understand. */
void parse_options(struct options *options, int argc, char **argv);

struct words {
    long i, n;           /* {i} the connection, {n} the connection's run, never the same twice */
    long g;              /* {g} */
    const char *payload; /* {p} */
};
/* `text` with the words in place; must be freed. */
char *expand(const char *text, const struct words *words);

#endif
