/*
 * What the rooms of the epoll driver share: its requests and the lists they are in.
 *
 * epoll.c is the driver: one pass, works, set-up and end. epoll_requests.c holds the requests: begins them,
 * links them, cancels them, and gives completions. epoll_ready.c waits for readiness, epoll_transfers.c makes
 * the attempts that follow it; epoll_timers.c has the timeouts.
 *
 * A request is in one place at a time, which its state names, and comes to its end by rl_epoll_finish()
 * alone.
 */
#ifndef RINGLOOP_EPOLL_REQUESTS_H
#define RINGLOOP_EPOLL_REQUESTS_H

#include <sys/epoll.h>

#include "driver.h"
#include "execute.h"
#include "timers.h"

enum {
    RL_EPOLL_GROUPS = 8,      /* of provided buffers */
    RL_EPOLL_EVENTS_MAX = 32, /* taken by one call: no more than provided buffers last for */
    RL_EPOLL_ALWAYS = EPOLLERR | EPOLLHUP | EPOLLRDHUP, /* reported by a poll, asked for or not */
    RL_EPOLL_NONE = -1
};

enum rl_request_state {
    RL_REQUEST_HELD,    /* behind another one in a chain, or about to begin */
    RL_REQUEST_READY,   /* waits for its file to be ready: in a slot, or an orphan of one */
    RL_REQUEST_TIMED,   /* waits for a time, or for completions */
    RL_REQUEST_WORKING, /* a worker has it */
    RL_REQUEST_OVER     /* waits for room in the completion queue */
};

struct rl_request {
    struct rl_sqe_work job;     /* its `sqe`: what was submitted, advanced by what a transfer has done */
    struct rl_request *link;    /* the next one of the chain; in the list of free ones, the next */
    struct rl_request *guard;   /* the LINK_TIMEOUT that ends this one */
    struct rl_request *guarded; /* of a LINK_TIMEOUT: whom it ends */
    struct rl_request *later;   /* behind it in whichever list of the driver */
    struct rl_request *next_in_bucket;
    struct rl_request *before, *behind; /* waiters of the slot, oldest first; counting timeouts */
    struct rl_timer timer;
    uint32_t wanted; /* events that it waits for */
    uint32_t ready;  /* events that it could not answer yet */
    uint32_t done;   /* bytes moved so far by a transfer that is to move all */
    uint32_t left;   /* of a timeout that counts: completions to come */
    int32_t result;
    uint32_t cancel_number; /* the last cancel of many that met it */
    uint8_t state;
    bool multishot;
    bool connecting;
    bool drains;   /* a short receive has left nothing behind */
    bool counts;   /* in the list of timeouts that count completions */
    bool fresh;    /* waits since the slot was last shown to epoll */
    bool in_slot;
    bool retrying; /* in the list of those that go on with the next pass */
};

struct rl_request_list {
    struct rl_request *first, *last;
};

/* What epoll knows of an fd, and who waits for it. */
struct rl_slot {
    struct rl_request *first, *last;
    uint32_t generation; /* of the file behind the number; events of another are stale */
    int32_t next_dirty;
    bool registered;
    bool edges;  /* registered with EPOLLET; else EPOLLONESHOT, */
    bool silent; /* and that has reported since */
    bool dirty;  /* in the list of those that epoll is to be told of */
};

struct rl_epoll_group {
    struct rl_buffer *ring; /* NULL: unused */
    uint32_t mask;
    uint16_t number, head;
};

struct rl_epoll {
    rl_driver driver; /* first: a pointer to one is a pointer to the other */
    uint32_t sq_head, sq_flags, cq_head, cq_tail;
    struct rl_cqe *cqes;

    struct rl_request **buckets; /* those in flight, by user_data */
    uint32_t bucket_mask, in_flight;
    struct rl_request *free_first;
    struct rl_request_chunk *chunks;

    struct rl_request *chain_first, *chain_last; /* being put together */
    int chain_error;                             /* of an entry in it that is refused */
    struct rl_request *chain_culprit;

    struct rl_request_list due;     /* to begin at once: the next ones of chains */
    struct rl_request_list retries; /* go on with the next pass, for fairness or for lack of room */
    struct rl_request_list backlog; /* over; for these the completion queue had no room */

    struct rl_slot *slots; /* by fd */
    uint32_t slot_count;
    int32_t dirty_first;

    struct rl_timers timers;
    struct rl_request *counting; /* timeouts that also count completions */
    uint32_t uncounted;          /* completions that they have not been told of */
    uint32_t cancel_number;

    struct rl_epoll_group groups[RL_EPOLL_GROUPS];

    rl_workers *workers; /* NULL until something blocks */
    int bell_fd;         /* theirs */
    bool lacks_pwait2;
    bool starved;        /* there was no memory for an entry, which is still queued */
};

static inline void rl_request_push(struct rl_request_list *list, struct rl_request *request)
{
    request->later = NULL;
    if (list->last != NULL)
        list->last->later = request;
    else
        list->first = request;
    list->last = request;
}

