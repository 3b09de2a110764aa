/*
 * Reading, writing and closing open files without waiting. The facts, from Linux 5.12 to 6.18:
 *
 * - RWF_NOWAIT reads what is cached. But for what is not it starts the reading first, and to know from
 *   where, ext4 waits for the blocks that map the file: 0.5 to 2.6 ms were seen. So cachestat() goes before
 *   (6.5).
 * - cachestat() also counts pages whose reading has only begun, so it is no proof for a read that may wait.
 *   mincore() counts those that are up to date, and sees through overlayfs, where cachestat() finds
 *   nothing.
 * - In tmpfs a page is in memory or in swap; cachestat() counts the latter as evicted.
 * - Not avoidable, and no different for the ring: the first read after a change writes the access time, and
 *   a page may be marked to start readahead of what follows it.
 * - Between a proof and the read that follows it, half a microsecond, a page could be evicted.
 */
#define _GNU_SOURCE
#include "resident.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "cached.h"
#include "ensure.h"
#include "mounts.h"

/* System calls and numbers that the oldest headers lack. */
#if defined(__x86_64__) && !defined(__ILP32__)
enum { SYSCALL_PREADV2 = 327, SYSCALL_PWRITEV2 = 328 };
#elif defined(__aarch64__) || defined(__riscv) || defined(__loongarch__)
enum { SYSCALL_PREADV2 = 286, SYSCALL_PWRITEV2 = 287 };
#else
enum { SYSCALL_PREADV2 = SYS_preadv2, SYSCALL_PWRITEV2 = SYS_pwritev2 };
#endif

enum { NOWAIT = 8 }; /* RWF_NOWAIT, 4.14 */

enum {
    FRESH_SECONDS = 60, /* twice vm.dirty_expire_centisecs: what is older has been written back */
    COUNTABLE_BLOCKS = (64 << 20) / 512 /* cachestat() of so much takes 200 us if every page is by itself */
};

/* ---- reading ---- */

/* What the ordinary call would not answer, it is for the ordinary call to answer. */
static int64_t settled(long result)
{
    if (result >= 0)
        return result;
    return errno == EAGAIN || errno == EINTR || errno == EPERM || errno == ENOSYS ? RL_WOULD_BLOCK : -errno;
}

uint64_t rl_resident_fd_class(int fd)
{
    return (uint64_t)1 << (fd & 63);
}

