/*
 * Making a ring, by trial: flags step down on EINVAL, sizes on ENOMEM; no kernel version is ever asked for.
 *
 * ring.c calls it. Invariant: whatever fails, rl_ring_tear_down() gives everything back.
 */
#define _GNU_SOURCE
#include "ring_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ensure.h"
#include "syscalls.h"

_Static_assert(sizeof(struct rl_sqe) == 64, "the kernel's struct io_uring_sqe");
_Static_assert(sizeof(struct rl_cqe) == 16, "the kernel's struct io_uring_cqe");
_Static_assert(sizeof(struct rl_sq_offsets) == 40, "the kernel's struct io_sqring_offsets");
_Static_assert(sizeof(struct rl_cq_offsets) == 40, "the kernel's struct io_cqring_offsets");
_Static_assert(sizeof(struct rl_params) == 120, "the kernel's struct io_uring_params");
_Static_assert(sizeof(struct rl_timespec) == 16, "the kernel's struct __kernel_timespec");
_Static_assert(sizeof(struct rl_getevents_arg) == 24, "the kernel's struct io_uring_getevents_arg");
_Static_assert(sizeof(struct rl_buffer) == 16, "the kernel's struct io_uring_buf");
_Static_assert(offsetof(struct rl_buffer, tail) == 14, "the tail in struct io_uring_buf_ring");
_Static_assert(sizeof(struct rl_buffer_ring_registration) == 40, "the kernel's struct io_uring_buf_reg");
_Static_assert(sizeof(struct rl_probe_op) == 8, "the kernel's struct io_uring_probe_op");
_Static_assert(offsetof(struct rl_probe, ops) == 16, "the kernel's struct io_uring_probe");

enum {
    SQ_ENTRIES_MIN = 8, /* below these, ENOMEM is final: a page for each queue */
    CQ_ENTRIES_MIN = 64
};

/*
 * How long the kernel may take to free a closed ring: some RCU grace periods, 30 ms in all on an idle
 * Linux 6.18, more than a quarter of a second where more threads run than there are processors.
 */
#define TEARDOWN_NS_MAX INT64_C(1000000000)
/* How long to wait for the teardown of other processes' rings, of which nothing is known. */
#define OTHERS_NS_MAX INT64_C(250000000)

static const uint32_t FEATURES_NEEDED = RL_FEATURE_SINGLE_MMAP | RL_FEATURE_NODROP | RL_FEATURE_EXT_ARG;
static const uint32_t FLAGS_WANTED = RL_SETUP_R_DISABLED | RL_SETUP_CLAMP | RL_SETUP_SUBMIT_ALL |
                                     RL_SETUP_CQSIZE | RL_SETUP_SINGLE_ISSUER | RL_SETUP_DEFER_TASKRUN |
                                     RL_SETUP_TASKRUN_FLAG | RL_SETUP_NO_SQARRAY;

/* Without these no loop runs. All kernels that have the features have them. */
static const uint8_t OPCODES_NEEDED[] = {RL_OP_NOP,          RL_OP_POLL_ADD, RL_OP_ACCEPT,
                                         RL_OP_ASYNC_CANCEL, RL_OP_SENDMSG,  RL_OP_RECV};

/* Read wherever a ring is made, written under the GIL: rings are made under it. */
static struct rl_ring_hidden hidden;

/* When a ring of this process was last closed, by the monotonic clock: its memory may still be charged. */
static int64_t last_close_ns = -TEARDOWN_NS_MAX;

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void rl_ring_hide(const struct rl_ring_hidden *what)
{
    hidden = *what;
}

int rl_ring_fail(struct rl_ring_failure *failure, enum rl_ring_cause cause, int error, const char *call)
{
    ENSURE(error < 0);
    *failure = (struct rl_ring_failure){.cause = cause, .error = -error, .call = call};
    return error;
}

enum rl_ring_cause rl_ring_cause_of(int error, enum rl_ring_cause otherwise)
{
    switch (error) {
    case -ENOMEM:
        return RL_RING_NO_MEMORY;
    case -EMFILE:
    case -ENFILE:
        return RL_RING_NO_FD;
    default:
        return otherwise;
    }
}

