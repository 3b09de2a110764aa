/*
 * The requests of the epoll driver: what is submitted becomes one, and one or more completions come of it.
 *
 * Requests come from chunks that are never given back before the driver's end: none is allocated per request
 * in the long run. Chains: a request that is linked begins when the one before it is over; a chain ends where
 * the submission ends, as in a ring. What fails breaks a chain, and every request behind it completes with
 * -ECANCELED, also behind a hard link; only the one that failed decides whether it is hard.
 */
#include "epoll_requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { CHUNK_REQUESTS = 64, BUCKETS_MIN = 64 };

enum { LINKS = RL_SQE_IO_LINK | RL_SQE_IO_HARDLINK };

static const uint8_t SQE_FLAGS_KNOWN = RL_SQE_FIXED_FILE | RL_SQE_IO_LINK | RL_SQE_IO_HARDLINK |
                                       RL_SQE_ASYNC | RL_SQE_BUFFER_SELECT | RL_SQE_CQE_SKIP_SUCCESS;

struct rl_request_chunk {
    struct rl_request_chunk *next;
    struct rl_request requests[CHUNK_REQUESTS];
};

/* ---- memory ---- */

int rl_epoll_requests_create(struct rl_epoll *epoll)
{
    epoll->buckets = calloc(BUCKETS_MIN, sizeof(struct rl_request *));
    if (epoll->buckets == NULL)
        return -ENOMEM;
    epoll->bucket_mask = BUCKETS_MIN - 1;
    return 0;
}

void rl_epoll_requests_free(struct rl_epoll *epoll)
{
    while (epoll->chunks != NULL) {
        struct rl_request_chunk *chunk = epoll->chunks;
        epoll->chunks = chunk->next;
        free(chunk);
    }
    free(epoll->buckets);
}

static struct rl_request *allocate(struct rl_epoll *epoll)
{
    if (epoll->free_first == NULL) {
        struct rl_request_chunk *chunk = malloc(sizeof *chunk);
        if (chunk == NULL)
            return NULL;
        chunk->next = epoll->chunks;
        epoll->chunks = chunk;
        for (unsigned i = CHUNK_REQUESTS; i-- > 0;) {
            chunk->requests[i].link = epoll->free_first;
            epoll->free_first = &chunk->requests[i];
        }
    }
    struct rl_request *request = epoll->free_first;
    epoll->free_first = request->link;
    memset(request, 0, sizeof *request);
    return request;
}

static void release(struct rl_epoll *epoll, struct rl_request *request)
{
    request->link = epoll->free_first;
    epoll->free_first = request;
}

/* ---- those in flight, by user_data ---- */

static uint32_t bucket_of(const struct rl_epoll *epoll, uint64_t user_data)
{
    /* Addresses differ in the middle: Fibonacci hashing moves that to the top. */
    return (uint32_t)(user_data * UINT64_C(0x9E3779B97F4A7C15) >> 32) & epoll->bucket_mask;
}

static void grow_buckets(struct rl_epoll *epoll)
{
    uint32_t before = epoll->bucket_mask + 1;
    struct rl_request **old = epoll->buckets;
    struct rl_request **buckets = calloc((size_t)before * 2, sizeof *buckets);
    if (buckets == NULL)
        return; /* longer lists, the same answers */
    epoll->buckets = buckets;
    epoll->bucket_mask = before * 2 - 1;
    for (uint32_t i = 0; i < before; i++) {
        for (struct rl_request *request = old[i], *next; request != NULL; request = next) {
            uint32_t bucket = bucket_of(epoll, request->job.sqe.user_data);
            next = request->next_in_bucket;
            request->next_in_bucket = buckets[bucket];
            buckets[bucket] = request;
        }
    }
    free(old);
}

static void enter_flight(struct rl_epoll *epoll, struct rl_request *request)
{
    if (epoll->in_flight++ > epoll->bucket_mask)
        grow_buckets(epoll);
    uint32_t bucket = bucket_of(epoll, request->job.sqe.user_data);
    request->next_in_bucket = epoll->buckets[bucket];
    epoll->buckets[bucket] = request;
}

static void leave_flight(struct rl_epoll *epoll, struct rl_request *request)
{
    struct rl_request **link = &epoll->buckets[bucket_of(epoll, request->job.sqe.user_data)];
    while (*link != request)
        link = &(*link)->next_in_bucket;
    *link = request->next_in_bucket;
    epoll->in_flight--;
}

