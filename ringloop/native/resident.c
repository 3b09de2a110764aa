/*
 * Finding, looking at and opening files without waiting; reading and closing them is in resident_io.c. The
 * facts, from Linux 5.12 to 6.18:
 *
 * - openat2(RESOLVE_CACHED) walks a path in memory only, or answers EAGAIN (fs/namei.c, LOOKUP_CACHED).
 *   That bounds the walk alone: what is found may still block in its open, and the root of an nfs or 9p
 *   mount is asked for on its server after the walk (d_weak_revalidate). mounts.c knows where there are
 *   such.
 * - An fd by O_PATH opens nothing. statx() of it with AT_STATX_DONT_SYNC asks no server on those file
 *   systems that a walk in the cache can end on, and tells the mount, hence what file system it is.
 * - Not avoidable, and no different for the ring: what a security module or fanotify's permission events
 *   do, and an access control list of the file itself that nobody has read since its inode came into
 *   memory.
 */
#define _GNU_SOURCE
#include "resident.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "mounts.h"
#include "recent.h"

/* System calls and numbers that the oldest headers lack. */
#if defined(__x86_64__) && !defined(__ILP32__)
enum { SYSCALL_STATX = 332 };
#elif defined(__aarch64__) || defined(__riscv) || defined(__loongarch__)
enum { SYSCALL_STATX = 291 };
#else
enum { SYSCALL_STATX = SYS_statx };
#endif
enum { SYSCALL_OPENAT2 = 437 };

enum { RESOLVE_WITHIN_MOUNT = 0x01, RESOLVE_IN_CACHE = 0x20 }; /* 5.6, 5.12 */
enum { OF_FD = 0x1000 };                                       /* AT_EMPTY_PATH */
enum { WANTED = 0x07ff | 0x0800 | 0x1000, MOUNT_KNOWN = 0x1000 }; /* STATX_BASIC_STATS, _BTIME, _MNT_ID */
enum { ATTRIBUTE_NODUMP = 0x40, ATTRIBUTE_ENCRYPTED = 0x800, ATTRIBUTE_VERITY = 0x100000 };

enum {
    OPEN_FLAGS = O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | O_NOATIME | O_LARGEFILE,
    SETTABLE_FLAGS = O_NONBLOCK | O_NOATIME /* those of them that F_SETFL sets */
};

struct rl_open_how {
    uint64_t flags, mode, resolve;
};

struct rl_resident {
    struct rl_mounts *mounts;
    uint64_t resolve;  /* how openat2() is to walk */
    uint64_t refusals; /* a bit for every 64th fd: see rl_resident_refusals() */
    struct rl_recent recent;
};

static int open_cached(const struct rl_resident *resident, int dirfd, const char *path, int flags)
{
    struct rl_open_how how = {.flags = (uint64_t)(uint32_t)flags, .resolve = resident->resolve};
    long fd = syscall(SYSCALL_OPENAT2, dirfd, path, &how, sizeof how);
    return fd < 0 ? -errno : (int)fd;
}

static uint32_t coarse_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)now.tv_sec * 1000 + (uint32_t)(now.tv_nsec / 1000000);
}

int rl_statx_fd(int fd, int at_flags, struct rl_statx *status)
{
    return syscall(SYSCALL_STATX, fd, "", OF_FD | at_flags, WANTED, status) < 0 ? -errno : 0;
}

/* ---- learning ---- */

struct rl_resident *rl_resident_learn(void)
{
    struct rl_resident *resident = calloc(1, sizeof *resident);
    if (resident == NULL)
        return NULL;
    resident->resolve = RESOLVE_IN_CACHE;
    resident->mounts = rl_mounts_learn();
    if (resident->mounts == NULL) {
        int error = errno;
        free(resident);
        errno = error;
        return NULL;
    }
    struct rl_statx status;
    int fd = open_cached(resident, AT_FDCWD, "/", O_PATH | O_CLOEXEC);
    int result = fd == -EAGAIN ? 0 : fd; /* ENOSYS before 5.6 or EPERM of a filter, EINVAL before 5.12 */
    if (fd >= 0) {
        result = rl_statx_fd(fd, RL_WITHOUT_SYNC, &status);
        close(fd);
    }
    if (result < 0) {
        rl_resident_free(resident);
        errno = -result;
        return NULL;
    }
    if (rl_mounts_are_wary(resident->mounts))
        resident->resolve |= RESOLVE_WITHIN_MOUNT;
    return resident;
}

