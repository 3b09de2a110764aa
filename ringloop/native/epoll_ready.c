/*
 * Waiting for readiness in the epoll driver: one registration per fd, any number of requests that wait.
 *
 * A slot is what is known of an fd. Requests join and leave it during a pass; before the pass waits, epoll is
 * told of the slots that changed, in one call each. An fd that only one-shot polls wait for is registered
 * with EPOLLONESHOT: it is as level-triggered as each poll is, and silent once they are over. Everything else
 * is registered with EPOLLET: a multishot poll tells edges, as in a ring, and a transfer waits only after it
 * has seen EAGAIN. Every change is an EPOLL_CTL_MOD even if the events stay the same: epoll then looks at the
 * file again, and says ENOENT if the number is another file's by now.
 *
 * Invariant: a registration that epoll may report of belongs to the slot's generation. Those who waited for a
 * file that was closed under them become orphans: in flight, in no slot, until they are cancelled.
 */
#include "epoll_requests.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { SLOTS_MIN = 64 };

/* What poll(2) says of a file that cannot be polled, such as a regular one: DEFAULT_POLLMASK. */
static const uint32_t READY_FOR_EVER = POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;

/* ---- slots and who is in them ---- */

/* Makes a slot for the fd. 0, or -errno. */
static int reserve_slot(struct rl_epoll *epoll, int fd)
{
    if (fd < 0)
        return -EBADF;
    if ((uint32_t)fd < epoll->slot_count)
        return 0;
    if (fcntl(fd, F_GETFD) < 0)
        return -errno;
    uint32_t count = epoll->slot_count > 0 ? epoll->slot_count : SLOTS_MIN;
    while (count <= (uint32_t)fd)
        count *= 2;
    struct rl_slot *slots = realloc(epoll->slots, count * sizeof *slots);
    if (slots == NULL)
        return -ENOMEM;
    memset(slots + epoll->slot_count, 0, (count - epoll->slot_count) * sizeof *slots);
    epoll->slots = slots;
    epoll->slot_count = count;
    return 0;
}

static void mark_dirty(struct rl_epoll *epoll, int fd)
{
    struct rl_slot *slot = &epoll->slots[fd];
    if (slot->dirty)
        return;
    slot->dirty = true;
    slot->next_dirty = epoll->dirty_first;
    epoll->dirty_first = fd;
}

static void join_slot(struct rl_epoll *epoll, struct rl_request *request)
{
    struct rl_slot *slot = &epoll->slots[request->job.sqe.fd];
    ENSURE(!request->in_slot);
    request->in_slot = request->fresh = true;
    request->behind = NULL;
    request->before = slot->last;
    if (slot->last != NULL)
        slot->last->behind = request;
    else
        slot->first = request;
    slot->last = request;
    mark_dirty(epoll, request->job.sqe.fd);
}

static void leave_slot(struct rl_epoll *epoll, struct rl_request *request)
{
    struct rl_slot *slot = &epoll->slots[request->job.sqe.fd];
    if (request->before != NULL)
        request->before->behind = request->behind;
    else
        slot->first = request->behind;
    if (request->behind != NULL)
        request->behind->before = request->before;
    else
        slot->last = request->before;
    request->before = request->behind = NULL;
    request->in_slot = false;
}

static void leave_retries(struct rl_epoll *epoll, struct rl_request *request)
{
    struct rl_request_list kept = {0};
    struct rl_request *other;
    while ((other = rl_request_shift(&epoll->retries)) != NULL)
        if (other != request)
            rl_request_push(&kept, other);
    epoll->retries = kept;
    request->retrying = false;
}

void rl_epoll_leave(struct rl_epoll *epoll, struct rl_request *request)
{
    if (request->retrying)
        leave_retries(epoll, request);
    if (!request->in_slot)
        return;
    leave_slot(epoll, request);
    if (epoll->slots[request->job.sqe.fd].first == NULL)
        mark_dirty(epoll, request->job.sqe.fd);
}

/* ---- beginning ---- */

/* Lets a request wait in its slot. False: it is over. */
static bool wait_for(struct rl_epoll *epoll, struct rl_request *request, uint32_t wanted)
{
    int error = reserve_slot(epoll, request->job.sqe.fd);
    request->state = RL_REQUEST_READY;
    request->wanted = wanted;
    if (error != 0) {
        rl_epoll_finish(epoll, request, error);
        return false;
    }
    join_slot(epoll, request);
    return true;
}

void rl_epoll_begin_poll(struct rl_epoll *epoll, struct rl_request *request)
{
    const struct rl_sqe *sqe = &request->job.sqe;
    request->state = RL_REQUEST_READY;
    if ((sqe->length & ~(uint32_t)RL_POLL_MULTISHOT) || sqe->offset != 0 || sqe->address != 0) {
        rl_epoll_finish(epoll, request, -EINVAL);
        return;
    }
    request->multishot = (sqe->length & RL_POLL_MULTISHOT) != 0;
    wait_for(epoll, request, (sqe->op_flags & UINT16_MAX) | RL_EPOLL_ALWAYS);
}

