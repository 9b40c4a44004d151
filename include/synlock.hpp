// synlock for C++17: thin owners of the handles of <synlock.h>. MIT OR Apache-2.0
//
// What <synlock.h> says holds here. Failures throw synlock::Error; "not now" is false. Header only;
// link with libsynlock.

#ifndef SYNLOCK_HPP
#define SYNLOCK_HPP

#include <synlock.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace synlock {

using milliseconds = std::chrono::milliseconds;

/// A call that failed. Copies what the error object says, and frees it.
class Error : public std::runtime_error {
public:
    Error(synlock_status code, synlock_error *error)
        : std::runtime_error(text(synlock_error_message(error), synlock_status_text(code))),
          code_(code),
          store_(text(synlock_error_store(error), "")),
          resource_(text(synlock_error_resource(error), "")),
          retriable_(synlock_error_is_retriable(error) == 1) {
        synlock_error_free(error);
    }

    synlock_status code() const noexcept { return code_; }
    /// Such as "TIMEOUT".
    const char *name() const noexcept { return synlock_status_name(code_); }
    /// The store's URL without credentials, or "".
    const std::string &store() const noexcept { return store_; }
    const std::string &resource() const noexcept { return resource_; }
    bool retriable() const noexcept { return retriable_; }

private:
    static std::string text(const char *words, const char *otherwise) { return words ? words : otherwise; }

    synlock_status code_;
    std::string store_, resource_;
    bool retriable_;
};

namespace detail {

template <typename Call>
void check(Call &&call) {
    synlock_error *error = nullptr;
    synlock_status code = call(&error);
    if (code != SYNLOCK_OK) throw Error(code, error);
}

/// As `check`; false for what a caller expects to hear: taken, or not free in time.
template <typename Call>
bool granted(Call &&call) {
    synlock_error *error = nullptr;
    synlock_status code = call(&error);
    if (code == SYNLOCK_OK) return true;
    if (code != SYNLOCK_BUSY && code != SYNLOCK_TIMEOUT) throw Error(code, error);
    synlock_error_free(error);
    return false;
}

/// Text of a function that says its length when it is asked without a buffer.
template <typename Call>
std::string copied(Call &&call) {
    std::size_t length = 0;
    check([&](synlock_error **error) { return call(nullptr, std::size_t{0}, &length, error); });
    std::string text(length + 1, '\0');
    check([&](synlock_error **error) { return call(&text[0], text.size(), &length, error); });
    text.resize(length);
    return text;
}

/// Owns one handle.
template <typename T, void (*Free)(T *)>
class Handle {
public:
    Handle() = default;
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Handle &operator=(Handle &&other) noexcept {
        if (this != &other) {
            Free(handle_);
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    Handle(const Handle &) = delete;
    Handle &operator=(const Handle &) = delete;
    ~Handle() { Free(handle_); }

    /// For functions of <synlock.h>; still owned here.
    T *get() const noexcept { return handle_; }

protected:
    T *handle_ = nullptr;
};

} // namespace detail

/// Waits as long as it takes.
inline constexpr milliseconds forever{-1};
/// Waits as the options of the lock say.
inline constexpr milliseconds by_option{-3};

/// Options of a lock, all at their defaults.
inline synlock_lock_options options() noexcept {
    synlock_lock_options made;
    synlock_lock_options_init(&made, sizeof made);
    return made;
}

/// Ends waits from any thread.
class Cancel : public detail::Handle<synlock_cancel, synlock_cancel_free> {
public:
    Cancel() {
        detail::check([&](synlock_error **error) { return synlock_cancel_new(&handle_, error); });
    }

