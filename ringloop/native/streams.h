/*
 * Files that are read as streams: a read waits for somebody else, and takes what it reads.
 *
 * Such a read must not be under way when its reader gives up, or the bytes are lost. So readiness is waited
 * for, which takes nothing, and then what is there is read without waiting. No state, no Python.
 */
#ifndef RINGLOOP_STREAMS_H
#define RINGLOOP_STREAMS_H

#include <stdint.h>
#include <sys/uio.h>

enum rl_file_kind {
    RL_FILE_STORED, /* a regular file, a directory, a block device; or no file at all */
    RL_FILE_STREAM, /* a pipe, FIFO, socket or terminal, an eventfd and its like: poll() tells when to read */
    RL_FILE_DEVICE  /* any other device: poll() may say "ready" of what then waits */
};

/* What `fd` is. Asks no server. */
enum rl_file_kind rl_file_kind(int fd);

/*
 * readv() of a RL_FILE_STREAM, without waiting, whatever its O_NONBLOCK says: bytes, 0 at its end, -EAGAIN
 * if nothing is there, or -errno. (Where the kernel knows no such read, of a terminal for one, another reader
 * that takes what is there in the very microsecond makes it wait for more.)
 */
int64_t rl_stream_readv(int fd, const struct iovec *vectors, int vector_count);

#endif
