/*
 * Which mounts of this process are file systems that answer from memory: see mounts.c.
 */
#ifndef RINGLOOP_MOUNTS_H
#define RINGLOOP_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>

enum { /* what is known of a file system; 0: nothing, so nothing is done at once on it */
    RL_FS_LOCAL = 1 << 0,      /* stat, and open and close of a regular file, touch memory only */
    RL_FS_MEMORY = 1 << 1,     /* its files are in memory or in swap */
    RL_FS_STACKED = 1 << 2,    /* overlayfs: another file system holds the file */
    RL_FS_DIRECTORIES = 1 << 3 /* opening a directory reads nothing */
};

struct rl_mounts;

/*
 * Reads the table of mounts. Blocks: for a worker thread. Holds one fd. NULL without /proc or memory, with
 * errno.
 */
struct rl_mounts *rl_mounts_learn(void);

void rl_mounts_free(struct rl_mounts *mounts);

/*
 * Whether the table still stands. Any thread; looks at most once per tick of the kernel's clock (1 to 10
 * ms). Once false it stays so.
 */
bool rl_mounts_are_current(struct rl_mounts *mounts);

/* RL_FS_* of the mount with this number (statx's stx_mnt_id). */
uint32_t rl_mounts_kind(const struct rl_mounts *mounts, uint64_t mount_id);

/*
 * Whether there is a mount whose root may ask a server what it is, even when it was found in the cache
 * (d_weak_revalidate of nfs and 9p; getattr of what is not known here).
 */
bool rl_mounts_are_wary(const struct rl_mounts *mounts);

#endif
