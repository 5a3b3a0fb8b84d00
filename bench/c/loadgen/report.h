/* What the generator says: one JSON object a line on stdout. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

/* {"event":NAME,"seconds":…} */
void report_event(const char *name, double seconds);
/* What was seen since the last mark, and how the connections stand; begins a new count. */
void report_mark(const char *name);

#endif
