/*
 * Directories on the file systems that the tests of what is resident are about. Where the machine has none,
 * the behaviour ends as one that the machine lacks something for.
 */
#ifndef RINGLOOP_TEST_PLACES_H
#define RINGLOOP_TEST_PLACES_H

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "harness.h"
#include "resident.h"

enum { EXIT_LACKING = 77 }; /* test_native.py knows it */

#define LACKING(what)                                       \
    do {                                                    \
        printf("lacking: %s (errno %d)\n", what, errno);    \
        fflush(stdout);                                     \
        _exit(EXIT_LACKING);                                \
    } while (0)

enum { PATH_BYTES = 256, PATHS_MAX = 1000 };

/* A path, which stays. */
__attribute__((format(printf, 1, 2))) static inline char *path_of(const char *format, ...)
{
    static char paths[PATHS_MAX][PATH_BYTES];
    static unsigned count;
    CHECK(count < PATHS_MAX);
    char *path = paths[count++];
    va_list arguments;
    va_start(arguments, format);
    CHECK(vsnprintf(path, PATH_BYTES, format, arguments) < PATH_BYTES);
    va_end(arguments);
    return path;
}

enum { EXT4 = 0xef53, XFS = 0x58465342, TMPFS = 0x01021994, OVERLAYFS = 0x794c7630 };
#define BTRFS 0x9123683eL

static inline bool is_on(const char *path, long type)
{
    struct statfs status;
    return statfs(path, &status) == 0 && status.f_type == type;
}

static inline const char *new_directory(const char *parent)
{
    char *path = path_of("%s/ringloop-XXXXXX", parent);
    CHECK(mkdtemp(path) != NULL);
    CHECK_EQUAL(chmod(path, 0755), 0);
    return path;
}

/* Whether the process' root shows the mount of `path`: below chroot() to a plain directory it does not. */
static inline bool shows_mount(const char *path)
{
    struct statx status;
    char line[4096];
    bool found = false;
    CHECK_EQUAL(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &status), 0);
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts != NULL && !found && fgets(line, sizeof line, mounts) != NULL)
        found = strtoull(line, NULL, 10) == status.stx_mnt_id;
    if (mounts != NULL)
        fclose(mounts);
    return found;
}

/* A new directory on a disk: ext4, xfs or btrfs. */
static inline const char *on_disk(void)
{
    const char *candidates[] = {getenv("TMPDIR"), "/tmp", "/var/tmp", "."};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++)
        if (candidates[i] != NULL && access(candidates[i], W_OK) == 0 && shows_mount(candidates[i]) &&
            (is_on(candidates[i], EXT4) || is_on(candidates[i], XFS) || is_on(candidates[i], BTRFS)))
            return new_directory(candidates[i]);
    LACKING("a directory on a disk whose mount is seen");
}

/* A new directory in memory. */
static inline const char *on_tmpfs(void)
{
    if (!is_on("/dev/shm", TMPFS))
        LACKING("tmpfs at /dev/shm");
    return new_directory("/dev/shm");
}

/* Mounts made from here on are this process' own, and go with it. */
static inline void own_mounts(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        LACKING("the right to mount");
}

static inline int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type, (void)where;
    return remove(path);
}

static inline void remove_tree(const char *path)
{
    CHECK_EQUAL(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT), 0);
}

static inline uint8_t byte_at(size_t offset)
{
    return (uint8_t)(offset * 7 + offset / 4096 * 13 + 1);
}

static inline void fill_range(int fd, size_t begin, size_t end)
{
    uint8_t bytes[65536];
    while (begin < end) {
        size_t count = end - begin < sizeof bytes ? end - begin : sizeof bytes;
        for (size_t i = 0; i < count; i++)
            bytes[i] = byte_at(begin + i);
        CHECK_EQUAL(pwrite(fd, bytes, count, (off_t)begin), count);
        begin += count;
    }
}

/* A file of that size, written to the disk, with byte_at() in it. */
static inline const char *new_file(const char *path, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    fill_range(fd, 0, size);
    CHECK_EQUAL(fsync(fd), 0);
    CHECK_EQUAL(close(fd), 0);
    return path;
}

/*
 * A symbolic link whose time of access is the latest of its times. Else (relatime) following it would write
 * that time, which a cached walk leaves to the ordinary one (Linux 6.18, atime_needs_update).
 */
static inline void new_link(const char *target, const char *path)
{
    struct timespec times[2];
    CHECK_EQUAL(symlink(target, path), 0);
    CHECK_EQUAL(clock_gettime(CLOCK_REALTIME, &times[0]), 0);
    times[0].tv_sec += 3600;
    times[1] = (struct timespec){.tv_sec = times[0].tv_sec - 7200};
    CHECK_EQUAL(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

struct overlay {
    const char *base, *top;
};

/*
 * An overlay of two directories in a new one on the disk, or in memory: `top` is the mount, and "lower" of
 * `lower_bytes` is below it. Its dentries are in no cache yet.
 */
static inline struct overlay on_overlay(bool in_memory, size_t lower_bytes)
{
    own_mounts();
    struct overlay overlay = {.base = in_memory ? on_tmpfs() : on_disk()};
    const char *parts[] = {"below", "above", "work", "top"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        CHECK_EQUAL(mkdir(path_of("%s/%s", overlay.base, parts[i]), 0755), 0);
    new_file(path_of("%s/below/lower", overlay.base), lower_bytes);
    char options[4 * PATH_BYTES];
    snprintf(options, sizeof options, "lowerdir=%s/below,upperdir=%s/above,workdir=%s/work", overlay.base,
             overlay.base, overlay.base);
    overlay.top = path_of("%s/top", overlay.base);
    if (mount("overlay", overlay.top, "overlay", 0, options) != 0) {
        remove_tree(overlay.base);
        LACKING("overlayfs");
    }
    return overlay;
}

static inline void remove_overlay(struct overlay overlay)
{
    CHECK_EQUAL(umount(overlay.top), 0);
    remove_tree(overlay.base);
}

static inline struct rl_resident *learn(void)
{
    struct rl_resident *resident = rl_resident_learn();
    if (resident == NULL)
        LACKING("openat2(RESOLVE_CACHED), statx() or /proc");
    return resident;
}

/* Opened at once: it must be so, after an ordinary walk of the path. */
static inline int open_at_once(struct rl_resident *resident, const char *path, struct rl_resident_file *file)
{
    struct stat warm;
    struct rl_statx status;
    CHECK_EQUAL(stat(path, &warm), 0);
    int fd = rl_resident_open(resident, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, file, &status);
    CHECK(fd >= 0);
    CHECK_EQUAL(status.inode, warm.st_ino);
    return fd;
}

#endif
