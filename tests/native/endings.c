/*
 * Who may use a driver, and how it ends: threads, fork, destroy, abandon and sweep.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "harness.h"
#include "retired.h"

/* ---- threads ---- */

struct errand { /* what a thread is to do, and what came of it */
    rl_driver *driver;
    int (*call)(rl_driver *driver);
    int result;
};

static void *run_errand(void *argument)
{
    struct errand *errand = argument;
    errand->result = errand->call(errand->driver);
    return NULL;
}

static int on_another_thread(rl_driver *driver, int (*call)(rl_driver *driver))
{
    pthread_t thread;
    struct errand errand = {driver, call, 0};
    CHECK_EQUAL(pthread_create(&thread, NULL, run_errand, &errand), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    return errand.result;
}

static int call_enter(rl_driver *driver)
{
    return driver->calls->enter(driver, 0, 0);
}

static int call_enable(rl_driver *driver)
{
    return driver->calls->enable(driver);
}

static int run_a_nop(rl_driver *driver)
{
    queue(driver, RL_OP_NOP, 0, 77);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 77);
    return 0;
}

TEST(a_driver_runs_on_the_thread_that_enabled_it)
{
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    run_a_nop(driver);
    CHECK_EQUAL(on_another_thread(driver, call_enter), -EEXIST);
    queue(driver, RL_OP_NOP, 0, 1);
    CHECK_EQUAL(on_another_thread(driver, call_enter), -EEXIST);
    CHECK_EQUAL(rl_driver_queued(driver), 1);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 1);
    driver->calls->destroy(driver);
}

TEST(a_driver_stays_bound_when_its_thread_has_ended)
{
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(on_another_thread(driver, call_enable), 0);
    CHECK_EQUAL(driver->calls->enter(driver, 0, 0), -EEXIST);
    driver->calls->destroy(driver);
}

static int enable_and_run(rl_driver *driver)
{
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    for (int i = 0; i < 1000; i++)
        run_a_nop(driver);
    driver->calls->destroy(driver);
    return 0;
}

TEST(a_driver_made_here_runs_on_another_thread)
{
    CHECK_EQUAL(on_another_thread(make_driver(8, 64), enable_and_run), 0);
}

TEST(a_driver_that_is_not_enabled_refuses_and_keeps_what_is_queued)
{
    rl_driver *driver = make_driver(8, 64);
    queue(driver, RL_OP_NOP, 0, 4);
    CHECK_EQUAL(driver->calls->enter(driver, 1, RL_WAIT_FOREVER), -EBADFD);
    CHECK_EQUAL(rl_driver_queued(driver), 1);
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 4);
    CHECK_EQUAL(driver->calls->enable(driver), -EBADFD); /* once is enough */
    driver->calls->destroy(driver);
}

TEST(drivers_come_and_go_by_the_hundred)
{
    int fds_before = count_fds();
    for (int i = 0; i < 500; i++) {
        rl_driver *driver = start_driver(64, 512);
        run_a_nop(driver);
        driver->calls->destroy(driver);
        CHECK_EQUAL(count_fds(), fds_before);
    }
}

/* ---- abandoned ---- */

static int releases;

static void count_release(void *argument)
{
    CHECK(argument == &releases);
    releases++;
}

struct load { /* requests of every kind that can be in flight */
    int event, pair[2], pipe[2];
    struct rl_buffers buffers;
    char buffer[16];
};

static void start_load(rl_driver *driver, struct load *load)
{
    load->event = make_event();
    make_pair(load->pair);
    CHECK_EQUAL(pipe(load->pipe), 0);
    CHECK_EQUAL(rl_buffers_allocate(&load->buffers, 0, 8, 1024), 0);
    CHECK_EQUAL(driver->calls->register_buffers(driver, 0, load->buffers.ring, 8), 0);
    for (uint64_t i = 0; i < 1000; i++)
        queue_poll(driver, load->event, i);
    for (uint64_t i = 0; i < 20; i++) {
        struct rl_sqe *sqe = queue(driver, RL_OP_RECV, load->pair[0], 2000 + i);
        sqe->ioprio = RL_RECV_MULTISHOT;
        sqe->flags = RL_SQE_BUFFER_SELECT;
    }
    struct rl_sqe *sqe = queue(driver, RL_OP_READ, load->pipe[0], 3000); /* blocks in a worker thread */
    sqe->flags = RL_SQE_ASYNC;
    sqe->address = (uint64_t)(uintptr_t)load->buffer;
    sqe->length = sizeof load->buffer;
    sqe->offset = UINT64_MAX;
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
}

/* Closes this process' fds. What the kernel still holds keeps the other ends from seeing it. */
static void end_load(struct load *load)
{
    close(load->event);
    close(load->pair[0]);
    close(load->pipe[0]);
    close(load->pipe[1]);
    rl_buffers_free(&load->buffers);
}