    /// Ends every wait that was given this, now and later.
    void cancel() {
        detail::check([&](synlock_error **error) { return synlock_cancel_throw(handle_, error); });
    }
};

/// A store of one's own: what `synlock_callbacks` says of each callback holds for its function here.
/// What they throw becomes an error, with its words; SYNLOCK_UNCERTAIN, where it may have acted.
class CustomStore {
public:
    virtual ~CustomStore() = default;
    virtual synlock_status attempt(const synlock_ask &ask, synlock_reply &reply) = 0;
    virtual synlock_status release(const synlock_ask &ask) = 0;
    virtual synlock_status is_held(const synlock_ask &ask) = 0;
    virtual synlock_status extend(const synlock_ask &) { return SYNLOCK_UNSUPPORTED; }
    virtual synlock_status change_mode(const synlock_ask &, synlock_reply &) { return SYNLOCK_UNSUPPORTED; }
    /// Tells of each holder by `add`.
    virtual synlock_status inspect(const synlock_ask &, synlock_reply &) { return SYNLOCK_UNSUPPORTED; }
    virtual synlock_status list(const synlock_ask &, synlock_reply &) { return SYNLOCK_UNSUPPORTED; }
    virtual synlock_status break_lock(const synlock_ask &) { return SYNLOCK_UNSUPPORTED; }
    virtual synlock_status ping(const synlock_ask &) { return SYNLOCK_OK; }

    static std::string name(const synlock_ask &ask) { return {ask.name, ask.name_length}; }
    static void add(synlock_reply &reply, const synlock_ask &ask, const synlock_holder &holder) {
        detail::check([&](synlock_error **error) { return synlock_reply_add(&reply, &ask, &holder, error); });
    }
};

/// What a custom store can do; the functions that it does not have are left out of its callbacks.
struct CustomTraits {
    bool leases = false, change_mode = false, inspect = false, list = false, break_lock = false;
    bool shared = false, permits = false, frees_on_death = false, survives_restart = false;
    /// "E", "H", "D", or none.
    const char *fence = nullptr;
    const char *scope = "process";
};

namespace detail {

/// Calls one function of a custom store; nothing is thrown through C.
template <synlock_status Failed, typename Call>
std::int32_t answer(synlock_reply *reply, Call &&call) noexcept {
    const char *words = "it threw what is no std::exception";
    std::string said;
    try {
        return call();
    } catch (const Error &error) {
        try { said = error.what(); words = said.c_str(); } catch (...) { words = ""; }
        std::snprintf(reply->words, reply->words_size, "%s", words);
        return error.code() < 100 ? Failed : error.code();
    } catch (const std::exception &error) {
        std::snprintf(reply->words, reply->words_size, "%s", error.what());
    } catch (...) {
        std::snprintf(reply->words, reply->words_size, "%s", words);
    }
    return Failed;
}

inline CustomStore &custom(void *user) { return *static_cast<CustomStore *>(user); }

inline synlock_callbacks callbacks(CustomStore *store, const CustomTraits &can) {
    using A = const synlock_ask *;
    using R = synlock_reply *;
    synlock_callbacks table{};
    table.struct_size = sizeof table;
    table.user = store;
    table.destroy = [](void *user) { delete static_cast<CustomStore *>(user); };
    table.attempt = [](void *user, A ask, R reply) {
        return answer<SYNLOCK_UNCERTAIN>(reply, [&] { return custom(user).attempt(*ask, *reply); });
    };
    table.release = [](void *user, A ask, R reply) {
        return answer<SYNLOCK_UNCERTAIN>(reply, [&] { return custom(user).release(*ask); });
    };
    table.is_held = [](void *user, A ask, R reply) {
        return answer<SYNLOCK_UNAVAILABLE>(reply, [&] { return custom(user).is_held(*ask); });
    };
    if (can.leases)
        table.extend = [](void *user, A ask, R reply) {
            return answer<SYNLOCK_UNCERTAIN>(reply, [&] { return custom(user).extend(*ask); });
        };
    if (can.change_mode)
        table.change_mode = [](void *user, A ask, R reply) {
            return answer<SYNLOCK_UNCERTAIN>(reply, [&] { return custom(user).change_mode(*ask, *reply); });
        };
    if (can.inspect)
        table.inspect = [](void *user, A ask, R reply) {
            return answer<SYNLOCK_UNAVAILABLE>(reply, [&] { return custom(user).inspect(*ask, *reply); });
        };
    if (can.list)
        table.list = [](void *user, A ask, R reply) {
            return answer<SYNLOCK_UNAVAILABLE>(reply, [&] { return custom(user).list(*ask, *reply); });
        };
    if (can.break_lock)
        table.break_lock = [](void *user, A ask, R reply) {
            return answer<SYNLOCK_UNCERTAIN>(reply, [&] { return custom(user).break_lock(*ask); });
        };
    table.ping = [](void *user, A ask, R reply) {
        return answer<SYNLOCK_UNAVAILABLE>(reply, [&] { return custom(user).ping(*ask); });
    };
    table.fence = can.fence;
    table.scope = can.scope;
    table.shared = can.shared;
    table.permits = can.permits;
    table.frees_on_death = can.frees_on_death;
    table.survives_restart = can.survives_restart;
    return table;
}

} // namespace detail

/// Where locks are kept. Usable from any thread.
class Store : public detail::Handle<synlock_store, synlock_store_free> {
public:
    explicit Store(const std::string &url, const std::vector<std::pair<std::string, std::string>> &settings = {}) {
        std::vector<const char *> keys, values;
        for (const auto &[key, value] : settings) {
            keys.push_back(key.c_str());
            values.push_back(value.c_str());
        }
        detail::check([&](synlock_error **error) {
            return synlock_store_open(url.c_str(), keys.data(), values.data(), keys.size(), &handle_, error);
        });
    }

