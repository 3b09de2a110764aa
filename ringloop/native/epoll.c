/*
 * The driver over epoll: one pass, what workers do for it, and its end. See epoll.h and epoll_requests.h.
 *
 * A pass: takes what is submitted, tells epoll what has changed, waits once, and turns events, timeouts and
 * finished works into completions. Invariants: a request is in one list; what had no room in the completion
 * queue keeps its order behind what had; nothing sleeps while something could go on.
 */
#define _GNU_SOURCE
#include "epoll.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "epoll_requests.h"
#include "reading.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* 5.11; the same on every processor */
#endif

enum {
    WORKERS_MAX = 64, /* as many as a ring of ours may have for what can block for ever */
    ENTRIES_MAX = 1 << 15
};

static const int64_t WORKER_IDLE_NS = INT64_C(5000000000);
/* How long `enter` sleeps at most when there was no memory for an entry. */
static const int64_t BACKOFF_NS = 1000000;
/* The tag of the workers' bell, which no fd and no generation has. */
static const uint64_t BELL = UINT64_MAX;

static struct rl_epoll *epoll_of(rl_driver *driver)
{
    return (struct rl_epoll *)driver;
}

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- workers ---- */

/* Makes the pool of workers, whose bell ends waits. 0, or -errno. */
static int hire(struct rl_epoll *epoll)
{
    epoll->workers = rl_workers_create(epoll->bell_fd, WORKERS_MAX, WORKER_IDLE_NS);
    return epoll->workers != NULL ? 0 : -ENOMEM;
}

void rl_epoll_begin_work(struct rl_epoll *epoll, struct rl_request *request)
{
    int error = epoll->workers == NULL ? hire(epoll) : 0;
    if (error != 0) {
        request->state = RL_REQUEST_READY;
        rl_epoll_finish(epoll, request, error);
        return;
    }
    const struct rl_sqe *sqe = &request->job.sqe;
    /* With that flag the rooms above submit only reads that wait for no peer. */
    bool reads_disk = sqe->opcode == RL_OP_READ && (sqe->flags & RL_SQE_ASYNC);
    request->state = RL_REQUEST_WORKING;
    request->job.work = (rl_work){.execute = rl_execute_sqe_work,
                                  .begin = reads_disk && rl_reading_may_begin() ? rl_reading_begin : NULL,
                                  .owner = request,
                                  .priority = rl_epoll_priority(sqe),
                                  .interruptible = !reads_disk && rl_execute_interruptible(sqe->opcode)};
    rl_workers_submit(epoll->workers, &request->job.work);
}

static void finish_works(struct rl_epoll *epoll, rl_work *work)
{
    while (work != NULL) {
        struct rl_request *request = work->owner;
        int64_t result = work->result;
        work = work->next;
        if (request->done > 0)
            result = request->done + (result > 0 ? result : 0);
        rl_epoll_finish(epoll, request, (int32_t)result);
    }
}

/* ---- one pass ---- */

static uint32_t completions_ready(const struct rl_epoll *epoll)
{
    return epoll->cq_tail - epoll->cq_head;
}

/* epoll_wait, with a timeout in ns; before 5.11 by whole ms, and never early. How many events, or -errno. */
static int wait_once(struct rl_epoll *epoll, struct epoll_event *events, int64_t timeout_ns)
{
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    long result;
    epoll->driver.counters.enters++;
    if (timeout_ns > 0 && !epoll->lacks_pwait2) {
        result = syscall(SYS_epoll_pwait2, epoll->driver.fd, events, RL_EPOLL_EVENTS_MAX, &timeout, NULL,
                         (size_t)0);
        if (result >= 0 || errno != ENOSYS)
            return result < 0 ? -errno : (int)result;
        epoll->lacks_pwait2 = true;
    }
    int64_t timeout_ms = timeout_ns < 0 ? -1 : timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    result = epoll_wait(epoll->driver.fd, events, RL_EPOLL_EVENTS_MAX,
                        timeout_ms > INT32_MAX ? INT32_MAX : (int)timeout_ms);
    return result < 0 ? -errno : (int)result;
}

/* Whether nothing but an event can make more completions. */
static bool can_wait(const struct rl_epoll *epoll)
{
    return epoll->retries.first == NULL && epoll->backlog.first == NULL && !epoll->starved;
}

