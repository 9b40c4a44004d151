/* Times acquire + release of one uncontended lock through the C ABI: pair URL NAME SECONDS */
#include <stdint.h>
#include <string.h>
#include <synlock.h>
#include "timing.h"

static void lock_pair(void *state) {
    if (synlock_lock_acquire(state, SYNLOCK_NO_WAIT, NULL) != SYNLOCK_OK || synlock_lock_release(state, NULL) != SYNLOCK_OK) {
        fputs("a pair failed\n", stderr);
        exit(1);
    }
}

int main(int count, char **words) {
    synlock_store *store;
    synlock_lock *lock;
    if (count != 4) {
        fputs("usage: pair URL NAME SECONDS\n", stderr);
        return 2;
    }
    if (synlock_store_open(words[1], NULL, NULL, 0, &store, NULL) != SYNLOCK_OK) return 1;
    if (synlock_lock_new(store, words[2], SYNLOCK_NTS, NULL, &lock, NULL) != SYNLOCK_OK) return 1;
    measure(lock_pair, lock, strncmp(words[1], "redis", 5) ? 100 : 1, atof(words[3]));
    synlock_lock_free(lock);
    synlock_store_free(store);
    return 0;
}
