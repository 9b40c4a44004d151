enum synlock_status
 {
  SYNLOCK_OK = 0,
  SYNLOCK_BUSY = 1,
  SYNLOCK_TIMEOUT = 2,
  SYNLOCK_LOST = 3,
  SYNLOCK_NOT_HELD = 4,
  SYNLOCK_ALREADY_HELD = 5,
  SYNLOCK_CANCELLED = 6,
  SYNLOCK_INTERRUPTED = 7,
  SYNLOCK_NULL_POINTER = 100,
  SYNLOCK_INVALID_ARGUMENT = 101,
  SYNLOCK_INVALID_URL = 102,
  SYNLOCK_UNKNOWN_SCHEME = 103,
  SYNLOCK_NOT_IN_BUILD = 104,
  SYNLOCK_UNKNOWN_OPTION = 105,
  SYNLOCK_UNSUPPORTED = 106,
  SYNLOCK_INVALID_HANDLE = 107,
  SYNLOCK_FORKED_HANDLE = 108,
  SYNLOCK_CONCURRENT_USE = 109,
  SYNLOCK_REENTERED = 110,
  SYNLOCK_DEADLOCK = 111,
  SYNLOCK_UNAVAILABLE = 200,
  SYNLOCK_UNCERTAIN = 201,
  SYNLOCK_PERMISSION = 202,
  SYNLOCK_PROTOCOL = 203,
  SYNLOCK_EXHAUSTED = 204,
  SYNLOCK_STORAGE = 205,
  SYNLOCK_INTERNAL = 900,
};
typedef int32_t synlock_status;
enum synlock_state
 {
  SYNLOCK_STATE_IDLE = 0,
  SYNLOCK_STATE_ACQUIRING = 1,
  SYNLOCK_STATE_HELD = 2,
  SYNLOCK_STATE_EXPIRED = 3,
  SYNLOCK_STATE_LOST = 4,
  SYNLOCK_STATE_RELEASING = 5,
  SYNLOCK_STATE_FORKED = 6,
};
typedef int32_t synlock_state;
enum synlock_mode
 {
  SYNLOCK_EXCLUSIVE = 0,
  SYNLOCK_SHARED = 1,
  SYNLOCK_PERMITS = 2,
};
typedef int32_t synlock_mode;
enum synlock_switch
 {
  SYNLOCK_DEFAULT = 0,
  SYNLOCK_ON = 1,
  SYNLOCK_OFF = -1,
};
typedef int32_t synlock_switch;
enum synlock_reentry
 {
  SYNLOCK_REENTRY_DEFAULT = 0,
  SYNLOCK_INDEPENDENT = 1,
  SYNLOCK_REFUSE = 2,
  SYNLOCK_EXTEND = 3,
};
typedef int32_t synlock_reentry;
enum synlock_op
 {
  SYNLOCK_OP_ACQUIRE = 1,
  SYNLOCK_OP_RELEASE = 2,
  SYNLOCK_OP_REFRESH = 3,
  SYNLOCK_OP_PROMOTE = 4,
  SYNLOCK_OP_DEMOTE = 5,
  SYNLOCK_OP_CHECK = 6,
  SYNLOCK_OP_ABANDON = 7,
};
typedef int32_t synlock_op;
enum synlock_event_kind
 {
  SYNLOCK_EVENT_ACQUIRED = 1,
  SYNLOCK_EVENT_WAITING = 2,
  SYNLOCK_EVENT_REFUSED = 3,
  SYNLOCK_EVENT_RELEASED = 4,
  SYNLOCK_EVENT_REFRESHED = 5,
  SYNLOCK_EVENT_LOST = 6,
  SYNLOCK_EVENT_FORGOTTEN = 7,
  SYNLOCK_EVENT_WARNING = 8,
};
typedef int32_t synlock_event_kind;
enum synlock_repeat
 {
  SYNLOCK_REPEAT_DEFAULT = 0,
  SYNLOCK_REPEAT_ERROR = 1,
  SYNLOCK_REPEAT_EXTEND = 2,
};
typedef int32_t synlock_repeat;
enum synlock_guard_mode
 {
  SYNLOCK_GUARD_BLOCK = 0,
  SYNLOCK_GUARD_CHECK = 1,
  SYNLOCK_GUARD_QUEUE = 2,
  SYNLOCK_GUARD_FORCE = 3,
};
typedef int32_t synlock_guard_mode;
enum synlock_guard_anonymous
 {
  SYNLOCK_ANONYMOUS_REFUSE = 0,
  SYNLOCK_ANONYMOUS_SHARE = 1,
  SYNLOCK_ANONYMOUS_SESSION = 2,
  SYNLOCK_ANONYMOUS_IP = 3,
};
typedef int32_t synlock_guard_anonymous;
enum synlock_guard_user
 {
  SYNLOCK_USER_NO_SOURCE = 0,
  SYNLOCK_USER_ANONYMOUS = 1,
  SYNLOCK_USER_KNOWN = 2,
};
typedef int32_t synlock_guard_user;
typedef struct synlock_cancel synlock_cancel;
typedef struct synlock_dispatch synlock_dispatch;
typedef struct synlock_error synlock_error;
typedef struct synlock_events synlock_events;
typedef struct synlock_guard synlock_guard;
typedef struct synlock_list synlock_list;
typedef struct synlock_lock synlock_lock;
typedef struct synlock_manager synlock_manager;
typedef struct synlock_scope synlock_scope;
typedef struct synlock_session synlock_session;
typedef struct synlock_set synlock_set;
typedef struct synlock_store synlock_store;
typedef struct {
  size_t struct_size;
  int64_t ttl_ms;
  int64_t timeout_ms;
  int32_t mode;
  uint32_t permits_take;
  uint32_t permits_of;
  int32_t renew;
  int32_t auto_release;
  int32_t fair;
  int32_t strict;
  int32_t reentry;
  int32_t interruptible;
  int32_t reserved;
  const char *label;
  synlock_scope *scope;
  const char *caller;
} synlock_lock_options;
typedef struct {
  size_t struct_size;
  const char *store;
  const char *fence;
  const char *scope;
  const char *clock;
  int32_t shared;
  int32_t promote;
  int32_t permits;
  int32_t ttl;
  int32_t frees_on_death;
  int32_t wakes;
  int32_t fair;
  int32_t can_export;
  int32_t list;
  int32_t break_lock;
  int32_t survives_restart;
  int32_t reserved;
} synlock_capabilities;
typedef struct {
  size_t struct_size;
  int64_t waited_ms;
  int64_t fencing_token;
  int32_t contended;
  int32_t recovered;
  uint32_t attempts;
  int32_t extended;
} synlock_acquired;
typedef struct {
  size_t struct_size;
  const char *name;
  size_t name_length;
  const char *owner;
  const char *mode;
  const char *host;
  const char *label;
  int64_t remaining_ms;
  int64_t held_ms;
  int64_t fencing_token;
  int64_t waiters;
  uint32_t permits;
  uint32_t pid;
} synlock_holder;
typedef struct {
  uint64_t ticket;
  uint64_t user;
  int64_t waited_ms;
  int64_t fencing_token;
  synlock_error *error;
  int32_t status;
  int32_t contended;
  uint32_t attempts;
  uint32_t reserved;
} synlock_completion;
typedef struct {
  size_t struct_size;
  int32_t kind;
  int32_t status;
  const char *level;
  const char *store;
  const char *name;
  size_t name_length;
  const char *owner;
  const char *label;
  const char *message;
  int64_t waited_ms;
  int64_t held_ms;
  uint32_t attempts;
  uint32_t pid;
  const char *caller;
  const char *key;
  const char *operation;
  const char *line;
} synlock_event;
typedef void (*synlock_event_callback)(void *user, const synlock_event *event);
typedef void (*synlock_destroy)(void *user);
typedef struct {
  size_t struct_size;
  const char *name;
  size_t name_length;
  const char *owner;
  const char *label;
  int64_t ttl_ms;
  int64_t time_ms;
  int32_t mode;
  uint32_t permits_take;
  uint32_t permits_of;
  int32_t waits;
} synlock_ask;
typedef struct {
  size_t struct_size;
  int64_t fencing_token;
  int64_t until_ms;
  int64_t poll_ms;
  int32_t recovered;
  int32_t reserved;
  char *words;
  size_t words_size;
  void *rows;
} synlock_reply;
typedef int32_t (*synlock_callback)(void *user,
                                    const synlock_ask *ask,
                                    synlock_reply *reply);