static enum rl_ring_cause setup_cause_of(int error)
{
    switch (error) {
    case -ENOSYS:
        return RL_RING_NOT_BUILT_IN;
    case -EPERM:
    case -EACCES:
        return RL_RING_FORBIDDEN;
    case -EINVAL: /* not even the flags of 5.10 */
        return RL_RING_TOO_OLD;
    default:
        return rl_ring_cause_of(error, RL_RING_OTHER);
    }
}

/* The flags to try after EINVAL: without the newest one left. Equal when there is nothing left to give up. */
static uint32_t step_down(uint32_t flags)
{
    if (flags & RL_SETUP_NO_SQARRAY) /* 6.6 */
        return flags & ~(uint32_t)RL_SETUP_NO_SQARRAY;
    if (flags & RL_SETUP_DEFER_TASKRUN) /* 6.1; SINGLE_ISSUER is of 6.0, but without it forbids `adopt` */
        return (flags & ~(uint32_t)(RL_SETUP_DEFER_TASKRUN | RL_SETUP_SINGLE_ISSUER)) | RL_SETUP_COOP_TASKRUN;
    if (flags & RL_SETUP_COOP_TASKRUN) /* 5.19, both */
        return flags & ~(uint32_t)(RL_SETUP_COOP_TASKRUN | RL_SETUP_TASKRUN_FLAG);
    return flags & ~(uint32_t)RL_SETUP_SUBMIT_ALL; /* 5.18 */
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/*
 * Rings are charged to the user's RLIMIT_MEMLOCK, and the charge is given back only when the kernel's
 * teardown is over: a program that makes and closes loops quickly meets its own closed rings as ENOMEM. Naps
 * and returns true while that may be the reason, that is for time_ns from since_ns on.
 */
static bool nap_for_teardown(int64_t since_ns, int64_t time_ns)
{
    static const struct timespec NAP = {0, 1000000};
    if (monotonic_ns() - since_ns > time_ns)
        return false;
    nanosleep(&NAP, NULL);
    return true;
}

/* Sizes to try after ENOMEM. False when there are none smaller. */
static bool halve(uint32_t *sq_entries, uint32_t *cq_entries)
{
    if (*sq_entries <= SQ_ENTRIES_MIN && *cq_entries <= CQ_ENTRIES_MIN)
        return false;
    if (*sq_entries > SQ_ENTRIES_MIN)
        *sq_entries = larger(*sq_entries / 2, SQ_ENTRIES_MIN);
    if (*cq_entries > CQ_ENTRIES_MIN)
        *cq_entries = larger(*cq_entries / 2, CQ_ENTRIES_MIN);
    return true;
}

/* The ring's fd, with *params filled, or -errno. */
static int setup_by_trial(uint32_t sq_entries, uint32_t cq_entries, struct rl_params *params)
{
    int64_t begin_ns = monotonic_ns();
    uint32_t flags = FLAGS_WANTED;
    bool again = true;
    int fd = -EINVAL;

    sq_entries = larger(sq_entries, 1);
    while (again) {
        cq_entries = larger(cq_entries, sq_entries); /* a smaller one is EINVAL */
        *params = (struct rl_params){.flags = flags, .cq_entries = cq_entries};
        fd = (flags & hidden.setup_flags) != 0 ? -EINVAL : rl_sys_setup(sq_entries, params);
        again = false;
        if (fd == -EINVAL) {
            again = step_down(flags) != flags;
            flags = step_down(flags);
        } else if (fd == -ENOMEM) {
            int64_t last_ns = __atomic_load_n(&last_close_ns, __ATOMIC_RELAXED);
            /* A smaller ring serves worse as long as it lives. The last wait is for other processes. */
            again = nap_for_teardown(last_ns, TEARDOWN_NS_MAX) ||
                    halve(&sq_entries, &cq_entries) ||
                    nap_for_teardown(begin_ns, OTHERS_NS_MAX);
        }
    }
    return fd;
}

/* Maps what a forked child must not have. 0 or -errno. */
static int map(int fd, size_t bytes, uint64_t offset, void **memory)
{
    void *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, (off_t)offset);
    if (mapping == MAP_FAILED)
        return -errno;
    *memory = mapping;
    return madvise(mapping, bytes, MADV_DONTFORK) == 0 ? 0 : -errno;
}

