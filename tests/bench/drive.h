/* What the C programs of the benchmark share: a clock, and the two ways to drive a lock.
   `pair SECONDS` times acquire + release of one that nobody else wants, and prints a line of JSON;
   `hand OUT START END HOLD_US` takes turns with others between two points of CLOCK_MONOTONIC, and logs
   (request, acquired, release) of each turn. */
#ifndef BENCH_DRIVE_H
#define BENCH_DRIVE_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void step(void *state);

enum { MOST_SAMPLES = 1000000, MOST_TURNS = 100000 };

static inline _Noreturn void die(const char *what) {
    perror(what);
    exit(1);
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void sleep_ns(uint64_t ns) {
    struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Pairs in batches, after a warm-up. */
static inline void time_pairs(step *lock, step *unlock, void *state, int batch, double seconds) {
    static double samples[MOST_SAMPLES];
    size_t sampled = 0;
    for (int i = 0; i < batch * 20; i++) lock(state), unlock(state);
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    while (now_ns() < end && sampled < MOST_SAMPLES) {
        uint64_t start = now_ns();
        for (int i = 0; i < batch; i++) lock(state), unlock(state);
        samples[sampled++] = (double)(now_ns() - start) / batch;
    }
    qsort(samples, sampled, sizeof samples[0], compare);
    printf("{\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"n\":%zu}\n", samples[(sampled - 1) / 2],
           samples[(size_t)((double)(sampled - 1) * 0.99)], sampled * (size_t)batch);
}

static inline void take_turns(step *lock, step *unlock, void *state, char **words) {
    static uint64_t turns[MOST_TURNS][3];
    size_t count = 0;
    uint64_t start = strtoull(words[1], NULL, 10), end = strtoull(words[2], NULL, 10);
    uint64_t hold = strtoull(words[3], NULL, 10) * 1000;
    lock(state), unlock(state);
    if (now_ns() < start) sleep_ns(start - now_ns());
    for (uint64_t request; (request = now_ns()) < end && count < MOST_TURNS; count++) {
        lock(state);
        uint64_t acquired = now_ns();
        sleep_ns(hold);
        turns[count][0] = request, turns[count][1] = acquired, turns[count][2] = now_ns();
        unlock(state);
    }
    FILE *out = fopen(words[0], "w");
    if (!out) die(words[0]);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%llu %llu %llu\n", (unsigned long long)turns[i][0], (unsigned long long)turns[i][1],
                (unsigned long long)turns[i][2]);
    if (fclose(out)) die(words[0]);
}

/* `words` begin with the way. */
static inline void drive(step *lock, step *unlock, void *state, int batch, int count, char **words) {
    if (count == 2 && !strcmp(words[0], "pair")) {
        time_pairs(lock, unlock, state, batch, atof(words[1]));
    } else if (count == 5 && !strcmp(words[0], "hand")) {
        take_turns(lock, unlock, state, words + 1);
    } else {
        fputs("usage: … pair SECONDS | … hand OUT START END HOLD_US\n", stderr);
        exit(2);
    }
}
#endif
