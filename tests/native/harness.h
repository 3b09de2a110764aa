/*
 * What the test programs of the native layer share. Each program holds behaviours, TEST(name), and runs the
 * one that its argument names; test_native.py compiles the programs and runs every behaviour by itself.
 *
 * A behaviour fails by a CHECK that does not hold, by a signal (sanitizers, ENSURE), or by leaving a file
 * descriptor or an abandoned driver behind.
 */
#ifndef RINGLOOP_TEST_HARNESS_H
#define RINGLOOP_TEST_HARNESS_H

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ring.h"

#define CHECK(condition)                                                                             \
    do {                                                                                             \
        if (!(condition)) {                                                                          \
            fprintf(stderr, "%s:%d: false: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
            fflush(stderr);                                                                          \
            _exit(1);                                                                                \
        }                                                                                            \
    } while (0)

/* Two integers that must be equal; a failure shows both. */
#define CHECK_EQUAL(found, expected)                                                                 \
    do {                                                                                             \
        long long found_ = (long long)(found), expected_ = (long long)(expected);                    \
        if (found_ != expected_) {                                                                   \
            fprintf(stderr, "%s:%d: %s is %lld, not %s, %lld\n", __FILE__, __LINE__, #found, found_, \
                    #expected, expected_);                                                           \
            fflush(stderr);                                                                          \
            _exit(1);                                                                                \
        }                                                                                            \
    } while (0)

/* The thread sanitizer sees a race by what is not ordered, whether or not it happens: a few rounds do. */
#ifdef __SANITIZE_THREAD__
#define ROUNDS(count) ((count) / 20)
#else
#define ROUNDS(count) (count)
#endif

struct behaviour {
    const char *name;
    void (*run)(void);
    struct behaviour *next;
};

static struct behaviour *behaviours;

#define TEST(name)                                                  \
    static void name(void);                                         \
    static struct behaviour behaviour_##name = {#name, name, NULL}; \
    __attribute__((constructor)) static void add_##name(void)       \
    {                                                               \
        behaviour_##name.next = behaviours;                         \
        behaviours = &behaviour_##name;                             \
    }                                                               \
    static void name(void)

/* ---- drivers ---- */

static inline rl_driver *make_driver(uint32_t sq_entries, uint32_t cq_entries)
{
    struct rl_ring_failure failure;
    rl_driver *driver = rl_ring_create(sq_entries, cq_entries, &failure);
    if (driver == NULL) {
        fprintf(stderr, "no ring: %s failed, errno %d, cause %d\n", failure.call, failure.error,
                (int)failure.cause);
        _exit(1);
    }
    return driver;
}

/* A driver that runs on the calling thread. */
static inline rl_driver *start_driver(uint32_t sq_entries, uint32_t cq_entries)
{
    rl_driver *driver = make_driver(sq_entries, cq_entries);
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    return driver;
}

static inline struct rl_sqe *queue(rl_driver *driver, uint8_t opcode, int fd, uint64_t user_data)
{
    struct rl_sqe *sqe = rl_driver_sqe(driver);
    if (sqe == NULL) {
        CHECK_EQUAL(driver->calls->enter(driver, 0, 0), 0);
        sqe = rl_driver_sqe(driver);
    }
    CHECK(sqe != NULL);
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->user_data = user_data;
    return sqe;
}

static inline void queue_poll(rl_driver *driver, int fd, uint64_t user_data)
{
    queue(driver, RL_OP_POLL_ADD, fd, user_data)->op_flags = POLLIN;
}

static inline void enter(rl_driver *driver, uint32_t wait_count, int64_t timeout_ns)
{
    CHECK_EQUAL(driver->calls->enter(driver, wait_count, timeout_ns), 0);
}

static inline uint32_t ready_count(const rl_driver *driver)
{
    return __atomic_load_n(driver->cq_tail, __ATOMIC_ACQUIRE) - *driver->cq_head;
}

/* The oldest completion, consumed. There must be one. */
static inline struct rl_cqe take(rl_driver *driver)
{
    const struct rl_cqe *cqe = rl_driver_completion(driver);
    CHECK(cqe != NULL);
    struct rl_cqe copy = *cqe;
    rl_driver_consumed(driver);
    return copy;
}

/* The next completion, waited for. */
static inline struct rl_cqe await(rl_driver *driver)
{
    while (rl_driver_completion(driver) == NULL)
        enter(driver, 1, RL_WAIT_FOREVER);
    return take(driver);
}

/* ---- the rest ---- */

static inline int64_t now_ns(void)
{
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int make_event(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(fd >= 0);
    return fd;
}

static inline void set_event(int fd)
{
    uint64_t one = 1;
    CHECK_EQUAL(write(fd, &one, sizeof one), sizeof one);
}

static inline void make_pair(int fds[2])
{
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

/* Runs `body` in a forked child. Its CHECKs are this process' CHECKs. */
static inline void in_child(void (*body)(void *argument), void *argument)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        body(argument);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

static inline int count_fds(void)
{
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* Frees what was abandoned, which the kernel must let go of within some seconds. */
static inline void sweep_all(void)
{
    CHECK_EQUAL(rl_driver_sweep(10000), 0);
}

int main(int argc, char **argv)
{
    for (struct behaviour *behaviour = behaviours; behaviour != NULL; behaviour = behaviour->next) {
        if (argc != 2 || strcmp(argv[1], behaviour->name) != 0)
            continue;
        int fds_before = count_fds();
        behaviour->run();
        sweep_all();
        CHECK_EQUAL(count_fds(), fds_before);
        return 0;
    }
    fprintf(stderr, "usage: %s BEHAVIOUR\n", argv[0]);
    for (struct behaviour *behaviour = behaviours; behaviour != NULL; behaviour = behaviour->next)
        fprintf(stderr, "    %s\n", behaviour->name);
    return 2;
}

#endif
