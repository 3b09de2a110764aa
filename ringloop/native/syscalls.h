/*
 * The three system calls of io_uring. Each returns what the kernel does: a count, an fd or 0, and -errno.
 *
 * ring.c alone calls them. The tests put a kernel of their own in their place, to see what an old or a
 * starved one makes of ring.c: they define RINGLOOP_SYSCALLS_H and these three names.
 */
#ifndef RINGLOOP_SYSCALLS_H
#define RINGLOOP_SYSCALLS_H

#include <errno.h>
#include <unistd.h>

#include "abi.h"

static inline int rl_sys_setup(uint32_t entries, struct rl_params *params)
{
    long result = syscall(RL_SYSCALL_SETUP, entries, params);
    return result < 0 ? -errno : (int)result;
}

static inline int rl_sys_enter(int fd, uint32_t submit_count, uint32_t wait_count, uint32_t flags,
                               const void *argument, size_t argument_bytes)
{
    long result = syscall(RL_SYSCALL_ENTER, fd, submit_count, wait_count, flags, argument, argument_bytes);
    return result < 0 ? -errno : (int)result;
}

static inline int rl_sys_register(int fd, uint32_t opcode, void *argument, uint32_t count)
{
    long result = syscall(RL_SYSCALL_REGISTER, fd, opcode, argument, count);
    return result < 0 ? -errno : (int)result;
}

#endif
