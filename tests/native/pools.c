/*
 * Pools of workers come and go: with work in them, over a fork, where there are no threads to be had, and
 * among the signals of a process.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "pool.h"

/* ---- the end ---- */

TEST(destroying_ends_what_is_blocked_and_what_is_queued)
{
    enum { COUNT = 20, THREADS = 3 };
    struct job jobs[COUNT];
    int bell_fd = make_event(), gate = make_gate();
    for (int round = 0; round < ROUNDS(200); round++) {
        rl_workers *pool = make_pool(bell_fd, THREADS);
        for (int i = 0; i < COUNT; i++) {
            submit(pool, &jobs[i], take_event, gate);
            if (i == COUNT / 2)
                rl_workers_publish(pool);
        }
        if (round % 2)
            AWAIT(pool, c.running == THREADS);
        int done = 0, executed = 0;
        for (rl_work *work = rl_workers_destroy(pool); work != NULL; work = work->next, done++) {
            CHECK_EQUAL(work->result, -ECANCELED);
            executed += (int)job_of(work)->executed;
        }
        CHECK_EQUAL(done, COUNT);
        CHECK(round % 2 ? executed == THREADS : executed <= THREADS);
        await_thread_count(0);
    }
    close(gate);
    close(bell_fd);
}

static int gate_of_the_stubborn;

static int64_t release_the_stubborn(rl_work *work)
{
    int64_t result = take_event(work);
    open_gate(gate_of_the_stubborn, 1);
    return result;
}

TEST(destroying_waits_for_what_cannot_be_interrupted)
{
    struct job stubborn, other;
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 2);
    gate_of_the_stubborn = make_gate();
    submit(pool, &stubborn, take_event, gate_of_the_stubborn);
    stubborn.work.interruptible = false;
    submit(pool, &other, release_the_stubborn, gate);
    rl_workers_publish(pool);
    AWAIT(pool, c.running == 2);
    CHECK_EQUAL(rl_workers_cancel(pool, &stubborn.work), -EALREADY);
    rl_work *done = rl_workers_destroy(pool);
    CHECK(done != NULL && done->next != NULL && done->next->next == NULL);
    CHECK_EQUAL(stubborn.work.result, 8);
    CHECK_EQUAL(other.work.result, -ECANCELED);
    close(gate);
    close(gate_of_the_stubborn);
    close(bell_fd);
}

TEST(destroying_gives_back_what_was_not_collected)
{
    enum { COUNT = 100 };
    static struct job jobs[COUNT];
    int bell_fd = make_event(), done = 0;
    rl_workers *pool = make_pool(bell_fd, 1);
    for (int i = 0; i < COUNT; i++)
        submit(pool, &jobs[i], note, -1);
    rl_workers_publish(pool);
    AWAIT(pool, c.threads_idle == 1);
    for (rl_work *work = rl_workers_destroy(pool); work != NULL; work = work->next, done++) {
        CHECK_EQUAL(work->result, 7);
        CHECK(job_of(work) == &jobs[done]);
    }
    CHECK_EQUAL(done, COUNT);
    close(bell_fd);
}

TEST(pools_come_and_go_by_the_hundred)
{
    static struct job jobs[10];
    int bell_fd = make_event();
    for (int round = 0; round < ROUNDS(500); round++) {
        rl_workers *pool = make_pool(bell_fd, 4);
        for (int i = 0; i < 10; i++)
            submit(pool, &jobs[i], note, -1);
        await_all(pool, bell_fd, 10);
        destroy(pool);
        await_thread_count(0);
    }
    close(bell_fd);
}

/* ---- fork ---- */

static void forget(void *argument)
{
    static struct job jobs[100];
    int bell_fd = make_event();
    rl_workers_forked(argument);
    rl_workers *pool = make_pool(bell_fd, 4); /* the child's own */
    await_thread_count(0);
    for (int i = 0; i < 100; i++)
        submit(pool, &jobs[i], note, -1);
    await_all(pool, bell_fd, 100);
    destroy(pool);
    close(bell_fd);
}

TEST(a_forked_child_frees_the_pool_whatever_its_threads_were_doing)
{
    enum { COUNT = 2000 };
    static struct job jobs[COUNT];
    struct job blocked, others[2];
    int bell_fd = make_event(), gate = make_gate(), gate_of_others = make_gate();
    rl_workers *pool = make_pool(bell_fd, 3);
    submit(pool, &blocked, take_event, gate);
    for (int i = 0; i < 2; i++)
        submit(pool, &others[i], take_event, gate_of_others);
    rl_workers_publish(pool);
    /* A fork while a thread starts may leave the sanitizer's own allocator locked in the child (GCC 12). */
    AWAIT(pool, c.running == 3);
    open_gate(gate_of_others, 2);
    await_all(pool, bell_fd, 2);
    for (int round = 0; round < 30; round++) {
        for (int i = 0; i < COUNT; i++)
            submit(pool, &jobs[i], note, -1);
        rl_workers_publish(pool);
        in_child(forget, pool); /* the lock may be somebody's */
        await_all(pool, bell_fd, COUNT);
    }
    CHECK_EQUAL(rl_workers_cancel(pool, &blocked.work), -EALREADY);
    await_all(pool, bell_fd, 1);
    destroy(pool);
    close(gate);
    close(gate_of_others);
    close(bell_fd);
}

/* ---- no thread to be had ---- */

enum { ORDINARY_USER = 65534 };

static void limit_threads(rlim_t count)
{
    struct rlimit limit;
    CHECK_EQUAL(getrlimit(RLIMIT_NPROC, &limit), 0);
    limit.rlim_cur = count < limit.rlim_max ? count : limit.rlim_max;
    CHECK_EQUAL(setrlimit(RLIMIT_NPROC, &limit), 0);
}