typedef struct {
  size_t struct_size;
  void *user;
  synlock_destroy destroy;
  synlock_callback attempt;
  synlock_callback release;
  synlock_callback is_held;
  synlock_callback extend;
  synlock_callback change_mode;
  synlock_callback inspect;
  synlock_callback list;
  synlock_callback break_lock;
  synlock_callback ping;
  const char *fence;
  const char *scope;
  int32_t shared;
  int32_t permits;
  int32_t frees_on_death;
  int32_t survives_restart;
} synlock_callbacks;
typedef struct {
  size_t struct_size;
  int64_t sleep_ms;
  int64_t jitter_ms;
  int64_t ttl_ms;
  uint32_t tries;
  int32_t repeat;
  int32_t demo;
  int32_t interruptible;
  const char *prefix;
  synlock_scope *scope;
} synlock_manager_options;
typedef struct {
  const char *name;
  size_t name_length;
  const char *value;
  size_t value_length;
} synlock_placeholder;
typedef struct {
  size_t struct_size;
  const char *id;
  synlock_scope *scope;
} synlock_session_options;
typedef struct {
  size_t struct_size;
  const char *name;
  size_t name_length;
  const char *service;
  const char *label;
  int64_t ttl_ms;
  int64_t max_wait_ms;
  int32_t mode;
  int32_t status;
  int32_t user_isolation;
  int32_t anonymous;
  int32_t auto_release;
  int32_t strict;
  synlock_scope *scope;
} synlock_guard_policy;
typedef struct {
  size_t struct_size;
  const char *route;
  size_t route_length;
  const char *path;
  size_t path_length;
  const synlock_placeholder *params;
  size_t param_count;
  const char *provider;
  size_t provider_length;
  const char *user_id;
  size_t user_id_length;
  const char *session;
  size_t session_length;
  const char *ip;
  size_t ip_length;
  const char *token;
  size_t token_length;
  int32_t user;
  int32_t reserved;
} synlock_guard_request;
typedef struct {
  size_t struct_size;
  int32_t admitted;
  int32_t status;
  int64_t retry_after_ms;
  int64_t waited_ms;
  int64_t fencing_token;
  uint32_t service;
  uint32_t attempts;
  int32_t contended;
  int32_t recovered;
} synlock_guard_answer;
synlock_status synlock_error_code(const synlock_error *error);
const char *synlock_error_name(const synlock_error *error);
const char *synlock_error_message(const synlock_error *error);
const char *synlock_error_store(const synlock_error *error);
const char *synlock_error_resource(const synlock_error *error);
const char *synlock_error_operation(const synlock_error *error);
int32_t synlock_error_is_retriable(const synlock_error *error);
void synlock_error_free(synlock_error *error);
void synlock_lock_options_init(synlock_lock_options *options, size_t size);
synlock_status synlock_store_open(const char *url,
                                  const char *const *keys,
                                  const char *const *values,
                                  size_t n,
                                  synlock_store **store,
                                  synlock_error **error);
