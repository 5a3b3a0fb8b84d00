/* A histogram of microseconds: 64 steps per power of two, so at most 1.6 % off. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_STEPS 64
#define HIST_SLOTS (HIST_STEPS * 36)

struct hist {
    uint64_t slots[HIST_SLOTS];
    uint64_t count;
    int64_t max;
};

void hist_clear(struct hist *hist);
void hist_add(struct hist *hist, int64_t us);
/* The value that a share `q` of all is at or below, in microseconds; 0 when empty. */
int64_t hist_quantile(const struct hist *hist, double q);
/* {"n":…,"p50_us":…,"p90_us":…,"p99_us":…,"max_us":…} */
void hist_print(FILE *out, const struct hist *hist);

#endif
