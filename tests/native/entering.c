/*
 * `enter` against a kernel of the test's own: a ring in plain memory, whose system call the test answers. So
 * can be seen what it asks for, what it makes of rare answers, and how its counters wrap around.
 */
#define _GNU_SOURCE
#define RINGLOOP_SYSCALLS_H
#include <errno.h>
#include <unistd.h>

#include "harness.h"

static int rl_sys_setup(uint32_t entries, struct rl_params *params)
{
    (void)entries;
    (void)params;
    return -ENOSYS;
}

static int rl_sys_register(int fd, uint32_t opcode, void *argument, uint32_t count)
{
    (void)fd;
    (void)opcode;
    (void)argument;
    (void)count;
    return -ENOSYS;
}

static int rl_sys_enter(int fd, uint32_t submit_count, uint32_t wait_count, uint32_t flags,
                        const void *argument, size_t argument_bytes);

#include "ring.c"
#include "ring_setup.c"

enum { SQ_ENTRIES = 8, CQ_ENTRIES = 64, BACKLOG_MAX = 1024, CALLS_MAX = 64 };

struct call { /* what `enter` asked for */
    uint32_t submit_count, wait_count, flags;
    int64_t timeout_ns; /* -1: none */
};

static struct {
    struct rl_ring ring;
    struct rl_sqe sqes[SQ_ENTRIES];
    struct rl_cqe cqes[CQ_ENTRIES];
    uint32_t sq_head, sq_tail, sq_flags, cq_head, cq_tail;
    uint64_t backlog[BACKLOG_MAX]; /* user_data of completions that wait for room */
    uint32_t backlog_head, backlog_tail;
    uint32_t task_work; /* completions that one call after another brings, at most 20 each */
    uint32_t taken_max; /* submissions that one call takes */
    int answer;         /* if not 0, the next call returns this and takes nothing */
    int answer_after;   /* if not 0, the next call does its work and returns this */
    struct call calls[CALLS_MAX];
    int call_count;
} fake;

static void complete(uint64_t user_data)
{
    CHECK(fake.backlog_tail - fake.backlog_head < BACKLOG_MAX);
    fake.backlog[fake.backlog_tail++ % BACKLOG_MAX] = user_data;
}

static void flush_backlog(void)
{
    while (fake.backlog_head != fake.backlog_tail && fake.cq_tail - fake.cq_head < CQ_ENTRIES) {
        uint64_t user_data = fake.backlog[fake.backlog_head++ % BACKLOG_MAX];
        fake.cqes[fake.cq_tail++ % CQ_ENTRIES] = (struct rl_cqe){.user_data = user_data};
    }
    fake.sq_flags = (fake.backlog_head != fake.backlog_tail ? (uint32_t)RL_SQ_CQ_OVERFLOW : 0) |
                    (fake.task_work != 0 ? (uint32_t)RL_SQ_TASKRUN : 0);
}

static int rl_sys_enter(int fd, uint32_t submit_count, uint32_t wait_count, uint32_t flags,
                        const void *argument, size_t argument_bytes)
{
    struct call call = {submit_count, wait_count, flags, -1};
    int answer = fake.answer;
    CHECK_EQUAL(fd, -1);
    if (flags & RL_ENTER_EXT_ARG) {
        const struct rl_getevents_arg *extended = argument;
        CHECK_EQUAL(argument_bytes, sizeof *extended);
        CHECK_EQUAL(extended->sigmask, 0);
        CHECK_EQUAL(extended->min_wait_usec, 0);
        const struct rl_timespec *timeout = (const struct rl_timespec *)(uintptr_t)extended->timeout;
        CHECK(timeout->nanoseconds >= 0 && timeout->nanoseconds < 1000000000);
        call.timeout_ns = timeout->seconds * 1000000000 + timeout->nanoseconds;
    }
    CHECK(fake.call_count < CALLS_MAX);
    fake.calls[fake.call_count++] = call;
    fake.answer = 0;
    if (answer != 0)
        return answer;

    uint32_t queued = fake.sq_tail - fake.sq_head, taken = 0;
    CHECK(queued <= SQ_ENTRIES);
    while (taken < submit_count && taken < queued && taken < fake.taken_max) {
        complete(fake.sqes[fake.sq_head++ % SQ_ENTRIES].user_data);
        taken++;
    }
    for (int i = 0; i < 20 && fake.task_work > 0; i++, fake.task_work--)
        complete(UINT64_MAX);
    flush_backlog();
    answer = fake.answer_after;
    fake.answer_after = 0;
    return answer != 0 ? answer : (int)taken;
}