void synlock_store_free(synlock_store *store);
synlock_status synlock_store_ping(const synlock_store *store,
                                  int64_t timeout_ms,
                                  synlock_error **error);
synlock_status synlock_store_url(const synlock_store *store,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *length,
                                 synlock_error **error);
synlock_status synlock_store_fingerprint(const synlock_store *store,
                                         char *buffer,
                                         size_t capacity,
                                         size_t *length,
                                         synlock_error **error);
synlock_status synlock_store_capabilities(const synlock_store *store,
                                          synlock_capabilities *capabilities,
                                          synlock_error **error);
synlock_status synlock_store_is_locked(const synlock_store *store,
                                       const char *name,
                                       size_t length,
                                       int32_t *held,
                                       synlock_error **error);
synlock_status synlock_store_break(const synlock_store *store,
                                   const char *name,
                                   size_t length,
                                   int32_t *broken,
                                   synlock_error **error);
synlock_status synlock_store_check(const synlock_store *store,
                                   uint64_t *findings,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   synlock_error **error);
synlock_status synlock_store_create_table(const synlock_store *store,
                                          int64_t timeout_ms,
                                          synlock_error **error);
synlock_status synlock_store_ddl(const synlock_store *store,
                                 const char *engine,
                                 char *buffer,
                                 size_t capacity,
                                 size_t *length,
                                 synlock_error **error);
