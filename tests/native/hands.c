/*
 * Works that can begin: one thread takes several of them, begins with all before it executes one, and leaves
 * to others what could not begin. And reads of files, which are such works.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stddef.h>

#include "execute.h"
#include "pool.h"
#include "reading.h"

enum { HAND = 4 }; /* as many as a thread takes */

struct step {
    const struct job *job;
    bool is_begin;
    int thread;
};

static struct step steps[4096];
static uint32_t step_count;

static void log_step(rl_work *work, bool is_begin)
{
    steps[__atomic_fetch_add(&step_count, 1, __ATOMIC_RELAXED)] =
        (struct step){job_of(work), is_begin, thread_number()};
}

static int64_t begin(rl_work *work)
{
    log_step(work, true);
    return RL_WORK_BEGUN;
}

static int64_t begin_in_vain(rl_work *work)
{
    log_step(work, true);
    return RL_WORK_NOT_BEGUN;
}

static int64_t begin_and_end(rl_work *work)
{
    log_step(work, true);
    return 9;
}

static int64_t execute(rl_work *work)
{
    log_step(work, false);
    return note(work);
}

/* Blocks until the gate opens. */
static int64_t execute_behind_gate(rl_work *work)
{
    log_step(work, false);
    return take_event(work);
}

static void submit_one(rl_workers *pool, struct job *job, int64_t (*begins)(rl_work *),
                       int64_t (*executes)(rl_work *), int fd)
{
    *job = (struct job){.work = {.execute = executes, .begin = begins, .owner = pool}, .fd = fd};
    rl_workers_submit(pool, &job->work);
}

/* A pool whose threads are all kept busy until that gate opens, so that a queue forms. */
static rl_workers *make_busy_pool(int bell_fd, uint32_t thread_count, struct job *keepers, int gate)
{
    rl_workers *pool = make_pool(bell_fd, thread_count);
    for (uint32_t i = 0; i < thread_count; i++)
        submit(pool, &keepers[i], take_event, gate);
    rl_workers_publish(pool);
    AWAIT(pool, c.running == thread_count);
    step_count = 0;
    return pool;
}

/* Lets what is queued in that pool begin, by one thread that was kept busy; waits for so many works. */
static void let_go(rl_workers *pool, int bell_fd, int gate, uint32_t job_count)
{
    rl_workers_publish(pool);
    open_gate(gate, 1);
    await_all(pool, bell_fd, job_count);
}

static void end_pool(rl_workers *pool, int bell_fd, int gate)
{
    destroy(pool);
    close(gate);
    close(bell_fd);
}

static void check_step(uint32_t number, const struct job *job, bool is_begin)
{
    CHECK(number < step_count);
    CHECK(steps[number].job == job);
    CHECK_EQUAL(steps[number].is_begin, is_begin);
}

TEST(a_thread_begins_with_several_before_it_executes_one)
{
    enum { COUNT = 2 * HAND + 1 };
    struct job keeper, jobs[COUNT];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_busy_pool(bell_fd, 1, &keeper, gate);
    for (int i = 0; i < COUNT; i++)
        submit_one(pool, &jobs[i], begin, execute, -1);
    let_go(pool, bell_fd, gate, COUNT + 1);
    uint32_t number = 0;
    for (int first = 0; first < 2 * HAND; first += HAND) {
        for (int i = first; i < first + HAND; i++)
            check_step(number++, &jobs[i], true);
        for (int i = first; i < first + HAND; i++)
            check_step(number++, &jobs[i], false);
    }
    check_step(number++, &jobs[COUNT - 1], false); /* alone, it only has to be executed */
    CHECK_EQUAL(step_count, number);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQUAL(jobs[i].work.result, 7);
    AWAIT(pool, c.running == 0);
    end_pool(pool, bell_fd, gate);
}

TEST(what_has_no_beginning_is_taken_alone)
{
    struct job keeper, jobs[5];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_busy_pool(bell_fd, 1, &keeper, gate);
    for (int i = 0; i < 5; i++)
        submit_one(pool, &jobs[i], i == 1 || i == 4 ? NULL : begin, execute, -1);
    let_go(pool, bell_fd, gate, 6);
    check_step(0, &jobs[0], false);
    check_step(1, &jobs[1], false);
    check_step(2, &jobs[2], true);
    check_step(3, &jobs[3], true);
    check_step(4, &jobs[2], false);
    check_step(5, &jobs[3], false);
    check_step(6, &jobs[4], false);
    CHECK_EQUAL(step_count, 7);
    end_pool(pool, bell_fd, gate);
}

