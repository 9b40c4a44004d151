/* What the C programs of the benchmark share: a clock, samples, and the line of JSON they end with. */
#ifndef BENCH_TIMING_H
#define BENCH_TIMING_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_SAMPLES = 1000000 };
static double samples[MOST_SAMPLES];
static size_t sampled;

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Calls `pair(state)` in batches for so many seconds, after a warm-up. */
static inline void measure(void (*pair)(void *), void *state, int batch, double seconds) {
    for (int i = 0; i < batch * 20; i++) pair(state);
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end && sampled < MOST_SAMPLES) {
        uint64_t start = now_ns();
        for (int i = 0; i < batch; i++) pair(state);
        samples[sampled++] = (double)(now_ns() - start) / batch;
    }
    qsort(samples, sampled, sizeof samples[0], compare);
    printf("{\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"n\":%zu}\n", samples[(sampled - 1) / 2],
           samples[(size_t)((double)(sampled - 1) * 0.99)], sampled * (size_t)batch);
}

static inline _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}
#endif