void rl_resident_free(struct rl_resident *resident)
{
    if (resident == NULL)
        return;
    rl_mounts_free(resident->mounts);
    free(resident);
}

bool rl_resident_is_current(struct rl_resident *resident)
{
    return resident != NULL && rl_mounts_are_current(resident->mounts);
}

/* ---- paths ---- */

/* Errors that are the same however the path is walked. All others are for the ordinary call to find. */
static int certain(int error)
{
    switch (error) {
    case -ENOENT:
    case -EACCES:
    case -ENOTDIR:
    case -ELOOP:
    case -ENAMETOOLONG:
    case -EBADF:
    case -EFAULT:
        return error;
    default:
        return RL_WOULD_BLOCK;
    }
}

static bool is_wary(const struct rl_resident *resident)
{
    return (resident->resolve & RESOLVE_WITHIN_MOUNT) != 0;
}

static int walk_flags(const struct rl_resident *resident, int flags)
{
    return is_wary(resident) ? flags | O_NOFOLLOW : flags;
}

static bool ends_with_a_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *last = slash != NULL ? slash + 1 : path;
    return *last != '\0' && strcmp(last, ".") != 0 && strcmp(last, "..") != 0;
}

/*
 * Which file system a file is on, for what may be done at once. Behind overlayfs only the attributes that
 * statx() knows of tell the one that holds the file. NODUMP is known to ext4, xfs, btrfs, f2fs and tmpfs
 * (6.0), and to gfs2, which has ENCRYPTED but not VERITY.
 */
static uint32_t kind_of(const struct rl_resident *resident, const struct rl_statx *status)
{
    if ((status->mask & MOUNT_KNOWN) == 0)
        return 0;
    uint32_t kind = rl_mounts_kind(resident->mounts, status->mount_id);
    uint64_t known = status->attributes_mask;
    if ((kind & RL_FS_STACKED) != 0 &&
        ((known & ATTRIBUTE_NODUMP) == 0 ||
         ((known & ATTRIBUTE_ENCRYPTED) != 0 && (known & ATTRIBUTE_VERITY) == 0)))
        return 0;
    return kind;
}

/* What stands for the path among those that were regular files a moment ago; 0: nothing. */
static uint64_t recent_path(struct rl_resident *resident, int dirfd, const char *path)
{
    uint64_t start = 0;
    if (path[0] != '/' && (is_wary(resident) || !rl_resident_start(dirfd, &start)))
        return 0;
    return rl_recent_hash(start, path, strlen(path));
}

/*
 * An fd by O_PATH of what the path leads to, with its status, if it is in memory on a local file system.
 * -errno or RL_WOULD_BLOCK else.
 *
 * Where there is a mount whose root must not be looked at, the walk is kept from mounts other than the one
 * where it starts, and from ending on a root in another way: by a symbolic link, "/", "." or "..".
 */
static int find_cached(struct rl_resident *resident, int dirfd, const char *path, int flags,
                       struct rl_statx *status, uint32_t *kind)
{
    if (!rl_resident_is_current(resident))
        return RL_WOULD_BLOCK;
    if (is_wary(resident) && !ends_with_a_name(path))
        return RL_WOULD_BLOCK;
    int fd = open_cached(resident, dirfd, path, O_PATH | O_CLOEXEC | walk_flags(resident, flags));
    if (fd < 0) /* a symbolic link that was not followed is no directory */
        return is_wary(resident) && fd == -ENOTDIR ? RL_WOULD_BLOCK : certain(fd);
    int result = rl_statx_fd(fd, RL_WITHOUT_SYNC, status);
    *kind = result == 0 ? kind_of(resident, status) : 0;
    bool was_held_back =
        is_wary(resident) && (flags & O_NOFOLLOW) == 0 && result == 0 && S_ISLNK(status->mode);
    if ((*kind & RL_FS_LOCAL) != 0 && !was_held_back)
        return fd;
    close(fd);
    return RL_WOULD_BLOCK;
}