static void check_peer_sees_the_end(struct load *load)
{
    struct pollfd peer = {.fd = load->pair[1], .events = POLLIN};
    char byte;
    CHECK_EQUAL(poll(&peer, 1, 10000), 1);
    CHECK_EQUAL(read(load->pair[1], &byte, 1), 0);
    close(load->pair[1]);
}

static int call_abandon(rl_driver *driver)
{
    driver->calls->abandon(driver, count_release, &releases);
    return 0;
}

static int call_sweep(rl_driver *driver)
{
    (void)driver;
    return rl_driver_sweep(10000);
}

static void release_load(void *argument)
{
    end_load(argument);
    releases++;
}

TEST(an_abandoned_driver_is_freed_when_the_kernel_has_let_go)
{
    struct load load;
    rl_driver *driver = start_driver(64, 4096);
    start_load(driver, &load);
    driver->calls->abandon(driver, release_load, &load);
    CHECK_EQUAL(releases, 0); /* only by a sweep */
    sweep_all();
    CHECK_EQUAL(releases, 1);
    check_peer_sees_the_end(&load);
    CHECK_EQUAL(rl_driver_sweep(0), 0);
    CHECK_EQUAL(releases, 1);
}

TEST(a_driver_is_abandoned_by_another_thread_while_its_own_lives)
{
    struct load load;
    rl_driver *driver = start_driver(64, 4096);
    start_load(driver, &load);
    CHECK_EQUAL(on_another_thread(driver, call_abandon), 0);
    CHECK_EQUAL(on_another_thread(NULL, call_sweep), 0);
    CHECK_EQUAL(releases, 1);
    end_load(&load);
    check_peer_sees_the_end(&load);
}

static struct load errand_load;

static int enable_and_load(rl_driver *driver)
{
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    start_load(driver, &errand_load);
    return 0;
}

TEST(a_driver_is_abandoned_when_its_thread_has_ended)
{
    rl_driver *driver = make_driver(64, 4096);
    CHECK_EQUAL(on_another_thread(driver, enable_and_load), 0);
    CHECK_EQUAL(driver->calls->enter(driver, 0, 0), -EEXIST);
    driver->calls->abandon(driver, count_release, &releases);
    sweep_all();
    CHECK_EQUAL(releases, 1);
    end_load(&errand_load);
    check_peer_sees_the_end(&errand_load);
}

TEST(a_driver_is_abandoned_that_was_never_enabled)
{
    rl_driver *driver = make_driver(8, 64);
    queue(driver, RL_OP_NOP, 0, 0);
    driver->calls->abandon(driver, count_release, &releases);
    sweep_all();
    CHECK_EQUAL(releases, 1);
}

static void sweep_again(void *argument)
{
    CHECK_EQUAL(rl_driver_sweep(0), 0); /* none is held: this one is off the list already */
    count_release(argument);
}

TEST(a_release_may_sweep)
{
    for (int i = 0; i < 50; i++) {
        rl_driver *driver = start_driver(8, 64);
        driver->calls->abandon(driver, i % 2 ? sweep_again : count_release, &releases);
        if (i % 2 == 0)
            sweep_all();
    }
    while (rl_driver_sweep(100) != 0)
        continue;
    CHECK_EQUAL(releases, 50);
}

TEST(many_are_abandoned_and_all_are_freed_once)
{
    int event = make_event();
    for (int i = 0; i < 100; i++) {
        rl_driver *driver = start_driver(8, 64);
        for (uint64_t request = 0; request < 20; request++)
            queue_poll(driver, event, request);
        enter(driver, 0, 0);
        driver->calls->abandon(driver, count_release, &releases);
        CHECK(rl_driver_sweep(0) <= i + 1);
    }
    sweep_all();
    CHECK_EQUAL(releases, 100);
    close(event);
}

static void ignore_signal(int number)
{
    (void)number;
}

TEST(signals_do_not_shorten_a_sweep)
{
    struct sigaction action = {.sa_handler = ignore_signal};
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    rl_driver *driver = start_driver(8, 64);
    CHECK_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &every, NULL), 0);
    driver->calls->abandon(driver, count_release, &releases);
    CHECK_EQUAL(rl_driver_sweep(10000), 0);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_EQUAL(releases, 1);
}

/* A program may close fds that are not its own. Then the kernel's word is missing, and nothing is freed. */
TEST(a_witness_that_somebody_closed_proves_nothing)
{
    int fds[2];
    struct rl_retired *retired = calloc(1, sizeof *retired);
    CHECK(retired != NULL);
    CHECK_EQUAL(pipe(fds), 0);
    *retired = (struct rl_retired){NULL, fds[0], count_release, &releases, retired};
    rl_retire(retired);
    CHECK_EQUAL(rl_driver_sweep(0), 1);
    close(fds[0]);
    CHECK_EQUAL(rl_driver_sweep(0), 1);
    CHECK_EQUAL(releases, 0);
    int writer = fds[1];
    CHECK_EQUAL(pipe(fds), 0); /* takes the number again */
    CHECK_EQUAL(fds[0], retired->witness_fd);
    close(fds[1]);
    close(writer);
    sweep_all();
    CHECK_EQUAL(releases, 1);
}

