/*
 * The pool of workers: every work comes back once, none waits behind one that blocks, and what blocks can be
 * cancelled.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "execute.h"
#include "pool.h"

/* ---- works ---- */

TEST(every_work_is_executed_and_comes_back_once)
{
    enum { COUNT = 100000 };
    int bell_fd = make_event();
    rl_workers *pool = make_pool(bell_fd, 8);
    struct job *jobs = calloc(COUNT, sizeof *jobs);
    CHECK(jobs != NULL);
    srand(1);
    for (uint32_t submitted = 0, done = 0; done < COUNT;) {
        for (int batch = rand() % 300; batch > 0 && submitted < COUNT; batch--)
            submit(pool, &jobs[submitted++], note, -1);
        rl_workers_publish(pool);
        rl_work *work = done < submitted && rand() % 2 ? await_done(pool, bell_fd) : rl_workers_collect(pool);
        for (; work != NULL; work = work->next, done++) {
            CHECK_EQUAL(work->result, 7);
            CHECK_EQUAL(job_of(work)->executed, 1);
            job_of(work)->executed = 0; /* a second time would be seen */
        }
    }
    CHECK_EQUAL(rl_workers_count(pool).completed, COUNT);
    destroy(pool);
    free(jobs);
    close(bell_fd);
}

TEST(works_are_collected_in_the_order_in_which_they_were_done)
{
    enum { COUNT = 20000, THREADS_MAX = 4 };
    int bell_fd = make_event();
    struct job *jobs = calloc(COUNT, sizeof *jobs);
    CHECK(jobs != NULL);
    for (uint32_t thread_count_max = 1; thread_count_max <= THREADS_MAX; thread_count_max += 3) {
        rl_workers *pool = make_pool(bell_fd, thread_count_max);
        int threads[THREADS_MAX] = {0};
        uint32_t next[THREADS_MAX] = {0};
        for (uint32_t i = 0; i < COUNT; i++) {
            submit(pool, &jobs[i], note, -1);
            if (i % 100 == 0)
                rl_workers_publish(pool);
        }
        for (uint32_t done = 0; done < COUNT;)
            for (rl_work *work = await_done(pool, bell_fd); work != NULL; work = work->next, done++) {
                uint32_t i = 0;
                while (threads[i] != 0 && threads[i] != job_of(work)->thread)
                    CHECK(++i < thread_count_max);
                threads[i] = job_of(work)->thread;
                CHECK_EQUAL(job_of(work)->order, next[i]++);
                if (thread_count_max == 1)
                    CHECK(job_of(work) == &jobs[done]);
            }
        destroy(pool);
    }
    free(jobs);
    close(bell_fd);
}

TEST(a_pool_without_work_has_no_thread)
{
    int bell_fd = make_event();
    rl_workers *pool = make_pool(bell_fd, 8);
    rl_workers_publish(pool);
    CHECK(rl_workers_collect(pool) == NULL);
    await_thread_count(0);
    destroy(pool);
    close(bell_fd);
}

TEST(threads_are_bounded_and_all_of_them_work)
{
    enum { COUNT = 64, THREADS = 4 };
    static struct job jobs[COUNT];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, THREADS);
    for (int i = 0; i < COUNT; i++)
        submit(pool, &jobs[i], take_event, gate);
    rl_workers_publish(pool);
    AWAIT(pool, c.running == THREADS);
    CHECK_EQUAL(count_threads(), THREADS);
    CHECK_EQUAL(rl_workers_count(pool).queued, COUNT - THREADS);
    open_gate(gate, COUNT);
    await_all(pool, bell_fd, COUNT);
    AWAIT(pool, c.threads_idle == THREADS);
    CHECK_EQUAL(rl_workers_count(pool).starts, THREADS);
    destroy(pool);
    await_thread_count(0);
    close(gate);
    close(bell_fd);
}

TEST(a_batch_costs_one_wake_up_where_one_thread_is_enough)
{
    enum { COUNT = 1000 };
    static struct job jobs[COUNT];
    int bell_fd = make_event();
    rl_workers *pool = make_pool(bell_fd, 1);
    for (uint64_t round = 0; round < 20; round++) {
        for (int i = 0; i < COUNT; i++)
            submit(pool, &jobs[i], note, -1);
        await_all(pool, bell_fd, COUNT);
        AWAIT(pool, c.threads_idle == 1);
        CHECK_EQUAL(rl_workers_count(pool).wakes, round);
    }
    CHECK_EQUAL(rl_workers_count(pool).starts, 1);
    destroy(pool);
    close(bell_fd);
}

