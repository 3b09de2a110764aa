/*
 * The driver: what the heart asks of whoever executes operations.
 *
 * A driver takes submission queue entries and gives completion queue entries. The two queues are plain
 * memory that the inline functions below read and write, laid out as io_uring's; only `enter` is a call.
 * ring.c is the driver over io_uring, epoll.c the one for where that is refused. Nothing above this header
 * asks which driver it has: it looks at `capabilities`, and asks `has_opcode`.
 *
 * Threads: `create` may run anywhere. `enable` binds the driver to the calling thread, and from then on
 * that thread alone calls everything but `adopt`, `destroy` and `abandon` (others are answered EEXIST, by
 * Linux from 6.1 on, SINGLE_ISSUER, and before that by ring.c; epoll.c lets any thread call, one at a time).
 */
#ifndef RINGLOOP_DRIVER_H
#define RINGLOOP_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "ensure.h"

enum { /* rl_driver.capabilities: what rooms above choose their strategy by */
    RL_CAN_RECV_MULTISHOT = 1 << 0,   /* multishot receive into provided buffers */
    RL_CAN_ACCEPT_MULTISHOT = 1 << 1,
    RL_CAN_POLL_MULTISHOT = 1 << 2,
    RL_CAN_CANCEL_ANY = 1 << 3,       /* one cancel for everything in flight */
    RL_CAN_POLL_FIRST = 1 << 4,       /* a send or receive that waits before its first attempt */
    RL_CAN_TELL_PENDING = 1 << 5,     /* *sq_flags, or completions, tell of all that has happened */
    RL_CAN_HOLD_FILES = 1 << 6,       /* an armed request keeps its file open */
    RL_CAN_READ_CACHED = 1 << 7,      /* `enter` itself reads what is cached, where RWF_NOWAIT is known */
    RL_CAN_USE_SLOTS = 1 << 8         /* OPENAT into a slot that links behind it in the same submission use */
};

enum { RL_WAIT_FOREVER = -1 };

/* The slots for files, where there are any, by their numbers in FIXED_FILE entries. The caller gives them. */
enum { RL_SLOT_FIRST = 1, RL_SLOT_COUNT = 64 };

typedef struct rl_driver rl_driver;

/* Counters, for people: written by the owning thread only. */
struct rl_driver_counters {
    uint64_t enters;       /* system calls that look for completions */
    uint64_t waits;        /* those of them that were asked to wait */
    uint64_t submitted;    /* entries taken by the executing side */
    uint64_t completed;    /* completions consumed */
    uint64_t sq_full;      /* times that no entry was free */
    uint64_t cq_overflows; /* calls of `enter` that found completions waiting for room in the queue */
};

struct rl_driver_calls {
    const char *name;
    /* Binds the driver to the calling thread and starts it. 0 or -errno. */
    int (*enable)(rl_driver *driver);
    /*
     * Submits what is queued and, if wait_count > 0, waits until that many completions are there or
     * timeout_ns has passed (RL_WAIT_FOREVER: no limit; 0: a poll). Runs pending kernel task work in any
     * case, but not always all of it: rl_driver_wants_enter() tells. Returns 0 when done, also after a
     * timeout, a signal, or a lack of kernel memory that left entries queued: the caller looks at the queues,
     * not at the result. -errno only for what no retry can mend: EEXIST on a thread that is not the owner,
     * EBADFD before `enable`, EBADR when the kernel had no memory to keep a completion.
     */
    int (*enter)(rl_driver *driver, uint32_t wait_count, int64_t timeout_ns);
    /*
     * After EEXIST: binds the driver to the calling thread, if requests of the old owner may still complete.
     * 0, or EEXIST: nothing of them is executed any more, and the kernel takes nobody else.
     */
    int (*adopt)(rl_driver *driver);
    /*
     * Ends a driver with nothing in flight, from any thread: closes its fds, frees its memory and `driver`.
     */
    void (*destroy)(rl_driver *driver);
    /*
     * Ends a driver whose requests may still be in flight, from any thread, under the GIL and while no other
     * is in `enter`: closes its fds, all but one, and starts the kernel's teardown. `release(argument)` is
     * called, from a later rl_driver_sweep() on any thread, once the kernel can touch no memory of it any
     * more; `driver` is freed then and the last fd closed. Cannot fail.
     */
    void (*abandon)(rl_driver *driver, void (*release)(void *argument), void *argument);
    /* In the child after fork(): closes the child's copies of fds, touches no ring memory, frees `driver`. */
    void (*forked)(rl_driver *driver);
    /* 1 if the opcode can be submitted here, else 0. */
    int (*has_opcode)(rl_driver *driver, uint8_t opcode);
    /* Makes the group of provided buffers `group` known or unknown. 0 or -errno. */
    int (*register_buffers)(rl_driver *driver, uint16_t group, struct rl_buffer *ring,
                            uint32_t entry_count);
    int (*unregister_buffers)(rl_driver *driver, uint16_t group);
};

struct rl_driver {
    const struct rl_driver_calls *calls;
    uint32_t capabilities;
    uint32_t setup_flags; /* RL_SETUP_* obtained; 0 where that means nothing */
    uint32_t features;    /* RL_FEATURE_* obtained */
    int fd;               /* for the doctor; -1 where there is none */

