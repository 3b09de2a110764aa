/*
 * How much of a file is in the page cache, by cachestat() (6.5).
 *
 * It also counts pages whose reading has only begun. In tmpfs, where a page is in memory or in swap, the
 * latter count as evicted. Of a file of overlayfs it finds nothing.
 */
#ifndef RINGLOOP_CACHED_H
#define RINGLOOP_CACHED_H

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

enum { RL_SYSCALL_CACHESTAT = 451 };

struct rl_cached_range {
    uint64_t offset, length;
};

struct rl_cached {
    uint64_t pages, dirty, writeback, evicted, recently_evicted;
};

/* A zero length is to the end of the file. 0 or -errno; EPERM for those who could not write to it (6.13). */
static inline int rl_count_cached(int fd, uint64_t offset, uint64_t length, struct rl_cached *found)
{
    struct rl_cached_range range = {offset, length};
    return syscall(RL_SYSCALL_CACHESTAT, fd, &range, found, 0) < 0 ? -errno : 0;
}

#endif