/* A ring whose four counters stand at `start`. */
static rl_driver *make_fake(uint32_t start)
{
    rl_driver *driver = &fake.ring.driver;
    memset(&fake, 0, sizeof fake);
    fake.sq_head = fake.sq_tail = fake.cq_head = fake.cq_tail = start;
    fake.taken_max = UINT32_MAX;
    fake.ring.sq_tail = &fake.sq_tail;
    *driver = (rl_driver){.calls = &RING_CALLS, .fd = -1};
    driver->sqes = fake.sqes;
    driver->sq_head = &fake.sq_head;
    driver->sq_flags = &fake.sq_flags;
    driver->sq_tail = driver->sq_published = start;
    driver->sq_mask = SQ_ENTRIES - 1;
    driver->sq_entries = SQ_ENTRIES;
    driver->cqes = fake.cqes;
    driver->cq_head = &fake.cq_head;
    driver->cq_tail = &fake.cq_tail;
    driver->cq_mask = CQ_ENTRIES - 1;
    driver->cq_entries = CQ_ENTRIES;
    return driver;
}

static void check_call(int index, uint32_t submit_count, uint32_t wait_count, int64_t timeout_ns)
{
    CHECK(index < fake.call_count);
    CHECK_EQUAL(fake.calls[index].submit_count, submit_count);
    CHECK_EQUAL(fake.calls[index].wait_count, wait_count);
    CHECK_EQUAL(fake.calls[index].timeout_ns, timeout_ns);
    CHECK(fake.calls[index].flags & RL_ENTER_GETEVENTS);
}

TEST(counters_wrap_around)
{
    rl_driver *driver = make_fake(UINT32_MAX - 20);
    uint64_t taken = 0;
    for (uint64_t round = 0, queued = 0; round < 200; round++) {
        for (uint64_t i = 0; i < round % (SQ_ENTRIES + 1); i++)
            queue(driver, RL_OP_NOP, 0, queued++);
        fake.call_count = 0;
        enter(driver, 0, 0);
        CHECK_EQUAL(rl_driver_queued(driver), 0);
        for (; rl_driver_completion(driver) != NULL; taken++)
            CHECK_EQUAL(take(driver).user_data, taken);
        CHECK_EQUAL(taken, queued);
        CHECK_EQUAL(driver->counters.submitted, queued);
    }
    CHECK(driver->sq_tail < 1000 && fake.cq_tail < 1000);
}

TEST(a_full_queue_is_full_across_the_wrap)
{
    for (uint32_t start = UINT32_MAX - SQ_ENTRIES; start != 2; start++) {
        rl_driver *driver = make_fake(start);
        for (int i = 0; i < SQ_ENTRIES; i++)
            CHECK(rl_driver_sqe(driver) != NULL);
        CHECK(rl_driver_sqe(driver) == NULL);
        CHECK_EQUAL(rl_driver_queued(driver), SQ_ENTRIES);
        enter(driver, 0, 0);
        CHECK_EQUAL(rl_driver_queued(driver), 0);
        CHECK_EQUAL(ready_count(driver), SQ_ENTRIES);
    }
}

TEST(overflown_completions_wrap_around)
{
    rl_driver *driver = make_fake(UINT32_MAX - 40);
    uint64_t taken = 0;
    for (uint64_t queued = 0; queued < 400; queued++)
        queue(driver, RL_OP_NOP, 0, queued);
    while (taken < 400) {
        enter(driver, 1, RL_WAIT_FOREVER);
        fake.call_count = 0;
        for (; rl_driver_completion(driver) != NULL; taken++)
            CHECK_EQUAL(take(driver).user_data, taken);
    }
    CHECK(driver->counters.cq_overflows > 0);
}

TEST(one_call_submits_and_waits)
{
    rl_driver *driver = make_fake(0);
    queue(driver, RL_OP_NOP, 0, 1);
    queue(driver, RL_OP_NOP, 0, 2);
    enter(driver, 3, 2500000001);
    CHECK_EQUAL(fake.call_count, 1);
    check_call(0, 2, 3, 2500000001);
    CHECK_EQUAL(driver->counters.enters, 1);
    CHECK_EQUAL(driver->counters.waits, 1);
}

