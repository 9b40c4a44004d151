/* A library with two stores: names what is not in it, apart from what nobody knows. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

static void what_is_in_it(void) {
    char schemes[256];
    IS(SYNLOCK_OK, synlock_store_schemes(schemes, sizeof schemes, NULL, NULL));
    CHECK(strstr(schemes, "memory") && strstr(schemes, "flock") && !strstr(schemes, "redis"));
    CHECK(strstr(synlock_build_info(), "flock") && !strstr(synlock_build_info(), "redis"));
    static const char *const kinds[] = {"memory", "flock"};
    for (int i = 0; i < 2; i++) {
        synlock_store *store = check_store(kinds[i]);
        synlock_lock *lock = check_lock(store, "x", NULL);
        IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
        synlock_lock_free(lock);
        synlock_store_free(store);
    }
}

static void what_is_not(void) {
    static const char *const urls[] = {"redis://localhost", "rediss://localhost", "redis+unix:///x", "valkey://localhost"};
    synlock_store *store = NULL;
    for (int i = 0; i < 4; i++) {
        synlock_error *error = NULL;
        IS(SYNLOCK_NOT_IN_BUILD, synlock_store_open(urls[i], NULL, NULL, 0, &store, &error));
        CHECK(strstr(synlock_error_message(error), "does not contain the store `redis`"));
        synlock_error_free(error);
    }
    IS(SYNLOCK_UNKNOWN_SCHEME, synlock_store_open("carrier-pigeon:x", NULL, NULL, 0, &store, NULL));
    CHECK(store == NULL);
}

int main(void) {
    check_setting();
    CASE(what_is_in_it);
    CASE(what_is_not);
    return check_totals();
}
