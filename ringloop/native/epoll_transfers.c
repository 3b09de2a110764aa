/*
 * What the epoll driver does once an fd is ready: the system call, without waiting, and what comes of it.
 *
 * A call is made first and waited for when it says EAGAIN. Sockets are asked with MSG_DONTWAIT, pipes and
 * such with RWF_NOWAIT, so that a file without O_NONBLOCK cannot hold the loop's thread; where neither works
 * (a tty, a blocking listener or connect) a worker does it.
 */
#define _GNU_SOURCE
#include "epoll_requests.h"
#include "priority.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    ACCEPTS_MAX = 32, /* by one attempt; then others have their turn */
    RECEIVES_MAX = 2  /* as many buffers are enough: a connection that fills them changes its way */
};

static bool is_stream_file(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return true; /* the call says what is wrong */
    return !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode) && !S_ISBLK(status.st_mode);
}

static bool is_non_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || (flags & O_NONBLOCK);
}

static bool reads_or_writes(const struct rl_sqe *sqe)
{
    return sqe->opcode == RL_OP_READ || sqe->opcode == RL_OP_WRITE || sqe->opcode == RL_OP_READV ||
           sqe->opcode == RL_OP_WRITEV;
}

/* Of its I/O; for all other operations the field has flags, or nothing. */
uint16_t rl_epoll_priority(const struct rl_sqe *sqe)
{
    return reads_or_writes(sqe) ? sqe->ioprio : 0;
}

bool rl_epoll_can_attempt(const struct rl_sqe *sqe)
{
    switch (sqe->opcode) {
    case RL_OP_SEND:
    case RL_OP_RECV:
    case RL_OP_SENDMSG:
    case RL_OP_RECVMSG:
        return true;
    case RL_OP_ACCEPT:
    case RL_OP_CONNECT:
        return is_non_blocking(sqe->fd);
    default:
        return reads_or_writes(sqe) && !(sqe->flags & RL_SQE_ASYNC) && is_stream_file(sqe->fd);
    }
}

uint32_t rl_epoll_events_of(const struct rl_sqe *sqe)
{
    switch (sqe->opcode) {
    case RL_OP_RECV:
    case RL_OP_RECVMSG:
        if (sqe->op_flags & MSG_ERRQUEUE)
            return EPOLLERR;
        /* EPOLLPRI for urgent data also tells that a short receive ended at its mark. */
        return sqe->op_flags & MSG_OOB ? EPOLLPRI : EPOLLIN | EPOLLPRI;
    case RL_OP_ACCEPT:
    case RL_OP_READ:
    case RL_OP_READV:
        return EPOLLIN;
    default:
        return EPOLLOUT;
    }
}

static int64_t or_errno(long result)
{
    return result < 0 ? -errno : result;
}

/* ---- connect ---- */

/* The second call is what makes the kernel take the socket for connected. */
static int64_t attempt_connect(struct rl_request *request)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    int error = 0;
    socklen_t error_bytes = sizeof error;
    if (request->connecting && getsockopt(sqe->fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes) == 0 &&
        error != 0)
        return -error;
    int64_t result = or_errno(connect(sqe->fd, (const struct sockaddr *)(uintptr_t)sqe->address,
                                      (socklen_t)sqe->offset));
    if (request->connecting && result == -EISCONN)
        return 0;
    if (result != -EINPROGRESS && !(request->connecting && result == -EALREADY))
        return result;
    request->connecting = true;
    return -EAGAIN;
}

/* ---- several completions ---- */

/* Goes on with the next pass. */
void rl_epoll_put_off(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready)
{
    request->ready |= ready;
    if (request->retrying)
        return;
    request->retrying = true;
    rl_request_push(&epoll->retries, request);
}

static void accept_many(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    for (unsigned i = 0; i < ACCEPTS_MAX && rl_epoll_room(epoll) > 0; i++) {
        int64_t result = or_errno(accept4(sqe->fd, (struct sockaddr *)(uintptr_t)sqe->address,
                                          (socklen_t *)(uintptr_t)sqe->offset, (int)sqe->op_flags));
        if (result == -EAGAIN)
            return;
        if (result < 0) {
            rl_epoll_finish(epoll, request, (int32_t)result);
            return;
        }
        rl_epoll_post_more(epoll, request, (int32_t)result, 0);
    }
    rl_epoll_put_off(epoll, request, ready);
}

static struct rl_epoll_group *group_of(struct rl_epoll *epoll, uint16_t number)
{
    struct rl_epoll_group *group = epoll->groups;
    while (group < epoll->groups + RL_EPOLL_GROUPS && (group->ring == NULL || group->number != number))
        group++;
    return group < epoll->groups + RL_EPOLL_GROUPS ? group : NULL;
}

