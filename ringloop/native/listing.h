/*
 * Listing a directory in one work: open, getdents64 until its end, close.
 *
 * A listing is the caller's memory; while a work is under way it is the work's. What was read stays in one
 * buffer, as the kernel wrote it, until the next work or the end. No Python.
 */
#ifndef RINGLOOP_LISTING_H
#define RINGLOOP_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "resident.h"
#include "workers.h"

/* All zero but the first three, which the caller sets: nothing was read yet. */
struct rl_listing {
    int dir_fd;       /* where the path begins, or without a path the directory itself: it is rewound */
    const char *path; /* NULL: dir_fd is it */
    size_t bytes_max; /* about as much is read by one work; the next goes on */
    int fd;           /* open, if is_open */
    bool is_open, is_over;
    bool is_known;          /* the next two */
    struct rl_statx status; /* of the directory */
    uint64_t start;         /* what `path` begins at: see rl_resident_start() */
    char *entries;          /* rl_listing_next() reads it */
    size_t bytes, capacity;
};

struct rl_listing_entry {
    const char *name; /* ends with a null character */
    size_t name_bytes;
    uint64_t inode;
    uint8_t type; /* DT_* */
};

/*
 * The `execute` of a work that lies in a struct rl_call_work with a struct rl_listing's address as its first
 * argument. 0, with more in `entries`, `is_over` telling whether that was the end; or -errno. After -EINTR it
 * is to be called again, and goes on where it was.
 */
int64_t rl_listing_execute(rl_work *work);

/* The entry at *position of `entries`, without "." and ".."; moves *position. False after the last. */
bool rl_listing_next(const struct rl_listing *listing, size_t *position, struct rl_listing_entry *entry);

/* Closes what is open and frees the buffer. */
void rl_listing_end(struct rl_listing *listing);

#endif
