/*
 * What the tests of pools of workers share: works, and a loop that waits for them.
 */
#ifndef RINGLOOP_TEST_POOL_H
#define RINGLOOP_TEST_POOL_H

#include <sched.h>
#include <sys/syscall.h>

#include "harness.h"
#include "workers.h"

static const int64_t LONG_NS = INT64_C(60000000000);

struct job { /* what most of the tests submit */
    rl_work work;
    int fd;
    uint32_t executed;
    int thread; /* that executed it */
    uint32_t order;
};

static inline struct job *job_of(rl_work *work)
{
    return (struct job *)work; /* `work` is its first member */
}

static inline int thread_number(void)
{
    return (int)syscall(SYS_gettid);
}

/* Threads of pools, by their names: a sanitizer may have one of its own. */
static inline int count_threads(void)
{
    char path[300], name[16];
    int count = 0;
    DIR *directory = opendir("/proc/self/task");
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "r"); /* it may have ended meanwhile */
        count += file != NULL && fgets(name, sizeof name, file) != NULL && strncmp(name, "ringloop-", 9) == 0;
        if (file != NULL)
            fclose(file);
    }
    closedir(directory);
    return count;
}

/* A thread that was joined is in /proc for a moment longer. */
static inline void await_thread_count(int count)
{
    while (count_threads() != count)
        sched_yield();
}

/* ---- what is executed ---- */

static __thread uint32_t executed_here; /* by this thread of the pool */

static inline int64_t note(rl_work *work)
{
    struct job *job = job_of(work);
    __atomic_add_fetch(&job->executed, 1, __ATOMIC_RELAXED);
    job->thread = thread_number();
    job->order = executed_here++;
    return 7;
}

/* Takes an event, waiting for it: an eventfd without O_NONBLOCK. */
static inline int64_t take_event(rl_work *work)
{
    uint64_t count;
    note(work);
    ssize_t result = read(job_of(work)->fd, &count, sizeof count);
    return result < 0 ? -errno : result;
}

static inline int make_gate(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
    CHECK(fd >= 0);
    return fd;
}

static inline void open_gate(int fd, uint64_t count)
{
    CHECK_EQUAL(write(fd, &count, sizeof count), sizeof count);
}

/* ---- the loop's part ---- */

static inline rl_workers *make_pool(int bell_fd, uint32_t thread_count_max)
{
    rl_workers *pool = rl_workers_create(bell_fd, thread_count_max, LONG_NS);
    CHECK(pool != NULL);
    return pool;
}

static inline void submit(rl_workers *pool, struct job *job, int64_t (*execute)(rl_work *work), int fd)
{
    *job = (struct job){.work = {.execute = execute, .interruptible = true, .owner = pool}, .fd = fd};
    rl_workers_submit(pool, &job->work);
}

/* Sleeps, as a loop does, until something is done. */
static inline rl_work *await_done(rl_workers *pool, int bell_fd)
{
    uint64_t count;
    rl_work *done;
    rl_workers_publish(pool);
    while ((done = rl_workers_collect(pool)) == NULL) {
        struct pollfd bell = {.fd = bell_fd, .events = POLLIN};
        if (rl_workers_prepare_sleep(pool))
            CHECK_EQUAL(poll(&bell, 1, -1), 1);
        rl_workers_awake(pool);
        if (read(bell_fd, &count, sizeof count) < 0)
            CHECK_EQUAL(errno, EAGAIN);
    }
    return done;
}

static inline void await_all(rl_workers *pool, int bell_fd, uint32_t job_count)
{
    while (job_count > 0)
        for (rl_work *work = await_done(pool, bell_fd); work != NULL; work = work->next) {
            CHECK(job_count > 0);
            CHECK(work->owner == pool);
            job_count--;
        }
}

#define AWAIT(pool, condition)                                                                            \
    for (struct rl_workers_counters c = rl_workers_count(pool); !(condition); c = rl_workers_count(pool)) \
    sched_yield()

static inline void destroy(rl_workers *pool)
{
    CHECK(rl_workers_destroy(pool) == NULL);
}

#endif