static uint32_t *ring_word(const struct rl_ring *ring, uint32_t offset)
{
    return (uint32_t *)((uint8_t *)ring->rings + offset);
}

static int map_queues(struct rl_ring *ring, const struct rl_params *params)
{
    rl_driver *driver = &ring->driver;
    bool has_array = (params->flags & RL_SETUP_NO_SQARRAY) == 0;
    void *sqes = NULL;

    ring->rings_bytes = params->cq.cqes + params->cq_entries * sizeof(struct rl_cqe);
    if (has_array) {
        size_t array_end = params->sq.array + params->sq_entries * sizeof(uint32_t);
        if (array_end > ring->rings_bytes)
            ring->rings_bytes = array_end;
    }
    ring->sqes_bytes = params->sq_entries * sizeof(struct rl_sqe);
    int error = map(driver->fd, ring->rings_bytes, RL_MMAP_OFFSET_SQ_RING, &ring->rings);
    if (error == 0)
        error = map(driver->fd, ring->sqes_bytes, RL_MMAP_OFFSET_SQES, &sqes);
    driver->sqes = sqes;
    if (error != 0)
        return error;

    driver->sq_head = ring_word(ring, params->sq.head);
    driver->sq_flags = ring_word(ring, params->sq.flags);
    driver->sq_tail = driver->sq_published = *driver->sq_head;
    driver->sq_entries = params->sq_entries;
    driver->sq_mask = *ring_word(ring, params->sq.ring_mask);
    driver->cqes = (const struct rl_cqe *)((uint8_t *)ring->rings + params->cq.cqes);
    driver->cq_head = ring_word(ring, params->cq.head);
    driver->cq_tail = ring_word(ring, params->cq.tail);
    driver->cq_entries = params->cq_entries;
    driver->cq_mask = *ring_word(ring, params->cq.ring_mask);
    ring->sq_tail = ring_word(ring, params->sq.tail);
    ENSURE(driver->sq_mask == driver->sq_entries - 1);
    ENSURE(driver->cq_mask == driver->cq_entries - 1);
    for (uint32_t i = 0; has_array && i < params->sq_entries; i++)
        ring_word(ring, params->sq.array)[i] = i; /* entries are used in order, for good */
    return 0;
}

/*
 * Whether multishot accept and receive are there cannot be asked for by opcode: they are flags of older
 * operations. But each came with the release that brought a setup flag, which the trial has settled.
 */
static uint32_t capabilities_of(const struct rl_params *params)
{
    uint32_t capabilities = RL_CAN_TELL_PENDING | RL_CAN_HOLD_FILES | RL_CAN_READ_CACHED;
    if (params->features & RL_FEATURE_RSRC_TAGS) /* 5.13 */
        capabilities |= RL_CAN_POLL_MULTISHOT;
    if (params->flags & RL_SETUP_TASKRUN_FLAG) /* 5.19 */
        capabilities |= RL_CAN_ACCEPT_MULTISHOT | RL_CAN_CANCEL_ANY | RL_CAN_POLL_FIRST;
    if (params->flags & RL_SETUP_DEFER_TASKRUN) /* 6.1; multishot receive is of 6.0 */
        capabilities |= RL_CAN_RECV_MULTISHOT;
    if (params->features & RL_FEATURE_LINKED_FILE) /* 5.17; before it links look for their file too early */
        capabilities |= RL_CAN_USE_SLOTS;
    return capabilities & ~hidden.capabilities;
}

static int probe_opcodes(struct rl_ring *ring)
{
    struct rl_probe probe = {0};
    int error = rl_sys_register(ring->driver.fd, RL_REGISTER_PROBE, &probe, RL_OPCODES);
    for (unsigned i = 0; error == 0 && i < probe.op_count; i++)
        if (probe.ops[i].flags & RL_PROBE_SUPPORTED)
            ring->opcodes[probe.ops[i].opcode / 8] |= (uint8_t)(1 << probe.ops[i].opcode % 8);
    for (unsigned i = 0; i < sizeof ring->opcodes; i++)
        ring->opcodes[i] &= (uint8_t)~hidden.opcodes[i];
    return error;
}