    /// A store of one's own, `custom:` and `name`.
    Store(const std::string &name, std::unique_ptr<CustomStore> custom, const CustomTraits &can,
          const std::vector<std::pair<std::string, std::string>> &settings = {}) {
        std::vector<const char *> keys, values;
        for (const auto &[key, value] : settings) {
            keys.push_back(key.c_str());
            values.push_back(value.c_str());
        }
        const synlock_callbacks table = detail::callbacks(custom.get(), can);
        detail::check([&](synlock_error **error) {
            return synlock_store_custom(name.c_str(), &table, keys.data(), values.data(), keys.size(), &handle_, error);
        });
        // The table's `destroy` deletes it.
        (void)custom.release();
    }

    void ping(milliseconds timeout = forever) const {
        detail::check([&](synlock_error **error) { return synlock_store_ping(handle_, timeout.count(), error); });
    }

    /// Without credentials.
    std::string url() const {
        return detail::copied([&](auto... to) { return synlock_store_url(handle_, to...); });
    }

    /// Makes the table that the store keeps its locks in, if it is not there.
    void create_table(std::int64_t timeout_ms = SYNLOCK_FOREVER) {
        detail::check([&](synlock_error **error) { return synlock_store_create_table(handle_, timeout_ms, error); });
    }

    /// The SQL that makes it, on the store's own engine or a named one.
    std::string ddl(const char *engine = nullptr) const {
        return detail::copied([&](auto... to) { return synlock_store_ddl(handle_, engine, to...); });
    }

    /// Equal in every process and language that shares the same locks.
    std::string fingerprint() const {
        return detail::copied([&](auto... to) { return synlock_store_fingerprint(handle_, to...); });
    }

    synlock_capabilities capabilities() const {
        synlock_capabilities can{};
        can.struct_size = sizeof can;
        detail::check([&](synlock_error **error) { return synlock_store_capabilities(handle_, &can, error); });
        return can;
    }

    bool is_locked(std::string_view name) const {
        std::int32_t held = 0;
        detail::check([&](synlock_error **error) {
            return synlock_store_is_locked(handle_, name.data(), name.size(), &held, error);
        });
        return held == 1;
    }

    /// Takes the lock from whoever holds it; whether anybody did.
    bool break_lock(std::string_view name) const {
        std::int32_t broken = 0;
        detail::check([&](synlock_error **error) {
            return synlock_store_break(handle_, name.data(), name.size(), &broken, error);
        });
        return broken == 1;
    }

    /// What dead users left and nobody has cleared away, and damage, a line each; empty if there is
    /// none. Throws Error with SYNLOCK_UNSUPPORTED where the store has no check.
    std::string check() const {
        char text[8192];
        std::uint64_t findings = 0;
        detail::check([&](synlock_error **error) {
            return synlock_store_check(handle_, &findings, text, sizeof text, nullptr, error);
        });
        return text;
    }

