/*
 * The ring on kernels other than this one: older ones, that know fewer flags or features, and short ones,
 * that have no memory at the moment. Their answers are put between ring.c and this kernel's system calls.
 */
#define _GNU_SOURCE
#define RINGLOOP_SYSCALLS_H
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"

enum { RECORDED_MAX = 64 };
enum { ALWAYS = RL_CAN_TELL_PENDING | RL_CAN_HOLD_FILES | RL_CAN_READ_CACHED }; /* on every kernel */

static struct {               /* a kernel */
    uint32_t flags;           /* RL_SETUP_* that it knows */
    uint32_t features_hidden; /* RL_FEATURE_* that it lacks */
    uint32_t memory_bytes;    /* room for a ring; 0: as much as here */
    bool has_workers_limit;
    int refused_opcode; /* of io_uring_register; -1: none */
    int lacked_opcode;  /* of an entry, as a kernel built without it tells; -1: none */
} kernel;

static struct { /* what was asked of it */
    uint32_t flags, sq_entries, cq_entries;
} setups[RECORDED_MAX];

static int setup_count;

static int rl_sys_setup(uint32_t entries, struct rl_params *params)
{
    uint32_t taskrun = RL_SETUP_COOP_TASKRUN | RL_SETUP_DEFER_TASKRUN;
    if (setup_count < RECORDED_MAX) {
        setups[setup_count].flags = params->flags;
        setups[setup_count].sq_entries = entries;
        setups[setup_count].cq_entries = params->cq_entries;
    }
    setup_count++;
    if (params->flags & ~kernel.flags)
        return -EINVAL;
    if ((params->flags & RL_SETUP_DEFER_TASKRUN) && !(params->flags & RL_SETUP_SINGLE_ISSUER))
        return -EINVAL;
    if ((params->flags & RL_SETUP_TASKRUN_FLAG) && !(params->flags & taskrun))
        return -EINVAL;
    if (kernel.memory_bytes != 0 && entries * 64 + params->cq_entries * 16 > kernel.memory_bytes)
        return -ENOMEM;
    long result = syscall(RL_SYSCALL_SETUP, entries, params);
    params->features &= ~kernel.features_hidden;
    return result < 0 ? -errno : (int)result;
}

static int rl_sys_enter(int fd, uint32_t submit_count, uint32_t wait_count, uint32_t flags,
                        const void *argument, size_t argument_bytes)
{
    long result = syscall(RL_SYSCALL_ENTER, fd, submit_count, wait_count, flags, argument, argument_bytes);
    return result < 0 ? -errno : (int)result;
}

static int rl_sys_register(int fd, uint32_t opcode, void *argument, uint32_t count)
{
    if (opcode == RL_REGISTER_IOWQ_MAX_WORKERS && !kernel.has_workers_limit)
        return -EINVAL;
    if ((int)opcode == kernel.refused_opcode)
        return -EPERM;
    long result = syscall(RL_SYSCALL_REGISTER, fd, opcode, argument, count);
    if (opcode == RL_REGISTER_PROBE && kernel.lacked_opcode >= 0)
        ((struct rl_probe *)argument)->ops[kernel.lacked_opcode].flags = 0;
    return result < 0 ? -errno : (int)result;
}

#include "ring.c"
#include "ring_setup.c"

enum {
    FLAGS_5_10 = RL_SETUP_CQSIZE | RL_SETUP_CLAMP | RL_SETUP_R_DISABLED,
    FLAGS_5_18 = FLAGS_5_10 | RL_SETUP_SUBMIT_ALL,
    FLAGS_5_19 = FLAGS_5_18 | RL_SETUP_COOP_TASKRUN | RL_SETUP_TASKRUN_FLAG,
    FLAGS_6_0 = FLAGS_5_19 | RL_SETUP_SINGLE_ISSUER,
    FLAGS_6_1 = FLAGS_6_0 | RL_SETUP_DEFER_TASKRUN,
    FLAGS_6_6 = FLAGS_6_1 | RL_SETUP_NO_SQARRAY,
    CAPABILITIES_5_13 = RL_CAN_POLL_MULTISHOT,
    CAPABILITIES_5_19 = CAPABILITIES_5_13 | RL_CAN_ACCEPT_MULTISHOT | RL_CAN_CANCEL_ANY | RL_CAN_POLL_FIRST,
    CAPABILITIES_6_1 = CAPABILITIES_5_19 | RL_CAN_RECV_MULTISHOT
};

static void become_kernel(uint32_t flags)
{
    kernel.flags = flags;
    kernel.features_hidden = 0;
    kernel.memory_bytes = 0;
    kernel.has_workers_limit = true;
    kernel.refused_opcode = kernel.lacked_opcode = -1;
    setup_count = 0;
}

