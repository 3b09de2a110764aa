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

static inline int64_t rl_execute_with_priority(rl_work *work)
{
    if (work->priority == 0)
        return work->execute(work);
    long before = syscall(SYS_ioprio_get, RL_PRIORITY_OF_A_THREAD, 0);
    if (before < 0 || syscall(SYS_ioprio_set, RL_PRIORITY_OF_A_THREAD, 0, (int)work->priority) < 0)
        return -errno;
    int64_t result = work->execute(work);
    syscall(SYS_ioprio_set, RL_PRIORITY_OF_A_THREAD, 0, (int)before);
    return result;
}

#endif