TEST(what_is_over_with_its_beginning_is_not_executed)
{
    struct job keeper, jobs[3];
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_busy_pool(bell_fd, 1, &keeper, gate);
    submit_one(pool, &jobs[0], begin, execute_behind_gate, gate);
    submit_one(pool, &jobs[1], begin_and_end, execute, -1);
    submit_one(pool, &jobs[2], begin_and_end, execute, -1);
    let_go(pool, bell_fd, gate, 3); /* all but the first, which is executed last */
    CHECK_EQUAL(jobs[1].work.result, 9);
    CHECK_EQUAL(jobs[2].work.result, 9);
    CHECK_EQUAL(jobs[1].executed + jobs[2].executed, 0);
    CHECK_EQUAL(rl_workers_cancel(pool, &jobs[0].work), -EALREADY); /* and it is not interrupted */
    CHECK_EQUAL(rl_workers_count(pool).signals, 0);
    open_gate(gate, 1);
    await_all(pool, bell_fd, 1);
    CHECK_EQUAL(jobs[0].work.result, 8);
    end_pool(pool, bell_fd, gate);
}

TEST(what_could_not_begin_is_shared_among_threads)
{
    struct job keepers[HAND], jobs[HAND];
    int bell_fd = make_event(), gate = make_gate(), other_gate = make_gate();
    rl_workers *pool = make_busy_pool(bell_fd, HAND, keepers, gate);
    for (int i = 0; i < HAND; i++)
        submit_one(pool, &jobs[i], begin_in_vain, execute_behind_gate, other_gate);
    rl_workers_publish(pool);
    open_gate(gate, HAND); /* one thread takes all four; three go back, and three more threads have them */
    await_all(pool, bell_fd, HAND);
    for (int i = 0; i < HAND; i++)
        while (__atomic_load_n(&jobs[i].executed, __ATOMIC_RELAXED) == 0)
            sched_yield();
    CHECK_EQUAL(rl_workers_count(pool).running, HAND);
    open_gate(other_gate, HAND);
    await_all(pool, bell_fd, HAND);
    for (int i = 0; i < HAND; i++) {
        CHECK_EQUAL(jobs[i].work.result, 8);
        for (int j = 0; j < i; j++)
            CHECK(jobs[i].thread != jobs[j].thread);
    }
    end_pool(pool, bell_fd, gate);
    close(other_gate);
}

TEST(what_went_back_is_before_what_came_later_and_can_be_cancelled)
{
    struct job keeper, jobs[HAND], last;
    int bell_fd = make_event(), gate = make_gate();
    rl_workers *pool = make_busy_pool(bell_fd, 1, &keeper, gate);
    for (int i = 0; i < HAND; i++)
        submit_one(pool, &jobs[i], begin_in_vain, i == 0 ? execute_behind_gate : execute, gate);
    submit_one(pool, &last, NULL, execute, -1);
    let_go(pool, bell_fd, gate, 1);
    AWAIT(pool, c.running == 1 && c.queued == HAND);
    CHECK_EQUAL(rl_workers_cancel(pool, &jobs[2].work), 0);
    CHECK_EQUAL(rl_workers_count(pool).queued, HAND - 1);
    await_all(pool, bell_fd, 1);
    CHECK_EQUAL(jobs[2].work.result, -ECANCELED);
    open_gate(gate, 1);
    await_all(pool, bell_fd, HAND);
    uint32_t number = HAND; /* the beginnings */
    check_step(number++, &jobs[0], false);
    check_step(number++, &jobs[1], false);
    check_step(number++, &jobs[3], false);
    check_step(number++, &last, false);
    CHECK_EQUAL(step_count, number);
    end_pool(pool, bell_fd, gate);
}