synlock_status synlock_store_wait_free(const synlock_store *store,
                                       const char *name,
                                       size_t length,
                                       int64_t timeout_ms,
                                       synlock_error **error);
synlock_status synlock_store_schemes(char *buffer,
                                     size_t capacity,
                                     size_t *length,
                                     synlock_error **error);
synlock_status synlock_lock_new(const synlock_store *store,
                                const char *name,
                                size_t length,
                                const synlock_lock_options *options,
                                synlock_lock **lock,
                                synlock_error **error);
synlock_status synlock_store_adopt(const synlock_store *store,
                                   const char *text,
                                   const synlock_lock_options *options,
                                   synlock_lock **lock,
                                   synlock_error **error);
synlock_status synlock_lock_acquire(synlock_lock *lock,
                                    int64_t timeout_ms,
                                    synlock_error **error);
synlock_status synlock_lock_acquire_with(synlock_lock *lock,
                                         int64_t timeout_ms,
                                         synlock_cancel *cancel,
                                         synlock_acquired *acquired,
                                         synlock_error **error);
synlock_status synlock_lock_abandon(synlock_lock *lock, synlock_error **error);
synlock_status synlock_lock_release(synlock_lock *lock, synlock_error **error);
int32_t synlock_lock_was_late(const synlock_lock *lock);
synlock_status synlock_lock_refresh(synlock_lock *lock,
                                    int64_t ttl_ms,
                                    synlock_error **error);
synlock_status synlock_lock_promote(synlock_lock *lock,
                                    int64_t timeout_ms,
                                    synlock_error **error);
synlock_status synlock_lock_demote(synlock_lock *lock, synlock_error **error);
void synlock_lock_free(synlock_lock *lock);
synlock_status synlock_lock_ensure_held(synlock_lock *lock,
                                        synlock_error **error);
synlock_status synlock_lock_is_acquired(synlock_lock *lock,
                                        int32_t *held,
                                        synlock_error **error);
synlock_state synlock_lock_state(const synlock_lock *lock);
int64_t synlock_lock_remaining_ms(const synlock_lock *lock);
int64_t synlock_lock_timeout_ms(const synlock_lock *lock);
int64_t synlock_lock_fencing_token(const synlock_lock *lock);
synlock_mode synlock_lock_mode(const synlock_lock *lock);
synlock_status synlock_lock_owner_token(const synlock_lock *lock,
                                        char *buffer,
                                        size_t capacity,
                                        size_t *length,
                                        synlock_error **error);
synlock_status synlock_lock_lost_fd(synlock_lock *lock,
                                    int32_t *fd,
                                    synlock_error **error);
synlock_status synlock_lock_set_auto_release(synlock_lock *lock,
                                             int32_t on,
                                             synlock_error **error);
int32_t synlock_lock_auto_release(const synlock_lock *lock);
synlock_status synlock_lock_export(synlock_lock *lock,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   synlock_error **error);
synlock_status synlock_store_inspect(const synlock_store *store,
                                     const char *name,
                                     size_t length,
                                     synlock_list **list,
                                     synlock_error **error);
synlock_status synlock_store_list(const synlock_store *store,
                                  const char *prefix,
                                  size_t length,
                                  const char *cursor,
                                  size_t limit,
                                  synlock_list **list,
                                  synlock_error **error);
size_t synlock_list_count(const synlock_list *list);
int64_t synlock_list_waiters(const synlock_list *list);
const char *synlock_list_cursor(const synlock_list *list);
synlock_status synlock_list_get(const synlock_list *list,
                                size_t index,
                                synlock_holder *holder,
                                synlock_error **error);
void synlock_list_free(synlock_list *list);
synlock_status synlock_cancel_new(synlock_cancel **cancel,
                                  synlock_error **error);
synlock_status synlock_cancel_throw(synlock_cancel *cancel,
                                    synlock_error **error);
void synlock_cancel_free(synlock_cancel *cancel);
synlock_status synlock_scope_new(synlock_scope **scope, synlock_error **error);
synlock_status synlock_scope_request(synlock_scope **scope,
                                     synlock_error **error);
