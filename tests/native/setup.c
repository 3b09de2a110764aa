/*
 * Getting a ring, or learning why there is none: sizes, limits, refusals. What lasts is done to a child.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "harness.h"

static void check_power_of_two(uint32_t entries)
{
    CHECK(entries != 0 && (entries & (entries - 1)) == 0);
}

static void run_nops(rl_driver *driver, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        queue(driver, RL_OP_NOP, 0, i);
    for (uint64_t i = 0; i < count; i++)
        CHECK_EQUAL(await(driver).user_data, i);
}

TEST(sizes_are_rounded_up_and_clamped)
{
    static const uint32_t SIZES[][2] = {
        {0, 0}, {1, 1}, {1, 2}, {3, 5}, {100, 50}, {256, 4096}, {1 << 20, 1 << 20}};
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        rl_driver *driver = start_driver(SIZES[i][0], SIZES[i][1]);
        check_power_of_two(driver->sq_entries);
        check_power_of_two(driver->cq_entries);
        CHECK(driver->sq_entries >= SIZES[i][0] || driver->sq_entries == 32768);
        CHECK(driver->cq_entries >= SIZES[i][1] || driver->cq_entries == 65536);
        CHECK(driver->cq_entries >= driver->sq_entries);
        run_nops(driver, driver->sq_entries / 2 + 1);
        driver->calls->destroy(driver);
    }
}

TEST(a_ring_reports_what_it_got)
{
    static const char *NAME = "io_uring";
    uint32_t needed = RL_FEATURE_SINGLE_MMAP | RL_FEATURE_NODROP | RL_FEATURE_EXT_ARG;
    struct rl_ring_failure failure = {.cause = RL_RING_OTHER};
    rl_driver *driver = rl_ring_create(8, 64, &failure);
    CHECK(driver != NULL);
    CHECK_EQUAL(failure.cause, RL_RING_OK);
    CHECK(strcmp(driver->calls->name, NAME) == 0);
    CHECK_EQUAL(driver->features & needed, needed);
    CHECK(driver->setup_flags & RL_SETUP_R_DISABLED);
    CHECK(driver->fd >= 0);
    driver->calls->destroy(driver);
}

TEST(a_ring_has_no_fd_that_a_program_would_inherit)
{
    enum { FDS = 64 };
    bool before[FDS];
    int added = 0;
    for (int fd = 0; fd < FDS; fd++)
        before[fd] = fcntl(fd, F_GETFD) >= 0;
    rl_driver *driver = start_driver(8, 64);
    for (int fd = 0; fd < FDS; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (before[fd] || flags < 0)
            continue;
        CHECK_EQUAL(flags, FD_CLOEXEC);
        added++;
    }
    CHECK_EQUAL(added, 2);
    driver->calls->destroy(driver);
}

TEST(the_probe_runs_a_nop_and_leaves_nothing)
{
    struct rl_ring_failure failure;
    for (int i = 0; i < 100; i++) {
        CHECK_EQUAL(rl_ring_probe(&failure), 0);
        CHECK_EQUAL(failure.cause, RL_RING_OK);
    }
}

/* The kernel's threads for requests that block: the call that bounds them tells the bounds it had. */
TEST(workers_are_bounded)
{
    uint32_t limits[2] = {0, 0}; /* 0: leave it */
    rl_driver *driver = start_driver(8, 64);
    CHECK_EQUAL(syscall(RL_SYSCALL_REGISTER, driver->fd, RL_REGISTER_IOWQ_MAX_WORKERS, limits, 2), 0);
    CHECK(limits[0] > 0 && limits[0] <= 64);
    CHECK(limits[1] > 0 && limits[1] <= 64);
    driver->calls->destroy(driver);
}

/* ---- RLIMIT_MEMLOCK ---- */

static void set_limit(int resource, rlim_t limit)
{
    struct rlimit both = {limit, limit};
    CHECK_EQUAL(setrlimit(resource, &both), 0);
}

/*
 * An ordinary user, whose rings count: root's do not (CAP_IPC_LOCK). One whom nobody else is. In a user
 * namespace that does not have him, root is an ordinary user.
 */
static void become_ordinary(void)
{
    uid_t user = 100000 + (uid_t)getpid();
    if (geteuid() == 0 && setresuid(user, user, user) != 0)
        CHECK_EQUAL(errno, EINVAL);
}

static void step_down(void *argument)
{
    (void)argument;
    set_limit(RLIMIT_MEMLOCK, 40 << 10);
    become_ordinary();
    rl_driver *driver = start_driver(256, 4096); /* 16 KiB and 65 KiB, in pages */
    CHECK(driver->cq_entries < 4096 && driver->cq_entries >= 512);
    CHECK(driver->sq_entries < 256 && driver->sq_entries >= 32);
    run_nops(driver, 10000);
    driver->calls->destroy(driver);
}

TEST(a_small_memlock_limit_makes_a_smaller_ring)
{
    in_child(step_down, NULL);
}

