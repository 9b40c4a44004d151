/* The command of C; README.md says what it understands. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <synlock.h>

enum { WORDS = 16, HANDLES = 64 };

static struct { char key[16]; void *handle; } stores[HANDLES], holds[HANDLES], sessions[HANDLES];
static int contended; /* of the last take */
static char text[200000];

#define FIND(table, word) find((table)[0].key, sizeof (table)[0], word)

/* The row of a key, or the first free one. */
static size_t find(const char *keys, size_t step, const char *word) {
    for (size_t i = 0; i < HANDLES; i++) {
        const char *key = keys + i * step;
        if (!*key || !strcmp(key, word)) return i;
    }
    fputs("too many handles\n", stderr);
    exit(2);
}

/* Turns hex into bytes where it stands. */
static size_t bytes(char *hex) {
    size_t length = strlen(hex) / 2;
    for (size_t i = 0; i < length; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
        hex[i] = (char)strtol(pair, NULL, 16);
    }
    return length;
}

static void bit(int32_t value) { snprintf(text, sizeof text, "%d", (int)value); }

static synlock_status keep(synlock_status status, const char *key, synlock_lock *lock) {
    if (status != SYNLOCK_OK) return status;
    size_t row = FIND(holds, key);
    snprintf(holds[row].key, sizeof holds[row].key, "%s", key);
    synlock_lock_free(holds[row].handle);
    holds[row].handle = lock;
    return SYNLOCK_OK;
}

static synlock_status take(synlock_store *store, char **words, int count) {
    synlock_lock_options options = SYNLOCK_LOCK_OPTIONS_INIT;
    synlock_lock *lock;
    for (int i = 5; i < count; i++) {
        char *value = strchr(words[i], '=') + 1;
        if (!strncmp(words[i], "ttl=", 4)) {
            options.ttl_ms = atoll(value);
            /* In an option struct 0 means "omitted": what the others refuse as 0 cannot be said here. */
            if (options.ttl_ms == 0) options.ttl_ms = -1;
        } else if (!strncmp(words[i], "renew=", 6)) {
            options.renew = *value == '1' ? SYNLOCK_ON : SYNLOCK_OFF;
        } else if (!strncmp(words[i], "auto_release=", 13)) {
            options.auto_release = *value == '1' ? SYNLOCK_ON : SYNLOCK_OFF;
        } else if (!strncmp(words[i], "fair=", 5)) {
            options.fair = *value == '1' ? SYNLOCK_ON : SYNLOCK_OFF;
        } else if (!strncmp(words[i], "strict=", 7)) {
            options.strict = *value == '1' ? SYNLOCK_ON : SYNLOCK_OFF;
        } else if (!strncmp(words[i], "reentry=", 8)) {
            options.reentry = !strcmp(value, "error") ? SYNLOCK_REFUSE
                            : !strcmp(value, "extend") ? SYNLOCK_EXTEND : SYNLOCK_INDEPENDENT;
        } else if (!strncmp(words[i], "label=", 6)) {
            value[bytes(value)] = 0;
            options.label = value;
        } else if (!strncmp(words[i], "shared=", 7)) {
            options.mode = *value == '1' ? SYNLOCK_SHARED : SYNLOCK_EXCLUSIVE;
        } else if (!strncmp(words[i], "permits=", 8)) {
            options.mode = SYNLOCK_PERMITS;
            options.permits_take = (uint32_t)atoi(value);
            options.permits_of = (uint32_t)atoi(strchr(value, '/') + 1);
        }
    }
    size_t length = bytes(words[3]);
    synlock_status status = synlock_lock_new(store, words[3], length, &options, &lock, NULL);
    if (status != SYNLOCK_OK) return status;
    synlock_acquired how = {0};
    how.struct_size = sizeof how;
    status = synlock_lock_acquire_with(lock, atoll(words[4]), NULL, &how, NULL);
    contended = how.contended;
    if (status != SYNLOCK_OK) synlock_lock_free(lock);
    return keep(status, words[1], lock);
}