    /// Whether the lock came free in time; does not take it.
    bool wait_free(std::string_view name, milliseconds timeout = forever) const {
        return detail::granted([&](synlock_error **error) {
            return synlock_store_wait_free(handle_, name.data(), name.size(), timeout.count(), error);
        });
    }
};

/// A lock on one name. Used by one thread at a time; releases what it holds when it ends. Fits
/// std::unique_lock and std::scoped_lock.
class Lock : public detail::Handle<synlock_lock, synlock_lock_free> {
public:
    Lock(const Store &store, std::string_view name) : Lock(store, name, options()) {}

    Lock(const Store &store, std::string_view name, const synlock_lock_options &options) {
        detail::check([&](synlock_error **error) {
            return synlock_lock_new(store.get(), name.data(), name.size(), &options, &handle_, error);
        });
    }

    /// Takes over a hold that another process exported.
    static Lock adopt(const Store &store, const std::string &text, const synlock_lock_options &options = synlock::options()) {
        Lock lock;
        detail::check([&](synlock_error **error) {
            return synlock_store_adopt(store.get(), text.c_str(), &options, &lock.handle_, error);
        });
        return lock;
    }

    /// Whether the lock was granted in time.
    bool acquire(milliseconds timeout = by_option) {
        return detail::granted(
            [&](synlock_error **error) { return synlock_lock_acquire(handle_, timeout.count(), error); });
    }

    /// As `acquire`; throws Error with SYNLOCK_CANCELLED if `cancel` ended the wait.
    bool acquire(milliseconds timeout, const Cancel &cancel, synlock_acquired *acquired = nullptr) {
        return detail::granted([&](synlock_error **error) {
            return synlock_lock_acquire_with(handle_, timeout.count(), cancel.get(), acquired, error);
        });
    }

    /// Throws if the hold was lost meanwhile.
    void release() {
        detail::check([&](synlock_error **error) { return synlock_lock_release(handle_, error); });
    }

    void refresh(milliseconds ttl = milliseconds{0}) {
        detail::check([&](synlock_error **error) { return synlock_lock_refresh(handle_, ttl.count(), error); });
    }

    /// Turns a shared hold into the exclusive one; false: others read, and the shared hold stays. Waits as the
    /// options say, by default for ever: of two that do neither gets it, so give a timeout, and release if it is false.
    bool promote(milliseconds timeout = by_option) {
        return detail::granted(
            [&](synlock_error **error) { return synlock_lock_promote(handle_, timeout.count(), error); });
    }

    void demote() {
        detail::check([&](synlock_error **error) { return synlock_lock_demote(handle_, error); });
    }

    /// Asks the store: throws if the lock is not held.
    void ensure_held() {
        detail::check([&](synlock_error **error) { return synlock_lock_ensure_held(handle_, error); });
    }

    bool is_acquired() {
        std::int32_t held = 0;
        detail::check([&](synlock_error **error) { return synlock_lock_is_acquired(handle_, &held, error); });
        return held == 1;
    }

    synlock_state state() const noexcept { return synlock_lock_state(handle_); }
    /// -1 ms without a lease or a hold.
    milliseconds remaining() const noexcept { return milliseconds{synlock_lock_remaining_ms(handle_)}; }
    /// 0 if there is none.
    std::int64_t fencing_token() const noexcept { return synlock_lock_fencing_token(handle_); }

    /// Readable when the hold is lost. Belongs to the lock.
    int lost_fd() {
        std::int32_t fd = -1;
        detail::check([&](synlock_error **error) { return synlock_lock_lost_fd(handle_, &fd, error); });
        return fd;
    }

    /// Lets go of the hold, as text that another process can adopt.
    std::string export_hold() {
        std::size_t length = 0;
        // Says only how much room it wants.
        (void)synlock_lock_export(handle_, nullptr, 0, &length, nullptr);
        std::string text(length + 1, '\0');
        detail::check(
            [&](synlock_error **error) { return synlock_lock_export(handle_, &text[0], text.size(), &length, error); });
        text.resize(length);
        return text;
    }