TEST(destroying_gives_back_a_whole_hand)
{
    struct job keeper, jobs[HAND];
    int bell_fd = make_event(), gate = make_gate();
    for (int round = 0; round < ROUNDS(200); round++) {
        rl_workers *pool = make_busy_pool(bell_fd, 1, &keeper, gate);
        for (int i = 0; i < HAND; i++)
            submit_one(pool, &jobs[i], i % 2 ? begin_in_vain : begin, execute, -1);
        rl_workers_publish(pool);
        open_gate(gate, 1);
        uint32_t count = 0;
        for (rl_work *work = rl_workers_destroy(pool); work != NULL; work = work->next, count++)
            if (work != &keeper.work)
                CHECK(work->result == 7 || (work->result == -ECANCELED && job_of(work)->executed == 0));
        CHECK_EQUAL(count, HAND + 1);
        uint64_t event;
        while (poll(&(struct pollfd){.fd = gate, .events = POLLIN}, 1, 0) == 1)
            CHECK_EQUAL(read(gate, &event, sizeof event), sizeof event);
    }
    close(gate);
    close(bell_fd);
}

static int64_t begin_by_chance(rl_work *work)
{
    static const int64_t WAYS[] = {RL_WORK_BEGUN, RL_WORK_NOT_BEGUN, 9};
    return WAYS[job_of(work)->order % 3];
}

static int64_t execute_by_chance(rl_work *work)
{
    __atomic_add_fetch(&job_of(work)->executed, 1, __ATOMIC_RELAXED);
    return 7;
}

TEST(every_work_comes_back_once_however_it_begins)
{
    enum { COUNT = 20000 };
    int bell_fd = make_event();
    rl_workers *pool = make_pool(bell_fd, 5);
    struct job *jobs = calloc(COUNT, sizeof *jobs);
    CHECK(jobs != NULL);
    srand(3);
    uint32_t submitted = 0, done = 0;
    while (done < COUNT) {
        for (int batch = rand() % 40; batch > 0 && submitted < COUNT; batch--) {
            struct job *job = &jobs[submitted++];
            submit_one(pool, job, rand() % 5 ? begin_by_chance : NULL, execute_by_chance, -1);
            job->order = (uint32_t)rand();
            if (rand() % 10 == 0)
                rl_workers_cancel(pool, &jobs[(uint32_t)rand() % submitted].work);
        }
        rl_workers_publish(pool);
        rl_work *work = done < submitted && rand() % 2 ? await_done(pool, bell_fd) : rl_workers_collect(pool);
        for (; work != NULL; work = work->next, done++) {
            CHECK_EQUAL(job_of(work)->executed, work->result == 7);
            CHECK(work->result == 7 || work->result == 9 || work->result == -ECANCELED);
            job_of(work)->executed = 100; /* a second time would be seen */
        }
    }
    AWAIT(pool, c.running == 0);
    CHECK_EQUAL(rl_workers_count(pool).queued, 0);
    destroy(pool);
    free(jobs);
    close(bell_fd);
}

/* ---- reads ---- */

enum { PAGES = 64, PAGE_BYTES = 4096 };

static int make_file(void)
{
    char name[] = "/var/tmp/ringloop-hands-XXXXXX", page[PAGE_BYTES];
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK_EQUAL(unlink(name), 0);
    for (int i = 0; i < PAGES; i++) {
        memset(page, 'a' + i % 26, sizeof page);
        CHECK_EQUAL(write(fd, page, sizeof page), sizeof page);
    }
    CHECK_EQUAL(write(fd, "end", 3), 3);
    CHECK_EQUAL(fdatasync(fd), 0);
    return fd;
}

static struct rl_sqe_work reads(int fd, void *memory, uint32_t length, uint64_t offset)
{
    return (struct rl_sqe_work){.work = {.execute = rl_execute_sqe_work, .begin = rl_reading_begin},
                                .sqe = {.opcode = RL_OP_READ,
                                        .flags = RL_SQE_ASYNC,
                                        .fd = fd,
                                        .address = (uint64_t)(uintptr_t)memory,
                                        .length = length,
                                        .offset = offset}};
}

/* As a thread does it with a work that is not alone. */
static int64_t begin_and_execute(struct rl_sqe_work *read)
{
    int64_t result = rl_reading_begin(&read->work);
    return result == RL_WORK_BEGUN || result == RL_WORK_NOT_BEGUN ? rl_execute_sqe_work(&read->work) : result;
}