static void fail_for_memory(void *argument)
{
    struct rl_ring_failure failure;
    (void)argument;
    set_limit(RLIMIT_MEMLOCK, 0);
    become_ordinary();
    CHECK(rl_ring_create(256, 4096, &failure) == NULL);
    CHECK_EQUAL(failure.cause, RL_RING_NO_MEMORY);
    CHECK_EQUAL(failure.error, ENOMEM);
    CHECK(strcmp(failure.call, "io_uring_setup") == 0);
    CHECK_EQUAL(rl_ring_probe(&failure), -ENOMEM);
    CHECK_EQUAL(failure.cause, RL_RING_NO_MEMORY);
}

TEST(no_memlock_limit_at_all_makes_no_ring)
{
    in_child(fail_for_memory, NULL);
}

static void churn(void *argument)
{
    (void)argument;
    set_limit(RLIMIT_MEMLOCK, 40 << 10);
    become_ordinary();
    for (int i = 0; i < 60; i++) {
        rl_driver *driver = start_driver(16, 128); /* a page each */
        CHECK_EQUAL(driver->sq_entries, 16);
        CHECK_EQUAL(driver->cq_entries, 128);
        driver->calls->destroy(driver);
    }
}

/* The kernel gives the charge of a closed ring back 30 ms later: 60 of them pass through the room for 5. */
TEST(rings_that_come_and_go_stay_as_large_as_asked_for)
{
    in_child(churn, NULL);
}

/* ---- RLIMIT_NOFILE ---- */

/* The number that the next fd would get if there were one: fds below it are in use. */
static int lowest_free_fd(void)
{
    int fd = 0;
    while (fcntl(fd, F_GETFD) >= 0)
        fd++;
    return fd;
}

static void fail_for_fds(void *argument)
{
    static const char *const CALLS[] = {"io_uring_setup", "pipe2", "pipe2"};
    struct rl_ring_failure failure;
    int first = lowest_free_fd();
    (void)argument;
    for (int left = 2; left >= 0; left--) {
        set_limit(RLIMIT_NOFILE, (rlim_t)(first + left));
        CHECK(rl_ring_create(8, 64, &failure) == NULL);
        CHECK_EQUAL(failure.cause, RL_RING_NO_FD);
        CHECK_EQUAL(failure.error, EMFILE);
        CHECK(strcmp(failure.call, CALLS[left]) == 0);
        CHECK_EQUAL(lowest_free_fd(), first);
        CHECK_EQUAL(rl_ring_probe(&failure), -EMFILE);
    }
}

TEST(no_fd_left_makes_no_ring_and_loses_none)
{
    in_child(fail_for_fds, NULL);
}

/* ---- seccomp: what a container's filter does ---- */

struct refusal {
    int number; /* of the system call */
    int answer; /* errno */
    enum rl_ring_cause cause;
    const char *call;
};

/* From here on the process gets `answer` from the system call `number`; not from mmap without a file. */
static void refuse(int number, int answer)
{
    uint32_t fd =
        number == SYS_mmap ? offsetof(struct seccomp_data, args[4]) : offsetof(struct seccomp_data, nr);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, fd),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UINT32_MAX, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void probe_refused(void *argument)
{
    const struct refusal *refusal = argument;
    struct rl_ring_failure failure;
    int fds_before = count_fds();
    refuse(refusal->number, refusal->answer);
    CHECK_EQUAL(rl_ring_probe(&failure), -refusal->answer);
    CHECK_EQUAL(failure.cause, refusal->cause);
    CHECK_EQUAL(failure.error, refusal->answer);
    CHECK(strcmp(failure.call, refusal->call) == 0);
    CHECK_EQUAL(count_fds(), fds_before);
}

TEST(a_refusal_is_told_by_its_cause_and_call)
{
    static struct refusal refusals[] = {
        {RL_SYSCALL_SETUP, ENOSYS, RL_RING_NOT_BUILT_IN, "io_uring_setup"},
        {RL_SYSCALL_SETUP, EPERM, RL_RING_FORBIDDEN, "io_uring_setup"},
        {RL_SYSCALL_SETUP, EACCES, RL_RING_FORBIDDEN, "io_uring_setup"},
        {RL_SYSCALL_SETUP, EINVAL, RL_RING_TOO_OLD, "io_uring_setup"},
        {RL_SYSCALL_SETUP, ENFILE, RL_RING_NO_FD, "io_uring_setup"},
        {RL_SYSCALL_SETUP, EIO, RL_RING_OTHER, "io_uring_setup"},
        {RL_SYSCALL_REGISTER, EPERM, RL_RING_REGISTER_REFUSED, "io_uring_register"},
        {RL_SYSCALL_REGISTER, ENOSYS, RL_RING_REGISTER_REFUSED, "io_uring_register"},
        {RL_SYSCALL_ENTER, EPERM, RL_RING_ENTER_REFUSED, "io_uring_enter"},
        {RL_SYSCALL_ENTER, ENOSYS, RL_RING_ENTER_REFUSED, "io_uring_enter"},
        {SYS_mmap, EPERM, RL_RING_OTHER, "mmap"},
        {SYS_mmap, ENOMEM, RL_RING_NO_MEMORY, "mmap"},
    };
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        in_child(probe_refused, &refusals[i]);
}
