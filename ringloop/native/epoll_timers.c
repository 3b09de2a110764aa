/*
 * The timeouts of the epoll driver: TIMEOUT and LINK_TIMEOUT entries, in a heap of their own.
 *
 * The heap's clock is the monotonic one, in seconds. The loop's timers are not here: they are the timeout
 * that `enter` is given.
 */
#include "epoll_requests.h"

#include <errno.h>
#include <time.h>

static double now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* When a timeout is due, by the monotonic clock. 0, or -errno. */
static int deadline_of(const struct rl_sqe *sqe, double *deadline)
{
    uint32_t flags = sqe->op_flags;
    uint32_t known = RL_TIMEOUT_ABS | RL_TIMEOUT_BOOTTIME | RL_TIMEOUT_REALTIME | RL_TIMEOUT_ETIME_SUCCESS;
    const struct rl_timespec *time = (const struct rl_timespec *)(uintptr_t)sqe->address;
    clockid_t clock = CLOCK_MONOTONIC;

    if (sqe->length != 1 || (flags & ~known))
        return -EINVAL;
    if ((flags & RL_TIMEOUT_BOOTTIME) && (flags & RL_TIMEOUT_REALTIME))
        return -EINVAL;
    if (time == NULL)
        return -EFAULT;
    if (time->seconds < 0 || time->nanoseconds < 0)
        return -EINVAL;
    if (flags & RL_TIMEOUT_BOOTTIME)
        clock = CLOCK_BOOTTIME;
    if (flags & RL_TIMEOUT_REALTIME)
        clock = CLOCK_REALTIME;
    *deadline = (double)time->seconds + (double)time->nanoseconds / 1e9;
    *deadline += now(CLOCK_MONOTONIC) - (flags & RL_TIMEOUT_ABS ? now(clock) : 0);
    return 0;
}

/* Puts a request into the heap. 0 or -errno. */
static int add(struct rl_epoll *epoll, struct rl_request *request)
{
    double deadline = 0;
    int error = deadline_of(&request->job.sqe, &deadline);
    if (error != 0)
        return error;
    request->timer.owner = request;
    return rl_timers_add(&epoll->timers, &request->timer, deadline) ? 0 : -ENOMEM;
}

void rl_epoll_begin_timeout(struct rl_epoll *epoll, struct rl_request *request)
{
    int error = request->job.sqe.offset > UINT32_MAX ? -EINVAL : add(epoll, request);
    request->state = RL_REQUEST_TIMED;
    if (error != 0) {
        rl_epoll_finish(epoll, request, error);
        return;
    }
    request->left = (uint32_t)request->job.sqe.offset;
    if (request->left > 0) {
        rl_epoll_count_completions(epoll); /* those of before are not meant */
        request->counts = true;
        request->behind = epoll->counting;
        if (epoll->counting != NULL)
            epoll->counting->before = request;
        epoll->counting = request;
    }
}

void rl_epoll_begin_guard(struct rl_epoll *epoll, struct rl_request *guard)
{
    /* A bad one guards nothing; it completes with the request, as one that was not needed. */
    guard->state = RL_REQUEST_TIMED;
    add(epoll, guard);
}

void rl_epoll_leave_timers(struct rl_epoll *epoll, struct rl_request *request)
{
    if (request->timer.place != 0)
        rl_timers_remove(&epoll->timers, &request->timer);
    if (!request->counts)
        return;
    request->counts = false;
    if (request->before != NULL)
        request->before->behind = request->behind;
    else
        epoll->counting = request->behind;
    if (request->behind != NULL)
        request->behind->before = request->before;
    request->before = request->behind = NULL;
}

int rl_epoll_remove_timeout(struct rl_epoll *epoll, const struct rl_sqe *sqe)
{
    struct rl_request *request = rl_epoll_find(epoll, sqe->address, RL_OP_TIMEOUT);
    if (sqe->op_flags != 0 || sqe->length != 0)
        return -EINVAL;
    if (request == NULL)
        return -ENOENT;
    rl_epoll_finish(epoll, request, -ECANCELED);
    return 0;
}

/* A timeout whose completions have all come, or NULL. */
static struct rl_request *find_counted(const struct rl_epoll *epoll)
{
    struct rl_request *request = epoll->counting;
    while (request != NULL && request->left > 0)
        request = request->behind;
    return request;
}

void rl_epoll_count_completions(struct rl_epoll *epoll)
{
    struct rl_request *request;
    uint32_t count = epoll->uncounted;
    epoll->uncounted = 0;
    for (request = epoll->counting; request != NULL; request = request->behind)
        request->left -= request->left < count ? request->left : count;
    while ((request = find_counted(epoll)) != NULL)
        rl_epoll_finish(epoll, request, 0);
}

int64_t rl_epoll_until_timeout_ns(const struct rl_epoll *epoll)
{
    if (epoll->timers.count == 0)
        return RL_WAIT_FOREVER;
    double left_ns = (epoll->timers.nodes[0].when - now(CLOCK_MONOTONIC)) * 1e9;
    if (left_ns <= 0)
        return 0;
    return left_ns < 1e18 ? (int64_t)left_ns + 1 : INT64_MAX / 4;
}

void rl_epoll_fire_timeouts(struct rl_epoll *epoll)
{
    if (epoll->timers.count == 0)
        return;
    double time = now(CLOCK_MONOTONIC);
    while (epoll->timers.count > 0 && epoll->timers.nodes[0].when <= time) {
        struct rl_timer *timer = epoll->timers.nodes[0].timer;
        struct rl_request *request = timer->owner;
        rl_timers_remove(&epoll->timers, timer);
        if (request->guarded != NULL)
            rl_epoll_expire(epoll, request);
        else
            rl_epoll_finish(epoll, request, -ETIME);
    }
}
