/*
 * The system calls that C libraries lack, or lacked until lately. Each returns what the kernel does: a count,
 * an fd or 0, and -errno.
 *
 * ring.c alone calls the three of io_uring. The tests put a kernel of their own in their place, to see what
 * an old or a starved one makes of ring.c: they define RINGLOOP_SYSCALLS_H and these three names.
 * workers.c calls the others.
 */
#ifndef RINGLOOP_SYSCALLS_H
#define RINGLOOP_SYSCALLS_H

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
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

/* The calling thread's number, which is not what pthread_self() says. glibc has it from 2.30 on. */
static inline int rl_sys_gettid(void)
{
    return (int)syscall(SYS_gettid);
}

/* pthread_kill() would take a lock of the C library's, and wants the thread not to have ended. */
static inline int rl_sys_tgkill(int process, int thread, int signal_number)
{
    long result = syscall(SYS_tgkill, process, thread, signal_number);
    return result < 0 ? -errno : (int)result;
}

/* Sleeps while *word is `expected`, that long at most (NULL: no limit). 0, -EAGAIN, -EINTR or -ETIMEDOUT. */
static inline int rl_sys_futex_wait(uint32_t *word, uint32_t expected, const struct timespec *timeout)
{
    long result = syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout, NULL, 0);
    return result < 0 ? -errno : (int)result;
}

/* Wakes one that sleeps on `word`. How many were woken. */
static inline int rl_sys_futex_wake(uint32_t *word)
{
    long result = syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    return result < 0 ? -errno : (int)result;
}

#endif
