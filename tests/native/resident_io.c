/*
 * Reading, writing and closing what is in memory: the same results as the system calls, and no waiting.
 */
#define _GNU_SOURCE

#include <sys/socket.h>

#include "places.h"

enum { PAGE = 4096, FOUR_MIB = 4 << 20, PATIENCE = 20 };

static uint8_t buffer[FOUR_MIB + 1], expected[FOUR_MIB + 1];

static struct rl_resident_file identify(struct rl_resident *resident, int fd)
{
    struct rl_resident_file file;
    struct rl_statx status;
    CHECK_EQUAL(rl_resident_identify(resident, fd, false, &file, &status), 0);
    return file;
}

/* Closes by the ordinary call. */
static void end(int fd, struct rl_resident_file *file)
{
    rl_resident_forget(file);
    CHECK_EQUAL(close(fd), 0);
}

static uint64_t cached_pages(int fd)
{
    uint64_t range[2] = {0, 0}, counts[5];
    if (syscall(451, fd, range, counts, 0) != 0)
        LACKING("cachestat()");
    return counts[0];
}

/* Takes the file out of the page cache, which the kernel does if no page is busy. */
static void cool(const char *path, off_t offset, off_t length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(fsync(fd), 0);
    CHECK_EQUAL(posix_fadvise(fd, offset, length, POSIX_FADV_DONTNEED), 0);
    close(fd);
}

static void warm(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(read(fd, buffer, sizeof buffer) >= 0);
    close(fd);
}

/* ---- reading ---- */

static void check_pread(int fd, struct rl_resident_file *file, size_t length, int64_t offset)
{
    ssize_t count = pread(fd, expected, length, offset);
    memset(buffer, 0xee, length + 1);
    CHECK_EQUAL(rl_resident_pread(fd, file, buffer, length, offset), count);
    CHECK(memcmp(buffer, expected, (size_t)count) == 0);
    CHECK_EQUAL(buffer[length], 0xee);
}

static void check_reads_in(const char *directory)
{
    static const size_t SIZES[] = {0, 1, 4095, 4096, 4097, 70000, 1 << 20};
    struct rl_resident *resident = learn();
    for (size_t i = 0; i < sizeof SIZES / sizeof SIZES[0]; i++) {
        struct rl_resident_file file;
        int64_t size = (int64_t)SIZES[i];
        const char *path = new_file(path_of("%s/of-%zu", directory, SIZES[i]), SIZES[i]);
        int fd = open_at_once(resident, path, &file);
        const int64_t offsets[] = {0, 1, size / 2, size - 1, size, size + 1, size + 10 * PAGE, INT64_MAX / 2};
        for (size_t at = 0; at < sizeof offsets / sizeof offsets[0]; at++) {
            int64_t offset = offsets[at] < 0 ? 0 : offsets[at];
            check_pread(fd, &file, 0, offset);
            check_pread(fd, &file, 1, offset);
            check_pread(fd, &file, PAGE, offset);
            check_pread(fd, &file, SIZES[i] + 1 < RL_RESIDENT_BYTES_MAX ? SIZES[i] + 1 : PAGE, offset);
        }
        CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, 1, -2), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    }
    rl_resident_free(resident);
}

TEST(reads_on_a_disk)
{
    const char *directory = on_disk();
    check_reads_in(directory);
    remove_tree(directory);
}

TEST(reads_on_tmpfs)
{
    const char *directory = on_tmpfs();
    check_reads_in(directory);
    remove_tree(directory);
}

TEST(reads_on_overlayfs)
{
    struct overlay overlay = on_overlay(false, 100);
    check_reads_in(overlay.top);
    remove_overlay(overlay);
}

TEST(reads_on_an_overlay_of_tmpfs)
{
    struct overlay overlay = on_overlay(true, 100);
    check_reads_in(overlay.top);
    remove_overlay(overlay);
}

/* By the position, in steps that do not fit the pages, to the end of the file. */
static void check_reading_on(const char *path)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    int fd = open_at_once(resident, path, &file);
    size_t position = 0;
    for (;;) {
        int64_t count = rl_resident_pread(fd, &file, buffer, 999, -1);
        CHECK(count >= 0);
        for (int64_t i = 0; i < count; i++)
            CHECK_EQUAL(buffer[i], byte_at(position + (size_t)i));
        position += (size_t)count;
        CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), position);
        if (count == 0)
            break;
    }
    CHECK_EQUAL(position, 10000);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    rl_resident_free(resident);
}