/* ---- fork ---- */

/* A child that keeps what it inherited until its end of `line` is closed here. */
struct sibling {
    pid_t pid;
    int line;
};

static struct sibling fork_sibling(rl_driver *driver, void (*first)(rl_driver *driver))
{
    int line[2];
    char byte = 0;
    make_pair(line);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        close(line[0]);
        first(driver);
        CHECK_EQUAL(write(line[1], &byte, 1), 1);
        CHECK_EQUAL(read(line[1], &byte, 1), 0);
        _exit(0);
    }
    close(line[1]);
    CHECK_EQUAL(read(line[0], &byte, 1), 1);
    return (struct sibling){pid, line[0]};
}

static void end_sibling(struct sibling sibling)
{
    int status;
    close(sibling.line);
    CHECK_EQUAL(waitpid(sibling.pid, &status, 0), sibling.pid);
    CHECK_EQUAL(status, 0);
}

static void keep(rl_driver *driver)
{
    (void)driver;
}

/* The child's copy of the fd holds the ring; the sweep must not believe otherwise. */
TEST(an_abandoned_driver_is_held_while_a_forked_child_has_its_fd)
{
    struct load load;
    rl_driver *driver = start_driver(64, 4096);
    start_load(driver, &load);
    struct sibling sibling = fork_sibling(driver, keep);
    driver->calls->abandon(driver, count_release, &releases);
    CHECK_EQUAL(rl_driver_sweep(0), 1);
    CHECK_EQUAL(rl_driver_sweep(100), 1);
    CHECK_EQUAL(releases, 0);
    end_sibling(sibling);
    sweep_all();
    CHECK_EQUAL(releases, 1);
    end_load(&load);
    check_peer_sees_the_end(&load);
}

static void forget(rl_driver *driver)
{
    int fds_before = count_fds();
    driver->calls->forked(driver);
    CHECK_EQUAL(count_fds(), fds_before - 2);
    /* A loop of the child's own. */
    driver = start_driver(8, 64);
    run_a_nop(driver);
    driver->calls->destroy(driver);
}

TEST(a_child_that_forgets_the_driver_does_not_hold_it)
{
    struct load load;
    rl_driver *driver = start_driver(64, 4096);
    start_load(driver, &load);
    struct sibling sibling = fork_sibling(driver, forget);
    queue(driver, RL_OP_NOP, 0, 5555);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 5555);
    driver->calls->abandon(driver, count_release, &releases);
    sweep_all();
    CHECK_EQUAL(releases, 1);
    end_sibling(sibling);
    end_load(&load);
    check_peer_sees_the_end(&load);
}

static void touch_the_ring(rl_driver *driver)
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL); /* not the sanitizer's report */
        *(volatile uint32_t *)driver->cq_head = 1;
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQUAL(WTERMSIG(status), SIGSEGV);
}

TEST(a_forked_child_has_no_mapping_of_the_ring)
{
    rl_driver *driver = start_driver(8, 64);
    touch_the_ring(driver);
    run_a_nop(driver);
    driver->calls->destroy(driver);
}

static void sweep_in_child(void *argument)
{
    CHECK_EQUAL(rl_driver_sweep(10000), *(int *)argument);
}

/* The child's list is a copy, and so is what it frees. */
TEST(a_forked_child_may_sweep_what_its_parent_abandoned)
{
    int held = 0;
    rl_driver *driver = start_driver(8, 64);
    driver->calls->abandon(driver, count_release, &releases);
    in_child(sweep_in_child, &held);
    CHECK_EQUAL(releases, 0);
    sweep_all();
    CHECK_EQUAL(releases, 1);
}

static void sweep_forked(rl_driver *driver)
{
    int fds_before = count_fds();
    driver->calls->forked(driver);
    rl_driver_sweep_forked();
    CHECK_EQUAL(releases, 1);
    CHECK_EQUAL(count_fds(), fds_before - 3);
    CHECK_EQUAL(rl_driver_sweep(0), 0);
}

TEST(a_forked_child_lets_go_at_once_of_what_its_parent_abandoned)
{
    rl_driver *other = start_driver(8, 64), *abandoned = start_driver(8, 64);
    struct sibling holder = fork_sibling(abandoned, keep); /* so that it is held for long */
    abandoned->calls->abandon(abandoned, count_release, &releases);
    struct sibling sibling = fork_sibling(other, sweep_forked);
    end_sibling(sibling);
    CHECK_EQUAL(rl_driver_sweep(0), 1);
    end_sibling(holder);
    sweep_all();
    CHECK_EQUAL(releases, 1);
    other->calls->destroy(other);
}
