/*
 * Directories by getdents64: see listing.h. One call gives what fits the buffer, so a buffer that holds the
 * whole directory makes it two calls: the second says that this was the end.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "listing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "execute.h"

enum {
    FIRST_BYTES = 32 * 1024,
    ROOM_BYTES = 4 * 1024 /* more than the largest entry: the kernel answers EINVAL to less than one */
};

/* The kernel's struct linux_dirent64. */
struct dirent_header {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int64_t open_directory(struct rl_listing *listing)
{
    int fd;
    if (listing->path == NULL)
        fd = fcntl(listing->dir_fd, F_DUPFD_CLOEXEC, 0);
    else
        fd = openat(listing->dir_fd, listing->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    listing->fd = fd;
    listing->is_open = true;
    listing->is_known = listing->path != NULL && rl_statx_fd(fd, RL_WITHOUT_SYNC, &listing->status) == 0 &&
                        (listing->path[0] == '/' || rl_resident_start(listing->dir_fd, &listing->start));
    return 0;
}

static void close_directory(struct rl_listing *listing)
{
    if (!listing->is_open)
        return;
    if (listing->path == NULL)
        lseek(listing->fd, 0, SEEK_SET); /* as os.listdir() leaves it */
    close(listing->fd);
    listing->is_open = false;
}

static bool grow(struct rl_listing *listing)
{
    size_t capacity = listing->capacity == 0 ? FIRST_BYTES : 2 * listing->capacity;
    char *entries = realloc(listing->entries, capacity);
    if (entries == NULL)
        return false;
    listing->entries = entries;
    listing->capacity = capacity;
    return true;
}

static int64_t read_entries(struct rl_listing *listing)
{
    while (listing->bytes < listing->bytes_max) {
        if (listing->capacity - listing->bytes < ROOM_BYTES && !grow(listing))
            return -ENOMEM;
        long count = syscall(SYS_getdents64, listing->fd, listing->entries + listing->bytes,
                             listing->capacity - listing->bytes);
        if (count == 0 || (count < 0 && errno == ENOENT)) { /* the latter if it was removed */
            listing->is_over = true;
            return 0;
        }
        if (count < 0)
            return -errno;
        listing->bytes += (size_t)count;
    }
    return 0;
}

int64_t rl_listing_execute(rl_work *work)
{
    struct rl_call_work *call = (struct rl_call_work *)((char *)work - offsetof(struct rl_call_work, work));
    struct rl_listing *listing = (struct rl_listing *)(uintptr_t)call->arguments[0];
    int64_t result = 0;
    if (listing->is_over)
        return 0;
    if (!listing->is_open)
        result = open_directory(listing);
    if (result == 0)
        result = read_entries(listing);
    if (listing->is_over || (result < 0 && result != -EINTR))
        close_directory(listing);
    return result;
}

bool rl_listing_next(const struct rl_listing *listing, size_t *position, struct rl_listing_entry *entry)
{
    while (*position < listing->bytes) {
        const struct dirent_header *header = (const void *)(listing->entries + *position);
        const char *name = header->name;
        *position += header->length;
        if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
            continue;
        *entry = (struct rl_listing_entry){name, strlen(name), header->inode, header->type};
        return true;
    }
    return false;
}

void rl_listing_end(struct rl_listing *listing)
{
    close_directory(listing);
    free(listing->entries);
    listing->entries = NULL;
    listing->bytes = listing->capacity = 0;
}