    // The names of the standard's Lockable. `unlock` runs in destructors, so it cannot throw: use
    // `release` to hear that the hold was lost.
    void lock() {
        detail::check([&](synlock_error **error) { return synlock_lock_acquire(handle_, SYNLOCK_FOREVER, error); });
    }
    bool try_lock() { return acquire(milliseconds{0}); }
    template <typename Rep, typename Period>
    bool try_lock_for(std::chrono::duration<Rep, Period> time) {
        return acquire(std::max(milliseconds{0}, std::chrono::ceil<milliseconds>(time)));
    }
    void unlock() noexcept { (void)synlock_lock_release(handle_, nullptr); }

private:
    Lock() = default;
};

/// Locks that are taken together, all or none, on any stores and in any modes; no two sets can wait for one
/// another. The locks must outlive the set.
class LockSet : public detail::Handle<synlock_set, synlock_set_free> {
public:
    explicit LockSet(const std::vector<Lock *> &locks) {
        std::vector<synlock_lock *> handles;
        for (const Lock *lock : locks) handles.push_back(lock->get());
        detail::check([&](synlock_error **error) {
            return synlock_set_new(handles.data(), handles.size(), nullptr, &handle_, error);
        });
    }

    /// Whether all were granted in time; if not, none is held.
    bool acquire(milliseconds timeout = by_option) {
        return detail::granted([&](synlock_error **error) {
            return synlock_set_acquire(handle_, timeout.count(), nullptr, nullptr, error);
        });
    }

    /// As `acquire`; throws Error with SYNLOCK_CANCELLED if `cancel` ended the wait.
    bool acquire(milliseconds timeout, const Cancel &cancel, synlock_acquired *acquired = nullptr) {
        return detail::granted([&](synlock_error **error) {
            return synlock_set_acquire(handle_, timeout.count(), cancel.get(), acquired, error);
        });
    }

    /// Throws if one of the holds was lost meanwhile; the others are given back.
    void release() {
        detail::check([&](synlock_error **error) { return synlock_set_release(handle_, error); });
    }

    /// Asks the stores: throws unless all are held.
    void ensure_held() {
        detail::check([&](synlock_error **error) { return synlock_set_ensure_held(handle_, error); });
    }
};

/// Holds a lock for as long as it lives.
class Hold {
public:
    /// Waits as the options of the lock say; throws Error with SYNLOCK_TIMEOUT or SYNLOCK_BUSY.
    explicit Hold(Lock &lock) : Hold(lock, by_option) {}

    Hold(Lock &lock, milliseconds timeout) : lock_(&lock) {
        detail::check(
            [&](synlock_error **error) { return synlock_lock_acquire(lock.get(), timeout.count(), error); });
    }

    Hold(Hold &&other) noexcept : lock_(std::exchange(other.lock_, nullptr)) {}
    Hold(const Hold &) = delete;
    Hold &operator=(const Hold &) = delete;
    Hold &operator=(Hold &&) = delete;
    ~Hold() {
        if (lock_) lock_->unlock();
    }

    /// Releases now; throws if the hold was lost meanwhile.
    void release() {
        if (lock_) std::exchange(lock_, nullptr)->release();
    }

private:
    Lock *lock_;
};

/// One owner of any number of exclusive locks, known by its id: Drupal's model. They end with it, unless
/// it has an id of the program's own: such a session is persistent.
class Session : public detail::Handle<synlock_session, synlock_session_free> {
public:
    explicit Session(const Store &store, const char *id = nullptr) {
        synlock_session_options made{};
        made.struct_size = sizeof made;
        made.id = id;
        detail::check([&](synlock_error **error) { return synlock_session_new(store.get(), &made, &handle_, error); });
    }
    Session(const Store &store, const std::string &id) : Session(store, id.c_str()) {}

    /// The same for the session's whole life.
    std::string id() const {
        return detail::copied([&](auto... to) { return synlock_session_id(handle_, to...); });
    }

    /// Takes the lock for `ttl`, or renews it if the session holds it; false if somebody else has it, or may
    /// have had it meanwhile. Does not wait.
    bool acquire(std::string_view name, milliseconds ttl = std::chrono::seconds{30}) {
        return allowed({SYNLOCK_BUSY, SYNLOCK_LOST}, [&](synlock_error **error) {
            return synlock_session_acquire(handle_, name.data(), name.size(), ttl.count(), error);
        });
    }

