#include "hist.h"

#include <inttypes.h>
#include <string.h>

static int slot_of(uint64_t value)
{
    if (value < HIST_STEPS)
        return (int)value;
    int shift = 63 - __builtin_clzll(value) - 6;
    int slot = (shift + 1) * HIST_STEPS + (int)(value >> shift) - HIST_STEPS;
    return slot < HIST_SLOTS ? slot : HIST_SLOTS - 1;
}

static int64_t value_of(int slot)
{
    if (slot < HIST_STEPS)
        return slot;
    int shift = slot / HIST_STEPS - 1;
    return (int64_t)(slot % HIST_STEPS + HIST_STEPS) << shift;
}

void hist_clear(struct hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

void hist_add(struct hist *hist, int64_t us)
{
    if (us < 0)
        us = 0;
    hist->slots[slot_of((uint64_t)us)]++;
    hist->count++;
    if (us > hist->max)
        hist->max = us;
}

int64_t hist_quantile(const struct hist *hist, double q)
{
    uint64_t wanted = (uint64_t)(q * (double)hist->count), seen = 0;
    if (hist->count == 0)
        return 0;
    for (int slot = 0; slot < HIST_SLOTS; slot++) {
        seen += hist->slots[slot];
        if (seen > wanted)
            return value_of(slot);
    }
    return hist->max;
}

void hist_print(FILE *out, const struct hist *hist)
{
    fprintf(out,
            "{\"n\":%" PRIu64 ",\"p50_us\":%" PRId64 ",\"p90_us\":%" PRId64 ",\"p99_us\":%" PRId64
            ",\"max_us\":%" PRId64 "}",
            hist->count, hist_quantile(hist, 0.5), hist_quantile(hist, 0.9),
            hist_quantile(hist, 0.99), hist->max);
}