/* Who may pass the limits is no test for them. */
static void become_ordinary(void)
{
    if (geteuid() == 0)
        CHECK_EQUAL(setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER), 0);
}

static void work_without_threads(void *argument)
{
    struct job jobs[10];
    int bell_fd = make_event();
    (void)argument;
    become_ordinary();
    rl_workers *pool = make_pool(bell_fd, 4);
    for (int round = 0; round < 3; round++) {
        limit_threads(0);
        for (int i = 0; i < 10; i++)
            submit(pool, &jobs[i], note, -1);
        rl_workers_publish(pool);
        rl_work *work = rl_workers_collect(pool);
        for (int i = 0; i < 10; i++, work = work->next) {
            CHECK(job_of(work) == &jobs[i]);
            CHECK_EQUAL(work->result, -EAGAIN);
            CHECK_EQUAL(jobs[i].executed, 0);
        }
        CHECK(work == NULL);
    }
    CHECK_EQUAL(rl_workers_count(pool).threads, 0);
    limit_threads(RLIM_INFINITY);
    submit(pool, &jobs[0], note, -1);
    await_all(pool, bell_fd, 1);
    CHECK_EQUAL(jobs[0].work.result, 7);
    destroy(pool);
    close(bell_fd);
}

static void work_with_one_thread(void *argument)
{
    enum { COUNT = 100 };
    static struct job jobs[COUNT];
    struct job blocked;
    int bell_fd = make_event(), gate = make_gate();
    (void)argument;
    become_ordinary();
    rl_workers *pool = make_pool(bell_fd, 4);
    submit(pool, &blocked, take_event, gate);
    rl_workers_publish(pool);
    AWAIT(pool, c.running == 1);
    limit_threads(0);
    for (int i = 0; i < COUNT; i++)
        submit(pool, &jobs[i], note, -1);
    rl_workers_publish(pool);
    CHECK(rl_workers_collect(pool) == NULL);
    /* Nor is there one to send signals again: the loop does that with every pass. */
    CHECK_EQUAL(rl_workers_cancel(pool, &blocked.work), -EALREADY);
    rl_work *done;
    while ((done = rl_workers_collect(pool)) == NULL)
        rl_workers_publish(pool);
    CHECK(done == &blocked.work);
    CHECK_EQUAL(blocked.work.result, -ECANCELED);
    uint32_t left = COUNT;
    for (rl_work *work = done->next; work != NULL; work = work->next)
        left--;
    await_all(pool, bell_fd, left);
    CHECK_EQUAL(rl_workers_count(pool).starts, 1);
    destroy(pool);
    close(gate);
    close(bell_fd);
}

TEST(without_any_thread_works_fail_and_without_more_they_queue)
{
    in_child(work_without_threads, NULL);
    in_child(work_with_one_thread, NULL);
}

/* ---- signals of the process ---- */

static int64_t tell_of_the_thread(rl_work *work)
{
    char name[16];
    sigset_t mask;
    int blocked = 0;
    CHECK_EQUAL(prctl(PR_GET_NAME, name), 0);
    CHECK(strcmp(name, "ringloop-worker") == 0);
    CHECK_EQUAL(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    for (int number = 1; number <= SIGRTMAX; number++)
        if (number < 32 || number >= SIGRTMIN) /* what is between is the C library's */
            blocked += sigismember(&mask, number) == 1;
    CHECK_EQUAL(sigismember(&mask, SIGSEGV), 0);
    CHECK_EQUAL(sigismember(&mask, SIGINT), 1);
    CHECK_EQUAL(sigismember(&mask, SIGCHLD), 1);
    CHECK_EQUAL(sigismember(&mask, job_of(work)->fd), 0);
    return blocked;
}

static volatile sig_atomic_t foreign_signals;

static void count_foreign(int number)
{
    (void)number;
    foreign_signals++;
}

TEST(a_thread_takes_one_signal_and_that_of_nobody_else)
{
    struct sigaction theirs = {.sa_handler = count_foreign}, found;
    struct job job;
    int bell_fd = make_event(), gate = make_gate(), number = SIGRTMAX - 7;
    rl_workers *pool = make_pool(bell_fd, 1);
    CHECK_EQUAL(sigaction(SIGRTMAX - 5, &theirs, NULL), 0);
    CHECK(signal(SIGRTMAX - 6, SIG_IGN) != SIG_ERR);
    submit(pool, &job, tell_of_the_thread, number);
    await_all(pool, bell_fd, 1);
    /* All but the reserved one, six faults, and the two that cannot be blocked. */
    CHECK_EQUAL(job.work.result, 31 + SIGRTMAX - SIGRTMIN + 1 - 1 - 6 - 2);

    for (int round = 0; round < 2; round++) {
        submit(pool, &job, take_event, gate);
        rl_workers_publish(pool);
        AWAIT(pool, c.queued == 0);
        CHECK_EQUAL(sigaction(number, NULL, &found), 0);
        CHECK(found.sa_handler != SIG_DFL);
        CHECK_EQUAL(found.sa_flags & SA_RESTART, 0);
        CHECK(signal(number, SIG_DFL) != SIG_ERR); /* as if a program put back all that it finds */
        CHECK_EQUAL(rl_workers_cancel(pool, &job.work), -EALREADY);
        await_all(pool, bell_fd, 1);
        CHECK_EQUAL(job.work.result, -ECANCELED);
    }
    CHECK_EQUAL(foreign_signals, 0);
    CHECK_EQUAL(sigaction(SIGRTMAX - 5, NULL, &found), 0);
    CHECK(found.sa_handler == count_foreign);
    destroy(pool);
    close(gate);
    close(bell_fd);
}