TEST(the_thread_that_fell_idle_last_is_woken_first)
{
    enum { THREADS = 3 };
    struct job jobs[THREADS], next;
    int bell_fd = make_event(), gates[THREADS];
    rl_workers *pool = make_pool(bell_fd, THREADS);
    for (int i = 0; i < THREADS; i++)
        submit(pool, &jobs[i], take_event, gates[i] = make_gate());
    rl_workers_publish(pool);
    AWAIT(pool, c.running == THREADS);
    static const int ORDER[THREADS] = {1, 2, 0};
    for (uint32_t i = 0; i < THREADS; i++) {
        open_gate(gates[ORDER[i]], 1);
        AWAIT(pool, c.threads_idle == i + 1);
    }
    await_all(pool, bell_fd, THREADS);
    for (int i = 0; i < 100; i++) {
        submit(pool, &next, note, -1);
        await_all(pool, bell_fd, 1);
        CHECK_EQUAL(next.thread, jobs[0].thread);
        AWAIT(pool, c.threads_idle == THREADS);
    }
    destroy(pool);
    for (int i = 0; i < THREADS; i++)
        close(gates[i]);
    close(bell_fd);
}

TEST(idle_threads_end_and_others_come)
{
    enum { COUNT = 4 };
    struct job jobs[COUNT];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = rl_workers_create(bell_fd, COUNT, 1000000);
    for (uint64_t round = 1; round <= 10; round++) {
        for (int i = 0; i < COUNT; i++)
            submit(pool, &jobs[i], take_event, gate);
        rl_workers_publish(pool);
        AWAIT(pool, c.running == COUNT); /* none ends that has something in hand */
        open_gate(gate, COUNT);
        await_all(pool, bell_fd, COUNT);
        AWAIT(pool, c.threads == 0);
        CHECK_EQUAL(rl_workers_count(pool).threads_idle, 0);
        CHECK_EQUAL(rl_workers_count(pool).starts, round * COUNT);
    }
    /* As threads end and begin, none is lost. */
    for (int i = 0; i < ROUNDS(2000); i++) {
        submit(pool, &jobs[0], note, -1);
        await_all(pool, bell_fd, 1);
        for (int spin = rand() % 2000; i % 50 == 0 && spin > 0; spin--)
            sched_yield();
    }
    destroy(pool);
    close(gate);
    close(bell_fd);
}

/* ---- the bell ---- */

TEST(the_bell_rings_once_and_only_for_a_loop_that_sleeps)
{
    enum { COUNT = 50 };
    static struct job jobs[COUNT];
    uint64_t count;
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 2);

    for (int i = 0; i < COUNT; i++)
        submit(pool, &jobs[i], note, -1);
    rl_workers_publish(pool);
    for (uint32_t done = 0; done < COUNT; sched_yield())
        for (rl_work *work = rl_workers_collect(pool); work != NULL; work = work->next)
            done++;
    CHECK_EQUAL(rl_workers_count(pool).bells, 0);

    for (int i = 0; i < COUNT; i++)
        submit(pool, &jobs[i], take_event, gate);
    rl_workers_publish(pool);
    CHECK(rl_workers_prepare_sleep(pool));
    open_gate(gate, COUNT);
    AWAIT(pool, c.queued == 0 && c.running == 0);
    CHECK_EQUAL(rl_workers_count(pool).bells, 1);
    CHECK_EQUAL(read(bell_fd, &count, sizeof count), sizeof count);
    CHECK_EQUAL(count, 1);
    CHECK(!rl_workers_prepare_sleep(pool)); /* there is something to collect */
    await_all(pool, bell_fd, COUNT);
    destroy(pool);
    close(gate);
    close(bell_fd);
}

TEST(no_wake_up_is_lost)
{
    struct job job;
    int bell_fd = make_event();
    rl_workers *pool = make_pool(bell_fd, 2);
    srand(4);
    for (int i = 0; i < ROUNDS(50000); i++) {
        submit(pool, &job, note, -1);
        rl_workers_publish(pool);
        /* So that the work is done before, while, or after the loop goes to sleep. */
        for (volatile int spin = rand() % 20000; spin > 0; spin--)
            continue;
        await_all(pool, bell_fd, 1);
    }
    destroy(pool);
    close(bell_fd);
}

/* ---- works that block ---- */

struct blocker { /* a call that blocks until it is cancelled */
    struct rl_call_work call;
    int fds[2];
    char folder[32], path[64];
};

static void block(struct blocker *blocker, long number, uint64_t first, uint64_t second, uint64_t third)
{
    blocker->call = (struct rl_call_work){.work = {.execute = rl_execute_call, .interruptible = true},
                                          .number = number,
                                          .arguments = {first, second, third}};
}

