/*
 * The mounts of this process and what is known of their file systems, by name.
 *
 * To ask a file system what it is may block: fstatfs() of an NFS mount is a request to the server. The name
 * in /proc/self/mountinfo is the kernel's own, and statx() tells a file's mount (stx_mnt_id, 5.8) without
 * asking anybody. Numbers of mounts are used again after an unmount; the kernel reports every change of the
 * table as POLLPRI on the open mountinfo file, and the table is then of no more use.
 *
 * A loop has a table of its own, made by a worker and handed over; it is never changed but for `stale` and
 * `checked_ns`. The table is that of the process' mount namespace when it was read.
 */
#define _GNU_SOURCE
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct mount {
    uint64_t id;
    uint32_t kind;
};

struct rl_mounts {
    int fd; /* /proc/self/mountinfo, which tells of changes since it was opened */
    bool wary, stale;
    int64_t checked_ns;
    size_t count, capacity;
    struct mount *sorted; /* by id */
};

struct file_system {
    const char *name;
    uint32_t kind;
};

/*
 * Local file systems. xfs and btrfs read blocks when a directory is opened (xfs_dir_open, btrfs_opendir), and
 * of what others do then nothing is known here.
 */
static const struct file_system LOCAL[] = {
    {"ext4", RL_FS_LOCAL | RL_FS_DIRECTORIES},
    {"ext3", RL_FS_LOCAL | RL_FS_DIRECTORIES},
    {"ext2", RL_FS_LOCAL | RL_FS_DIRECTORIES},
    {"xfs", RL_FS_LOCAL},
    {"btrfs", RL_FS_LOCAL},
    {"f2fs", RL_FS_LOCAL},
    {"vfat", RL_FS_LOCAL},
    {"exfat", RL_FS_LOCAL},
    {"erofs", RL_FS_LOCAL},
    {"squashfs", RL_FS_LOCAL},
    {"overlay", RL_FS_LOCAL | RL_FS_STACKED},
    {"tmpfs", RL_FS_LOCAL | RL_FS_MEMORY | RL_FS_DIRECTORIES},
    {"devtmpfs", RL_FS_LOCAL | RL_FS_MEMORY | RL_FS_DIRECTORIES},
    {"ramfs", RL_FS_LOCAL | RL_FS_MEMORY | RL_FS_DIRECTORIES},
};

/*
 * Not for doing anything at once, but the walk to their root asks no server, nor does statx() with
 * AT_STATX_DONT_SYNC (fuse_update_get_attr then takes what it has).
 */
static const char *const CALM[] = {
    "autofs",  "binfmt_misc", "bpf",     "cgroup",     "cgroup2",    "configfs",  "debugfs", "devpts",
    "efivarfs", "fuse",       "fuseblk", "fusectl",    "hugetlbfs",  "iso9660",   "mqueue",  "nsfs",
    "ntfs3",   "nullfs",      "proc",    "pstore",     "resctrl",    "rootfs",    "rpc_pipefs",
    "securityfs", "selinuxfs", "smackfs", "sysfs",     "tracefs",    "udf",       "virtiofs", "zfs",
};

static bool is_calm(const char *name)
{
    for (size_t i = 0; i < sizeof CALM / sizeof CALM[0]; i++)
        if (strcmp(name, CALM[i]) == 0)
            return true;
    return strncmp(name, "fuse.", 5) == 0 || strncmp(name, "fuseblk.", 8) == 0;
}

static uint32_t kind_of(const char *name)
{
    for (size_t i = 0; i < sizeof LOCAL / sizeof LOCAL[0]; i++)
        if (strcmp(name, LOCAL[i].name) == 0)
            return LOCAL[i].kind;
    return 0;
}

static bool add(struct rl_mounts *mounts, struct mount mount)
{
    if (mounts->count == mounts->capacity) {
        size_t capacity = mounts->capacity != 0 ? mounts->capacity * 2 : 64;
        struct mount *grown = realloc(mounts->sorted, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        mounts->sorted = grown;
        mounts->capacity = capacity;
    }
    mounts->sorted[mounts->count++] = mount;
    return true;
}

/* One line: "36 35 98:0 /in /at rw,noatime shared:1 - ext4 /dev/sda1 rw"; the third part may be missing. */
static bool add_line(struct rl_mounts *mounts, char *line)
{
    char *end;
    uint64_t id = strtoull(line, &end, 10);
    char *name = strstr(line, " - ");
    if (end == line || name == NULL)
        return false;
    name += 3;
    name[strcspn(name, " \n")] = '\0';
    uint32_t kind = kind_of(name);
    if (kind == 0 && !is_calm(name))
        mounts->wary = true;
    return add(mounts, (struct mount){.id = id, .kind = kind});
}

static int by_id(const void *left, const void *right)
{
    uint64_t a = ((const struct mount *)left)->id, b = ((const struct mount *)right)->id;
    return a < b ? -1 : a > b;
}

/* Reads by a copy of the fd: the two share what the kernel has reported of changes. */
static bool read_all(struct rl_mounts *mounts)
{
    int copy = fcntl(mounts->fd, F_DUPFD_CLOEXEC, 0);
    FILE *stream = copy >= 0 ? fdopen(copy, "r") : NULL;
    if (stream == NULL) {
        if (copy >= 0)
            close(copy);
        return false;
    }
    char *line = NULL;
    size_t capacity = 0;
    bool good = true;
    while (good && getline(&line, &capacity, stream) >= 0)
        good = add_line(mounts, line);
    good = good && !ferror(stream) && mounts->count != 0;
    free(line);
    fclose(stream);
    if (good)
        qsort(mounts->sorted, mounts->count, sizeof *mounts->sorted, by_id);
    return good;
}

struct rl_mounts *rl_mounts_learn(void)
{
    struct rl_mounts *mounts = calloc(1, sizeof *mounts);
    if (mounts == NULL)
        return NULL;
    mounts->fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (mounts->fd < 0 || !read_all(mounts)) {
        int error = mounts->fd < 0 ? errno : EAGAIN;
        rl_mounts_free(mounts);
        errno = error;
        return NULL;
    }
    return mounts;
}

void rl_mounts_free(struct rl_mounts *mounts)
{
    if (mounts == NULL)
        return;
    if (mounts->fd >= 0)
        close(mounts->fd);
    free(mounts->sorted);
    free(mounts);
}

bool rl_mounts_are_current(struct rl_mounts *mounts)
{
    struct timespec now;
    if (__atomic_load_n(&mounts->stale, __ATOMIC_RELAXED))
        return false;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    int64_t now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (now_ns == __atomic_load_n(&mounts->checked_ns, __ATOMIC_RELAXED))
        return true;
    /* Anything but "no event", a failure included, is the end: the kernel reports each change once. */
    struct pollfd poll_fd = {.fd = mounts->fd, .events = POLLPRI};
    if (poll(&poll_fd, 1, 0) != 0) {
        __atomic_store_n(&mounts->stale, true, __ATOMIC_RELAXED);
        return false;
    }
    __atomic_store_n(&mounts->checked_ns, now_ns, __ATOMIC_RELAXED);
    return true;
}

uint32_t rl_mounts_kind(const struct rl_mounts *mounts, uint64_t mount_id)
{
    size_t first = 0, end = mounts->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        if (mounts->sorted[middle].id == mount_id)
            return mounts->sorted[middle].kind;
        if (mounts->sorted[middle].id < mount_id)
            first = middle + 1;
        else
            end = middle;
    }
    return 0;
}

bool rl_mounts_are_wary(const struct rl_mounts *mounts)
{
    return mounts->wary;
}