struct rl_request *rl_epoll_find(const struct rl_epoll *epoll, uint64_t user_data, int opcode)
{
    struct rl_request *request = epoll->buckets[bucket_of(epoll, user_data)];
    while (request != NULL && (request->job.sqe.user_data != user_data ||
                               (opcode != RL_EPOLL_NONE && request->job.sqe.opcode != opcode)))
        request = request->next_in_bucket;
    return request;
}

/* ---- completions ---- */

static void post(struct rl_epoll *epoll, uint64_t user_data, int32_t result, uint32_t flags)
{
    ENSURE(epoll->cq_tail - epoll->cq_head < epoll->driver.cq_entries);
    epoll->cqes[epoll->cq_tail & epoll->driver.cq_mask] =
        (struct rl_cqe){.user_data = user_data, .result = result, .flags = flags};
    epoll->cq_tail++;
}

void rl_epoll_post_more(struct rl_epoll *epoll, struct rl_request *request, int32_t result, uint32_t flags)
{
    post(epoll, request->job.sqe.user_data, result, flags | RL_CQE_MORE);
    epoll->uncounted++;
}

void rl_epoll_unload(struct rl_epoll *epoll)
{
    while (epoll->backlog.first != NULL &&
           epoll->cq_tail - epoll->cq_head < epoll->driver.cq_entries) {
        struct rl_request *request = rl_request_shift(&epoll->backlog);
        post(epoll, request->job.sqe.user_data, request->result, 0);
        release(epoll, request);
    }
}

/* How many bytes a transfer was asked for; 0 where its result says nothing about that. */
static uint64_t asked_bytes(const struct rl_sqe *sqe)
{
    uint64_t bytes = 0;
    switch (sqe->opcode) {
    case RL_OP_READ:
    case RL_OP_WRITE:
    case RL_OP_SPLICE:
    case RL_OP_TEE:
        return sqe->length;
    case RL_OP_READV:
    case RL_OP_WRITEV:
        for (uint32_t i = 0; i < sqe->length; i++)
            bytes += ((const struct iovec *)(uintptr_t)sqe->address)[i].iov_len;
        return bytes;
    case RL_OP_SEND:
    case RL_OP_RECV:
        return sqe->op_flags & MSG_WAITALL ? sqe->length : 0;
    default:
        return 0;
    }
}

/* Whether a result breaks a chain: an error, and a transfer of less than was asked for. */
static bool has_failed(const struct rl_request *request, int32_t result)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    if (result < 0)
        return !(sqe->opcode == RL_OP_TIMEOUT && result == -ETIME &&
                 (sqe->op_flags & RL_TIMEOUT_ETIME_SUCCESS));
    return (sqe->flags & (LINKS | RL_SQE_CQE_SKIP_SUCCESS)) &&
           (uint64_t)result < asked_bytes(sqe) + request->done;
}

/* The last completion of a request that is in no list any more. */
static void give(struct rl_epoll *epoll, struct rl_request *request, int32_t result, bool failed)
{
    bool is_timeout = request->job.sqe.opcode == RL_OP_TIMEOUT;
    if ((request->job.sqe.flags & RL_SQE_CQE_SKIP_SUCCESS) && !failed) {
        release(epoll, request);
        return;
    }
    request->result = result;
    request->state = RL_REQUEST_OVER;
    rl_request_push(&epoll->backlog, request);
    rl_epoll_unload(epoll);
    epoll->uncounted += !is_timeout;
}

static void cancel_links(struct rl_epoll *epoll, struct rl_request *first)
{
    while (first != NULL) {
        struct rl_request *request = first;
        first = request->link;
        give(epoll, request, -ECANCELED, true);
    }
}

/* Ends a request that never was in flight, or is not any more. */
static void conclude(struct rl_epoll *epoll, struct rl_request *request, int32_t result)
{
    struct rl_request *link = request->link, *guard = request->guard;
    bool failed = has_failed(request, result);
    bool breaks = failed && !(request->job.sqe.flags & RL_SQE_IO_HARDLINK);

    give(epoll, request, result, failed);
    if (guard != NULL) {
        rl_epoll_leave_timers(epoll, guard);
        give(epoll, guard, -ECANCELED, true);
    }
    if (link == NULL)
        return;
    if (breaks)
        cancel_links(epoll, link);
    else
        rl_request_push(&epoll->due, link);
}

void rl_epoll_finish(struct rl_epoll *epoll, struct rl_request *request, int32_t result)
{
    rl_epoll_leave(epoll, request);
    if (request->state == RL_REQUEST_TIMED)
        rl_epoll_leave_timers(epoll, request);
    leave_flight(epoll, request);
    conclude(epoll, request, result);
}

