/*
 * The driver over io_uring: enters the kernel once per pass, and ends the ring.
 *
 * One pass runs at most 20 items of task work since 6.13 (IO_LOCAL_TW_DEFAULT_MAX), and after a sleep only as
 * many as were waited for. There is no second call for the rest: the caller consumes what came while it is in
 * the cache, which also gives provided buffers back before the next 20 need them.
 *
 * The heart calls it through driver.h; ring_setup.c makes the ring. Invariants: what the kernel has not
 * taken stays queued; no call sleeps while enough completions are there; memory is freed only when the kernel
 * can no longer touch it.
 *
 * The ring's fd is not registered with the thread (RL_REGISTER_RING_FDS): that saves 60 ns of the 300 to 500
 * of a call, but pins the ring until the thread ends, and so an abandoned ring would never be freed.
 */
#include "ring.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "ensure.h"
#include "ring_setup.h"
#include "syscalls.h"

enum {
    /*
     * Worker threads that the kernel may start for this thread's requests. Its default for those that can
     * block for ever is RLIMIT_NPROC; for files 4 per CPU, which starves a small machine with slow disks.
     */
    WORKERS_BOUNDED_MAX = 64,
    WORKERS_UNBOUNDED_MAX = 64,
    PROBE_SQ_ENTRIES = 1,
    PROBE_CQ_ENTRIES = 2
};

/* Longer waits are waits for ever: the kernel adds the timeout to its clock and would overflow. */
static const int64_t TIMEOUT_NS_MAX = INT64_MAX / 2;
/* How long `enter` sleeps at most when the kernel had no memory for a submission, so as not to spin. */
static const int64_t BACKOFF_NS = 1000000;

static struct rl_ring *ring_of(rl_driver *driver)
{
    return (struct rl_ring *)driver;
}

/* ---- the thread ---- */

/* A number of the calling thread that no other has or had: its id and its pthread_t are used again. */
static uint64_t this_thread(void)
{
    static uint64_t last;
    static __thread uint64_t number;
    if (number == 0)
        number = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
    return number;
}

/*
 * Whether a thread enters that may not. Without SINGLE_ISSUER the kernel lets it, but executes a request on
 * the thread that submitted it, and cancels it if that has ended: a loop must not go on with such a ring any
 * more than with a newer one.
 */
static bool is_intruder(const struct rl_ring *ring)
{
    return ring->owner != 0 && ring->owner != this_thread();
}

/* ---- the one call per iteration ---- */

static uint32_t completions_ready(const rl_driver *driver)
{
    return __atomic_load_n(driver->cq_tail, __ATOMIC_ACQUIRE) - *driver->cq_head;
}

/* One io_uring_enter: submits that many, runs task work, waits if wait_count > 0. 0 or -errno. */
static int enter_once(struct rl_ring *ring, uint32_t submit_count, uint32_t wait_count, int64_t timeout_ns)
{
    rl_driver *driver = &ring->driver;
    struct rl_timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct rl_getevents_arg argument = {.timeout = (uint64_t)(uintptr_t)&timeout};
    bool timed = wait_count > 0 && timeout_ns != RL_WAIT_FOREVER;
    uint32_t flags = RL_ENTER_GETEVENTS | ring->enter_flags | (timed ? (uint32_t)RL_ENTER_EXT_ARG : 0);

    __atomic_store_n(ring->sq_tail, driver->sq_tail, __ATOMIC_RELEASE);
    int result = rl_sys_enter(driver->fd, submit_count, wait_count, flags, timed ? &argument : NULL,
                              timed ? sizeof argument : 0);

    /* The head, not the result, tells what was taken: an error can hide a submission and the reverse. */
    uint32_t taken = __atomic_load_n(driver->sq_head, __ATOMIC_ACQUIRE);
    ENSURE(driver->sq_tail - taken <= driver->sq_tail - driver->sq_published);
    driver->counters.enters++;
    driver->counters.waits += wait_count > 0;
    driver->counters.submitted += taken - driver->sq_published;
    /* Without memory for a request the kernel submits the links that it has, as if they were all. */
    if (taken != driver->sq_tail && taken != driver->sq_published)
        driver->links_cut = driver->sqes[(taken - 1) & driver->sq_mask].flags & RL_SQE_IO_LINK;
    driver->sq_published = taken;
    /* EINTR, and ETIME for a timeout, come only where nothing was submitted: the queue tells the caller. */
    return result >= 0 || result == -EINTR || result == -ETIME ? 0 : result;
}

/*
 * EBUSY: completions overflowed and the kernel (before 5.19) takes no more until they are fetched. EAGAIN:
 * it had no memory for a request. Both mend themselves as completions are consumed: what is queued waits
 * for the caller's next `enter`; a caller that wanted to sleep sleeps a little.
 */
static int enter_backed_up(struct rl_ring *ring, uint32_t wait_count)
{
    return enter_once(ring, 0, wait_count > 0 && completions_ready(&ring->driver) == 0, BACKOFF_NS);
}

static int ring_enter(rl_driver *driver, uint32_t wait_count, int64_t timeout_ns)
{
    struct rl_ring *ring = ring_of(driver);
    ENSURE(timeout_ns >= 0 || timeout_ns == RL_WAIT_FOREVER);
    if (is_intruder(ring))
        return -EEXIST;

    /* A wait that need not sleep is a poll: with a zero timeout the kernel arms a timer, 28 us for 0.1. */
    if (timeout_ns == 0 || completions_ready(driver) >= wait_count)
        wait_count = 0;
    if (timeout_ns > TIMEOUT_NS_MAX)
        timeout_ns = RL_WAIT_FOREVER;
    if (__atomic_load_n(driver->sq_flags, __ATOMIC_RELAXED) & RL_SQ_CQ_OVERFLOW)
        driver->counters.cq_overflows++;

    int error = enter_once(ring, rl_driver_queued(driver), wait_count, timeout_ns);
    if (error == -EBUSY || error == -EAGAIN)
        error = enter_backed_up(ring, wait_count);
    return error;
}