synlock_status synlock_scope_add_store(synlock_scope *scope,
                                       synlock_store *store,
                                       synlock_error **error);
void synlock_scope_free(synlock_scope *scope);
synlock_status synlock_dispatch_new(synlock_dispatch **dispatch,
                                    synlock_error **error);
int32_t synlock_dispatch_fd(const synlock_dispatch *dispatch);
synlock_status synlock_dispatch_submit(synlock_dispatch *dispatch,
                                       synlock_lock *lock,
                                       int32_t op,
                                       int64_t argument_ms,
                                       uint64_t user,
                                       uint64_t *ticket,
                                       synlock_error **error);
synlock_status synlock_dispatch_cancel(synlock_dispatch *dispatch,
                                       uint64_t ticket,
                                       synlock_error **error);
synlock_status synlock_dispatch_reap(synlock_dispatch *dispatch,
                                     synlock_completion *completions,
                                     size_t capacity,
                                     size_t size,
                                     size_t *count,
                                     synlock_error **error);
void synlock_dispatch_free(synlock_dispatch *dispatch);
synlock_status synlock_events_new(synlock_store *store,
                                  size_t capacity,
                                  synlock_events **events,
                                  synlock_error **error);
synlock_status synlock_events_new_warnings(synlock_store *store,
                                           size_t capacity,
                                           synlock_events **events,
                                           synlock_error **error);
int32_t synlock_events_fd(const synlock_events *events);
synlock_status synlock_events_next(synlock_events *events,
                                   synlock_event *event,
                                   synlock_error **error);
synlock_status synlock_events_each(synlock_events *events,
                                   synlock_event_callback callback,
                                   void *user,
                                   synlock_error **error);
uint64_t synlock_events_dropped(const synlock_events *events);
void synlock_events_free(synlock_events *events);
uint32_t synlock_abi_version(void);
uint32_t synlock_version_number(void);
const char *synlock_version_string(void);
const char *synlock_build_info(void);
const char *synlock_status_name(int32_t status);
const char *synlock_status_text(int32_t status);
const char *synlock_status_class(int32_t status);
uint64_t synlock_debug_live(uint8_t kind);
void synlock_process_end(void);
synlock_status synlock_store_custom(const char *name,
                                    const synlock_callbacks *callbacks,
                                    const char *const *keys,
                                    const char *const *values,
                                    size_t n,
                                    synlock_store **store,
                                    synlock_error **error);
synlock_status synlock_reply_add(synlock_reply *reply,
                                 const synlock_ask *ask,
                                 const synlock_holder *holder,
                                 synlock_error **error);
synlock_status synlock_fencing_ddl(const char *engine,
                                   const char *table,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length,
                                   synlock_error **error);
synlock_status synlock_fencing_trigger(const char *engine,
                                       const char *table,
                                       const char *column,
                                       char *buffer,
                                       size_t capacity,
                                       size_t *length,
                                       synlock_error **error);
synlock_status synlock_fencing_statement(const char *engine,
                                         const char *table,
                                         char *buffer,
                                         size_t capacity,
                                         size_t *length,
                                         synlock_error **error);
const char *synlock_fencing_redis(void);
synlock_status synlock_manager_new(const synlock_store *store,
                                   const synlock_manager_options *options,
                                   synlock_manager **manager,
                                   synlock_error **error);
synlock_status synlock_manager_store(const synlock_manager *manager,
                                     synlock_store **store,
                                     synlock_error **error);
synlock_status synlock_manager_acquire(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       const char *caller,
                                       int64_t ttl_ms,
                                       synlock_cancel *cancel,
                                       synlock_acquired *acquired,
                                       synlock_error **error);
synlock_status synlock_manager_abandon(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       synlock_error **error);
synlock_status synlock_manager_release(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       const char *caller,
                                       synlock_error **error);
synlock_status synlock_manager_refresh(synlock_manager *manager,
                                       const char *key,
                                       size_t length,
                                       int64_t ttl_ms,
                                       synlock_error **error);
synlock_status synlock_manager_is_acquired(synlock_manager *manager,
                                           const char *key,
                                           size_t length,
                                           int32_t *held,
                                           synlock_error **error);