    /// False if the session does not hold the lock, or not any more. A persistent session renews what any
    /// process acquired under its id.
    bool renew(std::string_view name, milliseconds ttl = std::chrono::seconds{30}) {
        return allowed({SYNLOCK_NOT_HELD, SYNLOCK_NOT_HELD}, [&](synlock_error **error) {
            return synlock_session_renew(handle_, name.data(), name.size(), ttl.count(), error);
        });
    }

    /// Whether an acquire by somebody else would find the lock free now.
    bool may_be_available(std::string_view name) const {
        std::int32_t available = 0;
        detail::check([&](synlock_error **error) {
            return synlock_session_may_be_available(handle_, name.data(), name.size(), &available, error);
        });
        return available == 1;
    }

    /// Waits until the lock may be available: true if it is still held after `delay`. Takes nothing.
    bool wait(std::string_view name, milliseconds delay = std::chrono::seconds{30}) const {
        return !detail::granted([&](synlock_error **error) {
            return synlock_session_wait(handle_, name.data(), name.size(), delay.count(), error);
        });
    }

    /// False if the session did not hold the lock any more.
    bool release(std::string_view name) {
        return allowed({SYNLOCK_NOT_HELD, SYNLOCK_NOT_HELD}, [&](synlock_error **error) {
            return synlock_session_release(handle_, name.data(), name.size(), error);
        });
    }

    /// Releases all locks of this session (of a persistent one what this object took, not what others took under
    /// its id), or all of that id; how many there were.
    std::uint64_t release_all(const char *id = nullptr) {
        std::uint64_t count = 0;
        detail::check([&](synlock_error **error) { return synlock_session_release_all(handle_, id, &count, error); });
        return count;
    }
    std::uint64_t release_all(const std::string &id) { return release_all(id.c_str()); }

private:

    /// Whether the call was SYNLOCK_OK; false for two outcomes, and anything else is thrown.
    template <typename Call>
    static bool allowed(std::pair<int, int> outcomes, Call &&call) {
        bool good = true;
        detail::check([&](synlock_error **error) {
            const synlock_status status = call(error);
            if (status != outcomes.first && status != outcomes.second) return status;
            synlock_error_free(std::exchange(*error, nullptr));
            good = false;
            return SYNLOCK_OK;
        });
        return good;
    }
};

/// Locks by typed keys (JSON: text, or a list that begins with text) with one set of retry settings, as Avtonom's
/// semaphore bundle has them. Releases what it holds when it ends.
class Manager : public detail::Handle<synlock_manager, synlock_manager_free> {
public:
    /// Settings, all at their defaults.
    static synlock_manager_options options() noexcept {
        synlock_manager_options options{};
        options.struct_size = sizeof options;
        return options;
    }

    explicit Manager(const Store &store) : Manager(store, options()) {}

    Manager(const Store &store, const synlock_manager_options &options) {
        detail::check([&](synlock_error **error) { return synlock_manager_new(store.get(), &options, &handle_, error); });
    }

    /// Whether the lock was granted in time; throws Error with SYNLOCK_REENTERED if this process holds the key.
    bool acquire(std::string_view key, const char *caller = nullptr, milliseconds ttl = milliseconds{0}) {
        return detail::granted([&](synlock_error **error) {
            return synlock_manager_acquire(handle_, key.data(), key.size(), caller, ttl.count(), nullptr, nullptr, error);
        });
    }

    /// Throws if this manager does not hold the key, or lost it meanwhile.
    void release(std::string_view key, const char *caller = nullptr) {
        detail::check([&](synlock_error **error) {
            return synlock_manager_release(handle_, key.data(), key.size(), caller, error);
        });
    }

    void refresh(std::string_view key, milliseconds ttl = milliseconds{0}) {
        detail::check([&](synlock_error **error) {
            return synlock_manager_refresh(handle_, key.data(), key.size(), ttl.count(), error);
        });
    }

    /// Whether this manager holds the key; asks the store.
    bool is_acquired(std::string_view key) {
        std::int32_t held = 0;
        detail::check([&](synlock_error **error) {
            return synlock_manager_is_acquired(handle_, key.data(), key.size(), &held, error);
        });
        return held == 1;
    }
};

} // namespace synlock

#endif // SYNLOCK_HPP