/* ---- starting ---- */

static int ring_enable(rl_driver *driver)
{
    int error = rl_sys_register(driver->fd, RL_REGISTER_ENABLE_RINGS, NULL, 0);
    if (error != 0)
        return error;
    if ((driver->setup_flags & RL_SETUP_SINGLE_ISSUER) == 0)
        ring_of(driver)->owner = this_thread();
    uint32_t workers_max[2] = {WORKERS_BOUNDED_MAX, WORKERS_UNBOUNDED_MAX};
    error = rl_sys_register(driver->fd, RL_REGISTER_IOWQ_MAX_WORKERS, workers_max, 2);
    return error == -EINVAL ? 0 : error; /* before 5.15: unbounded */
}

static int ring_adopt(rl_driver *driver)
{
    if (driver->setup_flags & RL_SETUP_SINGLE_ISSUER) /* with DEFER_TASKRUN: only its `enter` executes */
        return -EEXIST;
    ring_of(driver)->owner = this_thread();
    return 0;
}

static int ring_has_opcode(rl_driver *driver, uint8_t opcode)
{
    return rl_ring_has_opcode(ring_of(driver), opcode);
}

static int ring_register_buffers(rl_driver *driver, uint16_t group, struct rl_buffer *buffers,
                                 uint32_t entry_count)
{
    struct rl_buffer_ring_registration registration = {
        .ring_address = (uint64_t)(uintptr_t)buffers, .ring_entries = entry_count, .group = group};
    return rl_sys_register(driver->fd, RL_REGISTER_PBUF_RING, &registration, 1);
}

static int ring_unregister_buffers(rl_driver *driver, uint16_t group)
{
    struct rl_buffer_ring_registration registration = {.group = group};
    return rl_sys_register(driver->fd, RL_UNREGISTER_PBUF_RING, &registration, 1);
}

/* ---- ending ---- */

static void ring_destroy(rl_driver *driver)
{
    struct rl_ring *ring = ring_of(driver);
    rl_ring_tear_down(ring);
    if (ring->retired.witness_fd >= 0)
        close(ring->retired.witness_fd);
    free(ring);
}

static void ring_abandon(rl_driver *driver, void (*release)(void *argument), void *argument)
{
    struct rl_ring *ring = ring_of(driver);
    rl_ring_tear_down(ring);
    ring->retired.release = release;
    ring->retired.argument = argument;
    ring->retired.driver = ring;
    rl_retire(&ring->retired);
}

static void ring_forked(rl_driver *driver)
{
    struct rl_ring *ring = ring_of(driver);
    /* MADV_DONTFORK: nothing of the ring is mapped here, and its addresses may be somebody else's by now. */
    close(driver->fd);
    close(ring->retired.witness_fd);
    free(ring);
}

static const struct rl_driver_calls RING_CALLS = {
    .name = "io_uring",
    .enable = ring_enable,
    .enter = ring_enter,
    .adopt = ring_adopt,
    .destroy = ring_destroy,
    .abandon = ring_abandon,
    .forked = ring_forked,
    .has_opcode = ring_has_opcode,
    .register_buffers = ring_register_buffers,
    .unregister_buffers = ring_unregister_buffers,
};

rl_driver *rl_ring_create(uint32_t sq_entries, uint32_t cq_entries, struct rl_ring_failure *failure)
{
    struct rl_ring *ring = calloc(1, sizeof *ring);
    if (ring == NULL) {
        rl_ring_fail(failure, RL_RING_NO_MEMORY, -ENOMEM, "calloc");
        return NULL;
    }
    ring->driver.calls = &RING_CALLS;
    if (rl_ring_set_up(ring, sq_entries, cq_entries, failure) != 0) {
        ring_destroy(&ring->driver);
        return NULL;
    }
    *failure = (struct rl_ring_failure){.cause = RL_RING_OK};
    return &ring->driver;
}

/* Runs one NOP through an enabled ring. 0, or -errno. */
static int run_nop(rl_driver *driver)
{
    struct rl_sqe *sqe = rl_driver_sqe(driver);
    ENSURE(sqe != NULL);
    sqe->opcode = RL_OP_NOP;
    int error = ring_enter(driver, 1, RL_WAIT_FOREVER);
    const struct rl_cqe *cqe = rl_driver_completion(driver);
    if (error != 0)
        return error;
    if (cqe == NULL) /* a NOP completes as it is submitted */
        return -EIO;
    error = cqe->result;
    rl_driver_consumed(driver);
    return error;
}

int rl_ring_probe(struct rl_ring_failure *failure)
{
    rl_driver *driver = rl_ring_create(PROBE_SQ_ENTRIES, PROBE_CQ_ENTRIES, failure);
    if (driver == NULL)
        return -failure->error;
    int error = ring_enable(driver);
    if (error != 0) {
        error = rl_ring_fail(failure, rl_ring_cause_of(error, RL_RING_REGISTER_REFUSED), error,
                             "io_uring_register");
    } else {
        error = run_nop(driver);
        if (error != 0)
            error = rl_ring_fail(failure, rl_ring_cause_of(error, RL_RING_ENTER_REFUSED), error,
                                 "io_uring_enter");
    }
    ring_destroy(driver);
    return error;
}