static bool has_needed_opcodes(const struct rl_ring *ring)
{
    bool has = true;
    for (unsigned i = 0; i < sizeof OPCODES_NEEDED; i++)
        has = has && rl_ring_has_opcode(ring, OPCODES_NEEDED[i]);
    return has;
}

/*
 * Gives the kernel its table of fixed files: the witness (retired.c), because those are dropped last, and
 * empty slots behind it. Before `enable`, because any thread may still register then. 5 us of the 100 that a
 * ring costs. The table cannot have more entries than the process may have fds.
 */
static int register_files(struct rl_ring *ring, struct rl_ring_failure *failure)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        int error = -errno;
        return rl_ring_fail(failure, rl_ring_cause_of(error, RL_RING_OTHER), error, "pipe2");
    }
    int files[RL_SLOT_FIRST + RL_SLOT_COUNT];
    memset(files, -1, sizeof files); /* an empty slot is -1 */
    files[0] = fds[1];
    int error = -EMFILE;
    if (ring->driver.capabilities & RL_CAN_USE_SLOTS)
        error = rl_sys_register(ring->driver.fd, RL_REGISTER_FILES, files, RL_SLOT_FIRST + RL_SLOT_COUNT);
    if (error == -EMFILE) {
        ring->driver.capabilities &= ~(uint32_t)RL_CAN_USE_SLOTS;
        error = rl_sys_register(ring->driver.fd, RL_REGISTER_FILES, files, RL_SLOT_FIRST);
    }
    close(fds[1]);
    ring->retired.witness_fd = fds[0];
    if (error != 0)
        return rl_ring_fail(failure, rl_ring_cause_of(error, RL_RING_REGISTER_REFUSED), error,
                            "io_uring_register");
    return 0;
}

int rl_ring_set_up(struct rl_ring *ring, uint32_t sq_entries, uint32_t cq_entries,
                   struct rl_ring_failure *failure)
{
    struct rl_params params;
    ring->driver.fd = setup_by_trial(sq_entries, cq_entries, &params);
    ring->retired.witness_fd = -1;
    int error = ring->driver.fd;
    if (error < 0)
        return rl_ring_fail(failure, setup_cause_of(error), error, "io_uring_setup");
    params.features &= ~hidden.features;
    if ((params.features & FEATURES_NEEDED) != FEATURES_NEEDED)
        return rl_ring_fail(failure, RL_RING_TOO_OLD, -EINVAL, "io_uring_setup");
    ring->driver.setup_flags = params.flags;
    ring->driver.features = params.features;
    ring->driver.capabilities = capabilities_of(&params);
    ring->enter_flags = params.features & RL_FEATURE_NO_IOWAIT ? RL_ENTER_NO_IOWAIT : 0;

    error = map_queues(ring, &params);
    if (error != 0)
        return rl_ring_fail(failure, rl_ring_cause_of(error, RL_RING_OTHER), error, "mmap");
    error = probe_opcodes(ring);
    if (error != 0)
        return rl_ring_fail(failure, rl_ring_cause_of(error, RL_RING_REGISTER_REFUSED), error,
                            "io_uring_register");
    if (!has_needed_opcodes(ring))
        return rl_ring_fail(failure, RL_RING_TOO_OLD, -EINVAL, "io_uring_register");
    return register_files(ring, failure);
}

void rl_ring_tear_down(struct rl_ring *ring)
{
    /* The mappings hold the ring's file as the fd does: the kernel begins when all three are gone. */
    if (ring->driver.sqes != NULL)
        munmap(ring->driver.sqes, ring->sqes_bytes);
    if (ring->rings != NULL)
        munmap(ring->rings, ring->rings_bytes);
    if (ring->driver.fd >= 0) {
        close(ring->driver.fd);
        __atomic_store_n(&last_close_ns, monotonic_ns(), __ATOMIC_RELAXED);
    }
}