/* Regular files with a key or a hash tree read these when they are opened. */
static bool opens_at_once(uint32_t kind, const struct rl_statx *status)
{
    if (S_ISDIR(status->mode))
        return (kind & RL_FS_DIRECTORIES) != 0;
    return S_ISREG(status->mode) && (status->attributes & (ATTRIBUTE_ENCRYPTED | ATTRIBUTE_VERITY)) == 0;
}

int rl_resident_stat(struct rl_resident *resident, int dirfd, const char *path, int at_flags,
                     struct rl_statx *status)
{
    uint32_t kind;
    if ((at_flags & AT_EMPTY_PATH) != 0 && path[0] == '\0')
        return dirfd >= 0 ? rl_resident_look(resident, dirfd, &kind, status) : RL_WOULD_BLOCK;
    if ((at_flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0)
        return RL_WOULD_BLOCK;
    int flags = (at_flags & AT_SYMLINK_NOFOLLOW) != 0 ? O_NOFOLLOW : 0;
    int fd = find_cached(resident, dirfd, path, flags, status, &kind);
    if (fd < 0)
        return fd;
    close(fd);
    if (path[0] == '/' && S_ISREG(status->mode) && opens_at_once(kind, status))
        rl_recent_note(&resident->recent, recent_path(resident, dirfd, path), coarse_ms());
    return 0;
}

/* ---- opening ---- */

void rl_resident_fill(struct rl_resident_file *file, uint32_t kind, int flags, const struct rl_statx *status)
{
    *file = (struct rl_resident_file){
        .kind = kind,
        /* O_DIRECT goes to the device and waits for it, with RWF_NOWAIT too. */
        .reads = S_ISREG(status->mode) && (flags & (O_DIRECT | O_PATH)) == 0,
        /* O_SYNC has the bit of O_DSYNC too. */
        .writes = S_ISREG(status->mode) && (flags & (O_DIRECT | O_PATH | O_DSYNC)) == 0,
        .readable = (flags & O_ACCMODE) != O_WRONLY,
        .writable = (flags & O_ACCMODE) != O_RDONLY,
        /* Up to 6.18 these have no RWF_NOWAIT: a try would cost as much as the proof. */
        .lacks_nowait = (kind & (RL_FS_MEMORY | RL_FS_STACKED)) != 0,
        .closes = S_ISREG(status->mode) && (flags & O_ACCMODE) == O_RDONLY && status->link_count != 0 &&
                  status->blocks <= RL_RESIDENT_SMALL_BLOCKS,
        .size = status->size,
        .changed_seconds = status->changed.seconds,
        .changed_nanoseconds = status->changed.nanoseconds,
    };
}

static bool is_same_file(const struct rl_statx *one, const struct stat *other)
{
    return one->inode == other->st_ino && one->dev_major == major(other->st_dev) &&
           one->dev_minor == minor(other->st_dev) && ((one->mode ^ other->st_mode) & S_IFMT) == 0;
}

static struct rl_statx_time time_of(struct timespec time)
{
    return (struct rl_statx_time){.seconds = time.tv_sec, .nanoseconds = (uint32_t)time.tv_nsec};
}

/* Into what statx() told before it was opened. fstat() is the cheaper of the two. */
static void take_what_changes(struct rl_statx *status, const struct stat *opened)
{
    status->mode = (uint16_t)opened->st_mode;
    status->link_count = (uint32_t)opened->st_nlink;
    status->uid = opened->st_uid;
    status->gid = opened->st_gid;
    status->size = (uint64_t)opened->st_size;
    status->blocks = (uint64_t)opened->st_blocks;
    status->accessed = time_of(opened->st_atim);
    status->changed = time_of(opened->st_ctim);
    status->modified = time_of(opened->st_mtim);
}

static int keep_unseen(int fd, int flags, struct rl_resident_file *file)
{
    file->is_unseen = (flags & O_NONBLOCK) == 0;
    file->status_flags = flags & SETTABLE_FLAGS;
    return fd;
}

/*
 * Opens what led to a regular file on a local file system a moment ago, by one walk. If something else was
 * put in its place meanwhile, it is dropped again, but for
 * - a regular file on another file system: its open has waited, if at all, this once;
 * - a FIFO: O_NONBLOCK has kept its open from waiting, but a writer may have been let in by it, who must
 *   find a reader from then on.
 */
static int open_recent(struct rl_resident *resident, int dirfd, const char *path, int flags,
                       struct rl_resident_file *file, struct rl_statx *status)
{
    int fd = open_cached(resident, dirfd, path, O_NONBLOCK | O_NOCTTY | walk_flags(resident, flags));
    if (fd < 0)
        return RL_WOULD_BLOCK;
    int result = rl_statx_fd(fd, RL_WITHOUT_SYNC, status);
    if (result == 0 && S_ISREG(status->mode)) {
        uint32_t kind = kind_of(resident, status);
        if ((kind & RL_FS_LOCAL) != 0)
            rl_resident_fill(file, kind, flags, status);
        return keep_unseen(fd, flags, file);
    }
    if (result == 0 && S_ISFIFO(status->mode) && (flags & O_NONBLOCK) != 0)
        return keep_unseen(fd, flags, file);
    if (result == 0 && S_ISFIFO(status->mode) && fcntl(fd, F_SETFL, flags & SETTABLE_FLAGS) == 0)
        *file = (struct rl_resident_file){.waits_for_writer = true, .fifo_fd = fd};
    else
        close(fd);
    return RL_WOULD_BLOCK;
}

/*
 * The path is walked twice: the first walk opens nothing, so that what has side effects is not touched. If
 * it was replaced meanwhile, O_NONBLOCK keeps even a FIFO from waiting, and the file is dropped again. (To
 * reopen the first by /proc/self/fd is not cheaper: 3.3 us against 1.8.) O_NONBLOCK also makes a lease's
 * holder not waited for.
 */
static int open_found(struct rl_resident *resident, int dirfd, const char *path, int flags,
                      struct rl_resident_file *file, struct rl_statx *status)
{
    uint32_t kind;
    struct stat opened;
    int found_fd = find_cached(resident, dirfd, path, flags & (O_DIRECTORY | O_NOFOLLOW), status, &kind);
    if (found_fd < 0)
        return found_fd;
    int fd = RL_WOULD_BLOCK;
    if (S_ISLNK(status->mode))
        fd = -ELOOP; /* there was O_NOFOLLOW */
    else if (opens_at_once(kind, status))
        fd = open_cached(resident, dirfd, path, O_NONBLOCK | O_NOCTTY | walk_flags(resident, flags));
    close(found_fd);
    if (fd < 0)
        return fd == -EACCES || fd == -ELOOP ? fd : RL_WOULD_BLOCK; /* the path is right */
    if (fstat(fd, &opened) < 0 || !is_same_file(status, &opened)) {
        close(fd);
        return RL_WOULD_BLOCK;
    }
    take_what_changes(status, &opened);
    rl_resident_fill(file, kind, flags, status);
    return keep_unseen(fd, flags, file);
}

int rl_resident_open_unseen(struct rl_resident *resident, int dirfd, const char *path, int flags,
                            struct rl_resident_file *file, struct rl_statx *status)
{
    *file = (struct rl_resident_file){0};
    if ((flags & ~OPEN_FLAGS) != 0 || (flags & O_ACCMODE) != O_RDONLY || !rl_resident_is_current(resident))
        return RL_WOULD_BLOCK;
    uint32_t now_ms = coarse_ms();
    uint64_t recent = (flags & O_DIRECTORY) == 0 ? recent_path(resident, dirfd, path) : 0;
    int fd = RL_WOULD_BLOCK;
    if (recent != 0 && rl_recent_knows(&resident->recent, recent, now_ms))
        fd = open_recent(resident, dirfd, path, flags, file, status);
    if (fd == RL_WOULD_BLOCK && !file->waits_for_writer)
        fd = open_found(resident, dirfd, path, flags, file, status);
    if (recent != 0 && fd >= 0 && file->reads)
        rl_recent_note(&resident->recent, recent, now_ms);
    return fd;
}

bool rl_resident_start(int dirfd, uint64_t *start)
{
    struct rl_statx from;
    if (rl_statx_fd(dirfd, RL_WITHOUT_SYNC, &from) < 0 || (from.mask & MOUNT_KNOWN) == 0)
        return false;
    *start = from.mount_id << 48 ^ from.inode;
    return true;
}

bool rl_resident_opens_in(struct rl_resident *resident, const struct rl_statx *directory)
{
    return rl_resident_is_current(resident) && (kind_of(resident, directory) & RL_FS_LOCAL) != 0 &&
           (directory->attributes & ATTRIBUTE_ENCRYPTED) == 0;
}

void rl_resident_listed(struct rl_resident *resident, uint64_t start, const char *directory,
                        size_t directory_bytes, const char *name, size_t name_bytes)
{
    char path[PATH_MAX];
    size_t length = directory_bytes;
    if (directory_bytes == 0 || directory_bytes + 1 + name_bytes > sizeof path)
        return;
    memcpy(path, directory, directory_bytes);
    if (path[length - 1] != '/')
        path[length++] = '/';
    memcpy(path + length, name, name_bytes);
    rl_recent_note(&resident->recent, rl_recent_hash(start, path, length + name_bytes), coarse_ms());
}

int rl_resident_show(int fd, struct rl_resident_file *file)
{
    if (file->is_unseen && fcntl(fd, F_SETFL, file->status_flags) < 0)
        return -errno;
    file->is_unseen = false;
    return 0;
}

int rl_resident_open(struct rl_resident *resident, int dirfd, const char *path, int flags,
                     struct rl_resident_file *file, struct rl_statx *status)
{
    int fd = rl_resident_open_unseen(resident, dirfd, path, flags, file, status);
    if (fd >= 0 && rl_resident_show(fd, file) < 0) {
        close(fd);
        rl_resident_forget(file);
        return RL_WOULD_BLOCK;
    }
    return fd;
}

/* ---- by an fd ---- */

bool rl_resident_may_ask(struct rl_resident *resident)
{
    return rl_resident_is_current(resident) && !is_wary(resident);
}

uint64_t *rl_resident_refusals(struct rl_resident *resident)
{
    return &resident->refusals;
}

int rl_resident_look(struct rl_resident *resident, int fd, uint32_t *kind, struct rl_statx *status)
{
    if (!rl_resident_may_ask(resident))
        return RL_WOULD_BLOCK;
    int result = rl_statx_fd(fd, RL_WITHOUT_SYNC, status);
    if (result < 0)
        return certain(result);
    *kind = kind_of(resident, status);
    return (*kind & RL_FS_LOCAL) != 0 ? 0 : RL_WOULD_BLOCK;
}

int rl_resident_identify(struct rl_resident *resident, int fd, bool may_wait, struct rl_resident_file *file,
                         struct rl_statx *status)
{
    uint32_t kind = 0;
    *file = (struct rl_resident_file){0};
    if (!may_wait) {
        int result = rl_resident_look(resident, fd, &kind, status);
        if (result < 0)
            return result;
    } else {
        if (!rl_resident_is_current(resident))
            return RL_WOULD_BLOCK;
        int result = rl_statx_fd(fd, 0, status);
        if (result < 0)
            return result;
        kind = kind_of(resident, status);
    }
    if ((kind & RL_FS_LOCAL) == 0 || !(S_ISREG(status->mode) || S_ISDIR(status->mode)))
        return 0;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    rl_resident_fill(file, kind, flags, status);
    return 0;
}