/* Whether what is received from the socket, or sent to it, has no borders. */
static bool is_stream_socket(int fd)
{
    int type = 0;
    socklen_t type_bytes = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 && type == SOCK_STREAM;
}

/* Sets what becomes of a transfer's entry. 0, or -errno if it cannot be had. */
static int prepare_transfer(struct rl_request *request)
{
    struct rl_sqe *sqe = &request->job.sqe;
    bool selects = (sqe->flags & RL_SQE_BUFFER_SELECT) != 0;
    if (sqe->opcode == RL_OP_RECV) {
        request->multishot = (sqe->ioprio & RL_RECV_MULTISHOT) != 0;
        if (request->multishot != selects)
            return -EINVAL;
    } else if (sqe->opcode == RL_OP_ACCEPT && (sqe->ioprio & RL_ACCEPT_MULTISHOT)) {
        if (sqe->file_index != 0 || sqe->ioprio != RL_ACCEPT_MULTISHOT)
            return -EINVAL;
        request->multishot = true;
    } else if (sqe->opcode == RL_OP_RECVMSG && (sqe->ioprio & RL_RECV_MULTISHOT)) {
        return -EINVAL;
    }
    if (sqe->opcode == RL_OP_RECV || (sqe->opcode == RL_OP_SEND && (sqe->op_flags & MSG_WAITALL)))
        request->drains = is_stream_socket(sqe->fd);
    return 0;
}

void rl_epoll_begin_transfer(struct rl_epoll *epoll, struct rl_request *request)
{
    struct rl_sqe *sqe = &request->job.sqe;
    bool is_socket_transfer = sqe->opcode == RL_OP_SEND || sqe->opcode == RL_OP_RECV ||
                              sqe->opcode == RL_OP_SENDMSG || sqe->opcode == RL_OP_RECVMSG;
    bool waits_first = is_socket_transfer && (sqe->ioprio & RL_RECV_POLL_FIRST);
    int error = prepare_transfer(request);

    request->state = RL_REQUEST_READY;
    if (error != 0) {
        rl_epoll_finish(epoll, request, error);
        return;
    }
    /* In its slot from the beginning, so that it may go on from there. A first attempt of one that completes
       many times would only say EAGAIN, as a rule. */
    if (!wait_for(epoll, request, rl_epoll_events_of(sqe)))
        return;
    if (!waits_first && !request->multishot)
        rl_epoll_attempt(epoll, request, 0);
}

/* ---- telling epoll ---- */

/* Goes on with a request of whose file these events are true. */
static void go_on(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready)
{
    if (request->job.sqe.opcode != RL_OP_POLL_ADD) {
        rl_epoll_attempt(epoll, request, ready);
    } else if (!request->multishot) {
        rl_epoll_finish(epoll, request, (int32_t)ready);
    } else if (rl_epoll_room(epoll) > 0) {
        rl_epoll_post_more(epoll, request, (int32_t)ready, 0);
    } else {
        rl_epoll_put_off(epoll, request, ready);
    }
}

static uint64_t tag_of(int fd, uint32_t generation)
{
    return (uint64_t)generation << 32 | (uint32_t)fd;
}

/* Everybody who waits in a slot, or only those that epoll was not told of, has waited in vain. */
static void end_waits(struct rl_epoll *epoll, int fd, int32_t error)
{
    struct rl_request *request = epoll->slots[fd].first;
    while (request != NULL) {
        struct rl_request *next = request->behind;
        if (request->fresh)
            rl_epoll_finish(epoll, request, error);
        request = next;
    }
}

/* The file is of a kind that is always ready. */
static void answer_unpollable(struct rl_epoll *epoll, int fd)
{
    struct rl_request *request = epoll->slots[fd].first;
    while (request != NULL) {
        struct rl_request *next = request->behind;
        uint32_t ready = READY_FOR_EVER & request->wanted;
        if (request->job.sqe.opcode != RL_OP_POLL_ADD) {
            rl_epoll_leave(epoll, request);
            rl_epoll_begin_work(epoll, request);
        } else {
            leave_slot(epoll, request); /* nothing more will ever come */
            if (ready != 0)
                go_on(epoll, request, ready);
        }
        request = next;
    }
}

/* The number is another file's: those who waited for the one that was closed wait for ever. */
static void make_orphans(struct rl_epoll *epoll, int fd)
{
    struct rl_request *request = epoll->slots[fd].first;
    while (request != NULL) {
        struct rl_request *next = request->behind;
        if (!request->fresh)
            leave_slot(epoll, request);
        request = next;
    }
}