/* ---- cancelling ---- */

int rl_epoll_cancel(struct rl_epoll *epoll, struct rl_request *request)
{
    if (request->state == RL_REQUEST_WORKING)
        return rl_workers_cancel(epoll->workers, &request->job.work);
    rl_epoll_finish(epoll, request, -ECANCELED);
    return 0;
}

void rl_epoll_expire(struct rl_epoll *epoll, struct rl_request *guard)
{
    struct rl_request *request = guard->guarded;
    request->guard = NULL;
    int error = rl_epoll_cancel(epoll, request);
    give(epoll, guard, error != 0 ? error : -ETIME, true);
}

static bool matches(const struct rl_request *request, const struct rl_sqe *cancel)
{
    uint32_t flags = cancel->op_flags;
    const struct rl_sqe *sqe = &request->job.sqe;
    if (flags & RL_CANCEL_ANY)
        return true;
    if ((flags & RL_CANCEL_FD) && sqe->fd != cancel->fd)
        return false;
    if ((flags & RL_CANCEL_OP) && sqe->opcode != cancel->length)
        return false;
    return (flags & (RL_CANCEL_FD | RL_CANCEL_OP) && !(flags & RL_CANCEL_USERDATA)) ||
           sqe->user_data == cancel->address;
}

/* The first in a bucket that the cancel is meant for and has not met yet. */
static struct rl_request *next_match(const struct rl_epoll *epoll, uint32_t bucket,
                                     const struct rl_sqe *cancel)
{
    struct rl_request *request = epoll->buckets[bucket];
    while (request != NULL && (request->cancel_number == epoll->cancel_number || !matches(request, cancel)))
        request = request->next_in_bucket;
    return request;
}

/* Of many: how many there were. Of one: 0, -EALREADY, or -ENOENT. */
static int32_t do_cancel(struct rl_epoll *epoll, const struct rl_sqe *sqe)
{
    uint32_t known = RL_CANCEL_ALL | RL_CANCEL_FD | RL_CANCEL_ANY | RL_CANCEL_USERDATA | RL_CANCEL_OP;
    bool all = (sqe->op_flags & (RL_CANCEL_ALL | RL_CANCEL_ANY)) != 0;
    int32_t count = 0;
    if (sqe->op_flags & ~known)
        return -EINVAL;
    if (sqe->op_flags == 0) { /* the usual one looks into one bucket */
        struct rl_request *request = rl_epoll_find(epoll, sqe->address, RL_EPOLL_NONE);
        return request == NULL ? -ENOENT : rl_epoll_cancel(epoll, request);
    }
    epoll->cancel_number++;
    for (uint32_t bucket = 0; bucket <= epoll->bucket_mask; bucket++) {
        struct rl_request *request;
        while ((request = next_match(epoll, bucket, sqe)) != NULL) {
            request->cancel_number = epoll->cancel_number;
            int error = rl_epoll_cancel(epoll, request);
            if (!all)
                return error;
            count++;
        }
    }
    return all ? count : -ENOENT;
}

static int32_t remove_poll(struct rl_epoll *epoll, const struct rl_sqe *sqe)
{
    struct rl_request *request = rl_epoll_find(epoll, sqe->address, RL_OP_POLL_ADD);
    if (sqe->length != 0 || sqe->op_flags != 0 || sqe->offset != 0)
        return -EINVAL;
    return request == NULL ? -ENOENT : rl_epoll_cancel(epoll, request);
}

/* ---- beginning ---- */

/* What is done at once, where it cannot block: its result. */
static int32_t do_at_once(struct rl_epoll *epoll, const struct rl_sqe *sqe)
{
    switch (sqe->opcode) {
    case RL_OP_ASYNC_CANCEL:
        return do_cancel(epoll, sqe);
    case RL_OP_POLL_REMOVE:
        return remove_poll(epoll, sqe);
    case RL_OP_TIMEOUT_REMOVE:
        return rl_epoll_remove_timeout(epoll, sqe);
    case RL_OP_LINK_TIMEOUT: /* one that has nobody before it */
        return -EINVAL;
    default:
        return rl_execute_sqe(sqe);
    }
}

