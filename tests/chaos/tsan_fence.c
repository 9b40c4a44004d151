/* What ThreadSanitizer does not know: that a fence makes what a thread has read before it an acquisition. The last
   reference to an Arc is given up with such a fence, after a subtraction that releases. Linked in between, this tells it
   of the pair, for the word that the thread subtracted from last, and of no other. */
#include <stdint.h>

typedef uint64_t word;
word __real___tsan_atomic64_fetch_sub(volatile word *at, word by, int order);
void __real___tsan_atomic_thread_fence(int order);
void __tsan_acquire(void *at);

static __thread volatile word *last;

word __wrap___tsan_atomic64_fetch_sub(volatile word *at, word by, int order);
word __wrap___tsan_atomic64_fetch_sub(volatile word *at, word by, int order) {
    last = at;
    return __real___tsan_atomic64_fetch_sub(at, by, order);
}

void __wrap___tsan_atomic_thread_fence(int order);
void __wrap___tsan_atomic_thread_fence(int order) {
    __real___tsan_atomic_thread_fence(order);
    if (order != __ATOMIC_RELAXED && order != __ATOMIC_RELEASE && last) __tsan_acquire((void *)last);
}