static synlock_status wait_for(synlock_store *store, char **words) {
    synlock_lock *lock;
    synlock_status status = synlock_lock_new(store, words[3], bytes(words[3]), NULL, &lock, NULL);
    if (status != SYNLOCK_OK) return status;
    status = synlock_lock_acquire(lock, SYNLOCK_USE_OPTION, NULL);
    if (status != SYNLOCK_OK) synlock_lock_free(lock);
    return keep(status, words[1], lock);
}

static void hex(char **to, const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) *to += sprintf(*to, "%02x", (unsigned char)bytes[i]);
}

static synlock_status first_holder(synlock_store *store, const char *name, size_t length, int place) {
    synlock_list *list;
    synlock_holder holder = {0};
    holder.struct_size = sizeof holder;
    synlock_status status = synlock_store_inspect(store, name, length, &list, NULL);
    if (status != SYNLOCK_OK) return status;
    status = synlock_list_get(list, 0, &holder, NULL);
    if (status == SYNLOCK_OK) {
        const char *words = place ? holder.host : holder.label;
        char *to = text;
        if (!place) to += sprintf(to, "%s %u %u ", holder.mode, (unsigned)holder.permits, (unsigned)holder.pid);
        if (words) hex(&to, words, strlen(words));
        else *to++ = '-';
        *to = 0;
        if (place) sprintf(to, " %lld", (long long)holder.held_ms);
    }
    synlock_list_free(list);
    return status;
}

static int in_order(const void *one, const void *other) { return strcmp(*(char *const *)one, *(char *const *)other); }

static synlock_status list_all(synlock_store *store, const char *prefix, size_t length, size_t limit) {
    static char *names[10000], *cursor;
    size_t count = 0;
    int pages = 0;
    cursor = NULL;
    do {
        synlock_list *list;
        synlock_status status = synlock_store_list(store, prefix, length, cursor, limit, &list, NULL);
        free(cursor);
        if (status != SYNLOCK_OK) return status;
        for (size_t i = 0; i < synlock_list_count(list); i++) {
            synlock_holder holder = {0};
            holder.struct_size = sizeof holder;
            synlock_list_get(list, i, &holder, NULL);
            char *to = names[count++] = malloc(2 * holder.name_length + 1);
            hex(&to, holder.name, holder.name_length);
        }
        const char *next = synlock_list_cursor(list);
        cursor = next ? strdup(next) : NULL;
        pages++;
        synlock_list_free(list);
    } while (cursor);
    qsort(names, count, sizeof *names, in_order);
    char *to = text + sprintf(text, "%d", pages);
    for (size_t i = 0; i < count; i++) {
        to += sprintf(to, " %s", names[i]);
        free(names[i]);
    }
    return SYNLOCK_OK;
}

static synlock_status codes(void) {
    size_t at = 0;
    for (int i = 0; i < 1000; i++) {
        const char *name = synlock_status_name(i);
        if (strcmp(name, "UNKNOWN")) at += (size_t)snprintf(text + at, sizeof text - at, "%s%d=%s", at ? " " : "", i, name);
    }
    return SYNLOCK_OK;
}

