/*
 * A histogram of latencies in nanoseconds, in logarithmic buckets as in HdrHistogram: 64 to each power
 * of two, so that a percentile is off by less than 1 %. Called by connection.c for each request and by
 * load.c for the report. Constant memory, no branch that depends on what was recorded before.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 6,
    HISTOGRAM_SUB_COUNT = 1 << HISTOGRAM_SUB_BITS,
    HISTOGRAM_MAX_BITS = 37, /* 2^37 ns are 137 s: more than any run lasts */
    HISTOGRAM_BUCKETS = (HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB_COUNT
};

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t count, sum_ns, max_ns;
};

static inline void histogram_record(struct histogram *histogram, uint64_t ns)
{
    uint64_t bounded = ns >> HISTOGRAM_MAX_BITS ? (UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1 : ns;
    unsigned index = (unsigned)bounded;
    if (bounded >= HISTOGRAM_SUB_COUNT) {
        unsigned shift = 63u - (unsigned)__builtin_clzll(bounded) - HISTOGRAM_SUB_BITS;
        index = shift * HISTOGRAM_SUB_COUNT + (unsigned)(bounded >> shift);
    }
    histogram->buckets[index]++;
    histogram->count++;
    histogram->sum_ns += ns;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

/* The middle of the bucket that holds the request of rank `quantile` (0 to 1), in ns. */
static inline double histogram_quantile_ns(const struct histogram *histogram, double quantile)
{
    uint64_t rank = (uint64_t)(quantile * (double)histogram->count), seen = 0;
    for (unsigned index = 0; index < HISTOGRAM_BUCKETS; index++) {
        seen += histogram->buckets[index];
        if (seen > rank) {
            if (index < 2 * HISTOGRAM_SUB_COUNT)
                return (double)index;
            unsigned shift = index / HISTOGRAM_SUB_COUNT - 1;
            uint64_t low = (uint64_t)(index - shift * HISTOGRAM_SUB_COUNT) << shift;
            return (double)low + (double)(UINT64_C(1) << shift) / 2;
        }
    }
    return (double)histogram->max_ns;
}

#endif