/* Submissions, a poll that completes by task work, and a wait, whatever flags the ring has. */
static void use(rl_driver *driver)
{
    int event = make_event();
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    for (uint64_t taken = 0; taken < 3000;) {
        for (uint64_t i = 0; i < 5; i++)
            queue(driver, RL_OP_NOP, 0, taken + i);
        for (uint64_t i = 0; i < 5; i++)
            CHECK_EQUAL(await(driver).user_data, taken++);
    }
    queue_poll(driver, event, 1);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    set_event(event);
    CHECK_EQUAL(await(driver).result, POLLIN);
    enter(driver, 1, 1000000);
    CHECK(rl_driver_completion(driver) == NULL);
    driver->calls->destroy(driver);
    close(event);
}

/* As of this kernel's own, where it has the feature. */
static uint32_t slots_of(const rl_driver *driver)
{
    return driver->features & RL_FEATURE_LINKED_FILE ? RL_CAN_USE_SLOTS : 0;
}

static void expect(uint32_t kernel_flags, uint32_t flags, uint32_t capabilities, int trials)
{
    become_kernel(kernel_flags);
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(driver->setup_flags & FLAGS_6_6, flags);
    CHECK_EQUAL(driver->capabilities, capabilities | slots_of(driver) | ALWAYS);
    CHECK_EQUAL(setup_count, trials);
    use(driver);
}

TEST(a_new_kernel_gives_all_at_the_first_trial)
{
    expect(UINT32_MAX, FLAGS_6_6 & ~(uint32_t)RL_SETUP_COOP_TASKRUN, CAPABILITIES_6_1, 1);
}

TEST(linux_6_1_keeps_its_array)
{
    expect(FLAGS_6_1, FLAGS_6_1 & ~(uint32_t)RL_SETUP_COOP_TASKRUN, CAPABILITIES_6_1, 2);
}

/* The array that then is behind the completions can begin on the last page that these take. */
TEST(linux_6_1_has_its_array_mapped_whole)
{
    become_kernel(FLAGS_6_1);
    for (uint32_t entries = 1; entries <= 4096; entries *= 2)
        use(make_driver(entries, entries));
}

TEST(linux_6_0_is_used_as_the_one_before)
{
    expect(FLAGS_6_0, FLAGS_5_19, CAPABILITIES_5_19, 3);
}

TEST(linux_5_19_runs_task_work_cooperatively)
{
    expect(FLAGS_5_19, FLAGS_5_19, CAPABILITIES_5_19, 3);
}

static int armed_event;

static void *enable_and_arm(void *driver)
{
    CHECK_EQUAL(((rl_driver *)driver)->calls->enable(driver), 0);
    queue_poll(driver, armed_event, 7);
    CHECK_EQUAL(((rl_driver *)driver)->calls->enter(driver, 0, 0), 0);
    return NULL;
}

/* A driver whose thread has ended, with a poll in flight. */
static rl_driver *orphan_driver(uint32_t kernel_flags)
{
    pthread_t thread;
    become_kernel(kernel_flags);
    rl_driver *driver = make_driver(8, 64);
    armed_event = make_event();
    CHECK_EQUAL(pthread_create(&thread, NULL, enable_and_arm, driver), 0);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(driver->calls->enter(driver, 0, 0), -EEXIST);
    return driver;
}

TEST(before_6_1_another_thread_may_end_what_is_in_flight)
{
    static const uint32_t OLD[] = {FLAGS_5_10, FLAGS_5_19, FLAGS_6_0};
    for (unsigned i = 0; i < sizeof OLD / sizeof *OLD; i++) {
        rl_driver *driver = orphan_driver(OLD[i]);
        CHECK_EQUAL(driver->calls->adopt(driver), 0);
        struct rl_sqe *sqe = rl_driver_sqe(driver);
        *sqe = (struct rl_sqe){.opcode = RL_OP_ASYNC_CANCEL, .fd = -1, .address = 7, .user_data = 8};
        uint64_t seen = 0;
        for (int count = 0; count < 2; count++) {
            struct rl_cqe cqe = await(driver);
            CHECK_EQUAL(cqe.result, cqe.user_data == 7 ? -ECANCELED : 0);
            seen |= cqe.user_data;
        }
        CHECK_EQUAL(seen, 15);
        driver->calls->destroy(driver);
        close(armed_event);
    }
}

