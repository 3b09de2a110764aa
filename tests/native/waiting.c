/*
 * How long `enter` waits, and what ends a wait.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#include "harness.h"

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
    (void)number;
    signals++;
}

/* A signal every 5 ms: also if one comes just before the wait begins, another ends it. */
static void start_signals(int flags)
{
    struct sigaction action = {.sa_handler = count_signal, .sa_flags = flags};
    struct itimerval every = {{0, 5000}, {0, 5000}};
    signals = 0;
    CHECK_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &every, NULL), 0);
}

static void stop_signals(void)
{
    struct itimerval never = {{0, 0}, {0, 0}};
    CHECK_EQUAL(setitimer(ITIMER_REAL, &never, NULL), 0);
}

static void queue_timeout(rl_driver *driver, const struct rl_timespec *after, uint64_t user_data)
{
    struct rl_sqe *sqe = queue(driver, RL_OP_TIMEOUT, -1, user_data);
    sqe->address = (uint64_t)(uintptr_t)after;
    sqe->length = 1;
}

TEST(a_timeout_is_never_early)
{
    static const int64_t TIMEOUTS_NS[] = {1, 999, 1000, 50000, 1000000, 7654321, 20000000};
    rl_driver *driver = start_driver(8, 64);
    for (size_t i = 0; i < sizeof TIMEOUTS_NS / sizeof TIMEOUTS_NS[0]; i++) {
        int64_t begin = now_ns();
        enter(driver, 1, TIMEOUTS_NS[i]);
        CHECK(now_ns() - begin >= TIMEOUTS_NS[i]);
        CHECK(rl_driver_completion(driver) == NULL);
    }
    CHECK_EQUAL(driver->counters.waits, sizeof TIMEOUTS_NS / sizeof TIMEOUTS_NS[0]);
    driver->calls->destroy(driver);
}

TEST(a_timeout_is_never_early_when_something_was_submitted)
{
    int event = make_event();
    rl_driver *driver = start_driver(8, 64);
    int64_t begin = now_ns();
    queue_poll(driver, event, 1);
    enter(driver, 1, 5000000);
    CHECK(now_ns() - begin >= 5000000);
    CHECK(rl_driver_completion(driver) == NULL);
    CHECK_EQUAL(driver->counters.submitted, 1);
    set_event(event);
    CHECK_EQUAL(await(driver).user_data, 1);
    driver->calls->destroy(driver);
    close(event);
}

TEST(a_timeout_of_zero_is_a_poll)
{
    rl_driver *driver = start_driver(8, 64);
    enter(driver, 1, 0);
    enter(driver, 5, 0);
    CHECK_EQUAL(driver->counters.enters, 2);
    CHECK_EQUAL(driver->counters.waits, 0);
    queue(driver, RL_OP_NOP, 0, 3);
    enter(driver, 1, 0);
    CHECK_EQUAL(take(driver).user_data, 3);
    driver->calls->destroy(driver);
}

TEST(the_longest_timeouts_do_not_overflow_the_clock)
{
    static const int64_t TIMEOUTS_NS[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 + 1, INT64_MAX / 2,
                                          1LL << 60};
    static const struct rl_timespec AFTER = {0, 2000000};
    rl_driver *driver = start_driver(8, 64);
    for (size_t i = 0; i < sizeof TIMEOUTS_NS / sizeof TIMEOUTS_NS[0]; i++) {
        queue_timeout(driver, &AFTER, i);
        enter(driver, 1, TIMEOUTS_NS[i]);
        struct rl_cqe cqe = take(driver);
        CHECK_EQUAL(cqe.user_data, i);
        CHECK_EQUAL(cqe.result, -ETIME);
    }
    driver->calls->destroy(driver);
}

/* By timerfds: the kernel lets a completed RL_OP_TIMEOUT end any wait. */
TEST(a_wait_lasts_until_as_many_are_there_as_asked_for)
{
    int timers[3];
    rl_driver *driver = start_driver(8, 64);
    for (int i = 0; i < 3; i++) {
        struct itimerspec after = {.it_value = {0, 1000000 + i * 3000000}};
        timers[i] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        CHECK(timers[i] >= 0);
        CHECK_EQUAL(timerfd_settime(timers[i], 0, &after, NULL), 0);
        queue_poll(driver, timers[i], (uint64_t)i);
    }
    enter(driver, 3, RL_WAIT_FOREVER);
    CHECK_EQUAL(ready_count(driver), 3);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(take(driver).user_data, i);
        close(timers[i]);
    }
    driver->calls->destroy(driver);
}