#define ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))

static void make_blockers(struct blocker blockers[3])
{
    static char byte;
    for (int i = 0; i < 3; i++) {
        strcpy(blockers[i].folder, "/tmp/ringloop-workers-XXXXXX");
        CHECK(mkdtemp(blockers[i].folder) != NULL);
        strcpy(blockers[i].path, blockers[i].folder);
        strcat(blockers[i].path, "/file");
    }
    CHECK_EQUAL(pipe(blockers[0].fds), 0);
    block(&blockers[0], SYS_read, (uint64_t)blockers[0].fds[0], ADDRESS(&byte), 1);

    for (int i = 0; i < 2; i++)
        CHECK((blockers[1].fds[i] = open(blockers[1].path, O_RDWR | O_CREAT, 0600)) >= 0);
    CHECK_EQUAL(flock(blockers[1].fds[0], LOCK_EX), 0);
    block(&blockers[1], SYS_flock, (uint64_t)blockers[1].fds[1], LOCK_EX, 0);

    CHECK_EQUAL(mkfifo(blockers[2].path, 0600), 0);
    blockers[2].fds[0] = blockers[2].fds[1] = -1;
    block(&blockers[2], SYS_openat, (uint64_t)AT_FDCWD, ADDRESS(blockers[2].path), O_RDONLY);
}

static void end_blockers(struct blocker blockers[3])
{
    for (int i = 0; i < 3; i++) {
        unlink(blockers[i].path);
        CHECK_EQUAL(rmdir(blockers[i].folder), 0);
        close(blockers[i].fds[0]);
        close(blockers[i].fds[1]);
    }
}

TEST(what_blocks_delays_nothing_and_can_be_cancelled)
{
    enum { COUNT = 100 };
    static struct job jobs[COUNT];
    struct blocker blockers[3];
    int bell_fd = make_event();
    rl_workers *pool = make_pool(bell_fd, 4);
    for (int round = 0; round < 100; round++) {
        make_blockers(blockers);
        for (int i = 0; i < COUNT; i++) {
            if (i % 10 == 0 && i < 30)
                rl_workers_submit(pool, &blockers[i / 10].call.work);
            submit(pool, &jobs[i], note, -1);
        }
        /* All three are in front, and none has ended. */
        for (int done = 0; done < COUNT;)
            for (rl_work *work = await_done(pool, bell_fd); work != NULL; work = work->next, done++)
                CHECK_EQUAL(work->result, 7);
        AWAIT(pool, c.running == 3);
        for (int i = 0; i < 3; i++) {
            rl_work *work = &blockers[(i + round) % 3].call.work;
            CHECK_EQUAL(rl_workers_cancel(pool, work), -EALREADY);
            CHECK(await_done(pool, bell_fd) == work);
            CHECK(work->next == NULL);
            CHECK_EQUAL(work->result, -ECANCELED);
            CHECK_EQUAL(rl_workers_cancel(pool, work), -ENOENT);
        }
        end_blockers(blockers);
    }
    CHECK(rl_workers_count(pool).signals >= 300);
    destroy(pool);
    close(bell_fd);
}

TEST(a_work_that_has_not_begun_is_cancelled_at_once)
{
    struct job blocked, jobs[5];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 1);
    submit(pool, &blocked, take_event, gate);
    rl_workers_publish(pool);
    AWAIT(pool, c.running == 1);
    for (int i = 0; i < 5; i++)
        submit(pool, &jobs[i], note, -1);
    CHECK_EQUAL(rl_workers_cancel(pool, &jobs[4].work), 0); /* from the batch: last, first, in the middle */
    CHECK_EQUAL(rl_workers_cancel(pool, &jobs[0].work), 0);
    CHECK_EQUAL(rl_workers_count(pool).queued, 3);
    rl_workers_publish(pool);
    CHECK_EQUAL(rl_workers_cancel(pool, &jobs[2].work), 0); /* from the queue */
    CHECK_EQUAL(rl_workers_cancel(pool, &jobs[2].work), -ENOENT);
    CHECK_EQUAL(rl_workers_count(pool).queued, 2);
    CHECK(!rl_workers_prepare_sleep(pool));
    static const int ORDER[] = {4, 0, 2};
    rl_work *done = rl_workers_collect(pool);
    for (int i = 0; i < 3; i++, done = done->next) {
        CHECK(done == &jobs[ORDER[i]].work);
        CHECK_EQUAL(done->result, -ECANCELED);
        CHECK_EQUAL(job_of(done)->executed, 0);
    }
    CHECK(done == NULL);
    open_gate(gate, 1);
    await_all(pool, bell_fd, 3);
    CHECK_EQUAL(jobs[1].work.result + jobs[3].work.result, 14);
    destroy(pool);
    close(gate);
    close(bell_fd);
}