static inline struct rl_request *rl_request_shift(struct rl_request_list *list)
{
    struct rl_request *request = list->first;
    if (request != NULL) {
        list->first = request->later;
        if (list->first == NULL)
            list->last = NULL;
    }
    return request;
}

/* Free places in the completion queue; 0 while others wait for one. */
static inline uint32_t rl_epoll_room(const struct rl_epoll *epoll)
{
    return epoll->backlog.first != NULL ? 0 : epoll->driver.cq_entries - (epoll->cq_tail - epoll->cq_head);
}

/* ---- epoll_requests.c ---- */

int rl_epoll_requests_create(struct rl_epoll *epoll);
void rl_epoll_requests_free(struct rl_epoll *epoll);

/* Takes what is submitted, as far as there is memory for it, and begins it. */
void rl_epoll_take(struct rl_epoll *epoll);

/* Begins what chains have come to. */
void rl_epoll_run_due(struct rl_epoll *epoll);

/* A completion of a request that goes on. There must be room. */
void rl_epoll_post_more(struct rl_epoll *epoll, struct rl_request *request, int32_t result, uint32_t flags);

/* Ends a request, wherever it is, but for a worker's hands: its last completion, and what is linked to it. */
void rl_epoll_finish(struct rl_epoll *epoll, struct rl_request *request, int32_t result);

/* Asks for the end of a request in flight. 0, -EALREADY while a worker has it, -ENOENT if that is done. */
int rl_epoll_cancel(struct rl_epoll *epoll, struct rl_request *request);

/* The time of a LINK_TIMEOUT is over: cancels whom it guards. */
void rl_epoll_expire(struct rl_epoll *epoll, struct rl_request *guard);

/* A request in flight with that user_data and opcode (RL_EPOLL_NONE: any), or NULL. */
struct rl_request *rl_epoll_find(const struct rl_epoll *epoll, uint64_t user_data, int opcode);

/* Moves completions that had no room to the queue, as far as there is room now. */
void rl_epoll_unload(struct rl_epoll *epoll);

/* ---- epoll_ready.c ---- */

/* Begins what waits for readiness: polls, and transfers that would block. */
void rl_epoll_begin_poll(struct rl_epoll *epoll, struct rl_request *request);
void rl_epoll_begin_transfer(struct rl_epoll *epoll, struct rl_request *request);

/* Takes a request out of its slot and of the retries. */
void rl_epoll_leave(struct rl_epoll *epoll, struct rl_request *request);

/* Tells epoll what has changed. May end requests. */
void rl_epoll_register(struct rl_epoll *epoll);

/* What an event of epoll means to those who wait. */
void rl_epoll_dispatch(struct rl_epoll *epoll, const struct epoll_event *event);

/* Goes on with those that the last pass left. */
void rl_epoll_retry(struct rl_epoll *epoll);

int rl_epoll_register_buffers(rl_driver *driver, uint16_t group, struct rl_buffer *ring, uint32_t count);
int rl_epoll_unregister_buffers(rl_driver *driver, uint16_t group);

/* ---- epoll_transfers.c ---- */

/* The events that say when an attempt is worth making. */
uint32_t rl_epoll_events_of(const struct rl_sqe *sqe);

/*
 * Makes the system call of a request without waiting; `ready` are the events that led to it, 0 for the first
 * attempt. Afterwards the request is over, or a worker's, or goes on waiting in its slot.
 */
void rl_epoll_attempt(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready);

/* Lets a request that has more to do, or no room for what it did, go on with the next pass. */
void rl_epoll_put_off(struct rl_epoll *epoll, struct rl_request *request, uint32_t ready);

/* The I/O priority that it asks for; 0: none. */
uint16_t rl_epoll_priority(const struct rl_sqe *sqe);

/* Whether a transfer can be attempted at all without a thread. */
bool rl_epoll_can_attempt(const struct rl_sqe *sqe);

/* ---- epoll_timers.c ---- */

void rl_epoll_begin_timeout(struct rl_epoll *epoll, struct rl_request *request);
int rl_epoll_remove_timeout(struct rl_epoll *epoll, const struct rl_sqe *sqe);

/* Starts the clock of the LINK_TIMEOUT of a request that is in flight. */
void rl_epoll_begin_guard(struct rl_epoll *epoll, struct rl_request *guard);

/* Takes a request out of the timers and from those that count. */
void rl_epoll_leave_timers(struct rl_epoll *epoll, struct rl_request *request);

/* Tells the timeouts that count completions of those that were given since the last time. */
void rl_epoll_count_completions(struct rl_epoll *epoll);

/* How long until the next timeout; RL_WAIT_FOREVER if there is none. */
int64_t rl_epoll_until_timeout_ns(const struct rl_epoll *epoll);

/* Ends what is due. */
void rl_epoll_fire_timeouts(struct rl_epoll *epoll);

/* ---- epoll.c ---- */

/* Has a worker execute the request. */
void rl_epoll_begin_work(struct rl_epoll *epoll, struct rl_request *request);

#endif
