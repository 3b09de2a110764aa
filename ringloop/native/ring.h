/*
 * The driver over io_uring, by raw system calls: no liburing, so that a C compiler is all that is needed.
 */
#ifndef RINGLOOP_RING_H
#define RINGLOOP_RING_H

#include "driver.h"

enum rl_ring_cause { /* why there is no ring; errors.py has the words */
    RL_RING_OK = 0,
    RL_RING_NOT_BUILT_IN,   /* ENOSYS from io_uring_setup: old kernel, gVisor, or a seccomp filter */
    RL_RING_FORBIDDEN,      /* EPERM/EACCES from io_uring_setup: seccomp or kernel.io_uring_disabled */
    RL_RING_NO_MEMORY,      /* ENOMEM at the smallest size: RLIMIT_MEMLOCK or no memory */
    RL_RING_NO_FD,          /* EMFILE or ENFILE */
    RL_RING_TOO_OLD,        /* a feature that the loop cannot do without is missing (EXT_ARG, NODROP) */
    RL_RING_ENTER_REFUSED,  /* setup worked, io_uring_enter did not */
    RL_RING_REGISTER_REFUSED,
    RL_RING_OTHER
};

struct rl_ring_failure {
    enum rl_ring_cause cause;
    int error;              /* errno, positive */
    const char *call;       /* the system call that failed, a string literal */
};

/* What of io_uring is to look absent, as on an older kernel: to test that, and to go round a defect. */
struct rl_ring_hidden {
    uint32_t setup_flags;  /* RL_SETUP_*: refused, as by EINVAL */
    uint32_t features;     /* RL_FEATURE_*: not reported */
    uint32_t capabilities; /* RL_CAN_*: not had */
    uint8_t opcodes[32];   /* a bit for each that is not reported */
};

/* Hides from all rings that are made from now on, under the GIL. Nothing is hidden before the first call. */
void rl_ring_hide(const struct rl_ring_hidden *hidden);

/*
 * Makes a ring, disabled until its `enable`. Steps down by trial: flags on EINVAL, sizes on ENOMEM, but waits
 * up to a second first where the memory may be that of rings just closed. sq_entries and cq_entries are what
 * to begin with. NULL on failure, with *failure filled. Takes two fds.
 */
rl_driver *rl_ring_create(uint32_t sq_entries, uint32_t cq_entries, struct rl_ring_failure *failure);

/*
 * Makes a throw-away ring on the calling thread, runs one NOP through it, closes it. 0, or -errno with
 * *failure filled.
 */
int rl_ring_probe(struct rl_ring_failure *failure);

#endif
