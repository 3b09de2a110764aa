/*
 * Workers: threads that execute what blocks, for one loop.
 *
 * The loop's thread submits works and collects them when they are done; the pool's threads execute them by
 * ordinary system calls, without Python and without the GIL. A pool starts no thread before there is work,
 * has no more than it was allowed, and lets those go that were idle for long.
 *
 * All functions are for the loop's thread, or for whoever has the loop to himself. A work lies inside the
 * caller's operation and belongs to the pool from rl_workers_submit() until rl_workers_collect() or
 * rl_workers_destroy() returns it; every work comes back once. Nothing is allocated per work.
 *
 * Works that have a `begin` end by themselves, and soon: a thread may take several of them, begins with each
 * before it executes one, and executes them one after the other. To have a thread for each would cost more
 * than what they do.
 *
 * What `execute` may do: it runs with a stack of 256 KiB and with all signals blocked that are not about the
 * thread's own faults. It must not change what is the whole process' (umask, working directory) and not leave
 * the thread changed (credentials, signal mask, scheduling): the next work is somebody else's.
 */
#ifndef RINGLOOP_WORKERS_H
#define RINGLOOP_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct rl_work rl_work;
typedef struct rl_workers rl_workers;

/* What `begin` of a work says if it has no result. */
#define RL_WORK_BEGUN INT64_MIN           /* something has been started, and `execute` waits for it */
#define RL_WORK_NOT_BEGUN (INT64_MIN + 1) /* `execute` has it all to do */

struct rl_work {
    /* The caller's, set before submitting. */
    int64_t (*execute)(rl_work *work); /* the result, or -errno; on a thread of the pool */
    int64_t (*begin)(rl_work *work);   /* or NULL: lets one thread have several works, see above */
    void *owner;                       /* not looked at */
    bool interruptible;                /* a signal makes `execute` return -EINTR, with nothing done */
    uint16_t priority;                 /* of its I/O, as ioprio_set(2) has it; 0: the process' */

    /* The caller's, once collected. */
    int64_t result; /* what `execute` returned, or -ECANCELED or -EAGAIN from the pool */
    rl_work *next;  /* in the list that was collected */

    /* The pool's. */
    uint8_t state;
    uint32_t batch;
    rl_work *previous;
    struct rl_worker *worker;
};

/* For people. */
struct rl_workers_counters {
    uint32_t threads, threads_idle;
    uint32_t queued;    /* works that have not begun */
    uint32_t running;   /* works that threads have in hand */
    uint64_t completed; /* works collected */
    uint64_t starts;    /* threads started */
    uint64_t wakes;     /* idle threads woken */
    uint64_t bells;     /* writes to the loop's eventfd */
    uint64_t signals;   /* sent to interrupt a work */
};

/*
 * Makes a pool without threads; NULL if there is no memory. bell_fd is an eventfd of the loop's, borrowed: a
 * worker writes to it when it completes something while the loop sleeps. Threads end after idle_ns without
 * work.
 */
rl_workers *rl_workers_create(int bell_fd, uint32_t thread_count_max, int64_t idle_ns);

/* Queues a work for the next rl_workers_publish(). No lock, no system call. */
void rl_workers_submit(rl_workers *pool, rl_work *work);

/* Lets the threads see what was submitted. Once per pass: one lock, and at most one wake-up or start. */
void rl_workers_publish(rl_workers *pool);

/*
 * Asks for the end of a work that was submitted and not collected. In every case it is collected later.
 * 0: it had not begun, and completes with -ECANCELED at once.
 * -EALREADY: it runs. If it is interruptible it gets signals until it answers; the -EINTR that it returns
 * then becomes -ECANCELED. What it achieved all the same is its result.
 * -ENOENT: it is done.
 */
int rl_workers_cancel(rl_workers *pool, rl_work *work);

/* What is done, oldest first, linked by `next`; NULL, after one look at memory, if nothing is. */
rl_work *rl_workers_collect(rl_workers *pool);

/*
 * To be called before the loop sleeps, with everything published. True: whatever completes from now on rings
 * the bell, once, until rl_workers_awake(). False: something is done already, so do not sleep.
 */
bool rl_workers_prepare_sleep(rl_workers *pool);
void rl_workers_awake(rl_workers *pool);

struct rl_workers_counters rl_workers_count(rl_workers *pool);

/*
 * Ends the pool: cancels what has not begun, interrupts what can be, waits for the rest (call it without the
 * GIL) and for every thread's end, frees `pool`. Returns all that was not collected, as rl_workers_collect().
 */
rl_work *rl_workers_destroy(rl_workers *pool);

/*
 * In the child after fork(), where the threads do not exist: frees `pool`, takes no lock. Works in it are
 * forgotten: their memory is the caller's. (musl keeps the stacks of the threads, glibc takes them back.)
 */
void rl_workers_forked(rl_workers *pool);

#endif
