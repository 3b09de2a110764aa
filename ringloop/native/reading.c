/*
 * Beginning reads: see reading.h.
 *
 * A read with RWF_NOWAIT that finds nothing says EAGAIN, but since 5.9 it has the reading started before. It
 * is the kernel's own readahead that it starts, so whoever reads on finds what follows. Older kernels only
 * say EAGAIN: there, and where cachestat() (6.5) cannot tell, works are executed one by each thread.
 */
#define _GNU_SOURCE
#include "reading.h"

#include <sys/uio.h>

#include "cached.h"
#include "execute.h"

enum { NOT_KNOWN, BEGINS, BEGINS_NOT };

/* What was found out, for the process. Threads find the same, so it does not matter which is first. */
static uint8_t found_out = NOT_KNOWN;

/* Whether a read that said EAGAIN has been started. */
static bool has_begun(const struct rl_sqe *sqe)
{
    struct rl_cached cached;
    uint8_t known = __atomic_load_n(&found_out, __ATOMIC_RELAXED);
    if (known == NOT_KNOWN) {
        int error = rl_count_cached(sqe->fd, sqe->offset, sqe->length, &cached);
        if (error == 0 && cached.pages == 0) /* as on a file system that could not have a lock at once */
            return false;
        known = error == 0 ? BEGINS : BEGINS_NOT;
        __atomic_store_n(&found_out, known, __ATOMIC_RELAXED);
    }
    return known == BEGINS;
}

int64_t rl_reading_begin(rl_work *work)
{
    const struct rl_sqe *sqe = &((const struct rl_sqe_work *)work)->sqe;
    struct rl_sqe attempt = *sqe;
    attempt.op_flags |= RWF_NOWAIT;
    int32_t result = rl_execute_sqe(&attempt);
    if (result >= 0 && (uint32_t)result == sqe->length)
        return result;
    /* Else it is for the ordinary call to say: a part of it is in memory, or it ends there, or it fails. */
    return result == -EAGAIN && has_begun(sqe) ? RL_WORK_BEGUN : RL_WORK_NOT_BEGUN;
}

bool rl_reading_may_begin(void)
{
    return __atomic_load_n(&found_out, __ATOMIC_RELAXED) != BEGINS_NOT;
}