static synlock_status ask_store(synlock_store *store, char **words, int count) {
    const char *verb = words[0];
    size_t length = 0;
    int32_t value = 0;
    if (!strcmp(verb, "ping")) return synlock_store_ping(store, 60000, NULL);
    if (!strcmp(verb, "fingerprint")) return synlock_store_fingerprint(store, text, sizeof text, &length, NULL);
    if (!strcmp(verb, "capabilities")) {
        synlock_capabilities can = {0};
        can.struct_size = sizeof can;
        synlock_status status = synlock_store_capabilities(store, &can, NULL);
        if (status == SYNLOCK_OK)
            snprintf(text, sizeof text, "%d %d %d %d %d %d %d %d %d %d %s", (int)can.shared, (int)can.promote,
                     (int)can.permits, (int)can.ttl, (int)can.frees_on_death, (int)can.wakes, (int)can.fair,
                     (int)can.can_export, (int)can.list, (int)can.break_lock, can.fence);
        return status;
    }
    char *name = count > 2 ? words[2] : text;
    size_t size = count > 2 ? bytes(name) : 0;
    if (!strcmp(verb, "wait_free")) return synlock_store_wait_free(store, name, size, atoll(words[3]), NULL);
    if (!strcmp(verb, "who")) return first_holder(store, name, size, 0);
    if (!strcmp(verb, "where")) return first_holder(store, name, size, 1);
    if (!strcmp(verb, "list")) return list_all(store, name, size, (size_t)atoll(words[3]));
    if (!strcmp(verb, "inspect")) {
        synlock_list *list;
        synlock_status status = synlock_store_inspect(store, name, size, &list, NULL);
        if (status != SYNLOCK_OK) return status;
        snprintf(text, sizeof text, "%zu %lld", synlock_list_count(list), (long long)synlock_list_waiters(list));
        synlock_list_free(list);
        return SYNLOCK_OK;
    }
    synlock_status status = !strcmp(verb, "locked") ? synlock_store_is_locked(store, name, size, &value, NULL)
                                                     : synlock_store_break(store, name, size, &value, NULL);
    if (status == SYNLOCK_OK) bit(value);
    return status;
}

static synlock_status ask_hold(synlock_lock *lock, char **words) {
    static const char *const states[] = {"idle", "acquiring", "held", "expired", "lost", "releasing", "forked"};
    const char *verb = words[0];
    size_t length;
    if (!strcmp(verb, "release")) return synlock_lock_release(lock, NULL);
    if (!strcmp(verb, "again")) return synlock_lock_acquire(lock, SYNLOCK_NO_WAIT, NULL);
    if (!strcmp(verb, "refresh")) return synlock_lock_refresh(lock, atoll(words[2]), NULL);
    if (!strcmp(verb, "check")) return synlock_lock_ensure_held(lock, NULL);
    if (!strcmp(verb, "demote")) return synlock_lock_demote(lock, NULL);
    if (!strcmp(verb, "promote")) return synlock_lock_promote(lock, atoll(words[2]), NULL);
    if (!strcmp(verb, "export")) return synlock_lock_export(lock, text, sizeof text, &length, NULL);
    if (!strcmp(verb, "held")) {
        int32_t held = 0;
        synlock_status status = synlock_lock_is_acquired(lock, &held, NULL);
        if (status == SYNLOCK_OK) bit(held);
        return status;
    }
    if (!strcmp(verb, "state")) snprintf(text, sizeof text, "%s", states[synlock_lock_state(lock)]);
    else if (!strcmp(verb, "remaining")) snprintf(text, sizeof text, "%lld", (long long)synlock_lock_remaining_ms(lock));
    else if (!strcmp(verb, "how")) bit(contended);
    else if (!strcmp(verb, "fence")) snprintf(text, sizeof text, "%lld", (long long)synlock_lock_fencing_token(lock));
    else exit(2);
    return SYNLOCK_OK;
}

