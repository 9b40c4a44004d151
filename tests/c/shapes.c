/* What a caller has compiled in: the header itself, structs of an older version, numbers and their words. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"
#include <stddef.h>

/* Every one of the header, so that a new one is missed below until it stands here. */
#define CODE(name) {SYNLOCK_##name, #name}
static const struct { int code; const char *name; } codes[] = {
    CODE(OK), CODE(BUSY), CODE(TIMEOUT), CODE(LOST), CODE(NOT_HELD), CODE(ALREADY_HELD), CODE(CANCELLED), CODE(INTERRUPTED),
    CODE(NULL_POINTER), CODE(INVALID_ARGUMENT), CODE(INVALID_URL), CODE(UNKNOWN_SCHEME), CODE(NOT_IN_BUILD),
    CODE(UNKNOWN_OPTION), CODE(UNSUPPORTED), CODE(INVALID_HANDLE), CODE(FORKED_HANDLE), CODE(CONCURRENT_USE), CODE(REENTERED),
    CODE(DEADLOCK), CODE(UNAVAILABLE), CODE(UNCERTAIN), CODE(PERMISSION), CODE(PROTOCOL), CODE(EXHAUSTED), CODE(STORAGE),
    CODE(INTERNAL),
};
enum { CODES = sizeof codes / sizeof *codes };

static void every_status_has_words(void) {
    for (int i = 0; i < CODES; i++) {
        const char *text = synlock_status_text(codes[i].code), *class = synlock_status_class(codes[i].code);
        SAME(codes[i].name, synlock_status_name(codes[i].code));
        CHECK(text && *text && strcmp(text, "unknown status"));
        CHECK(class && !*class == (codes[i].code == SYNLOCK_OK));
        for (int j = 0; j < i; j++) CHECK(strcmp(text, synlock_status_text(codes[j].code)));
    }
    int known = 0;
    for (int code = -1000; code < 10000; code++) {
        int unknown = !strcmp("UNKNOWN", synlock_status_name(code));
        CHECK(unknown == !strcmp("unknown status", synlock_status_text(code)));
        known += !unknown;
    }
    CHECK(known == CODES);
}

/* A program of an older version gives fewer fields; what lies behind them is not its struct's, and not read. */
static void an_older_struct_is_shorter(void) {
    static const size_t sizes[] = {offsetof(synlock_lock_options, caller), offsetof(synlock_lock_options, label),
                                   offsetof(synlock_lock_options, mode), offsetof(synlock_lock_options, ttl_ms)};
    synlock_store *store = check_store("memory");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        synlock_lock_options whole = SYNLOCK_LOCK_OPTIONS_INIT;
        whole.struct_size = sizes[i];
        whole.ttl_ms = 3600000;
        whole.timeout_ms = PATIENCE_MS;
        int shared = sizes[i] > offsetof(synlock_lock_options, mode), timed = sizes[i] > offsetof(synlock_lock_options, ttl_ms);
        whole.mode = shared ? SYNLOCK_SHARED : 99;
        whole.label = sizes[i] > offsetof(synlock_lock_options, label) ? "old" : "\xff";
        whole.caller = "\xff";
        /* In a block that ends with it, so that a sanitizer sees whoever reads on. */
        synlock_lock_options *old = memcpy(malloc(sizes[i]), &whole, sizes[i]);
        synlock_lock *lock = check_lock(store, "x", old);
        free(old);
        CHECK(synlock_lock_timeout_ms(lock) == (timed ? PATIENCE_MS : SYNLOCK_FOREVER));
        CHECK(synlock_lock_mode(lock) == (shared ? SYNLOCK_SHARED : SYNLOCK_EXCLUSIVE));
        IS(SYNLOCK_OK, synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL));
        CHECK((synlock_lock_remaining_ms(lock) > 0) == timed);
        synlock_lock_free(lock);
    }
    size_t small = sizeof small - 1;
    synlock_lock *lock = NULL;
    IS(SYNLOCK_INVALID_ARGUMENT, synlock_lock_new(store, "x", 1, (const synlock_lock_options *)&small, &lock, NULL));
    CHECK(lock == NULL);
    synlock_store_free(store);
}

int main(void) {
    check_setting();
    CASE(every_status_has_words);
    CASE(an_older_struct_is_shorter);
    return check_totals();
}