/* One epoll_ctl for a slot in which somebody waits. 0, or -errno. */
static int control(struct rl_epoll *epoll, int fd)
{
    struct rl_slot *slot = &epoll->slots[fd];
    struct epoll_event event = {.events = EPOLLRDHUP};
    int operation = slot->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    slot->edges = slot->silent = false;
    for (const struct rl_request *request = slot->first; request != NULL; request = request->behind) {
        event.events |= request->wanted;
        slot->edges |= request->multishot || request->job.sqe.opcode != RL_OP_POLL_ADD;
    }
    event.events |= slot->edges ? (uint32_t)EPOLLET : (uint32_t)EPOLLONESHOT;
    slot->generation += !slot->registered;
    event.data.u64 = tag_of(fd, slot->generation);
    if (epoll_ctl(epoll->driver.fd, operation, fd, &event) == 0)
        return 0;
    /* EEXIST: what is left of a slot that was given up with its file still open. */
    if (errno == EEXIST && epoll_ctl(epoll->driver.fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    return -errno;
}

static void register_slot(struct rl_epoll *epoll, int fd)
{
    struct rl_slot *slot = &epoll->slots[fd];
    if (slot->first == NULL) {
        /* The fd may be closed already, or another file's that is not registered: both are errors here. */
        if (slot->registered && !slot->silent)
            epoll_ctl(epoll->driver.fd, EPOLL_CTL_DEL, fd, NULL);
        slot->registered &= slot->silent;
        return;
    }
    int error = control(epoll, fd);
    if (error == -ENOENT || (error == -EBADF && slot->registered)) {
        slot->registered = false;
        make_orphans(epoll, fd);
        if (slot->first == NULL)
            return;
        error = error == -ENOENT ? control(epoll, fd) : error;
    }
    slot->registered = error == 0;
    if (error == -EPERM)
        answer_unpollable(epoll, fd);
    else if (error != 0)
        end_waits(epoll, fd, error);
    for (struct rl_request *request = epoll->slots[fd].first; request != NULL; request = request->behind)
        request->fresh = false;
}

void rl_epoll_register(struct rl_epoll *epoll)
{
    while (epoll->dirty_first != RL_EPOLL_NONE) {
        int fd = epoll->dirty_first;
        epoll->dirty_first = epoll->slots[fd].next_dirty;
        epoll->slots[fd].dirty = false;
        register_slot(epoll, fd);
    }
}

/* ---- events ---- */

void rl_epoll_dispatch(struct rl_epoll *epoll, const struct epoll_event *event)
{
    int fd = (int)(uint32_t)event->data.u64;
    struct rl_slot *slot = &epoll->slots[fd];
    struct rl_request *request = slot->first;
    bool met = false;

    if (tag_of(fd, slot->generation) != event->data.u64 || !slot->registered)
        return; /* of a file that was closed here and lives on elsewhere */
    slot->silent = !slot->edges;
    while (request != NULL) {
        struct rl_request *next = request->behind;
        uint32_t ready = event->events & (request->wanted | EPOLLERR | EPOLLHUP);
        met |= ready != 0;
        if (ready != 0)
            go_on(epoll, request, ready | (event->events & EPOLLRDHUP));
        request = next;
    }
    slot = &epoll->slots[fd];
    if (slot->edges ? !met : slot->first != NULL)
        mark_dirty(epoll, fd);
}

void rl_epoll_retry(struct rl_epoll *epoll)
{
    struct rl_request_list retries = epoll->retries;
    struct rl_request *request;
    epoll->retries = (struct rl_request_list){0};
    while ((request = rl_request_shift(&retries)) != NULL) {
        uint32_t ready = request->ready;
        request->retrying = false;
        request->ready = 0;
        go_on(epoll, request, ready);
    }
}

/* ---- provided buffers ---- */

int rl_epoll_register_buffers(rl_driver *driver, uint16_t number, struct rl_buffer *ring, uint32_t count)
{
    struct rl_epoll *epoll = (struct rl_epoll *)driver;
    struct rl_epoll_group *free_group = NULL;
    for (struct rl_epoll_group *group = epoll->groups; group < epoll->groups + RL_EPOLL_GROUPS; group++) {
        if (group->ring != NULL && group->number == number)
            return -EEXIST;
        if (group->ring == NULL && free_group == NULL)
            free_group = group;
    }
    if (free_group == NULL)
        return -ENOMEM;
    *free_group = (struct rl_epoll_group){.ring = ring, .mask = count - 1, .number = number};
    return 0;
}

int rl_epoll_unregister_buffers(rl_driver *driver, uint16_t number)
{
    struct rl_epoll *epoll = (struct rl_epoll *)driver;
    for (struct rl_epoll_group *group = epoll->groups; group < epoll->groups + RL_EPOLL_GROUPS; group++) {
        if (group->ring != NULL && group->number == number) {
            *group = (struct rl_epoll_group){0};
            return 0;
        }
    }
    return -EINVAL;
}