TEST(reading_moves_the_position)
{
    struct overlay overlay = on_overlay(false, 10000);
    const char *memory = on_tmpfs();
    warm(path_of("%s/lower", overlay.top));
    check_reading_on(path_of("%s/below/lower", overlay.base));
    check_reading_on(path_of("%s/lower", overlay.top));
    check_reading_on(new_file(path_of("%s/file", memory), 10000));
    remove_tree(memory);
    remove_overlay(overlay);
}

TEST(a_large_read_is_done_in_parts)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    int fd = open_at_once(resident, new_file(path_of("%s/file", directory), FOUR_MIB), &file);
    size_t position = 0;
    while (position < FOUR_MIB) {
        int64_t count = rl_resident_pread(fd, &file, buffer + position, FOUR_MIB, (int64_t)position);
        CHECK(count > 0 && count <= RL_RESIDENT_BYTES_MAX);
        position += (size_t)count;
    }
    CHECK_EQUAL(pread(fd, expected, FOUR_MIB, 0), FOUR_MIB);
    CHECK(memcmp(buffer, expected, FOUR_MIB) == 0);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* Nothing is read, into the buffer or into the cache. `cached` shows the cache of the file below. */
static void check_cold(const char *path, const char *cached)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    int cached_fd = open(cached, O_RDONLY | O_CLOEXEC);
    int fd = open_at_once(resident, path, &file);
    cool(cached, 0, 0);
    CHECK_EQUAL(cached_pages(cached_fd), 0);
    memset(buffer, 0xee, PAGE);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, 0), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, -1), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, FOUR_MIB - 1), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, FOUR_MIB), 0);
    CHECK_EQUAL(buffer[0], 0xee);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQUAL(cached_pages(cached_fd), 0);
    warm(cached);
    check_pread(fd, &file, PAGE, 0);

    /* Of what is half there, the half is read. The kernel may take some of it away meanwhile (DAMON). */
    for (int i = 0; i < PATIENCE && cached_pages(cached_fd) != FOUR_MIB / 2 / PAGE; i++) {
        warm(cached);
        cool(cached, FOUR_MIB / 2, 0);
    }
    CHECK_EQUAL(cached_pages(cached_fd), FOUR_MIB / 2 / PAGE);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, 1 << 20, FOUR_MIB / 2 - (1 << 19)), RL_WOULD_BLOCK);
    check_pread(fd, &file, 1 << 19, FOUR_MIB / 2 - (1 << 19));
    CHECK_EQUAL(cached_pages(cached_fd), FOUR_MIB / 2 / PAGE);
    end(fd, &file);
    close(cached_fd);
    rl_resident_free(resident);
}

TEST(what_is_not_cached_is_not_read_from_a_disk)
{
    const char *directory = on_disk();
    const char *path = new_file(path_of("%s/file", directory), FOUR_MIB);
    check_cold(path, path);
    remove_tree(directory);
}

TEST(what_is_not_cached_is_not_read_through_overlayfs)
{
    struct overlay overlay = on_overlay(false, FOUR_MIB);
    check_cold(path_of("%s/lower", overlay.top), path_of("%s/below/lower", overlay.base));
    remove_overlay(overlay);
}

static void check_growing(const char *path)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    new_file(path, 10);
    int fd = open_at_once(resident, path, &file);
    int writer = open(path, O_WRONLY | O_CLOEXEC);
    check_pread(fd, &file, 100, 0);
    for (size_t size = 10; size < 100000; size += 7777) {
        fill_range(writer, size, size + 7777);
        check_pread(fd, &file, 7777, (int64_t)size);
        check_pread(fd, &file, 1, (int64_t)size + 7776);
        check_pread(fd, &file, 1, (int64_t)size + 7777);
    }
    CHECK_EQUAL(ftruncate(writer, 5), 0);
    check_pread(fd, &file, 100, 0);
    check_pread(fd, &file, 100, 5);
    check_pread(fd, &file, 100, 5000);
    close(writer);
    end(fd, &file);
    rl_resident_free(resident);
}

TEST(a_file_that_grows_and_shrinks)
{
    const char *disk = on_disk(), *memory = on_tmpfs();
    check_growing(path_of("%s/file", disk));
    check_growing(path_of("%s/file", memory));
    remove_tree(disk);
    remove_tree(memory);
}