TEST(a_wait_does_not_sleep_on_what_is_there)
{
    rl_driver *driver = start_driver(8, 64);
    queue(driver, RL_OP_NOP, 0, 1);
    enter(driver, 0, 0);
    CHECK_EQUAL(ready_count(driver), 1);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(driver->counters.waits, 0);
    queue(driver, RL_OP_NOP, 0, 2);
    enter(driver, 1, RL_WAIT_FOREVER);
    enter(driver, 2, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 1);
    CHECK_EQUAL(take(driver).user_data, 2);
    driver->calls->destroy(driver);
}

TEST(a_wait_counts_task_work_that_is_pending)
{
    int event = make_event();
    rl_driver *driver = start_driver(8, 64);
    queue_poll(driver, event, 9);
    enter(driver, 0, 0);
    set_event(event);
    CHECK(rl_driver_wants_enter(driver)); /* TASKRUN_FLAG (5.19) */
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 9);
    driver->calls->destroy(driver);
    close(event);
}

static void *set_event_from_thread(void *event)
{
    set_event(*(int *)event);
    return NULL;
}

TEST(another_thread_ends_a_wait_by_an_event)
{
    rl_driver *driver = start_driver(8, 64);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        int event = make_event();
        queue_poll(driver, event, 5);
        enter(driver, 0, 0);
        CHECK_EQUAL(pthread_create(&thread, NULL, set_event_from_thread, &event), 0);
        enter(driver, 1, RL_WAIT_FOREVER);
        CHECK_EQUAL(take(driver).user_data, 5);
        CHECK_EQUAL(pthread_join(thread, NULL), 0);
        close(event);
    }
    driver->calls->destroy(driver);
}

static void wait_for_signals(int flags)
{
    rl_driver *driver = start_driver(8, 64);
    start_signals(flags);
    for (int i = 0; i < 10; i++) {
        int before = signals;
        enter(driver, 1, RL_WAIT_FOREVER);
        CHECK(signals > before);
        CHECK(rl_driver_completion(driver) == NULL);
    }
    for (int i = 0; i < 3; i++) {
        enter(driver, 1, INT64_C(3600) * 1000000000);
        CHECK(rl_driver_completion(driver) == NULL);
    }
    stop_signals();
    driver->calls->destroy(driver);
}

TEST(a_signal_ends_a_wait)
{
    wait_for_signals(0);
}

TEST(a_signal_ends_a_wait_though_its_handler_asks_for_a_restart)
{
    wait_for_signals(SA_RESTART);
}

/* The kernel then returns the count that it took, not EINTR. */
TEST(a_signal_ends_a_wait_that_submitted)
{
    int event = make_event();
    rl_driver *driver = start_driver(8, 64);
    start_signals(0);
    for (uint64_t i = 0; i < 10; i++) {
        int before = signals;
        queue_poll(driver, event, i);
        enter(driver, 1, RL_WAIT_FOREVER);
        CHECK(signals > before);
        CHECK(rl_driver_completion(driver) == NULL);
        CHECK_EQUAL(driver->counters.submitted, i + 1);
        CHECK_EQUAL(rl_driver_queued(driver), 0);
    }
    stop_signals();
    set_event(event);
    enter(driver, 10, RL_WAIT_FOREVER);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(await(driver).result, POLLIN);
    driver->calls->destroy(driver);
    close(event);
}

TEST(signals_lose_no_completion)
{
    enum { COUNT = 20000 };
    int event = make_event();
    rl_driver *driver = start_driver(8, 64);
    struct itimerval every = {{0, 100}, {0, 100}};
    start_signals(0);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &every, NULL), 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t value;
        queue_poll(driver, event, i);
        set_event(event);
        CHECK_EQUAL(await(driver).user_data, i);
        CHECK_EQUAL(read(event, &value, sizeof value), sizeof value);
    }
    stop_signals();
    CHECK_EQUAL(driver->counters.completed, COUNT);
    driver->calls->destroy(driver);
    close(event);
}
