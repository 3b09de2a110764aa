/*
 * The I/O priority of one work: its thread has it for so long, and then again what it had.
 *
 * Header only: pools execute works by it, and so do threads that are not a pool's.
 */
#ifndef RINGLOOP_PRIORITY_H
#define RINGLOOP_PRIORITY_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "workers.h"

enum { RL_PRIORITY_OF_A_THREAD = 1 }; /* IOPRIO_WHO_PROCESS; 0 is then the calling thread */

/* `what` is the work's `begin` or its `execute`. */
static inline int64_t rl_do_with_priority(rl_work *work, int64_t (*what)(rl_work *work))
{
    if (work->priority == 0)
        return what(work);
    long before = syscall(SYS_ioprio_get, RL_PRIORITY_OF_A_THREAD, 0);
    if (before < 0 || syscall(SYS_ioprio_set, RL_PRIORITY_OF_A_THREAD, 0, (int)work->priority) < 0)
        return -errno;
    int64_t result = what(work);
    syscall(SYS_ioprio_set, RL_PRIORITY_OF_A_THREAD, 0, (int)before);
    return result;
}

static inline int64_t rl_execute_with_priority(rl_work *work)
{
    return rl_do_with_priority(work, work->execute);
}

#endif
