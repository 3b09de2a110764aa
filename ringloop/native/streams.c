/*
 * Reading streams: see streams.h. Pipes have RWF_NOWAIT since 6.5, sockets since 6.4, eventfds since 5.8;
 * terminals have not.
 */
#define _GNU_SOURCE
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8 /* 4.14 */
#endif

enum rl_file_kind rl_file_kind(int fd)
{
    struct statx status;
    struct termios settings;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) < 0)
        return RL_FILE_STORED;
    switch (status.stx_mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFBLK:
        return RL_FILE_STORED;
    case S_IFCHR:
        return tcgetattr(fd, &settings) == 0 ? RL_FILE_STREAM : RL_FILE_DEVICE;
    default:
        return RL_FILE_STREAM;
    }
}

static int64_t readv_if_ready(int fd, const struct iovec *vectors, int vector_count)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, 0) == 0)
        return -EAGAIN;
    ssize_t count = readv(fd, vectors, vector_count);
    return count < 0 ? -errno : count;
}

int64_t rl_stream_readv(int fd, const struct iovec *vectors, int vector_count)
{
    ssize_t count;
    size_t bytes = 0;
    for (int i = 0; i < vector_count; i++)
        bytes += vectors[i].iov_len;
    if (bytes == 0) /* waits for nothing */
        return (count = readv(fd, vectors, vector_count)) < 0 ? -errno : count;
    count = syscall(SYS_preadv2, fd, vectors, (long)vector_count, -1L, -1L, RWF_NOWAIT);
    if (count >= 0 || errno != EOPNOTSUPP)
        return count < 0 ? -errno : count;
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = (size_t)vector_count};
    count = recvmsg(fd, &message, MSG_DONTWAIT);
    if (count >= 0 || errno != ENOTSOCK)
        return count < 0 ? -errno : count;
    return readv_if_ready(fd, vectors, vector_count);
}
