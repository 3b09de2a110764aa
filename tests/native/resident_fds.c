/*
 * Reading and closing by an fd about which nothing is known, and reading to the end: the same results as the
 * system calls, and no waiting.
 */
#define _GNU_SOURCE

#include "places.h"

enum { PAGE = 4096, MIB = 1 << 20 };

static uint8_t buffer[MIB + PAGE], expected[MIB + PAGE];

static void check_pread(struct rl_resident *resident, int fd, size_t length, int64_t offset)
{
    ssize_t count = pread(fd, expected, length, offset);
    memset(buffer, 0xee, length + 1);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, length, offset), count);
    CHECK(memcmp(buffer, expected, (size_t)count) == 0);
    CHECK_EQUAL(buffer[length], 0xee);
}

/* What was answered for one of the files is no answer for the other, though both have the same fd in turn. */
static void check_reads(const char *one, const char *other)
{
    static const int64_t OFFSETS[] = {0, 1, PAGE, 69999, 70000, 70001, 80000, INT64_MAX / 2};
    static const size_t LENGTHS[] = {0, 1, PAGE, 2 * PAGE, 70000, MIB};
    struct rl_resident *resident = learn();
    for (int turn = 0; turn < 4; turn++) {
        int fd = open(turn % 2 == 0 ? one : other, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0);
        for (size_t i = 0; i < sizeof OFFSETS / sizeof OFFSETS[0]; i++)
            for (size_t j = 0; j < sizeof LENGTHS / sizeof LENGTHS[0]; j++)
                check_pread(resident, fd, LENGTHS[j], OFFSETS[i]);
        CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, 100, -1), 100);
        CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 100);
        CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, 100, -2), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_close_fd(resident, fd), 0);
        CHECK_EQUAL(fcntl(fd, F_GETFD), -1);
    }
    rl_resident_free(resident);
}

TEST(reads_by_an_fd)
{
    struct overlay overlay = on_overlay(false, 70000);
    const char *memory = on_tmpfs();
    const char *disk = path_of("%s/below/lower", overlay.base), *above = path_of("%s/lower", overlay.top);
    int fd = open(disk, O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(read(fd, buffer, 70000), 70000);
    close(fd);
    check_reads(disk, new_file(path_of("%s/file", memory), 70000));
    check_reads(disk, above);
    remove_tree(memory);
    remove_overlay(overlay);
}

TEST(what_is_not_cached_is_not_read_by_an_fd)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    int fd = open(new_file(path_of("%s/file", directory), MIB), O_RDONLY | O_CLOEXEC);
    uint64_t range[2] = {0, 0}, counts[5];
    CHECK_EQUAL(fsync(fd), 0);
    CHECK_EQUAL(posix_fadvise(fd, MIB / 2, 0, POSIX_FADV_DONTNEED), 0);
    if (syscall(451, fd, range, counts, 0) != 0)
        LACKING("cachestat()");
    CHECK_EQUAL(counts[0], MIB / 2 / PAGE);
    memset(buffer, 0xee, PAGE);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, MIB / 2), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, MIB / 2 - 1), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, MIB - 1), RL_WOULD_BLOCK);
    CHECK_EQUAL(buffer[0], 0xee);
    CHECK_EQUAL(syscall(451, fd, range, counts, 0), 0);
    CHECK_EQUAL(counts[0], MIB / 2 / PAGE);
    check_pread(resident, fd, PAGE, MIB / 2 - PAGE);
    CHECK_EQUAL(rl_resident_close_fd(resident, fd), 0);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* Of these a read may wait, or has side effects; and whoever wrote has reservations to give back. */
TEST(other_fds_are_neither_read_nor_closed)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), PAGE);
    int pipe_fds[2], pair[2];
    CHECK_EQUAL(pipe2(pipe_fds, O_CLOEXEC), 0);
    make_pair(pair);
    CHECK_EQUAL(write(pipe_fds[1], "x", 1), 1);
    CHECK_EQUAL(write(pair[1], "x", 1), 1);
    int fds[] = {pipe_fds[0],
                 pair[0],
                 make_event(),
                 open("/dev/zero", O_RDONLY | O_CLOEXEC),
                 open("/proc/self/status", O_RDONLY | O_CLOEXEC),
                 open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    enum { COUNT = sizeof fds / sizeof fds[0] };
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_EQUAL(rl_resident_pread_fd(resident, fds[i], buffer, 1, 0), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_pread_fd(resident, fds[i], buffer, 1, -1), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_close_fd(resident, fds[i]), RL_WOULD_BLOCK);
        CHECK_EQUAL(close(fds[i]), 0);
    }
    CHECK_EQUAL(rl_resident_pread_fd(resident, fds[0], buffer, 1, 0), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_close_fd(resident, fds[0]), RL_WOULD_BLOCK);

    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) { /* it waits for the device, whatever is cached */
        CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, 0), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_close_fd(resident, fd), 0);
    }
    fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, 0), -EBADF);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, PAGE), -EBADF);
    CHECK_EQUAL(rl_resident_close_fd(resident, fd), RL_WOULD_BLOCK);
    CHECK_EQUAL(close(fd), 0);
    fd = open(path, O_PATH | O_CLOEXEC);
    CHECK_EQUAL(rl_resident_pread_fd(resident, fd, buffer, PAGE, 0), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_close_fd(resident, fd), 0);
    close(pipe_fds[1]);
    close(pair[1]);
    rl_resident_free(resident);
    remove_tree(directory);
}

