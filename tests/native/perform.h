/*
 * What the tests of executing entries share: each scenario is played twice, by rl_execute_sqe() and, where
 * this kernel gives one, by a ring, and has to see the same.
 */
#ifndef RINGLOOP_TEST_PERFORM_H
#define RINGLOOP_TEST_PERFORM_H

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "execute.h"
#include "harness.h"

#define AT(pointer) ((uint64_t)(uintptr_t)(pointer))
#define POSITION UINT64_MAX

/* ---- who executes ---- */

static rl_driver *ring;

static inline int64_t perform(struct rl_sqe sqe)
{
    if (ring == NULL)
        return rl_execute_sqe(&sqe);
    if (!ring->calls->has_opcode(ring, sqe.opcode)) {
        printf("the ring of this kernel has no opcode %d\n", sqe.opcode);
        return rl_execute_sqe(&sqe);
    }
    *queue(ring, sqe.opcode, sqe.fd, 1) = sqe;
    return await(ring).result;
}

#define PERFORM(...) perform((struct rl_sqe){__VA_ARGS__})

/* What a system call made directly says, as an entry's result. */
static inline int64_t direct(long result)
{
    return result < 0 ? -errno : result;
}

/* In a fresh folder that is the working directory. */
static inline void play(void (*scenario)(void))
{
    struct rl_ring_failure failure;
    for (int with_ring = 0; with_ring < 2; with_ring++) {
        char folder[] = "/tmp/ringloop-execute-XXXXXX", command[64];
        if (with_ring && rl_ring_probe(&failure) != 0) {
            printf("no ring to compare with: errno %d\n", failure.error);
            return;
        }
        ring = with_ring ? start_driver(8, 64) : NULL;
        CHECK(mkdtemp(folder) != NULL);
        CHECK_EQUAL(chdir(folder), 0);
        scenario();
        CHECK_EQUAL(chdir("/"), 0);
        snprintf(command, sizeof command, "rm -r %s", folder);
        CHECK_EQUAL(system(command), 0);
        if (with_ring)
            ring->calls->destroy(ring);
    }
}

/* ---- something that happens while the entry waits ---- */

struct incident {
    int waiter; /* the thread's number */
    void (*action)(int argument);
    int argument;
};

static inline char state_of_thread(int thread)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    CHECK(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return strrchr(text, ')')[2];
}

static inline void *cause(void *argument)
{
    struct incident *incident = argument;
    while (state_of_thread(incident->waiter) != 'S')
        sched_yield();
    incident->action(incident->argument);
    return NULL;
}

static inline int64_t perform_until(struct rl_sqe sqe, void (*action)(int argument), int argument)
{
    struct incident incident = {(int)syscall(SYS_gettid), action, argument};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, cause, &incident), 0);
    int64_t result = perform(sqe);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    return result;
}

static inline void write_hello(int fd)
{
    CHECK_EQUAL(write(fd, "hello", 5), 5);
}

static char drained[1 << 20];

static inline void drain(int fd)
{
    CHECK(read(fd, drained, sizeof drained) > 0);
}

/* Fills a pipe or a socket, and leaves it without O_NONBLOCK. */
static inline void fill(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    CHECK_EQUAL(fcntl(fd, F_SETFL, flags | O_NONBLOCK), 0);
    for (size_t bytes = 4096; bytes > 0; bytes /= 8)
        while (write(fd, drained, bytes) > 0)
            continue;
    CHECK_EQUAL(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
}

#endif
