/*
 * The two queues and the one call between them, on the real kernel: nothing lost, nothing doubled, in order.
 */
#include "harness.h"

static void nops(uint32_t sq_entries, uint32_t cq_entries, uint64_t count, uint32_t per_enter)
{
    rl_driver *driver = start_driver(sq_entries, cq_entries);
    uint64_t queued = 0, taken = 0;
    while (taken < count) {
        for (uint32_t i = 0; i < per_enter && queued < count; i++) {
            struct rl_sqe *sqe = rl_driver_sqe(driver);
            if (sqe == NULL)
                break;
            sqe->opcode = RL_OP_NOP;
            sqe->user_data = queued++;
        }
        enter(driver, 1, RL_WAIT_FOREVER);
        while (rl_driver_completion(driver) != NULL) {
            struct rl_cqe cqe = take(driver);
            CHECK_EQUAL(cqe.user_data, taken);
            CHECK_EQUAL(cqe.result, 0);
            taken++;
        }
    }
    CHECK_EQUAL(taken, queued);
    CHECK_EQUAL(driver->counters.submitted, count);
    CHECK_EQUAL(driver->counters.completed, count);
    CHECK_EQUAL(rl_driver_queued(driver), 0);
    driver->calls->destroy(driver);
}

TEST(nops_by_the_hundred_thousand_through_a_small_queue)
{
    nops(8, 64, 300000, 8);
}

TEST(nops_that_never_fill_the_queue_evenly)
{
    nops(8, 64, 100000, 7);
    nops(8, 64, 100000, 3);
}

TEST(nops_through_a_queue_of_one)
{
    nops(1, 2, 50000, 1);
}

TEST(nops_through_a_queue_of_the_usual_size)
{
    nops(256, 4096, 300000, 1000);
}

TEST(a_full_submission_queue_gives_no_entry_until_it_is_entered)
{
    rl_driver *driver = start_driver(8, 64);
    CHECK_EQUAL(driver->sq_entries, 8);
    for (int round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < 8; i++) {
            struct rl_sqe *sqe = rl_driver_sqe(driver);
            CHECK(sqe != NULL);
            sqe->user_data = i;
        }
        CHECK_EQUAL(rl_driver_queued(driver), 8);
        CHECK(rl_driver_wants_enter(driver));
        CHECK(rl_driver_sqe(driver) == NULL);
        CHECK(rl_driver_sqe(driver) == NULL);
        CHECK_EQUAL(driver->counters.sq_full, 2 * (round + 1));
        enter(driver, 0, 0);
        CHECK_EQUAL(rl_driver_queued(driver), 0);
        CHECK(!rl_driver_wants_enter(driver));
        for (uint64_t i = 0; i < 8; i++)
            CHECK_EQUAL(take(driver).user_data, i);
        CHECK(rl_driver_completion(driver) == NULL);
    }
    driver->calls->destroy(driver);
}

TEST(an_entry_is_zero_whatever_was_there_before)
{
    static const struct rl_sqe ZERO;
    rl_driver *driver = start_driver(4, 64);
    for (int i = 0; i < 40; i++) {
        struct rl_sqe *sqe = queue(driver, RL_OP_NOP, 0, 0);
        CHECK(memcmp(sqe, &ZERO, sizeof ZERO) == 0);
        memset(sqe, 0xff, sizeof *sqe);
        enter(driver, 0, 0);
        CHECK_EQUAL(await(driver).result, -EINVAL); /* such an opcode there is not */
    }
    driver->calls->destroy(driver);
}

/* SUBMIT_ALL (5.18): one that the kernel refuses does not hold up those behind it. */
TEST(an_entry_that_is_refused_completes_and_the_rest_goes_on)
{
    rl_driver *driver = start_driver(64, 512);
    for (uint64_t i = 0; i < 64; i++)
        queue(driver, i % 3 ? RL_OP_NOP : 255, 0, i);
    enter(driver, 64, RL_WAIT_FOREVER);
    CHECK_EQUAL(ready_count(driver), 64);
    for (uint64_t i = 0; i < 64; i++) {
        struct rl_cqe cqe = take(driver);
        CHECK_EQUAL(cqe.result, cqe.user_data % 3 ? 0 : -EINVAL);
    }
    driver->calls->destroy(driver);
}

TEST(an_overflown_completion_queue_loses_nothing)
{
    enum { COUNT = 5000 };
    rl_driver *driver = start_driver(8, 64);
    for (uint64_t i = 0; i < COUNT; i++)
        queue(driver, RL_OP_NOP, 0, i);
    enter(driver, 0, 0);
    CHECK_EQUAL(ready_count(driver), driver->cq_entries);
    CHECK(rl_driver_wants_enter(driver));
    CHECK(*driver->sq_flags & RL_SQ_CQ_OVERFLOW);
    CHECK(driver->counters.cq_overflows > 0);
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK_EQUAL(await(driver).user_data, i);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    CHECK(!rl_driver_wants_enter(driver));
    driver->calls->destroy(driver);
}

