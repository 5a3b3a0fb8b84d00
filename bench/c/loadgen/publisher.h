/* The publisher: paced POSTs for servers whose events come from outside. */
#ifndef BENCH_PUBLISHER_H
#define BENCH_PUBLISHER_H

#include "options.h"

/* Publishes `count` payloads to each group at `rate`, over the given number of kept connections,
   from the line "start" on stdin to its end or "quit". The stamp in a payload is when it was
   due if it leaves late because an answer was awaited: waiting counts as latency. */
int publish(const struct options *options);

#endif
