/*
 * Prefetching: how much is said to be in memory, that it is there, and what has no pages.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "execute.h"
#include "harness.h"
#include "prefetch.h"

enum { PAGE_COUNT = 300, EXTRA_BYTES = 123 };

static int64_t prefetch(int fd, int64_t offset, int64_t length)
{
    struct rl_call_work call = {.arguments = {(uint64_t)fd, (uint64_t)offset, (uint64_t)length}};
    return rl_prefetch_execute(&call.work);
}

static int64_t page_bytes(void)
{
    return sysconf(_SC_PAGESIZE);
}

static int64_t file_bytes(void)
{
    return PAGE_COUNT * page_bytes() + EXTRA_BYTES;
}

static int open_unnamed(void)
{
    char name[] = "/var/tmp/ringloop-prefetch-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK_EQUAL(unlink(name), 0);
    return fd;
}

/* On a disk if /var/tmp is, and not in memory as far as the kernel lets go of it. */
static int make_file(void)
{
    int fd = open_unnamed();
    char *page = calloc(1, (size_t)page_bytes());
    CHECK(page != NULL);
    memset(page, 'p', (size_t)page_bytes());
    for (int i = 0; i < PAGE_COUNT; i++)
        CHECK_EQUAL(write(fd, page, (size_t)page_bytes()), page_bytes());
    CHECK_EQUAL(write(fd, page, EXTRA_BYTES), EXTRA_BYTES);
    free(page);
    CHECK_EQUAL(fdatasync(fd), 0);
    CHECK_EQUAL(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    return fd;
}

static void check_resident(int fd, int64_t first_page, int64_t count)
{
    unsigned char seen[PAGE_COUNT + 1];
    void *pages = mmap(NULL, (size_t)(count * page_bytes()), PROT_READ, MAP_SHARED, fd,
                       first_page * page_bytes());
    CHECK(pages != MAP_FAILED);
    CHECK_EQUAL(mincore(pages, (size_t)(count * page_bytes()), seen), 0);
    for (int64_t i = 0; i < count; i++)
        CHECK(seen[i] & 1);
    munmap(pages, (size_t)(count * page_bytes()));
}

TEST(what_is_prefetched_is_in_memory)
{
    int fd = make_file();
    CHECK_EQUAL(prefetch(fd, 0, INT64_MAX), file_bytes());
    check_resident(fd, 0, PAGE_COUNT + 1);
    close(fd);
}

TEST(a_part_that_begins_and_ends_inside_of_pages)
{
    int fd = make_file();
    CHECK_EQUAL(prefetch(fd, 10 * page_bytes() + 17, 5 * page_bytes()), 5 * page_bytes());
    check_resident(fd, 10, 6);
    close(fd);
}

TEST(no_more_than_there_is)
{
    int fd = make_file();
    CHECK_EQUAL(prefetch(fd, file_bytes() - 1, 1000), 1);
    CHECK_EQUAL(prefetch(fd, file_bytes(), 1000), 0);
    CHECK_EQUAL(prefetch(fd, file_bytes() + 1, INT64_MAX), 0);
    CHECK_EQUAL(prefetch(fd, INT64_MAX, INT64_MAX), 0);
    CHECK_EQUAL(prefetch(fd, INT64_MAX - 1, INT64_MAX), 0);
    CHECK_EQUAL(ftruncate(fd, 0), 0);
    CHECK_EQUAL(prefetch(fd, 0, 1000), 0);
    close(fd);
}

TEST(a_file_without_pages_to_map_is_read)
{
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC); /* regular, of 0 bytes */
    CHECK_EQUAL(prefetch(fd, 0, 1000), 0);
    close(fd);
    fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(prefetch(fd, 100, 200001), 200001);
    close(fd);
}

TEST(what_cannot_be_prefetched)
{
    int pair[2];
    CHECK_EQUAL(pipe(pair), 0);
    CHECK_EQUAL(prefetch(pair[0], 0, 10), -ESPIPE);
    close(pair[0]);
    close(pair[1]);
    CHECK_EQUAL(prefetch(pair[0], 0, 10), -EBADF);
    int fd = open("/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_EQUAL(prefetch(fd, 0, 10), -EISDIR);
    close(fd);
    /* Nobody who only writes may map it, or read it. */
    char path[64];
    int named = open_unnamed();
    CHECK_EQUAL(write(named, "data", 4), 4);
    CHECK(snprintf(path, sizeof path, "/proc/self/fd/%d", named) > 0);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK_EQUAL(prefetch(fd, 0, 4), -EBADF);
    close(fd);
    close(named);
}