/* A wait for more than is in the queue must count what waits for room in it. */
TEST(a_wait_is_ended_by_what_overflowed)
{
    rl_driver *driver = start_driver(8, 64);
    for (uint64_t i = 0; i < 70; i++)
        queue(driver, RL_OP_NOP, 0, i);
    enter(driver, 0, 0);
    for (uint64_t i = 0; i < 64; i++)
        CHECK_EQUAL(take(driver).user_data, i);
    enter(driver, 6, RL_WAIT_FOREVER);
    for (uint64_t i = 64; i < 70; i++)
        CHECK_EQUAL(take(driver).user_data, i);
    driver->calls->destroy(driver);
}

/* Arms polls of `count` events, sets them all, and takes their completions. */
static void polls(rl_driver *driver, uint32_t count, uint32_t *enters)
{
    int *events = calloc(count, sizeof *events);
    uint8_t *seen = calloc(count, 1);
    CHECK(events != NULL && seen != NULL);
    for (uint32_t i = 0; i < count; i++) {
        events[i] = make_event();
        queue_poll(driver, events[i], i);
    }
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    for (uint32_t i = 0; i < count; i++)
        set_event(events[i]);
    *enters = 0;
    for (uint32_t taken = 0; taken < count;) {
        enter(driver, 1, RL_WAIT_FOREVER);
        ++*enters;
        while (rl_driver_completion(driver) != NULL) {
            struct rl_cqe cqe = take(driver);
            CHECK_EQUAL(cqe.result, POLLIN);
            CHECK(cqe.user_data < count && !seen[cqe.user_data]);
            seen[cqe.user_data] = 1;
            taken++;
        }
    }
    for (uint32_t i = 0; i < count; i++)
        close(events[i]);
    free(seen);
    free(events);
}

/* The kernel runs 20 items of task work a call since 6.13, and after a sleep one. */
TEST(task_work_comes_in_few_calls)
{
    uint32_t enters;
    rl_driver *driver = start_driver(256, 4096);
    polls(driver, 300, &enters);
    CHECK(enters <= 300 / 20 + 1);
    driver->calls->destroy(driver);
}

TEST(polls_by_the_thousand_into_a_small_completion_queue)
{
    uint32_t enters;
    rl_driver *driver = start_driver(8, 64);
    polls(driver, 3000, &enters);
    CHECK(enters >= 3000 / 64);
    driver->calls->destroy(driver);
}

TEST(one_cancel_ends_everything_in_flight)
{
    enum { COUNT = 500 };
    int event = make_event();
    rl_driver *driver = start_driver(64, 2048);
    CHECK(driver->capabilities & RL_CAN_CANCEL_ANY);
    for (uint64_t i = 0; i < COUNT; i++)
        queue_poll(driver, event, i);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    queue(driver, RL_OP_ASYNC_CANCEL, -1, COUNT)->op_flags = RL_CANCEL_ANY | RL_CANCEL_ALL;
    enter(driver, COUNT + 1, RL_WAIT_FOREVER);
    for (int i = 0; i <= COUNT; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.result, cqe.user_data == COUNT ? COUNT : -ECANCELED);
    }
    CHECK_EQUAL(driver->counters.submitted, driver->counters.completed);
    driver->calls->destroy(driver);
    close(event);
}

TEST(a_multishot_poll_completes_again_and_again)
{
    int event = make_event();
    rl_driver *driver = start_driver(8, 64);
    CHECK(driver->capabilities & RL_CAN_POLL_MULTISHOT);
    queue_poll(driver, event, 7);
    driver->sqes[(driver->sq_tail - 1) & driver->sq_mask].length = RL_POLL_MULTISHOT;
    for (int i = 0; i < 100; i++) {
        uint64_t value;
        set_event(event);
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.user_data, 7);
        CHECK_EQUAL(cqe.result, POLLIN);
        CHECK(cqe.flags & RL_CQE_MORE);
        CHECK_EQUAL(read(event, &value, sizeof value), sizeof value);
    }
    queue(driver, RL_OP_ASYNC_CANCEL, -1, 8)->address = 7;
    enter(driver, 2, RL_WAIT_FOREVER);
    for (int i = 0; i < 2; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.result, cqe.user_data == 7 ? -ECANCELED : 0);
        CHECK(!(cqe.flags & RL_CQE_MORE));
    }
    driver->calls->destroy(driver);
    close(event);
}

TEST(opcodes_are_known_as_the_kernel_knows_them)
{
    rl_driver *driver = start_driver(8, 64);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_NOP), 1);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_RECV), 1);
    CHECK_EQUAL(driver->calls->has_opcode(driver, 255), 0);
    for (int opcode = 0; opcode < 256; opcode++) {
        if (driver->calls->has_opcode(driver, (uint8_t)opcode))
            continue;
        queue(driver, (uint8_t)opcode, -1, 0);
        enter(driver, 1, RL_WAIT_FOREVER);
        struct rl_cqe cqe = take(driver);
        CHECK(cqe.result == -EINVAL || cqe.result == -EOPNOTSUPP);
    }
    driver->calls->destroy(driver);
}
