/* One of the processes of the demo: count URL FILE TIMES RECORDS. `-` as URL counts without a lock. */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <synlock.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void must(synlock_status status, const char *what) {
    if (status == SYNLOCK_OK) return;
    fprintf(stderr, "%s: %s\n", what, synlock_status_text(status));
    exit(1);
}

int main(int count, char **words) {
    if (count != 5) return 2;
    int locked = strcmp(words[1], "-") != 0;
    int file = open(words[2], O_RDWR | O_CLOEXEC), times = atoi(words[3]);
    FILE *records = fopen(words[4], "w");
    synlock_store *store = NULL;
    synlock_lock *lock = NULL;
    if (file < 0 || !records) return 1;
    if (locked) {
        must(synlock_store_open(words[1], NULL, NULL, 0, &store, NULL), "open");
        must(synlock_lock_new(store, "demo counter", SYNLOCK_NTS, NULL, &lock, NULL), "lock");
    }
    puts("ready");
    fflush(stdout);
    if (getchar() == EOF) return 1;
    srand((unsigned)getpid());
    for (int i = 1; i <= times; i++) {
        char text[16] = {0};
        long long asked = now();
        if (locked) must(synlock_lock_acquire(lock, 60000, NULL), "acquire");
        long long got = now();
        if (pread(file, text, 12, 0) != 12) return 1;
        long long value = atoll(text);
        snprintf(text, sizeof text, "%011lld\n", (value + 1) % 100000000000LL);
        if (pwrite(file, text, 12, 0) != 12) return 1;
        long long done = now();
        if (locked) must(synlock_lock_release(lock, NULL), "release");
        fprintf(records, "%lld %lld %lld %lld\n", value, asked, got, done);
        if (i % 100 == 0) {
            printf("%d\n", i);
            fflush(stdout);
        }
        struct timespec rest = {0, 500000 + rand() % 2000000};
        nanosleep(&rest, NULL);
    }
    synlock_lock_free(lock);
    synlock_store_free(store);
    return fclose(records) || close(file);
}