/* The next provided buffer of a group, still in it, or NULL. */
static const struct rl_buffer *next_buffer(const struct rl_epoll_group *group)
{
    if (group == NULL || group->head == __atomic_load_n(&group->ring[0].tail, __ATOMIC_ACQUIRE))
        return NULL;
    return &group->ring[group->head & group->mask];
}

static void receive_selected(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    struct rl_epoll_group *group = group_of(epoll, sqe->buffer_group);

    for (unsigned i = 0; i < RECEIVES_MAX && rl_epoll_room(epoll) > 0; i++) {
        const struct rl_buffer *buffer = next_buffer(group);
        if (buffer == NULL) {
            rl_epoll_finish(epoll, request, -ENOBUFS);
            return;
        }
        uint32_t length = sqe->length > 0 && sqe->length < buffer->length ? sqe->length : buffer->length;
        int64_t result = or_errno(recv(sqe->fd, (void *)(uintptr_t)buffer->address, length,
                                       (int)sqe->op_flags | MSG_DONTWAIT));
        if (result == -EAGAIN)
            return;
        if (result <= 0) {
            rl_epoll_finish(epoll, request, (int32_t)result);
            return;
        }
        group->head++;
        uint32_t flags = RL_CQE_BUFFER | (uint32_t)buffer->id << RL_CQE_BUFFER_SHIFT;
        rl_epoll_post_more(epoll, request, (int32_t)result, flags);
        /* epoll(7): a stream that gave less than it was asked for is empty, and will tell of more. */
        if (result < length && request->drains && !(ready & ~(uint32_t)EPOLLIN))
            return;
    }
    rl_epoll_put_off(epoll, request, ready);
}

/* ---- one completion ---- */

/* Moves the entry behind what a transfer with MSG_WAITALL has done. Whether there is more to do. */
static bool advance(struct rl_request *request, int64_t result)
{
    struct rl_sqe *sqe = &request->job.sqe;
    bool transfers = sqe->opcode == RL_OP_SEND || sqe->opcode == RL_OP_RECV;
    if (!transfers || !(sqe->op_flags & MSG_WAITALL) || !request->drains || result <= 0 ||
        result >= sqe->length)
        return false;
    sqe->address += (uint64_t)result;
    sqe->length -= (uint32_t)result;
    request->done += (uint32_t)result;
    return true;
}

/* Whether EAGAIN is the result: the caller does not want to wait, or no event would end the wait. */
static bool refuses_to_wait(const struct rl_request *request)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    switch (sqe->opcode) {
    case RL_OP_ACCEPT:
        return (sqe->ioprio & RL_ACCEPT_DONTWAIT) != 0;
    case RL_OP_CONNECT: /* a Unix socket's full backlog */
        return !request->connecting;
    default:
        return (sqe->op_flags & (reads_or_writes(sqe) ? (uint32_t)RWF_NOWAIT : (uint32_t)MSG_DONTWAIT)) != 0;
    }
}

/* A ring refuses a priority that the caller may not have, whatever it is for; taking it does so here. */
static int64_t execute(const struct rl_sqe *sqe)
{
    struct rl_sqe_work job = {
        .work = {.execute = rl_execute_sqe_work, .priority = rl_epoll_priority(sqe)},
        .sqe = *sqe,
    };
    return job.work.priority == 0 ? rl_execute_sqe(sqe) : rl_execute_with_priority(&job.work);
}

static int64_t attempt_once(struct rl_request *request)
{
    struct rl_sqe sqe = request->job.sqe;
    switch (sqe.opcode) {
    case RL_OP_CONNECT:
        return attempt_connect(request);
    case RL_OP_ACCEPT:
        if (sqe.file_index != 0 || (sqe.ioprio & ~RL_ACCEPT_DONTWAIT))
            return -EINVAL;
        return or_errno(accept4(sqe.fd, (struct sockaddr *)(uintptr_t)sqe.address,
                                (socklen_t *)(uintptr_t)sqe.offset, (int)sqe.op_flags));
    default:
        sqe.op_flags |= reads_or_writes(&sqe) ? (uint32_t)RWF_NOWAIT : (uint32_t)MSG_DONTWAIT;
        return execute(&sqe);
    }
}

void rl_epoll_attempt(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    if (request->multishot && sqe->opcode == RL_OP_ACCEPT) {
        accept_many(epoll, request, ready);
        return;
    }
    if (request->multishot) {
        receive_selected(epoll, request, ready);
        return;
    }
    int64_t result = attempt_once(request);
    while (advance(request, result))
        result = attempt_once(request);
    if (result == -EAGAIN && !refuses_to_wait(request))
        return;
    if (result == -EOPNOTSUPP && reads_or_writes(sqe) && !(sqe->op_flags & RWF_NOWAIT)) {
        rl_epoll_leave(epoll, request);
        rl_epoll_begin_work(epoll, request);
        return;
    }
    if (request->done > 0)
        result = request->done + (result > 0 ? result : 0);
    rl_epoll_finish(epoll, request, (int32_t)result);
}