TEST(holes_in_memory_are_zeroes)
{
    const char *directory = on_tmpfs();
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    const char *path = new_file(path_of("%s/file", directory), 10);
    CHECK_EQUAL(truncate(path, 1 << 19), 0);
    int fd = open_at_once(resident, path, &file);
    check_pread(fd, &file, 1 << 19, 0);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(after_a_copy_up_the_lower_files_pages_prove_nothing)
{
    struct overlay overlay = on_overlay(false, 10000);
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    const char *path = path_of("%s/lower", overlay.top);
    warm(path);
    int fd = open_at_once(resident, path, &file);
    check_pread(fd, &file, 10000, 0);
    int writer = open(path, O_RDWR | O_CLOEXEC); /* copies it up */
    CHECK(writer >= 0);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, 10000, 0), RL_WOULD_BLOCK);
    CHECK(file.mapping == NULL);
    end(fd, &file);

    /* What was opened for writing is above for good, whatever changes. */
    file = identify(resident, writer);
    check_pread(writer, &file, 10000, 0);
    fill_range(writer, 10000, 30000);
    check_pread(writer, &file, 30000, 0);
    end(writer, &file);
    rl_resident_free(resident);
    remove_overlay(overlay);
}

static bool is_mapped(const char *name)
{
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "re");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL)
        found = found || strstr(line, name) != NULL;
    fclose(maps);
    return found;
}

TEST(a_closed_file_is_not_mapped)
{
    struct overlay overlay = on_overlay(false, 10000);
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    for (int how = 0; how < 2; how++) {
        warm(path_of("%s/lower", overlay.top));
        int fd = open_at_once(resident, path_of("%s/lower", overlay.top), &file);
        check_pread(fd, &file, 10, 0);
        CHECK(is_mapped("lower"));
        if (how == 0)
            end(fd, &file);
        else
            CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
        CHECK(!is_mapped("lower"));
    }
    rl_resident_free(resident);
    remove_overlay(overlay);
}

/* To those who could not write to a file, the kernel does not tell which of it is cached. */
static void read_as_another(void *argument)
{
    struct overlay *overlay = argument;
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    uid_t user = 100000 + (uid_t)getpid();
    CHECK_EQUAL(setresuid(user, user, user), 0);
    int fd = open_at_once(resident, path_of("%s/lower", overlay->top), &file);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, 100, 0), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, 100, 0), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    fd = open_at_once(resident, path_of("%s/below/lower", overlay->base), &file);
    check_pread(fd, &file, 10000, 0);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    rl_resident_free(resident);
}

TEST(no_proof_is_taken_from_a_kernel_that_pretends)
{
    struct overlay overlay = on_overlay(false, 10000);
    warm(path_of("%s/lower", overlay.top));
    in_child(read_as_another, &overlay);
    remove_overlay(overlay);
}

TEST(only_regular_files_are_read)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file = {0};
    int pipe_fds[2], pair[2];
    CHECK_EQUAL(pipe2(pipe_fds, O_CLOEXEC), 0);
    make_pair(pair);
    CHECK_EQUAL(write(pipe_fds[1], "x", 1), 1);
    int fds[] = {pipe_fds[0],
                 pair[0],
                 posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC),
                 make_event(),
                 open("/dev/zero", O_RDONLY | O_CLOEXEC),
                 open("/proc/self/status", O_RDONLY | O_CLOEXEC),
                 open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                 open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        struct rl_statx status;
        int result = rl_resident_identify(resident, fds[i], false, &file, &status);
        CHECK(result == 0 || result == RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_pread(fds[i], &file, buffer, 1, 0), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_pread(fds[i], &file, buffer, 1, -1), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_pwrite(fds[i], &file, buffer, 1, -1), RL_WOULD_BLOCK);
    }
    for (size_t i = 0; i + 1 < sizeof fds / sizeof fds[0]; i++)
        CHECK_EQUAL(rl_resident_close(fds[i], &(struct rl_resident_file){0}, false), RL_WOULD_BLOCK);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
    close(pipe_fds[1]);
    close(pair[1]);
    rl_resident_free(resident);
}

TEST(a_device_and_a_bad_fd)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_statx status;
    const char *path = new_file(path_of("%s/file", directory), 10000);
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd >= 0) { /* it waits for the device, whatever is cached */
        struct rl_resident_file direct = identify(resident, fd);
        CHECK_EQUAL(rl_resident_pread(fd, &direct, buffer, PAGE, 0), RL_WOULD_BLOCK);
        end(fd, &direct);
    }
    fd = open(path, O_WRONLY | O_CLOEXEC);
    struct rl_resident_file file = identify(resident, fd);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, 0), -EBADF);
    end(fd, &file);
    fd = open_at_once(resident, path, &file);
    close(fd);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, 0), -EBADF);
    CHECK_EQUAL(rl_resident_pread(fd, &file, buffer, PAGE, -1), -EBADF);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), -EBADF);
    CHECK_EQUAL(rl_resident_identify(resident, fd, false, &file, &status), -EBADF);
    CHECK_EQUAL(rl_resident_identify(resident, fd, true, &file, &status), -EBADF);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* ---- sending ---- */