static synlock_status ask_session(synlock_session *session, char **words, int count) {
    const char *verb = words[0] + 2;
    size_t length;
    uint64_t released;
    int32_t available;
    if (!strcmp(verb, "id")) return synlock_session_id(session, text, sizeof text, &length, NULL);
    if (!strcmp(verb, "release_all")) {
        synlock_status status = synlock_session_release_all(session, count > 2 ? words[2] : NULL, &released, NULL);
        if (status == SYNLOCK_OK) snprintf(text, sizeof text, "%llu", (unsigned long long)released);
        return status;
    }
    char *name = words[2];
    length = bytes(name);
    int64_t ms = count > 3 ? atoll(words[3]) : 0;
    synlock_status status, no = SYNLOCK_NOT_HELD;
    if (!strcmp(verb, "free")) {
        status = synlock_session_may_be_available(session, name, length, &available, NULL);
        if (status == SYNLOCK_OK) bit(available);
        return status;
    }
    if (!strcmp(verb, "wait")) {
        status = synlock_session_wait(session, name, length, ms, NULL);
        if (status == SYNLOCK_OK || status == SYNLOCK_TIMEOUT) bit(status == SYNLOCK_TIMEOUT);
        return status == SYNLOCK_TIMEOUT ? SYNLOCK_OK : status;
    }
    if (!strcmp(verb, "acquire")) {
        status = synlock_session_acquire(session, name, length, ms, NULL);
        no = status == SYNLOCK_LOST ? SYNLOCK_LOST : SYNLOCK_BUSY;
    } else {
        status = !strcmp(verb, "renew") ? synlock_session_renew(session, name, length, ms, NULL)
                                        : synlock_session_release(session, name, length, NULL);
    }
    if (status == SYNLOCK_OK || status == no) bit(status == SYNLOCK_OK);
    return status == no ? SYNLOCK_OK : status;
}

static synlock_status answer(char **words, int count) {
    if (!strcmp(words[0], "codes")) return codes();
    size_t row = FIND(stores, words[1]);
    if (!strcmp(words[0], "open")) {
        synlock_store *store;
        synlock_status status = synlock_store_open(words[2], NULL, NULL, 0, &store, NULL);
        if (status != SYNLOCK_OK) return status;
        snprintf(stores[row].key, sizeof stores[row].key, "%s", words[1]);
        stores[row].handle = store;
        return SYNLOCK_OK;
    }
    if (!strcmp(words[0], "session")) {
        synlock_session_options options = {0};
        options.struct_size = sizeof options;
        options.id = count > 3 ? words[3] : NULL;
        synlock_session *session = NULL;
        synlock_status status = synlock_session_new(stores[FIND(stores, words[2])].handle, &options, &session, NULL);
        if (status != SYNLOCK_OK) return status;
        size_t place = FIND(sessions, words[1]);
        snprintf(sessions[place].key, sizeof sessions[place].key, "%s", words[1]);
        sessions[place].handle = session;
        return SYNLOCK_OK;
    }
    if (!strncmp(words[0], "s_", 2)) return ask_session(sessions[FIND(sessions, words[1])].handle, words, count);
    if (!strcmp(words[0], "take")) return take(stores[FIND(stores, words[2])].handle, words, count);
    if (!strcmp(words[0], "adopt")) {
        synlock_lock *lock = NULL;
        synlock_status status = synlock_store_adopt(stores[FIND(stores, words[2])].handle, words[3], NULL, &lock, NULL);
        return keep(status, words[1], lock);
    }
    if (!strcmp(words[0], "wait")) return wait_for(stores[FIND(stores, words[2])].handle, words);
    if (!strcmp(words[0], "drop")) {
        size_t hold = FIND(holds, words[1]);
        synlock_lock_free(holds[hold].handle);
        holds[hold].handle = NULL;
        return SYNLOCK_OK;
    }
    if (stores[row].handle) return ask_store(stores[row].handle, words, count);
    return ask_hold(holds[FIND(holds, words[1])].handle, words);
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        char *words[WORDS], *rest = NULL;
        int count = 0;
        for (char *word = strtok_r(line, " \n", &rest); word && count < WORDS; word = strtok_r(NULL, " \n", &rest)) words[count++] = word;
        text[0] = 0;
        synlock_status status = answer(words, count);
        if (status == SYNLOCK_OK && text[0]) printf("0 %s\n", text);
        else printf("%d\n", (int)status);
        fflush(stdout);
    }
    for (size_t i = 0; i < HANDLES; i++) {
        synlock_lock_free(holds[i].handle);
        synlock_session_free(sessions[i].handle);
        synlock_store_free(stores[i].handle);
    }
    free(line);
    return 0;
}