TEST(a_wait_for_ever_has_no_timeout)
{
    static const int64_t FOREVER_NS[] = {RL_WAIT_FOREVER, INT64_MAX, INT64_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof FOREVER_NS / sizeof FOREVER_NS[0]; i++) {
        rl_driver *driver = make_fake(0);
        enter(driver, 1, FOREVER_NS[i]);
        check_call(0, 0, 1, -1);
    }
}

TEST(a_wait_that_need_not_sleep_is_a_poll)
{
    rl_driver *driver = make_fake(0);
    enter(driver, 1, 0);
    check_call(0, 0, 0, -1);
    queue(driver, RL_OP_NOP, 0, 1);
    enter(driver, 0, RL_WAIT_FOREVER);
    check_call(1, 1, 0, -1);
    enter(driver, 1, RL_WAIT_FOREVER);
    check_call(2, 0, 0, -1);
    enter(driver, 2, 1000);
    check_call(3, 0, 2, 1000);
}

TEST(every_call_says_what_the_kernel_is_to_count_it_as)
{
    rl_driver *driver = make_fake(0);
    fake.ring.enter_flags = RL_ENTER_NO_IOWAIT;
    enter(driver, 1, 1000);
    enter(driver, 1, RL_WAIT_FOREVER);
    enter(driver, 0, 0);
    CHECK_EQUAL(fake.calls[0].flags, RL_ENTER_GETEVENTS | RL_ENTER_EXT_ARG | RL_ENTER_NO_IOWAIT);
    CHECK_EQUAL(fake.calls[1].flags, RL_ENTER_GETEVENTS | RL_ENTER_NO_IOWAIT);
    CHECK_EQUAL(fake.calls[2].flags, RL_ENTER_GETEVENTS | RL_ENTER_NO_IOWAIT);
}

TEST(an_enter_is_one_call_whatever_work_is_left)
{
    rl_driver *driver = make_fake(0);
    fake.task_work = 50;
    for (int call = 0; call < 3; call++) {
        CHECK_EQUAL(fake.call_count, call);
        enter(driver, 0, 0);
        check_call(call, 0, 0, -1);
        CHECK_EQUAL(rl_driver_wants_enter(driver), call < 2);
    }
    CHECK_EQUAL(ready_count(driver), 50);
}

TEST(what_the_kernel_does_not_take_stays_queued_and_is_offered_again)
{
    rl_driver *driver = make_fake(UINT32_MAX - 2);
    fake.taken_max = 3;
    for (uint64_t i = 0; i < 8; i++)
        queue(driver, RL_OP_NOP, 0, i);
    enter(driver, 1, RL_WAIT_FOREVER);
    check_call(0, 8, 1, -1);
    CHECK(rl_driver_wants_enter(driver));
    enter(driver, 1, RL_WAIT_FOREVER);
    check_call(1, 5, 0, -1);
    enter(driver, 0, 0);
    check_call(2, 2, 0, -1);
    CHECK_EQUAL(fake.call_count, 3);
    for (uint64_t i = 0; i < 8; i++)
        CHECK_EQUAL(take(driver).user_data, i);
    CHECK_EQUAL(driver->counters.submitted, 8);
}

static void check_backed_up(int answer)
{
    rl_driver *driver = make_fake(0);
    queue(driver, RL_OP_NOP, 0, 1);
    queue(driver, RL_OP_NOP, 0, 2);
    fake.answer = answer;
    enter(driver, 1, RL_WAIT_FOREVER);
    /* Nothing was taken, nothing is lost: the second call only fetches, and sleeps a little. */
    CHECK_EQUAL(fake.call_count, 2);
    check_call(0, 2, 1, -1);
    check_call(1, 0, 1, BACKOFF_NS);
    CHECK_EQUAL(rl_driver_queued(driver), 2);
    CHECK(rl_driver_wants_enter(driver));
    fake.answer = answer;
    enter(driver, 0, 0);
    CHECK_EQUAL(fake.call_count, 4);
    check_call(3, 0, 0, -1);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(fake.call_count, 5);
    CHECK_EQUAL(take(driver).user_data, 1);
    CHECK_EQUAL(take(driver).user_data, 2);
}