static void make_sockets(int sockets[2])
{
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets), 0);
}

/* Sends all from `offset` on, piece by piece, and compares it with what is read. */
static void check_sendfile(int fd, struct rl_resident_file *file, int64_t offset)
{
    int sockets[2];
    int64_t count;
    make_sockets(sockets);
    while ((count = rl_resident_sendfile(sockets[0], fd, file, FOUR_MIB, offset)) != 0) {
        CHECK(count > 0 && count <= RL_RESIDENT_BYTES_MAX);
        for (int64_t at = 0; at < count;) {
            ssize_t got = recv(sockets[1], buffer, (size_t)(count - at), 0);
            CHECK(got > 0);
            CHECK_EQUAL(pread(fd, expected, (size_t)got, offset), got);
            CHECK(memcmp(buffer, expected, (size_t)got) == 0);
            at += got;
            offset += got;
        }
    }
    close(sockets[0]);
    close(sockets[1]);
}

static void check_sends(const char *path)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    struct stat status;
    int sockets[2];
    int fd = open_at_once(resident, path, &file);
    warm(path);
    CHECK_EQUAL(fstat(fd, &status), 0);
    check_sendfile(fd, &file, 0);
    check_sendfile(fd, &file, 4097);
    check_sendfile(fd, &file, status.st_size);
    check_sendfile(fd, &file, status.st_size + 100000);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 0);

    make_sockets(sockets);
    while (rl_resident_sendfile(sockets[0], fd, &file, FOUR_MIB, 0) > 0)
        ;
    CHECK_EQUAL(rl_resident_sendfile(sockets[0], fd, &file, 1, 0), -EAGAIN);
    CHECK_EQUAL(rl_resident_sendfile(sockets[0], fd, &file, 1, -1), RL_WOULD_BLOCK);
    close(sockets[0]);
    CHECK_EQUAL(rl_resident_sendfile(sockets[0], fd, &file, 1, 0), -EBADF);
    close(sockets[1]);
    end(fd, &file);
    rl_resident_free(resident);
}

TEST(sends_what_is_in_memory)
{
    const char *disk = on_disk(), *memory = on_tmpfs();
    struct overlay overlay = on_overlay(false, FOUR_MIB);
    check_sends(new_file(path_of("%s/file", disk), FOUR_MIB));
    check_sends(new_file(path_of("%s/file", memory), FOUR_MIB - 1));
    check_sends(path_of("%s/lower", overlay.top));
    remove_tree(disk);
    remove_tree(memory);
    remove_overlay(overlay);
}

TEST(what_is_not_in_memory_is_not_sent)
{
    const char *directory = on_disk();
    const char *path = new_file(path_of("%s/file", directory), FOUR_MIB);
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    int sockets[2];
    make_sockets(sockets);
    int fd = open_at_once(resident, path, &file);
    warm(path);
    cool(path, 0, 0);
    CHECK_EQUAL(cached_pages(fd), 0);
    CHECK_EQUAL(rl_resident_sendfile(sockets[0], fd, &file, 1, 0), RL_WOULD_BLOCK);
    CHECK_EQUAL(cached_pages(fd), 0);
    warm(path);
    cool(path, FOUR_MIB / 2, PAGE);
    int64_t shortly_before = FOUR_MIB / 2 - 2 * PAGE;
    CHECK_EQUAL(rl_resident_sendfile(sockets[0], fd, &file, 1 << 20, shortly_before), RL_WOULD_BLOCK);
    CHECK_EQUAL(recv(sockets[1], buffer, 1, 0), -1);
    CHECK_EQUAL(rl_resident_sendfile(sockets[0], fd, &file, PAGE, 0), PAGE);
    close(sockets[0]);
    close(sockets[1]);
    end(fd, &file);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* ---- writing ---- */

/* Where there is RWF_NOWAIT for it, it is written; else nothing is. */
static void check_write(const char *path)
{
    struct rl_resident *resident = learn();
    int fd = open(new_file(path, 10), O_RDWR | O_CLOEXEC);
    struct rl_resident_file file = identify(resident, fd);
    int64_t count = rl_resident_pwrite(fd, &file, "written", 7, 100);
    struct stat status;
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK(count == 7 || count == RL_WOULD_BLOCK);
    CHECK_EQUAL(status.st_size, count == 7 ? 107 : 10);
    if (count == RL_WOULD_BLOCK)
        CHECK_EQUAL(rl_resident_pwrite(fd, &file, "written", 7, -1), RL_WOULD_BLOCK);
    else
        CHECK_EQUAL(rl_resident_pwrite(fd, &file, "written", 7, -1), 7);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), count == 7 ? 7 : 0);
    end(fd, &file);
    fd = open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
    file = identify(resident, fd);
    CHECK_EQUAL(rl_resident_pwrite(fd, &file, "x", 1, 0), RL_WOULD_BLOCK);
    end(fd, &file);
    rl_resident_free(resident);
}