TEST(from_6_1_no_other_thread_reaches_what_is_in_flight)
{
    rl_driver *driver = orphan_driver(FLAGS_6_1);
    CHECK_EQUAL(driver->calls->adopt(driver), -EEXIST);
    CHECK_EQUAL(driver->calls->enter(driver, 0, 0), -EEXIST);
    driver->calls->destroy(driver);
    close(armed_event);
}

TEST(linux_5_18_has_no_flags_for_task_work)
{
    expect(FLAGS_5_18, FLAGS_5_18, CAPABILITIES_5_13, 4);
}

TEST(linux_5_15_has_no_submit_all)
{
    expect(FLAGS_5_10, FLAGS_5_10, CAPABILITIES_5_13, 5);
}

/* There one that is refused ends the submission: the rest stays queued and goes with the next call. */
TEST(linux_5_15_submits_what_follows_a_refused_entry)
{
    enum { COUNT = 64 };
    become_kernel(FLAGS_5_10);
    rl_driver *driver = start_driver(COUNT, 512);
    for (uint64_t i = 0; i < COUNT; i++)
        queue(driver, i % 2 ? RL_OP_NOP : 255, 0, i);
    for (uint64_t i = 0; i < COUNT; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.user_data, i);
        CHECK_EQUAL(cqe.result, i % 2 ? 0 : -EINVAL);
    }
    CHECK_EQUAL(rl_driver_queued(driver), 0);
    driver->calls->destroy(driver);
}

TEST(linux_5_12_has_no_multishot_poll)
{
    become_kernel(FLAGS_5_10);
    kernel.features_hidden = RL_FEATURE_RSRC_TAGS | RL_FEATURE_LINKED_FILE;
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(driver->capabilities, ALWAYS);
    use(driver);
}

TEST(linux_5_14_does_not_bound_its_workers)
{
    become_kernel(FLAGS_5_10);
    kernel.has_workers_limit = false;
    use(make_driver(8, 64));
}

TEST(slots_need_room_among_the_fds_of_the_process)
{
    struct rlimit limit, small;
    become_kernel(UINT32_MAX);
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    small = limit;
    small.rlim_cur = RL_SLOT_FIRST + RL_SLOT_COUNT - 1;
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &small), 0);
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQUAL(driver->capabilities & RL_CAN_USE_SLOTS, 0);
    use(driver);
    driver = make_driver(8, 64);
    CHECK_EQUAL(driver->capabilities & RL_CAN_USE_SLOTS, slots_of(driver));
    use(driver);
}

/* What is hidden looks as on a kernel that lacks it, but for the number of trials: those are not made. */
TEST(what_is_hidden_is_not_there)
{
    become_kernel(UINT32_MAX);
    struct rl_ring_hidden what = {.setup_flags = RL_SETUP_DEFER_TASKRUN,
                                  .features = RL_FEATURE_NO_IOWAIT,
                                  .capabilities = RL_CAN_ACCEPT_MULTISHOT};
    what.opcodes[RL_OP_STATX / 8] = 1 << RL_OP_STATX % 8;
    rl_ring_hide(&what);
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(driver->setup_flags & FLAGS_6_6, FLAGS_5_19);
    CHECK_EQUAL(driver->features & RL_FEATURE_NO_IOWAIT, 0);
    CHECK_EQUAL(driver->capabilities & CAPABILITIES_6_1,
                CAPABILITIES_5_19 & ~(uint32_t)RL_CAN_ACCEPT_MULTISHOT);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_STATX), 0);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_CLOSE), 1);
    CHECK_EQUAL(setup_count, 1);
    use(driver);
    rl_ring_hide(&(struct rl_ring_hidden){0});
    driver = make_driver(8, 64);
    CHECK_EQUAL(driver->setup_flags & FLAGS_6_6, FLAGS_6_6 & ~(uint32_t)RL_SETUP_COOP_TASKRUN);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_STATX), 1);
    use(driver);
}

TEST(an_opcode_that_the_kernel_was_built_without_is_not_there)
{
    become_kernel(UINT32_MAX);
    kernel.lacked_opcode = RL_OP_STATX;
    rl_driver *driver = make_driver(8, 64);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_STATX), 0);
    CHECK_EQUAL(driver->calls->has_opcode(driver, RL_OP_CLOSE), 1);
    driver->calls->destroy(driver);
}

static void expect_failure(enum rl_ring_cause cause, int error, const char *call)
{
    struct rl_ring_failure failure;
    int fds_before = count_fds();
    CHECK(rl_ring_create(256, 4096, &failure) == NULL);
    CHECK_EQUAL(failure.cause, cause);
    CHECK_EQUAL(failure.error, error);
    CHECK(strcmp(failure.call, call) == 0);
    CHECK_EQUAL(count_fds(), fds_before);
}

