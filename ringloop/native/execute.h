/*
 * Executing one operation by an ordinary, blocking system call, with the result that io_uring gives for it.
 *
 * These are what works of a pool (workers.h) execute: any system call by its number, and any submission queue
 * entry that stands for one. No state, no Python; callable on any thread. Addresses are only passed on, so
 * that a bad one is the kernel's -EFAULT.
 */
#ifndef RINGLOOP_EXECUTE_H
#define RINGLOOP_EXECUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "abi.h"
#include "workers.h"

struct rl_call_work {
    rl_work work; /* its `execute`: rl_execute_call */
    long number;
    uint64_t arguments[6];
};

struct rl_sqe_work {
    rl_work work; /* its `execute`: rl_execute_sqe_work */
    struct rl_sqe sqe;
};

/*
 * The system call of a struct rl_call_work, as the kernel's calling convention has it: its result in 64 bits,
 * or -errno. None is refused: who must not call what is the caller's business.
 */
int64_t rl_execute_call(rl_work *work);

/* rl_execute_sqe() for the entry of a struct rl_sqe_work. */
int64_t rl_execute_sqe_work(rl_work *work);

/*
 * Executes an entry and returns what the `result` of its completion would be; -EINTR after a signal. As in a
 * ring, a file with O_NONBLOCK is waited for all the same, unless RWF_NOWAIT, MSG_DONTWAIT or
 * RL_ACCEPT_DONTWAIT say otherwise. -EINVAL for opcodes that are not a system call (cancels, provided and
 * registered buffers, messages between rings), and for what only a driver can do: several completions, direct
 * descriptors, a timeout that counts completions. Not looked at: `flags` that link or delay, user_data.
 *
 * What differs: an fsync of a range syncs the whole file; a FIFO is opened as open(2) does, so that opening
 * waits for the other end; a timeout's nanoseconds must be below 1,000,000,000, else -EINVAL; a sendmsg or
 * recvmsg with MSG_WAITALL on a socket with O_NONBLOCK may still be short.
 */
int32_t rl_execute_sqe(const struct rl_sqe *sqe);

/* Whether rl_execute_sqe() knows the opcode. */
bool rl_execute_has(uint8_t opcode);

/*
 * Whether a signal may end the operation: it can wait for ever, and its result then tells what was done. What
 * changes a file system is not interrupted: over FUSE or NFS, -EINTR would leave open whether it did.
 */
bool rl_execute_interruptible(uint8_t opcode);

#endif
