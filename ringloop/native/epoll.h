/*
 * The driver for machines that refuse io_uring: the same entries, the same completions, by readiness (epoll),
 * by epoll_wait's timeout, and by worker threads (workers.h) for what blocks.
 *
 * Any thread may call it, one at a time: it is bound to none, and `enter` never answers EEXIST. What differs
 * from a ring, beside speed:
 *  - An armed request does not keep its file open (RL_CAN_HOLD_FILES). A file that is closed
 *    under it ends it only when it is cancelled, and what gets the fd's number next is never taken for it.
 *  - RL_CAN_TELL_PENDING is not among its capabilities: only `enter` finds out what is ready.
 *  - Not here, and answered by -EINVAL: what rl_execute_sqe() refuses as no system call, draining entries, a
 *    multishot timeout, a multishot receive without provided buffers, updates of a poll or a timeout.
 *  - A deadline on a clock other than the monotonic one does not follow that clock's jumps.
 */
#ifndef RINGLOOP_EPOLL_H
#define RINGLOOP_EPOLL_H

#include "driver.h"

/* Makes a driver. NULL on failure, with -errno in *error. Takes one fd, and another with the first work. */
rl_driver *rl_epoll_create(uint32_t sq_entries, uint32_t cq_entries, int *error);

#endif