TEST(a_kernel_without_what_the_loop_needs_is_too_old)
{
    static const uint32_t NEEDED[] = {RL_FEATURE_SINGLE_MMAP, RL_FEATURE_NODROP, RL_FEATURE_EXT_ARG};
    become_kernel(RL_SETUP_CQSIZE | RL_SETUP_CLAMP); /* 5.6 */
    expect_failure(RL_RING_TOO_OLD, EINVAL, "io_uring_setup");
    for (size_t i = 0; i < sizeof NEEDED / sizeof NEEDED[0]; i++) {
        become_kernel(UINT32_MAX);
        kernel.features_hidden = NEEDED[i];
        expect_failure(RL_RING_TOO_OLD, EINVAL, "io_uring_setup");
    }
}

TEST(a_kernel_built_without_an_opcode_that_the_loop_needs_is_too_old)
{
    become_kernel(UINT32_MAX);
    kernel.lacked_opcode = RL_OP_POLL_ADD;
    expect_failure(RL_RING_TOO_OLD, EINVAL, "io_uring_register");
}

TEST(what_register_refuses_is_told_and_nothing_is_left)
{
    static const int OPCODES[] = {RL_REGISTER_PROBE, RL_REGISTER_FILES};
    for (size_t i = 0; i < sizeof OPCODES / sizeof OPCODES[0]; i++) {
        become_kernel(UINT32_MAX);
        kernel.refused_opcode = OPCODES[i];
        expect_failure(RL_RING_REGISTER_REFUSED, EPERM, "io_uring_register");
    }
}

TEST(what_enable_refuses_is_its_result)
{
    static const int OPCODES[] = {RL_REGISTER_ENABLE_RINGS, RL_REGISTER_IOWQ_MAX_WORKERS};
    for (size_t i = 0; i < sizeof OPCODES / sizeof OPCODES[0]; i++) {
        struct rl_ring_failure failure;
        become_kernel(UINT32_MAX);
        kernel.refused_opcode = OPCODES[i];
        rl_driver *driver = make_driver(8, 64);
        CHECK_EQUAL(driver->calls->enable(driver), -EPERM);
        driver->calls->destroy(driver);
        CHECK_EQUAL(rl_ring_probe(&failure), -EPERM);
        CHECK_EQUAL(failure.cause, RL_RING_REGISTER_REFUSED);
    }
}

TEST(sizes_are_halved_until_they_fit)
{
    become_kernel(UINT32_MAX);
    kernel.memory_bytes = 10000;
    rl_driver *driver = make_driver(256, 4096);
    CHECK_EQUAL(setup_count, 5);
    for (int i = 0; i < setup_count; i++) {
        CHECK_EQUAL(setups[i].sq_entries, 256 >> i);
        CHECK_EQUAL(setups[i].cq_entries, 4096 >> i);
    }
    CHECK_EQUAL(driver->sq_entries, 16);
    CHECK_EQUAL(driver->cq_entries, 256);
    use(driver);
}

TEST(the_smallest_sizes_are_the_last)
{
    become_kernel(UINT32_MAX);
    kernel.memory_bytes = 1;
    expect_failure(RL_RING_NO_MEMORY, ENOMEM, "io_uring_setup");
    CHECK(setup_count > 7);
    CHECK_EQUAL(setups[5].sq_entries, 8);
    CHECK_EQUAL(setups[5].cq_entries, 128);
    for (int i = 6; i < setup_count && i < RECORDED_MAX; i++) {
        CHECK_EQUAL(setups[i].sq_entries, 8);
        CHECK_EQUAL(setups[i].cq_entries, 64);
    }
}

TEST(flags_and_sizes_step_down_together)
{
    become_kernel(FLAGS_6_0);
    kernel.memory_bytes = 40000;
    rl_driver *driver = make_driver(256, 4096);
    CHECK_EQUAL(driver->setup_flags & FLAGS_6_6, FLAGS_5_19);
    CHECK_EQUAL(driver->sq_entries, 64);
    CHECK_EQUAL(driver->cq_entries, 1024);
    use(driver);
}

/* The memory of a ring just closed may be what is missing: the same size is tried again before a smaller. */
TEST(after_a_ring_was_closed_its_memory_is_waited_for)
{
    become_kernel(UINT32_MAX);
    use(make_driver(8, 64));
    kernel.memory_bytes = 1;
    setup_count = 0;
    struct rl_ring_failure failure;
    CHECK(rl_ring_create(256, 4096, &failure) == NULL);
    for (int i = 0; i < 10; i++)
        CHECK_EQUAL(setups[i].cq_entries, 4096);
}
