/*
 * Groups of provided buffers: memory that multishot receives take from (5.19).
 *
 * One mapping holds the ring of entries, which the kernel wants page-aligned, and behind it the buffers.
 * It is private memory that a forked child copies: the kernel pins the ring's pages, and fork() gives
 * copies of pinned pages to the child, so that the parent's stay the ones the kernel reads.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver.h"

enum { BUFFER_COUNT_MAX = 1 << 15 }; /* io_register_pbuf_ring refuses more */

static size_t ring_bytes(const struct rl_buffers *buffers)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    size_t wanted = buffers->buffer_count * sizeof(struct rl_buffer);
    return (wanted + page_bytes - 1) / page_bytes * page_bytes;
}

static size_t mapping_bytes(const struct rl_buffers *buffers)
{
    return ring_bytes(buffers) + (size_t)buffers->buffer_count * buffers->buffer_bytes;
}

int rl_buffers_allocate(struct rl_buffers *buffers, uint16_t group, uint32_t buffer_count,
                        uint32_t buffer_bytes)
{
    memset(buffers, 0, sizeof *buffers);
    if (buffer_count == 0 || (buffer_count & (buffer_count - 1)) != 0 || buffer_count > BUFFER_COUNT_MAX)
        return -EINVAL;
    if (buffer_bytes == 0 || buffer_bytes > INT32_MAX) /* a result is an int32_t */
        return -EINVAL;
    buffers->group = group;
    buffers->buffer_count = buffer_count;
    buffers->buffer_bytes = buffer_bytes;

    void *mapping =
        mmap(NULL, mapping_bytes(buffers), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        int error = -errno;
        memset(buffers, 0, sizeof *buffers);
        return error;
    }
    buffers->ring = mapping;
    buffers->memory = (uint8_t *)mapping + ring_bytes(buffers);
    for (uint32_t id = 0; id < buffer_count; id++)
        rl_buffers_recycle(buffers, (uint16_t)id);
    return 0;
}

void rl_buffers_free(struct rl_buffers *buffers)
{
    if (buffers->ring != NULL)
        munmap(buffers->ring, mapping_bytes(buffers));
    memset(buffers, 0, sizeof *buffers);
}