TEST(writes_are_at_once_or_not_at_all)
{
    struct overlay overlay = on_overlay(false, 100);
    const char *memory = on_tmpfs();
    check_write(path_of("%s/file", overlay.base));
    check_write(path_of("%s/file", overlay.top));
    check_write(path_of("%s/file", memory));
    remove_tree(memory);
    remove_overlay(overlay);
}

/* ---- closing ---- */

static void check_unlinked(const char *directory, size_t size, bool at_once)
{
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    const char *path = new_file(path_of("%s/unlinked-%zu", directory, size), size);
    int fd = open_at_once(resident, path, &file);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), at_once ? 0 : RL_WOULD_BLOCK);
    CHECK_EQUAL(fcntl(fd, F_GETFD), at_once ? -1 : FD_CLOEXEC);
    if (!at_once)
        close(fd);
    rl_resident_free(resident);
}

TEST(an_unlinked_file_is_not_closed)
{
    struct overlay overlay = on_overlay(false, 100);
    const char *memory = on_tmpfs();
    check_unlinked(overlay.base, 100, false);
    check_unlinked(overlay.base, 16 << 20, false);
    check_unlinked(overlay.top, 16 << 20, false);
    check_unlinked(memory, 100, true);
    check_unlinked(memory, 16 << 20, false);
    remove_tree(memory);
    remove_overlay(overlay);
}

TEST(what_was_just_opened_is_not_looked_at_again_if_it_is_small)
{
    static const struct {
        size_t size;
        int result;
    } CASES[] = {{100, 0}, {16 << 20, RL_WOULD_BLOCK}};
    struct rl_resident *resident = learn();
    const char *disk = on_disk();
    for (size_t i = 0; i < 2; i++) {
        struct rl_resident_file file;
        const char *path = new_file(path_of("%s/%zu", disk, i), CASES[i].size);
        int fd = open_at_once(resident, path, &file);
        CHECK_EQUAL(unlink(path), 0);
        CHECK_EQUAL(rl_resident_close(fd, &file, true), CASES[i].result);
        if (CASES[i].result != 0)
            close(fd);
    }
    rl_resident_free(resident);
    remove_tree(disk);
}

TEST(a_large_file_with_data_to_be_written_back_is_not_closed)
{
    struct overlay overlay = on_overlay(false, 100);
    struct rl_resident *resident = learn();
    const char *directories[] = {overlay.base, overlay.top};
    for (size_t i = 0; i < 2; i++) {
        struct rl_resident_file file;
        const char *path = new_file(path_of("%s/file", directories[i]), 100);
        int writer = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        fill_range(writer, 0, 16 << 20);
        int fd = open_at_once(resident, path, &file);
        CHECK_EQUAL(rl_resident_close(fd, &file, false), RL_WOULD_BLOCK);
        file = identify(resident, fd);
        CHECK_EQUAL(fsync(writer), 0);
        /* Through overlayfs nobody sees that it is clean. */
        int closed = rl_resident_close(fd, &file, false);
        CHECK_EQUAL(closed, i == 0 ? 0 : RL_WOULD_BLOCK);
        if (closed != 0)
            close(fd);
        close(writer);
    }
    rl_resident_free(resident);
    remove_overlay(overlay);
}

TEST(who_wrote_to_a_disk_does_not_close_at_once)
{
    const char *disk = on_disk(), *memory = on_tmpfs();
    struct rl_resident *resident = learn();
    int fd = open(new_file(path_of("%s/file", disk), 100), O_RDWR | O_CLOEXEC);
    struct rl_resident_file file = identify(resident, fd);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), RL_WOULD_BLOCK);
    CHECK_EQUAL(file.kind, 0);
    close(fd);
    fd = open(new_file(path_of("%s/file", memory), 100), O_RDWR | O_CLOEXEC);
    file = identify(resident, fd);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    rl_resident_free(resident);
    remove_tree(disk);
    remove_tree(memory);
}
