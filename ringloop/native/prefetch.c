/*
 * Prefetching: see prefetch.h. posix_fadvise() and readahead() only start to read; populating a mapping waits
 * for each page, and copies none. Where that is not to be had, the bytes are read and dropped.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "prefetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "execute.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* 5.14 */
#endif

enum { DROPPED_BYTES = 65536 }; /* of a stack of 256 KiB */

static int64_t read_and_drop(int fd, int64_t offset, int64_t length)
{
    char dropped[DROPPED_BYTES];
    int64_t done = 0;
    while (done < length) {
        size_t wanted = length - done < DROPPED_BYTES ? (size_t)(length - done) : DROPPED_BYTES;
        ssize_t count = pread(fd, dropped, wanted, offset + done);
        if (count < 0)
            return -errno;
        if (count == 0)
            break;
        done += count;
    }
    return done;
}

static int64_t populate(int fd, int64_t offset, int64_t length)
{
    int64_t before = offset % sysconf(_SC_PAGESIZE);
    size_t mapped = (size_t)(length + before);
    void *pages = mmap(NULL, mapped, PROT_READ, MAP_SHARED, fd, offset - before);
    if (pages == MAP_FAILED)
        return -errno;
    int64_t result = madvise(pages, mapped, MADV_POPULATE_READ) == 0 ? length : -errno;
    munmap(pages, mapped);
    return result;
}

int64_t rl_prefetch_execute(rl_work *work)
{
    const struct rl_call_work *call =
        (const struct rl_call_work *)((char *)work - offsetof(struct rl_call_work, work));
    int fd = (int)call->arguments[0];
    int64_t offset = (int64_t)call->arguments[1];
    int64_t length = (int64_t)call->arguments[2];
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -errno;
    int64_t size = S_ISREG(status.st_mode) ? status.st_size : lseek(fd, 0, SEEK_CUR) < 0 ? -1 : INT64_MAX;
    if (size < 0)
        return -ESPIPE;
    if (offset >= size)
        return 0;
    if (length > size - offset)
        length = size - offset;
    (void)posix_fadvise(fd, offset, length, POSIX_FADV_WILLNEED); /* the rest is read while this is awaited */
    int64_t result = S_ISREG(status.st_mode) ? populate(fd, offset, length) : -ENODEV;
    /* Not to be mapped; an older kernel; or the file was cut meanwhile. */
    if (result == -ENODEV || result == -EACCES || result == -EINVAL || result == -EFAULT)
        return read_and_drop(fd, offset, length);
    return result;
}
