/*
 * Streams: which files are read as such, and reading what is there without waiting.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "harness.h"
#include "streams.h"

TEST(each_kind_of_file_is_known)
{
    int pair[2], pipe_ends[2];
    int file = memfd_create("file", 0), directory = open(".", O_RDONLY);
    int device = open("/dev/null", O_RDONLY), event = eventfd(0, 0);
    int terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CHECK(file >= 0 && directory >= 0 && device >= 0 && event >= 0 && terminal >= 0);
    CHECK(pipe(pipe_ends) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK_EQUAL(rl_file_kind(file), RL_FILE_STORED);
    CHECK_EQUAL(rl_file_kind(directory), RL_FILE_STORED);
    CHECK_EQUAL(rl_file_kind(-1), RL_FILE_STORED);
    CHECK_EQUAL(rl_file_kind(device), RL_FILE_DEVICE);
    CHECK_EQUAL(rl_file_kind(event), RL_FILE_STREAM);
    CHECK_EQUAL(rl_file_kind(pipe_ends[0]), RL_FILE_STREAM);
    CHECK_EQUAL(rl_file_kind(pair[0]), RL_FILE_STREAM);
    CHECK_EQUAL(rl_file_kind(terminal), RL_FILE_STREAM);
    int fds[] = {file, directory, device, event, terminal, pipe_ends[0], pipe_ends[1], pair[0], pair[1]};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        close(fds[i]);
}

/* Two buffers of 3 bytes: nothing yet, some, as much as fits, the rest, the end. */
static void read_all_of(int read_end, int write_end)
{
    char bytes[6] = "";
    struct iovec vectors[2] = {{bytes, 3}, {bytes + 3, 3}}, none[1] = {{bytes, 0}};
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), -EAGAIN);
    CHECK_EQUAL(rl_stream_readv(read_end, none, 1), 0);
    CHECK_EQUAL(write(write_end, "abcd", 4), 4);
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), 4);
    CHECK(memcmp(bytes, "abcd", 4) == 0);
    CHECK_EQUAL(write(write_end, "efghijkl", 8), 8);
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), 6);
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), 2);
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), -EAGAIN);
    close(write_end);
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), 0);
    close(read_end);
    CHECK_EQUAL(rl_stream_readv(read_end, vectors, 2), -EBADF);
}

TEST(a_pipe_is_read_without_waiting)
{
    int ends[2];
    CHECK(pipe(ends) == 0);
    read_all_of(ends[0], ends[1]);
}

TEST(a_socket_is_read_without_waiting)
{
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    read_all_of(ends[0], ends[1]);
}

TEST(a_terminal_is_read_without_waiting)
{
    char line[8];
    struct iovec vector = {line, sizeof line};
    int ours = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    CHECK(ours >= 0 && grantpt(ours) == 0 && unlockpt(ours) == 0);
    int theirs = open(ptsname(ours), O_RDWR | O_NOCTTY);
    CHECK(theirs >= 0);
    CHECK_EQUAL(rl_stream_readv(theirs, &vector, 1), -EAGAIN);
    CHECK_EQUAL(write(ours, "abc", 3), 3);
    CHECK_EQUAL(rl_stream_readv(theirs, &vector, 1), -EAGAIN); /* not yet a line */
    CHECK_EQUAL(write(ours, "\n", 1), 1);
    CHECK_EQUAL(rl_stream_readv(theirs, &vector, 1), 4);
    close(theirs);
    close(ours);
}