/* How long the pass may sleep, given how long its caller lets it. */
static int64_t sleep_ns(const struct rl_epoll *epoll, int64_t left_ns)
{
    int64_t until_ns = rl_epoll_until_timeout_ns(epoll);
    if (!can_wait(epoll) && !epoll->starved)
        return 0;
    if (epoll->starved && (until_ns == RL_WAIT_FOREVER || until_ns > BACKOFF_NS))
        until_ns = BACKOFF_NS;
    if (left_ns == RL_WAIT_FOREVER || (until_ns != RL_WAIT_FOREVER && until_ns < left_ns))
        return until_ns;
    return left_ns;
}

/* Begins what can begin without a wait, and tells epoll what to wait for. */
static void prepare_wait(struct rl_epoll *epoll)
{
    do {
        rl_epoll_run_due(epoll);
        rl_epoll_count_completions(epoll);
        rl_epoll_register(epoll);
    } while (epoll->due.first != NULL || epoll->dirty_first != RL_EPOLL_NONE || epoll->uncounted > 0);
}

/* Looks once at what is ready, and waits for it no longer than timeout_ns. 0, or -errno. */
static int look(struct rl_epoll *epoll, int64_t timeout_ns)
{
    struct epoll_event events[RL_EPOLL_EVENTS_MAX];
    if (epoll->workers != NULL) {
        rl_workers_publish(epoll->workers);
        if (timeout_ns != 0 && !rl_workers_prepare_sleep(epoll->workers))
            timeout_ns = 0;
    }
    int count = wait_once(epoll, events, timeout_ns);
    if (epoll->workers != NULL)
        rl_workers_awake(epoll->workers);
    for (int i = 0; i < count; i++)
        if (events[i].data.u64 != BELL)
            rl_epoll_dispatch(epoll, &events[i]);
    rl_epoll_fire_timeouts(epoll);
    if (epoll->workers != NULL)
        finish_works(epoll, rl_workers_collect(epoll->workers));
    rl_epoll_run_due(epoll);
    return count < 0 ? count : 0;
}

/*
 * Whether nothing but an event can bring something new: nothing is submitted, timed, or with a worker. Then a
 * look is all that there is to do; each pass of a busy loop asks for one, mostly in vain.
 */
static bool is_at_rest(const struct rl_epoll *epoll)
{
    return rl_driver_queued(&epoll->driver) == 0 && can_wait(epoll) && epoll->due.first == NULL &&
           epoll->dirty_first == RL_EPOLL_NONE && epoll->timers.count == 0 && epoll->workers == NULL;
}

/* All that a pass consists of, until there are wait_count completions or the time is over. 0, or -errno. */
static int do_pass(struct rl_epoll *epoll, uint32_t wait_count, int64_t timeout_ns)
{
    int64_t left_ns = timeout_ns, end_ns = 0;
    int error;
    if (wait_count > 0 && timeout_ns > 0)
        end_ns = monotonic_ns() + timeout_ns;
    epoll->driver.counters.waits += wait_count > 0;
    epoll->driver.counters.cq_overflows += epoll->backlog.first != NULL;
    rl_epoll_unload(epoll);
    rl_epoll_take(epoll);
    rl_epoll_retry(epoll);
    do {
        prepare_wait(epoll);
        bool waits = completions_ready(epoll) < wait_count;
        error = look(epoll, waits ? sleep_ns(epoll, left_ns) : 0);
        if (end_ns != 0)
            left_ns = end_ns - monotonic_ns();
    } while (error == 0 && completions_ready(epoll) < wait_count && can_wait(epoll) &&
             (end_ns == 0 || left_ns > 0));
    return error;
}

static int epoll_enter(rl_driver *driver, uint32_t wait_count, int64_t timeout_ns)
{
    struct rl_epoll *epoll = epoll_of(driver);
    ENSURE(timeout_ns >= 0 || timeout_ns == RL_WAIT_FOREVER);
    if (timeout_ns == 0)
        wait_count = 0;
    bool only_looks = wait_count == 0 && is_at_rest(epoll);
    int error = only_looks ? look(epoll, 0) : do_pass(epoll, wait_count, timeout_ns);
    epoll->sq_flags = (epoll->backlog.first != NULL ? (uint32_t)RL_SQ_CQ_OVERFLOW : 0) |
                      (epoll->retries.first != NULL ? (uint32_t)RL_SQ_TASKRUN : 0);
    return error == -EINTR ? 0 : error;
}

/* ---- the rest of the interface ---- */

static int epoll_enable(rl_driver *driver)
{
    (void)driver;
    return 0;
}