static void check_unlinked(const char *directory, size_t size, bool at_once)
{
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/unlinked-%zu", directory, size), size);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(rl_resident_close_fd(resident, fd), at_once ? 0 : RL_WOULD_BLOCK);
    CHECK_EQUAL(fcntl(fd, F_GETFD), at_once ? -1 : FD_CLOEXEC);
    if (!at_once)
        close(fd);
    rl_resident_free(resident);
}

TEST(an_unlinked_file_is_not_closed_by_its_fd)
{
    struct overlay overlay = on_overlay(false, 100);
    const char *memory = on_tmpfs();
    check_unlinked(overlay.base, 100, false);
    check_unlinked(overlay.top, 16 << 20, false);
    check_unlinked(memory, 100, true);
    check_unlinked(memory, 16 << 20, false);
    remove_tree(memory);
    remove_overlay(overlay);
}

TEST(a_large_file_with_data_to_be_written_back_is_not_closed_by_its_fd)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    int writer = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    fill_range(writer, 0, 16 << 20);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(rl_resident_close_fd(resident, fd), RL_WOULD_BLOCK);
    CHECK_EQUAL(fsync(writer), 0);
    CHECK_EQUAL(rl_resident_close_fd(resident, fd), 0);
    close(writer);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* ---- to the end ---- */

static void check_rest(const char *path, size_t size)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    new_file(path, size);
    int fd = open_at_once(resident, path, &file);
    int writer = open(path, O_WRONLY | O_CLOEXEC);
    for (int64_t offset = 0; offset < (int64_t)size; offset += 1 + (int64_t)size / 5) {
        ssize_t count = pread(fd, expected, size, offset);
        CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, offset), count);
        CHECK(memcmp(buffer, expected, (size_t)count) == 0);
    }
    CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, (int64_t)size), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, -1), RL_WOULD_BLOCK);

    /* A file that has another size by now is not read to what was its end. */
    uint64_t seen = file.size;
    fill_range(writer, size, size + 1);
    CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, 0), RL_WOULD_BLOCK);
    file.size = seen;
    fill_range(writer, size + 1, size + 3 * PAGE);
    CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, 0), RL_WOULD_BLOCK);
    file.size = seen;
    CHECK_EQUAL(ftruncate(writer, (off_t)size - 1), 0);
    CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, 0), RL_WOULD_BLOCK);
    close(writer);
    rl_resident_forget(&file);
    close(fd);
    rl_resident_free(resident);
}

TEST(reads_to_the_end)
{
    static const size_t SIZES[] = {1, PAGE - 1, PAGE, PAGE + 1, 70000, 64 * PAGE, MIB - 1};
    struct overlay overlay = on_overlay(false, 100);
    const char *memory = on_tmpfs();
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        check_rest(path_of("%s/rest-%zu", overlay.base, SIZES[i]), SIZES[i]);
        check_rest(path_of("%s/rest-%zu", overlay.top, SIZES[i]), SIZES[i]);
        check_rest(path_of("%s/rest-%zu", memory, SIZES[i]), SIZES[i]);
    }
    remove_tree(memory);
    remove_overlay(overlay);
}

/* It grew by a page that is not cached: that the read stops there proves no end. */
TEST(a_page_that_is_not_there_is_not_the_end)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    const char *path = new_file(path_of("%s/file", directory), PAGE);
    int fd = open_at_once(resident, path, &file);
    int writer = open(path, O_WRONLY | O_CLOEXEC);
    CHECK_EQUAL(ftruncate(writer, 16 * PAGE), 0);
    CHECK_EQUAL(rl_resident_read_rest(fd, &file, buffer, 0), RL_WOULD_BLOCK);
    close(writer);
    rl_resident_forget(&file);
    close(fd);
    rl_resident_free(resident);
    remove_tree(directory);
}