TEST(a_kernel_short_of_memory_is_asked_again_later)
{
    check_backed_up(-EAGAIN);
}

TEST(a_kernel_that_wants_its_completions_fetched_is_asked_again_later)
{
    check_backed_up(-EBUSY);
}

TEST(completions_that_are_there_are_not_slept_on_by_a_kernel_short_of_memory)
{
    rl_driver *driver = make_fake(0);
    queue(driver, RL_OP_NOP, 0, 1);
    enter(driver, 0, 0);
    queue(driver, RL_OP_NOP, 0, 2);
    fake.answer = -EBUSY;
    enter(driver, 2, RL_WAIT_FOREVER);
    check_call(2, 0, 0, -1);
    CHECK_EQUAL(ready_count(driver), 1);
    CHECK_EQUAL(rl_driver_queued(driver), 1);
}

TEST(an_interrupted_or_timed_out_wait_is_no_error)
{
    static const int ANSWERS[] = {-EINTR, -ETIME};
    for (size_t i = 0; i < sizeof ANSWERS / sizeof ANSWERS[0]; i++) {
        rl_driver *driver = make_fake(0);
        fake.answer_after = ANSWERS[i];
        enter(driver, 1, 1000);
        CHECK_EQUAL(fake.call_count, 1);
    }
}

TEST(what_no_retry_mends_is_the_result)
{
    static const int ANSWERS[] = {-EEXIST, -EBADFD, -EBADR, -EFAULT, -ENXIO};
    for (size_t i = 0; i < sizeof ANSWERS / sizeof ANSWERS[0]; i++) {
        rl_driver *driver = make_fake(0);
        queue(driver, RL_OP_NOP, 0, 1);
        fake.answer = ANSWERS[i];
        CHECK_EQUAL(driver->calls->enter(driver, 1, RL_WAIT_FOREVER), ANSWERS[i]);
        CHECK_EQUAL(fake.call_count, 1);
        CHECK_EQUAL(rl_driver_queued(driver), 1);
    }
}

/* An error of the wait can come with a submission that was made. */
TEST(the_head_tells_what_was_taken_not_the_result)
{
    rl_driver *driver = make_fake(0);
    queue(driver, RL_OP_NOP, 0, 1);
    fake.answer_after = -EBADR;
    CHECK_EQUAL(driver->calls->enter(driver, 1, RL_WAIT_FOREVER), -EBADR);
    CHECK_EQUAL(rl_driver_queued(driver), 0);
    CHECK_EQUAL(driver->counters.submitted, 1);
    CHECK_EQUAL(take(driver).user_data, 1);
}

TEST(links_of_which_a_part_was_taken_are_told)
{
    enum { ENTRIES = 5, LAST = 3 }; /* 1 to 3 are linked */
    for (uint32_t taken = 0; taken <= ENTRIES; taken++) {
        rl_driver *driver = make_fake(UINT32_MAX - 2);
        for (uint64_t i = 0; i < ENTRIES; i++)
            queue(driver, RL_OP_NOP, 0, i)->flags = i >= 1 && i < LAST ? RL_SQE_IO_LINK : 0;
        fake.taken_max = taken;
        enter(driver, 0, 0);
        CHECK_EQUAL(driver->links_cut, taken == 2 || taken == 3);
        CHECK_EQUAL(rl_driver_room(driver), SQ_ENTRIES - ENTRIES + taken);
        for (uint32_t i = 0; i < ENTRIES - taken; i++)
            CHECK_EQUAL(rl_driver_untaken(driver, i)->user_data, taken + i);
        CHECK(rl_driver_untaken(driver, ENTRIES - taken) == NULL);
    }
}

TEST(a_call_that_takes_nothing_cuts_no_links)
{
    rl_driver *driver = make_fake(0);
    queue(driver, RL_OP_NOP, 0, 1)->flags = RL_SQE_IO_LINK;
    queue(driver, RL_OP_NOP, 0, 2);
    fake.taken_max = 0;
    enter(driver, 0, 0);
    CHECK(!driver->links_cut);
    fake.taken_max = 1;
    enter(driver, 0, 0);
    CHECK(driver->links_cut);
}