static int epoll_has_opcode(rl_driver *driver, uint8_t opcode)
{
    (void)driver;
    switch (opcode) {
    case RL_OP_ASYNC_CANCEL:
    case RL_OP_POLL_REMOVE:
    case RL_OP_TIMEOUT_REMOVE:
    case RL_OP_LINK_TIMEOUT:
        return 1;
    default:
        return rl_execute_has(opcode);
    }
}

static void free_memory(struct rl_epoll *epoll)
{
    rl_epoll_requests_free(epoll);
    rl_timers_free(&epoll->timers);
    free(epoll->driver.sqes);
    free(epoll->cqes);
    free(epoll->slots);
    free(epoll);
}

static void close_fds(struct rl_epoll *epoll)
{
    if (epoll->driver.fd >= 0)
        close(epoll->driver.fd);
    if (epoll->bell_fd >= 0)
        close(epoll->bell_fd);
}

static void epoll_destroy(rl_driver *driver)
{
    struct rl_epoll *epoll = epoll_of(driver);
    if (epoll->workers != NULL)
        rl_workers_destroy(epoll->workers);
    close_fds(epoll);
    free_memory(epoll);
}

/* Nobody but the workers touches memory behind the loop's back, and their end is waited for. */
static void epoll_abandon(rl_driver *driver, void (*release)(void *argument), void *argument)
{
    epoll_destroy(driver);
    release(argument);
}

static void epoll_forked(rl_driver *driver)
{
    struct rl_epoll *epoll = epoll_of(driver);
    if (epoll->workers != NULL)
        rl_workers_forked(epoll->workers);
    close_fds(epoll);
    free_memory(epoll);
}

static const struct rl_driver_calls EPOLL_CALLS = {
    .name = "epoll",
    .enable = epoll_enable,
    .enter = epoll_enter,
    .adopt = epoll_enable,
    .destroy = epoll_destroy,
    .abandon = epoll_abandon,
    .forked = epoll_forked,
    .has_opcode = epoll_has_opcode,
    .register_buffers = rl_epoll_register_buffers,
    .unregister_buffers = rl_epoll_unregister_buffers,
};

static uint32_t power_of_two(uint32_t count)
{
    uint32_t power = 1;
    while (power < count && power < ENTRIES_MAX)
        power *= 2;
    return power;
}

/* Makes the queues. 0, or -errno. */
static int set_up(struct rl_epoll *epoll, uint32_t sq_entries, uint32_t cq_entries)
{
    rl_driver *driver = &epoll->driver;
    driver->capabilities = RL_CAN_RECV_MULTISHOT | RL_CAN_ACCEPT_MULTISHOT | RL_CAN_POLL_MULTISHOT |
                           RL_CAN_CANCEL_ANY | RL_CAN_POLL_FIRST;
    driver->sq_entries = power_of_two(sq_entries);
    driver->cq_entries = power_of_two(cq_entries);
    driver->sq_mask = driver->sq_entries - 1;
    driver->cq_mask = driver->cq_entries - 1;
    driver->sq_head = &epoll->sq_head;
    driver->sq_flags = &epoll->sq_flags;
    driver->cq_head = &epoll->cq_head;
    driver->cq_tail = &epoll->cq_tail;
    driver->sqes = calloc(driver->sq_entries, sizeof *driver->sqes);
    driver->cqes = epoll->cqes = calloc(driver->cq_entries, sizeof *epoll->cqes);
    if (driver->sqes == NULL || epoll->cqes == NULL || rl_epoll_requests_create(epoll) != 0)
        return -ENOMEM;
    /* Both now: no operation is to fail for lack of a descriptor that is not its own. */
    driver->fd = epoll_create1(EPOLL_CLOEXEC);
    epoll->bell_fd = driver->fd >= 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : RL_EPOLL_NONE;
    if (epoll->bell_fd < 0)
        return -errno;
    /* By edges it need not be read: each ring is one. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = BELL};
    return epoll_ctl(driver->fd, EPOLL_CTL_ADD, epoll->bell_fd, &event) == 0 ? 0 : -errno;
}

rl_driver *rl_epoll_create(uint32_t sq_entries, uint32_t cq_entries, int *error)
{
    struct rl_epoll *epoll = calloc(1, sizeof *epoll);
    *error = -ENOMEM;
    if (epoll == NULL)
        return NULL;
    epoll->driver.calls = &EPOLL_CALLS;
    epoll->driver.fd = epoll->bell_fd = RL_EPOLL_NONE;
    epoll->dirty_first = RL_EPOLL_NONE;
    *error = set_up(epoll, sq_entries, cq_entries);
    if (*error == 0)
        return &epoll->driver;
    epoll_destroy(&epoll->driver);
    return NULL;
}