static uint64_t page_bytes(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Pages of the file that hold [offset, offset + length), as far as the file goes. */
static uint64_t pages_in(uint64_t offset, uint64_t length, uint64_t size)
{
    uint64_t page = page_bytes();
    uint64_t end = size - offset > length ? offset + length : size;
    return offset >= size ? 0 : (end + page - 1) / page - offset / page;
}

enum presence { ABSENT, PRESENT, BEYOND_END };

/*
 * Whether a read with RWF_NOWAIT finds all it asks for, so that it starts no reading of its own. The size
 * that was seen last will mostly do: had the file grown, the new pages would be in memory too. From the
 * end on there is nothing to read.
 */
static enum presence find(int fd, struct rl_resident_file *file, uint64_t offset, uint64_t length)
{
    struct rl_cached found;
    struct stat status;
    if (length == 0 || offset > INT64_MAX - length) /* the latter is an error */
        return PRESENT;
    bool is_behind = offset >= file->size;
    if (is_behind) {
        if (fstat(fd, &status) < 0)
            return ABSENT;
        file->size = (uint64_t)status.st_size;
        if (offset >= file->size && file->readable)
            return BEYOND_END;
    }
    if (file->lacks_cachestat)
        return PRESENT;
    if (rl_count_cached(fd, offset, length, &found) < 0) {
        file->lacks_cachestat = true;
        return PRESENT;
    }
    if (found.pages >= pages_in(offset, length, file->size))
        return PRESENT;
    if (is_behind || fstat(fd, &status) < 0)
        return ABSENT;
    file->size = (uint64_t)status.st_size;
    return found.pages >= pages_in(offset, length, file->size) ? PRESENT : ABSENT;
}

/* No page is in swap. Holes read as zeroes. */
static bool is_in_memory(int fd, uint64_t offset, uint64_t length)
{
    struct rl_cached found;
    struct sysinfo system;
    if (length == 0)
        return true;
    if (rl_count_cached(fd, offset, length, &found) == 0)
        return found.evicted == 0;
    return sysinfo(&system) == 0 && system.totalswap == 0;
}

static void drop_mapping(struct rl_resident_file *file)
{
    if (file->mapping != NULL)
        munmap(file->mapping, file->mapping_bytes);
    file->mapping = NULL;
    file->mapping_bytes = 0;
}

/*
 * A mapping of the whole file, only for mincore() to be asked about. PROT_NONE, so that
 * mlockall(MCL_FUTURE) reads nothing in. It goes one page beyond the end: see asks_honestly().
 */
static bool map_file(int fd, struct rl_resident_file *file)
{
    uint64_t page = page_bytes();
    uint64_t bytes = (file->size + page - 1) / page * page + page;
    if (bytes <= file->mapping_bytes)
        return true;
    drop_mapping(file);
    if (bytes > SIZE_MAX)
        return false;
    void *mapping = mmap(NULL, (size_t)bytes, PROT_NONE, MAP_SHARED, fd, 0);
    if (mapping == MAP_FAILED)
        return false;
    file->mapping = mapping;
    file->mapping_bytes = (size_t)bytes;
    file->is_answered = false;
    return true;
}

/* Which of `count` pages are up to date, from the page `first` on. */
static bool ask(const struct rl_resident_file *file, uint64_t first, uint64_t count, unsigned char *pages)
{
    uint64_t page = page_bytes();
    return mincore(file->mapping + first * page, (size_t)(count * page), pages) == 0;
}

/*
 * To those who could not write to the file mincore() says that all is there (5.2). So it must once have
 * said no of the page beyond the end: where that is the next page, in the same call.
 */
static bool asks_honestly(struct rl_resident_file *file, uint64_t first, uint64_t count, unsigned char *pages)
{
    uint64_t beyond = file->mapping_bytes / page_bytes() - 1;
    unsigned char *answer = pages + count;
    if (file->is_answered)
        return ask(file, first, count, pages);
    bool is_next = first + count == beyond;
    if (!ask(file, first, count + (is_next ? 1 : 0), pages) || (!is_next && !ask(file, beyond, 1, answer)))
        return false;
    file->is_answered = (*answer & 1) == 0;
    return file->is_answered;
}

/*
 * The file that overlayfs reads from is the one that was mapped, unless it was copied up since: that
 * changes the time of change, and cannot happen once the file was opened for writing.
 */
static bool is_what_was_opened(const struct rl_resident_file *file, const struct stat *status)
{
    return (file->kind & RL_FS_STACKED) == 0 || file->writable ||
           (status->st_ctim.tv_sec == file->changed_seconds &&
            (uint32_t)status->st_ctim.tv_nsec == file->changed_nanoseconds);
}

/* Where there is no proof for this file and will be none, `reads` is cleared. */
static bool is_up_to_date(int fd, struct rl_resident_file *file, uint64_t offset, uint64_t length)
{
    unsigned char pages[RL_RESIDENT_BYTES_MAX / 4096 + 2];
    struct stat status;
    if (fstat(fd, &status) < 0)
        return false;
    file->size = (uint64_t)status.st_size;
    uint64_t count = pages_in(offset, length, file->size);
    ENSURE(count < sizeof pages);
    if (count == 0) /* at the end, no page is looked at */
        return true;
    if (!is_what_was_opened(file, &status) || !map_file(fd, file) ||
        !asks_honestly(file, offset / page_bytes(), count, pages)) {
        file->reads = false;
        drop_mapping(file);
        return false;
    }
    for (uint64_t i = 0; i < count; i++)
        if ((pages[i] & 1) == 0)
            return false;
    return true;
}

static long pread_nowait(int fd, void *buffer, size_t length, int64_t offset)
{
    struct iovec vector = {buffer, length};
    return syscall(SYSCALL_PREADV2, fd, &vector, 1, (long)offset, (long)(offset >> 32), NOWAIT);
}

int64_t rl_resident_pread(int fd, struct rl_resident_file *file, void *buffer, size_t length, int64_t offset)
{
    if (!file->reads || offset < -1)
        return RL_WOULD_BLOCK;
    if (length > RL_RESIDENT_BYTES_MAX)
        length = RL_RESIDENT_BYTES_MAX;
    int64_t position = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
    if (position < 0)
        return -errno;
    uint64_t begin = (uint64_t)position;
    if (!file->lacks_nowait) {
        enum presence presence = find(fd, file, begin, length);
        if (presence != PRESENT)
            return presence == BEYOND_END ? 0 : RL_WOULD_BLOCK;
        long result = pread_nowait(fd, buffer, length, offset);
        if (result >= 0 || errno != EOPNOTSUPP)
            return settled(result);
        file->lacks_nowait = true;
    }
    if ((file->kind & RL_FS_MEMORY) != 0 ? !is_in_memory(fd, begin, length)
                                         : !is_up_to_date(fd, file, begin, length))
        return RL_WOULD_BLOCK;
    return settled(offset >= 0 ? pread(fd, buffer, length, offset) : read(fd, buffer, length));
}

/* To the end of the file, if it is as long as it was when it was last seen: see resident.h. */
int64_t rl_resident_read_rest(int fd, struct rl_resident_file *file, void *buffer, int64_t offset)
{
    struct stat status;
    if (offset < 0 || (uint64_t)offset >= file->size ||
        file->size - (uint64_t)offset >= RL_RESIDENT_BYTES_MAX)
        return RL_WOULD_BLOCK;
    size_t rest = (size_t)(file->size - (uint64_t)offset);
    uint64_t end = file->size;
    int64_t count = rl_resident_pread(fd, file, buffer, rest + 1, offset);
    if (count < 0 || (size_t)count != rest)
        return RL_WOULD_BLOCK;
    /* With RWF_NOWAIT it may also have stopped before a page that is not there. */
    if (!file->lacks_nowait && end % page_bytes() == 0 &&
        (fstat(fd, &status) < 0 || (uint64_t)status.st_size != end))
        return RL_WOULD_BLOCK;
    return count;
}

/*
 * RWF_NOWAIT is a promise that file systems make one by one, and that they break only for O_DIRECT and for
 * what is not cached. So where every page that is asked for is there, it does not matter what the fd is; and
 * giving the read to the ring would be no safer, which begins with the same try on the same thread.
 */
static int64_t read_cached(struct rl_resident *resident, int fd, void *buffer, size_t length, int64_t offset)
{
    struct rl_cached found;
    if (rl_count_cached(fd, (uint64_t)offset, length, &found) < 0 ||
        found.pages < pages_in((uint64_t)offset, length, UINT64_MAX))
        return RL_WOULD_BLOCK;
    long result = pread_nowait(fd, buffer, length, offset);
    if (result < 0 && errno == EOPNOTSUPP) {
        *rl_resident_refusals(resident) |= rl_resident_fd_class(fd);
        return RL_WOULD_BLOCK;
    }
    return settled(result);
}

int64_t rl_resident_pread_fd(struct rl_resident *resident, int fd, void *buffer, size_t length,
                             int64_t offset)
{
    uint32_t kind;
    struct rl_statx status;
    struct rl_resident_file file;
    if (!rl_resident_may_ask(resident))
        return RL_WOULD_BLOCK;
    if (length > RL_RESIDENT_BYTES_MAX)
        length = RL_RESIDENT_BYTES_MAX;
    uint64_t fds = rl_resident_fd_class(fd);
    bool is_tried = offset >= 0 && length != 0 && (*rl_resident_refusals(resident) & fds) == 0;
    int flags = 0;
    if (is_tried) {
        flags = fcntl(fd, F_GETFL);
        int64_t count = flags < 0 || (flags & (O_DIRECT | O_PATH)) != 0
                            ? RL_WOULD_BLOCK
                            : read_cached(resident, fd, buffer, length, offset);
        if (flags < 0 || count != RL_WOULD_BLOCK)
            return count;
    }
    if (rl_resident_look(resident, fd, &kind, &status) < 0 || !S_ISREG(status.mode))
        return RL_WOULD_BLOCK;
    if (!is_tried && (kind & RL_FS_MEMORY) == 0) /* there flags are of no matter */
        flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return RL_WOULD_BLOCK;
    rl_resident_fill(&file, kind, flags, &status);
    int64_t count = rl_resident_pread(fd, &file, buffer, length, offset);
    if (file.lacks_nowait)
        *rl_resident_refusals(resident) |= fds;
    else
        *rl_resident_refusals(resident) &= ~fds;
    rl_resident_forget(&file);
    return count;
}

/* ---- sending ---- */

/*
 * sendfile() has no form that does not wait for the file, so here the pages must be up to date. xfs also
 * takes the lock that a writer holds while it waits: a read of one byte with RWF_NOWAIT tells whether
 * somebody does.
 */
static bool sends_at_once(int fd, struct rl_resident_file *file, uint64_t offset, uint64_t length)
{
    char byte;
    if ((file->kind & RL_FS_MEMORY) != 0)
        return is_in_memory(fd, offset, length);
    if (!is_up_to_date(fd, file, offset, length))
        return false;
    if (file->lacks_nowait || offset >= file->size)
        return true;
    long result = pread_nowait(fd, &byte, 1, (int64_t)offset);
    file->lacks_nowait = result < 0 && errno == EOPNOTSUPP;
    return result >= 0 || file->lacks_nowait;
}

int64_t rl_resident_sendfile(int socket_fd, int fd, struct rl_resident_file *file, size_t length,
                             int64_t offset)
{
    if (!file->reads || offset < 0)
        return RL_WOULD_BLOCK;
    if (length > RL_RESIDENT_BYTES_MAX)
        length = RL_RESIDENT_BYTES_MAX;
    if (!sends_at_once(fd, file, (uint64_t)offset, length))
        return RL_WOULD_BLOCK;
    off_t position = offset;
    ssize_t count = sendfile(socket_fd, fd, &position, length);
    return count >= 0 ? count : -errno;
}

/* ---- writing ---- */

/*
 * Only with RWF_NOWAIT, which xfs and btrfs have (6.0). A write to tmpfs would wait for the inode's lock,
 * which another's fallocate() or long write holds, and on ext4 for the journal.
 */
int64_t rl_resident_pwrite(int fd, struct rl_resident_file *file, const void *buffer, size_t length,
                           int64_t offset)
{
    if (!file->writes || file->lacks_nowait || offset < -1)
        return RL_WOULD_BLOCK;
    if (length > RL_RESIDENT_BYTES_MAX)
        length = RL_RESIDENT_BYTES_MAX;
    struct iovec vector = {(void *)buffer, length};
    long result = syscall(SYSCALL_PWRITEV2, fd, &vector, 1, (long)offset, (long)(offset >> 32), NOWAIT);
    if (result < 0 && errno == EOPNOTSUPP) {
        file->writes = false;
        return RL_WOULD_BLOCK;
    }
    return settled(result);
}

/* ---- closing ---- */

/* Whether the last change is so recent that there may be data to be written back. */
static bool is_fresh(int64_t changed_seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec - changed_seconds < FRESH_SECONDS;
}

/* What is seen of a file right before it is closed. */
struct last_look {
    uint32_t mode;
    uint64_t links, blocks;
    int64_t changed_seconds;
};

/*
 * Two things make a close slow, whoever opened the file and how. The last close of an unlinked file frees
 * its blocks (44 ms a GiB). And if another truncated it to nothing, wrote to it and has it still open,
 * ext4, xfs and btrfs start writing it back at the next close by anybody (ext4's auto_da_alloc: 45 us for 4
 * KiB, 75 us for 1 MiB, 43 ms for 128 MiB). That this is so shows nowhere: large files with recent data are
 * taken for such.
 *
 * Who opened it for writing may in addition have reservations to give back. The last link can still go
 * between the look and the close.
 */
static bool closes_at_once(int fd, uint32_t kind, bool is_writable, const struct last_look *look)
{
    struct rl_cached found;
    if ((kind & RL_FS_MEMORY) != 0)
        return look->links != 0 || look->blocks <= RL_RESIDENT_SMALL_BLOCKS;
    if (look->links == 0 || is_writable)
        return false;
    if (!S_ISREG(look->mode) || look->blocks <= RL_RESIDENT_SMALL_BLOCKS || !is_fresh(look->changed_seconds))
        return true;
    return (kind & RL_FS_STACKED) == 0 && look->blocks <= COUNTABLE_BLOCKS &&
           rl_count_cached(fd, 0, 0, &found) == 0 && found.dirty == 0;
}

int rl_resident_close(int fd, struct rl_resident_file *file, bool was_just_opened)
{
    struct stat status;
    uint32_t kind = file->kind;
    bool is_writable = file->writable;
    bool is_seen = was_just_opened && file->closes;
    rl_resident_forget(file);
    if ((kind & RL_FS_LOCAL) == 0)
        return RL_WOULD_BLOCK;
    if (!is_seen && fstat(fd, &status) == 0) { /* else close() has the error */
        struct last_look look = {status.st_mode, status.st_nlink, (uint64_t)status.st_blocks,
                                 status.st_ctim.tv_sec};
        if (!closes_at_once(fd, kind, is_writable, &look))
            return RL_WOULD_BLOCK;
    }
    return close(fd) < 0 ? -errno : 0;
}

int rl_resident_close_fd(struct rl_resident *resident, int fd)
{
    uint32_t kind;
    struct rl_statx status;
    if (rl_resident_look(resident, fd, &kind, &status) < 0 || !(S_ISREG(status.mode) || S_ISDIR(status.mode)))
        return RL_WOULD_BLOCK;
    int flags = (kind & RL_FS_MEMORY) != 0 ? 0 : fcntl(fd, F_GETFL); /* there it is of no matter */
    struct last_look look = {status.mode, status.link_count, status.blocks, status.changed.seconds};
    if (flags < 0 || !closes_at_once(fd, kind, (flags & O_ACCMODE) != O_RDONLY, &look))
        return RL_WOULD_BLOCK;
    return close(fd) < 0 ? -errno : 0;
}

void rl_resident_forget(struct rl_resident_file *file)
{
    drop_mapping(file);
    *file = (struct rl_resident_file){0};
}