TEST(a_cancel_may_race_with_the_end)
{
    int64_t results[3] = {0};
    struct job job;
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 2);
    srand(2);
    for (int round = 0; round < ROUNDS(100000); round++) {
        bool blocks = rand() % 8 == 0;
        submit(pool, &job, blocks ? take_event : note, gate);
        if (rand() % 16 != 0)
            rl_workers_publish(pool);
        for (volatile int spin = rand() % 20000; spin > 0; spin--)
            continue;
        bool opened = blocks && rand() % 2;
        if (opened)
            open_gate(gate, 1);
        int error = rl_workers_cancel(pool, &job.work);
        CHECK(await_done(pool, bell_fd) == &job.work);
        CHECK(job.work.next == NULL);
        bool cancelled = job.work.result == -ECANCELED;
        CHECK(cancelled || job.work.result == (blocks ? 8 : 7));
        CHECK_EQUAL(job.executed, error != 0);
        CHECK(error == -EALREADY || cancelled == (error == 0));
        CHECK(error == 0 || error == -EALREADY || error == -ENOENT);
        if (opened && cancelled)
            CHECK_EQUAL(take_event(&job.work), 8);
        results[error == 0 ? 0 : error == -EALREADY ? 1 : 2]++;
    }
    printf("not begun %lld, running %lld, done %lld\n", (long long)results[0], (long long)results[1],
           (long long)results[2]);
    CHECK(results[0] > 0 && results[1] > 0 && results[2] > 0);
    destroy(pool);
    close(gate);
    close(bell_fd);
}

/* One thread: what follows a cancelled work is executed where the signals went. */
TEST(a_signal_never_reaches_the_next_work)
{
    struct job victim, next;
    int bell_fd = make_event(), gate = make_gate(), other_gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 1);
    srand(3);
    for (int round = 0; round < ROUNDS(20000); round++) {
        submit(pool, &victim, take_event, gate);
        submit(pool, &next, take_event, other_gate);
        rl_workers_publish(pool);
        AWAIT(pool, c.running == 1 && c.queued == 1);
        for (volatile int spin = rand() % 3000; spin > 0; spin--)
            continue;
        CHECK_EQUAL(rl_workers_cancel(pool, &victim.work), -EALREADY);
        CHECK(await_done(pool, bell_fd) == &victim.work);
        CHECK_EQUAL(victim.work.result, -ECANCELED);
        for (volatile int spin = rand() % 20000; spin > 0; spin--)
            continue;
        open_gate(other_gate, 1);
        CHECK(await_done(pool, bell_fd) == &next.work);
        CHECK_EQUAL(next.work.result, 8);
    }
    destroy(pool);
    close(gate);
    close(other_gate);
    close(bell_fd);
}

static int64_t answer_the_tenth(rl_work *work)
{
    uint64_t count;
    for (int i = 0; i < 10; i++) {
        CHECK_EQUAL(read(job_of(work)->fd, &count, sizeof count), -1);
        CHECK_EQUAL(errno, EINTR);
    }
    return -EINTR;
}

TEST(signals_are_sent_until_they_are_answered)
{
    struct job jobs[3];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 3);
    for (int i = 0; i < 3; i++)
        submit(pool, &jobs[i], answer_the_tenth, gate);
    rl_workers_publish(pool);
    AWAIT(pool, c.running == 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(rl_workers_cancel(pool, &jobs[i].work), -EALREADY);
        CHECK_EQUAL(rl_workers_cancel(pool, &jobs[i].work), -EALREADY);
    }
    await_all(pool, bell_fd, 3);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(jobs[i].work.result, -ECANCELED);
    CHECK(rl_workers_count(pool).signals >= 30);
    while (count_threads() != 3) /* who sent them has ended */
        sched_yield();
    destroy(pool);
    close(gate);
    close(bell_fd);
}

TEST(what_cannot_be_interrupted_is_not)
{
    struct job job;
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_pool(bell_fd, 1);
    submit(pool, &job, take_event, gate);
    job.work.interruptible = false;
    rl_workers_publish(pool);
    AWAIT(pool, c.running == 1);
    CHECK_EQUAL(rl_workers_cancel(pool, &job.work), -EALREADY);
    CHECK_EQUAL(rl_workers_count(pool).signals, 0);
    open_gate(gate, 1);
    await_all(pool, bell_fd, 1);
    CHECK_EQUAL(job.work.result, 8);
    destroy(pool);
    close(gate);
    close(bell_fd);
}
