/*
 * The drivers that were ended while requests may have been in flight, until the kernel has let go of them.
 *
 * Closing a ring is asynchronous: the kernel cancels what is in flight from a worker, and until that is
 * done may write into buffers. It says nowhere when it is done, so each ring carries a witness: the write
 * end of a pipe, registered as its fixed file and held by nobody else. The kernel drops the fixed files of
 * a ring after its last request is gone (io_ring_ctx_free, which io_ring_exit_work calls once no request
 * holds a reference), and then the read end reports a hang-up. On Linux 6.18 that takes about 30 ms.
 *
 * Called under the GIL only, which is what guards the list.
 */
#include "retired.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "ensure.h"

static struct rl_retired *retired_first;

void rl_retire(struct rl_retired *retired)
{
    ENSURE(retired->witness_fd >= 0);
    ENSURE(retired->driver != NULL);
    retired->next = retired_first;
    retired_first = retired;
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether the kernel has dropped the ring's end of the pipe, waiting for that until deadline_ms. */
static bool has_hung_up(const struct rl_retired *retired, int64_t deadline_ms)
{
    struct pollfd poll_fd = {.fd = retired->witness_fd}; /* POLLHUP is reported unasked */
    for (;;) {
        int64_t left_ms = deadline_ms - monotonic_ms();
        int ready = poll(&poll_fd, 1, left_ms > 0 ? (int)left_ms : 0);
        if (ready > 0) /* POLLNVAL, if somebody closed the fd, is no hang-up */
            return (poll_fd.revents & POLLHUP) != 0;
        /* A signal must not shorten the wait: the caller may free nothing before the answer is yes. */
        if (ready == 0 || errno != EINTR)
            return false;
    }
}

static void free_all(struct rl_retired *first)
{
    while (first != NULL) {
        struct rl_retired *retired = first;
        first = retired->next;
        close(retired->witness_fd);
        retired->release(retired->argument);
        free(retired->driver);
    }
}

int rl_driver_sweep(int timeout_ms)
{
    struct rl_retired *free_first = NULL;
    struct rl_retired **link = &retired_first;
    int64_t deadline_ms = monotonic_ms() + (timeout_ms > 0 ? timeout_ms : 0);
    int held_count = 0;

    /* All are to hang up, so waiting for one after the other waits no longer than for all at once. */
    while (*link != NULL) {
        struct rl_retired *retired = *link;
        if (has_hung_up(retired, deadline_ms)) {
            *link = retired->next;
            retired->next = free_first;
            free_first = retired;
        } else {
            held_count++;
            link = &retired->next;
        }
    }
    /* Only now, with the list whole again: a release may run any code, this function included. */
    free_all(free_first);
    return held_count;
}

void rl_driver_sweep_forked(void)
{
    struct rl_retired *first = retired_first;
    retired_first = NULL;
    free_all(first);
}
