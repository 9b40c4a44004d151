/* Drives a lock through the C ABI: worker URL NAME, and how (drive.h). */
#include <stdint.h>
#include <string.h>
#include <synlock.h>
#include "drive.h"

static void check(synlock_status status) {
    if (status == SYNLOCK_OK) return;
    fprintf(stderr, "a call answered %d\n", (int)status);
    exit(1);
}

static void try_lock(void *lock) { check(synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL)); }
static void wait_lock(void *lock) { check(synlock_lock_acquire(lock, SYNLOCK_FOREVER, NULL)); }
static void unlock(void *lock) { check(synlock_lock_release(lock, NULL)); }

int main(int count, char **words) {
    synlock_store *store;
    synlock_lock *lock;
    if (count < 4) return 2;
    check(synlock_store_open(words[1], NULL, NULL, 0, &store, NULL));
    check(synlock_lock_new(store, words[2], SYNLOCK_NTS, NULL, &lock, NULL));
    step *take = strcmp(words[3], "pair") ? wait_lock : try_lock;
    drive(take, unlock, lock, strncmp(words[1], "redis", 5) ? 100 : 1, count - 3, words + 3);
    synlock_lock_free(lock);
    synlock_store_free(store);
    return 0;
}