TEST(a_read_that_was_begun_reads_the_same)
{
    char memory[3 * PAGE_BYTES];
    int fd = make_file();
    for (int round = 0; round < 3 * PAGES; round++) {
        if (round % 3 != 0)
            CHECK_EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        struct rl_sqe_work read = reads(fd, memory, PAGE_BYTES, (uint64_t)(round % PAGES) * PAGE_BYTES);
        CHECK_EQUAL(begin_and_execute(&read), PAGE_BYTES);
        for (int i = 0; i < PAGE_BYTES; i++)
            CHECK_EQUAL(memory[i], 'a' + round % PAGES % 26);
        CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), PAGES * PAGE_BYTES + 3);
    }
    struct rl_sqe_work at_end = reads(fd, memory, sizeof memory, (uint64_t)(PAGES - 1) * PAGE_BYTES);
    CHECK_EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    CHECK_EQUAL(begin_and_execute(&at_end), PAGE_BYTES + 3);
    CHECK_EQUAL(memcmp(memory + PAGE_BYTES, "end", 3), 0);
    close(fd);
}

TEST(what_is_in_memory_is_read_by_beginning)
{
    char memory[PAGE_BYTES];
    int fd = make_file();
    struct rl_sqe_work read = reads(fd, memory, PAGE_BYTES, PAGE_BYTES);
    int64_t result = RL_WORK_NOT_BEGUN;
    /* The kernel may take the page away at any time, but not each time. Some file systems cannot do it. */
    for (int i = 0; i < 100 && result < 0; i++) {
        CHECK_EQUAL(rl_execute_sqe_work(&read.work), PAGE_BYTES);
        memset(memory, 0, sizeof memory);
        result = rl_reading_begin(&read.work);
    }
    CHECK(result == PAGE_BYTES || result == RL_WORK_NOT_BEGUN);
    CHECK_EQUAL(memory[0], result == PAGE_BYTES ? 'b' : 0);
    close(fd);
}

TEST(what_cannot_be_read_is_for_the_ordinary_call_to_say)
{
    char memory[PAGE_BYTES];
    int fd = make_file(), fds[2];
    struct rl_sqe_work behind = reads(fd, memory, PAGE_BYTES, (uint64_t)PAGES * PAGE_BYTES + 3);
    CHECK_EQUAL(rl_reading_begin(&behind.work), RL_WORK_NOT_BEGUN);
    CHECK_EQUAL(rl_execute_sqe_work(&behind.work), 0);
    close(fd);
    CHECK_EQUAL(rl_reading_begin(&behind.work), RL_WORK_NOT_BEGUN);
    CHECK_EQUAL(rl_execute_sqe_work(&behind.work), -EBADF);
    CHECK_EQUAL(pipe(fds), 0);
    struct rl_sqe_work empty = reads(fds[0], memory, PAGE_BYTES, 0);
    CHECK_EQUAL(rl_reading_begin(&empty.work), RL_WORK_NOT_BEGUN);
    close(fds[0]);
    close(fds[1]);
}

TEST(many_reads_in_many_hands)
{
    enum { COUNT = 2000 };
    int bell_fd = make_event(), fd = make_file();
    rl_workers *pool = make_pool(bell_fd, 3);
    struct rl_sqe_work *works = calloc(COUNT, sizeof *works);
    char(*memory)[PAGE_BYTES] = calloc(COUNT, sizeof *memory);
    CHECK(works != NULL && memory != NULL);
    srand(5);
    for (int done = 0, submitted = 0; done < COUNT;) {
        CHECK_EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        for (int batch = rand() % 60; batch > 0 && submitted < COUNT; batch--, submitted++) {
            uint64_t offset = (uint64_t)(rand() % PAGES) * PAGE_BYTES;
            works[submitted] = reads(fd, memory[submitted], PAGE_BYTES, offset);
            works[submitted].work.owner = &works[submitted];
            rl_workers_submit(pool, &works[submitted].work);
        }
        for (rl_work *work = done < submitted ? await_done(pool, bell_fd) : NULL; work != NULL;
             work = work->next, done++) {
            const struct rl_sqe_work *read = work->owner;
            CHECK_EQUAL(work->result, PAGE_BYTES);
            char expected = (char)('a' + (int)(read->sqe.offset / PAGE_BYTES) % 26);
            const char *data = (const char *)(uintptr_t)read->sqe.address;
            CHECK(data[0] == expected && data[PAGE_BYTES - 1] == expected);
        }
    }
    destroy(pool);
    free(works);
    free(memory);
    close(fd);
    close(bell_fd);
}