static bool is_done_at_once(uint8_t opcode)
{
    switch (opcode) {
    case RL_OP_NOP:
    case RL_OP_ASYNC_CANCEL:
    case RL_OP_POLL_REMOVE:
    case RL_OP_TIMEOUT_REMOVE:
    case RL_OP_LINK_TIMEOUT:
    case RL_OP_SOCKET:
    case RL_OP_BIND:
    case RL_OP_LISTEN:
    case RL_OP_SHUTDOWN:
    case RL_OP_PIPE:
    case RL_OP_EPOLL_CTL:
    case RL_OP_FUTEX_WAKE:
        return true;
    default:
        return false;
    }
}

static void begin(struct rl_epoll *epoll, struct rl_request *request)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    struct rl_request *link = request->link;

    if (sqe->flags & RL_SQE_FIXED_FILE) { /* no file is registered here */
        conclude(epoll, request, -EBADF);
        return;
    }
    if (is_done_at_once(sqe->opcode)) {
        conclude(epoll, request, do_at_once(epoll, sqe));
        return;
    }
    enter_flight(epoll, request);
    if (link != NULL && link->job.sqe.opcode == RL_OP_LINK_TIMEOUT) {
        request->link = link->link;
        request->guard = link;
        link->guarded = request;
        link->link = NULL;
        rl_epoll_begin_guard(epoll, link);
    }
    if (sqe->opcode == RL_OP_POLL_ADD)
        rl_epoll_begin_poll(epoll, request);
    else if (sqe->opcode == RL_OP_TIMEOUT)
        rl_epoll_begin_timeout(epoll, request);
    else if (rl_epoll_can_attempt(sqe))
        rl_epoll_begin_transfer(epoll, request);
    else
        rl_epoll_begin_work(epoll, request);
}

void rl_epoll_run_due(struct rl_epoll *epoll)
{
    struct rl_request *request;
    while ((request = rl_request_shift(&epoll->due)) != NULL)
        begin(epoll, request);
}

/* ---- taking what was submitted ---- */

/* What no request can be made of: 0, or the -errno that its completion has. */
static int refuse(const struct rl_sqe *sqe)
{
    if (sqe->flags & ~SQE_FLAGS_KNOWN || sqe->personality != 0)
        return -EINVAL;
    if ((sqe->flags & RL_SQE_BUFFER_SELECT) && sqe->opcode != RL_OP_RECV)
        return -EINVAL;
    switch (sqe->opcode) {
    case RL_OP_ASYNC_CANCEL:
    case RL_OP_POLL_REMOVE:
    case RL_OP_TIMEOUT_REMOVE:
    case RL_OP_LINK_TIMEOUT:
        return 0;
    default:
        return rl_execute_has(sqe->opcode) ? 0 : -EINVAL;
    }
}

/* Begins the chain that was put together. One bad entry in it, and none of it begins. */
static void begin_chain(struct rl_epoll *epoll)
{
    struct rl_request *first = epoll->chain_first, *culprit = epoll->chain_culprit;
    int error = epoll->chain_error;

    epoll->chain_first = epoll->chain_last = epoll->chain_culprit = NULL;
    epoll->chain_error = 0;
    if (error == 0) {
        rl_request_push(&epoll->due, first);
        rl_epoll_run_due(epoll);
        return;
    }
    while (first != NULL) {
        struct rl_request *request = first;
        first = request->link;
        give(epoll, request, request == culprit ? error : -ECANCELED, true);
    }
}

static void take_one(struct rl_epoll *epoll, struct rl_request *request)
{
    int error = refuse(&request->job.sqe);
    request->link = NULL;
    if (epoll->chain_last != NULL)
        epoll->chain_last->link = request;
    else
        epoll->chain_first = request;
    epoll->chain_last = request;
    if (error != 0 && epoll->chain_error == 0) {
        epoll->chain_error = error;
        epoll->chain_culprit = request;
    }
    if (!(request->job.sqe.flags & LINKS))
        begin_chain(epoll);
}

void rl_epoll_take(struct rl_epoll *epoll)
{
    rl_driver *driver = &epoll->driver;
    uint32_t first = epoll->sq_head;

    epoll->starved = false;
    while (epoll->sq_head != driver->sq_tail && epoll->backlog.first == NULL && !epoll->starved) {
        struct rl_request *request = allocate(epoll);
        epoll->starved = request == NULL;
        if (request != NULL) {
            request->job.sqe = driver->sqes[epoll->sq_head++ & driver->sq_mask];
            take_one(epoll, request);
        }
    }
    if (epoll->sq_head == driver->sq_tail && epoll->chain_first != NULL)
        begin_chain(epoll);
    driver->sq_published = epoll->sq_head;
    driver->counters.submitted += epoll->sq_head - first;
}
