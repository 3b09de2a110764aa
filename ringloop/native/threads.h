/*
 * The native threads of a pool of workers: how they are started, and how one that blocks is interrupted.
 */
#ifndef RINGLOOP_THREADS_H
#define RINGLOOP_THREADS_H

#include <stdint.h>

enum { RL_THREAD_NO_LIMIT = -1 };

/*
 * Starts a thread that is to call rl_thread_begin() first, and to be joined, by its pthread_self(). 0, or
 * -errno: EAGAIN where there is no room for another one.
 */
int rl_thread_start(void *(*body)(void *argument), void *argument);

/* Gives the calling thread its name, of 15 characters at most, and its signal mask. */
void rl_thread_begin(const char *name);

/*
 * Sends the reserved signal to a thread that has begun, by the kernel's number of it: a system call that it
 * sleeps in ends with EINTR. One that it has not entered yet does not, so send it until there is an answer.
 */
void rl_thread_interrupt(int thread);

/* Sleeps while *word is `expected`, that long at most (or RL_THREAD_NO_LIMIT). May return early. */
void rl_thread_sleep(uint32_t *word, uint32_t expected, int64_t timeout_ns);

int64_t rl_thread_now_ns(void);

#endif