void synlock_manager_free(synlock_manager *manager);
synlock_status synlock_key_name(const char *key,
                                size_t key_length,
                                const char *prefix,
                                char *buffer,
                                size_t capacity,
                                size_t *length,
                                synlock_error **error);
synlock_status synlock_template_name(const char *pattern,
                                     size_t pattern_length,
                                     const synlock_placeholder *values,
                                     size_t count,
                                     char *buffer,
                                     size_t capacity,
                                     size_t *length,
                                     synlock_error **error);
synlock_status synlock_store_measure(synlock_store *store,
                                     int32_t on,
                                     synlock_error **error);
synlock_status synlock_metrics_text(char *buffer,
                                    size_t capacity,
                                    size_t *length,
                                    synlock_error **error);
synlock_status synlock_session_new(const synlock_store *store,
                                   const synlock_session_options *options,
                                   synlock_session **session,
                                   synlock_error **error);
synlock_status synlock_session_id(const synlock_session *session,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length,
                                  synlock_error **error);
synlock_status synlock_session_acquire(synlock_session *session,
                                       const char *name,
                                       size_t length,
                                       int64_t ttl_ms,
                                       synlock_error **error);
synlock_status synlock_session_renew(synlock_session *session,
                                     const char *name,
                                     size_t length,
                                     int64_t ttl_ms,
                                     synlock_error **error);
synlock_status synlock_session_may_be_available(const synlock_session *session,
                                                const char *name,
                                                size_t length,
                                                int32_t *available,
                                                synlock_error **error);
synlock_status synlock_session_wait(const synlock_session *session,
                                    const char *name,
                                    size_t length,
                                    int64_t timeout_ms,
                                    synlock_error **error);
synlock_status synlock_session_release(synlock_session *session,
                                       const char *name,
                                       size_t length,
                                       synlock_error **error);
synlock_status synlock_session_release_all(synlock_session *session,
                                           const char *id,
                                           uint64_t *released,
                                           synlock_error **error);
void synlock_session_free(synlock_session *session);
synlock_status synlock_set_new(synlock_lock *const *locks,
                               size_t count,
                               synlock_scope *scope,
                               synlock_set **set,
                               synlock_error **error);
synlock_status synlock_set_acquire(synlock_set *set,
                                   int64_t timeout_ms,
                                   synlock_cancel *cancel,
                                   synlock_acquired *acquired,
                                   synlock_error **error);
synlock_status synlock_set_abandon(synlock_set *set, synlock_error **error);
synlock_status synlock_set_release(synlock_set *set, synlock_error **error);
synlock_status synlock_set_ensure_held(synlock_set *set, synlock_error **error);
synlock_status synlock_dispatch_submit_set(synlock_dispatch *dispatch,
                                           synlock_set *set,
                                           int32_t op,
                                           int64_t argument_ms,
                                           uint64_t user,
                                           uint64_t *ticket,
                                           synlock_error **error);
void synlock_set_free(synlock_set *set);
synlock_status synlock_guard_new(const char *dialect,
                                 synlock_scope *scope,
                                 synlock_guard **guard,
                                 synlock_error **error);
synlock_status synlock_guard_add(synlock_guard *guard,
                                 const char *name,
                                 const synlock_store *store,
                                 int32_t can_wait,
                                 synlock_error **error);
synlock_status synlock_guard_set_default(synlock_guard *guard,
                                         const char *name,
                                         synlock_error **error);
synlock_status synlock_guard_find(const synlock_guard *guard,
                                  const char *name,
                                  size_t *service,
                                  synlock_error **error);
synlock_status synlock_guard_name(const synlock_guard *guard,
                                  const synlock_guard_policy *policy,
                                  const synlock_guard_request *request,
                                  char *buffer,
                                  size_t capacity,
                                  size_t *length,
                                  synlock_error **error);
synlock_status synlock_guard_enter(const synlock_guard *guard,
                                   const synlock_guard_policy *policy,
                                   const synlock_guard_request *request,
                                   synlock_cancel *cancel,
                                   synlock_lock **lock,
                                   synlock_list **holders,
                                   synlock_guard_answer *answer,
                                   synlock_error **error);
void synlock_guard_free(synlock_guard *guard);