    /* Submission queue: [sq_published, sq_tail) is queued, and stays so until the executing side takes it. */
    struct rl_sqe *sqes;
    const uint32_t *sq_head;  /* written by the executing side */
    const uint32_t *sq_flags; /* RL_SQ_* */
    uint32_t sq_tail, sq_published, sq_mask, sq_entries; /* sq_published: as far as they were taken */
    /*
     * The last `enter` took a part of some links: the first of the others, and the next that is queued, would
     * begin by itself. Mend that before the next `enter`.
     */
    bool links_cut;

    /* Completion queue. */
    const struct rl_cqe *cqes;
    uint32_t *cq_head;
    const uint32_t *cq_tail; /* written by the executing side */
    uint32_t cq_mask, cq_entries;

    struct rl_driver_counters counters;
};

/* The next free submission queue entry, zeroed, or NULL when the queue is full (`enter` makes room). */
static inline struct rl_sqe *rl_driver_sqe(rl_driver *driver)
{
    uint32_t head = __atomic_load_n(driver->sq_head, __ATOMIC_ACQUIRE);
    if (driver->sq_tail - head >= driver->sq_entries) {
        driver->counters.sq_full++;
        return NULL;
    }
    struct rl_sqe *sqe = &driver->sqes[driver->sq_tail++ & driver->sq_mask];
    *sqe = (struct rl_sqe){0};
    return sqe;
}

static inline uint32_t rl_driver_queued(const rl_driver *driver)
{
    return driver->sq_tail - driver->sq_published;
}

/* How many entries are free. */
static inline uint32_t rl_driver_room(const rl_driver *driver)
{
    return driver->sq_entries - (driver->sq_tail - __atomic_load_n(driver->sq_head, __ATOMIC_ACQUIRE));
}

/* The entry that is `place` behind the next to be taken, or NULL; ours to change until `enter`. */
static inline struct rl_sqe *rl_driver_untaken(const rl_driver *driver, uint32_t place)
{
    if (place >= rl_driver_queued(driver))
        return NULL;
    return &driver->sqes[(driver->sq_published + place) & driver->sq_mask];
}

/* Whether an `enter` that does not wait has anything to do: submit, task work, or overflown completions. */
static inline bool rl_driver_wants_enter(const rl_driver *driver)
{
    return rl_driver_queued(driver) != 0 ||
           (__atomic_load_n(driver->sq_flags, __ATOMIC_RELAXED) & (RL_SQ_TASKRUN | RL_SQ_CQ_OVERFLOW)) != 0;
}

/* As above, and also if only `enter` can find out: once a pass, so that what is ready is not starved. */
static inline bool rl_driver_wants_look(const rl_driver *driver)
{
    return rl_driver_wants_enter(driver) || (driver->capabilities & RL_CAN_TELL_PENDING) == 0;
}

/* The oldest completion not yet consumed, or NULL. Valid until rl_driver_consumed(). */
static inline const struct rl_cqe *rl_driver_completion(const rl_driver *driver)
{
    uint32_t head = *driver->cq_head;
    if (head == __atomic_load_n(driver->cq_tail, __ATOMIC_ACQUIRE))
        return NULL;
    return &driver->cqes[head & driver->cq_mask];
}

static inline void rl_driver_consumed(rl_driver *driver)
{
    ENSURE(*driver->cq_head != __atomic_load_n(driver->cq_tail, __ATOMIC_RELAXED));
    driver->counters.completed++;
    __atomic_store_n(driver->cq_head, *driver->cq_head + 1, __ATOMIC_RELEASE);
}

/*
 * Frees what abandoned drivers left behind, as far as the kernel has let go; waits for that no longer than
 * timeout_ms. Returns how many are still held. Any thread, under the GIL.
 */
int rl_driver_sweep(int timeout_ms);

/*
 * In the child after fork(): frees at once what abandoned drivers left behind. It is a copy that no kernel
 * writes to, and its fds must go before the child closes all that it does not know and reuses their numbers.
 */
void rl_driver_sweep_forked(void);

/* A group of provided buffers, a power of two of them up to 32768; one per driver and group number. */
struct rl_buffers {
    struct rl_buffer *ring; /* shared with the kernel */
    uint8_t *memory;
    uint32_t buffer_bytes, buffer_count;
    uint16_t tail, group;
};

/*
 * Makes a group with all its buffers in the ring, to be registered with one driver once: another driver would
 * read the ring from its first entry again. 0 or -errno. The memory belongs to the group; free it when the
 * driver that knows it can write no more.
 */
int rl_buffers_allocate(struct rl_buffers *buffers, uint16_t group, uint32_t buffer_count,
                        uint32_t buffer_bytes);
void rl_buffers_free(struct rl_buffers *buffers);

static inline uint8_t *rl_buffers_address(const struct rl_buffers *buffers, uint16_t id)
{
    return buffers->memory + (size_t)id * buffers->buffer_bytes;
}

/* Gives buffer `id` back to the kernel. It must have been given out by a completion since the last time. */
static inline void rl_buffers_recycle(struct rl_buffers *buffers, uint16_t id)
{
    ENSURE(id < buffers->buffer_count);
    struct rl_buffer *entry = &buffers->ring[buffers->tail & (buffers->buffer_count - 1)];
    entry->address = (uint64_t)(uintptr_t)rl_buffers_address(buffers, id);
    entry->length = buffers->buffer_bytes;
    entry->id = id;
    buffers->tail++;
    __atomic_store_n(&buffers->ring[0].tail, buffers->tail, __ATOMIC_RELEASE);
}

#endif
