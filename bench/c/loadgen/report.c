#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../common.h"
#include "viewer.h"

static int64_t marked_at, marked_cpu;

void report_event(const char *name, double seconds)
{
    printf("{\"event\":\"%s\",\"seconds\":%.6f,\"open\":%d,\"ended\":%d,\"failed\":%d,"
           "\"finished\":%d,\"failure\":\"%s\"}\n",
           name, seconds, viewers.open, viewers.ended, viewers.failed, viewers.finished,
           viewers.failure);
    fflush(stdout);
}

static void print_hist(const char *name, const struct hist *hist)
{
    printf(",\"%s\":", name);
    hist_print(stdout, hist);
}

static void print_places(void)
{
    int64_t lowest = INT64_MAX, highest = 0;
    uint64_t frames = 0;
    for (int i = 0; i < viewers.options.connections; i++) {
        const struct conn *conn = &viewers.conns[i];
        frames += conn->scan.frames;
        if (conn->slow)
            continue;
        lowest = conn->scan.last < lowest ? conn->scan.last : lowest;
        highest = conn->scan.last > highest ? conn->scan.last : highest;
    }
    printf(",\"lowest\":%" PRId64 ",\"highest\":%" PRId64 ",\"frames\":%" PRIu64, lowest, highest,
           frames);
}

void report_mark(const char *name)
{
    struct seen *seen = &viewers.seen;
    int64_t now = now_us(), cpu = own_cpu_ns();
    printf("{\"event\":\"mark\",\"name\":\"%s\",\"seconds\":%.6f,\"cpu_seconds\":%.6f", name,
           (double)(now - marked_at) / 1e6, (double)(cpu - marked_cpu) / 1e9);
    printf(",\"delivered\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"reads\":%" PRIu64
           ",\"gaps\":%" PRIu64 ",\"duplicates\":%" PRIu64,
           seen->delivered, seen->bytes, seen->reads, seen->gaps, seen->duplicates);
    printf(",\"open\":%d,\"ended\":%d,\"failed\":%d,\"finished\":%d,\"failure\":\"%s\"",
           viewers.open, viewers.ended, viewers.failed, viewers.finished, viewers.failure);
    print_places();
    print_hist("latency", &seen->latency);
    print_hist("first", &seen->first);
    print_hist("opening", &seen->opening);
    print_hist("finish", &seen->finish);
    printf("}\n");
    fflush(stdout);
    memset(seen, 0, sizeof *seen);
    marked_at = now;
    marked_cpu = cpu;
}
