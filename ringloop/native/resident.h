/*
 * What the kernel has in memory returns at once: file operations on the loop's own thread.
 *
 * Each function does what its system call does if that takes microseconds, and else does nothing and
 * answers RL_WOULD_BLOCK: the caller then gives the operation to the ring or to a worker, also for its
 * error. Why each of them cannot block is in resident.c.
 *
 * A `struct rl_resident` belongs to one loop. It is learnt by a worker, and again when it is not current
 * any more; meanwhile, as with NULL, the answer is RL_WOULD_BLOCK.
 *
 * There is no reading of directories: nothing proves that their blocks are cached (getdents has no form
 * that does not wait, and on ext4 the blocks are in the device's cache, which no fd of ours shows).
 */
#ifndef RINGLOOP_RESIDENT_H
#define RINGLOOP_RESIDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RL_WOULD_BLOCK = INT32_MIN }; /* no result and no errno */

/* Up to 1 MiB, in blocks of 512 bytes, the end of a file takes microseconds. */
enum { RL_RESIDENT_SMALL_BLOCKS = 2048 };

/* A read or write takes no more than this at once, about 100 us of copying: more is done in parts. */
enum { RL_RESIDENT_BYTES_MAX = 1 << 20 };

struct rl_statx_time {
    int64_t seconds;
    uint32_t nanoseconds;
    int32_t padding;
};

/* The kernel's struct statx. */
struct rl_statx {
    uint32_t mask, block_bytes;
    uint64_t attributes;
    uint32_t link_count, uid, gid;
    uint16_t mode, padding;
    uint64_t inode, size, blocks, attributes_mask;
    struct rl_statx_time accessed, born, changed, modified;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t mount_id; /* 5.8 */
    uint64_t reserved[13];
};

/*
 * What is remembered of an open file. All zero: nothing is known, so nothing is done at once. Filled by
 * rl_resident_open() or rl_resident_identify(), emptied by rl_resident_close() or rl_resident_forget(). It
 * stands for the fd as long as nobody changes its flags (F_SETFL) or the process its user.
 */
struct rl_resident_file {
    uint32_t kind; /* RL_FS_*; 0: nothing is known */
    bool reads, writes;  /* whether these may be tried at once */
    bool readable, writable; /* what it is open for */
    bool lacks_nowait, lacks_cachestat;
    bool is_unseen; /* O_NONBLOCK is on though nobody asked for it: see rl_resident_open_unseen() */
    int status_flags; /* which were asked for */
    bool waits_for_writer; /* fifo_fd is open: see rl_resident_open() */
    int fifo_fd;
    bool closes; /* nothing that was seen when it was opened makes its close slow */
    uint64_t size; /* when it was last seen */
    int64_t changed_seconds;
    uint32_t changed_nanoseconds;
    uint8_t *mapping; /* never touched: only asked about */
    bool is_answered; /* and the answers are true */
    size_t mapping_bytes;
};

enum { RL_WITHOUT_SYNC = 0x4000 }; /* AT_STATX_DONT_SYNC */

/* statx() of an fd, or of the working directory: 0 or -errno. */
int rl_statx_fd(int fd, int at_flags, struct rl_statx *status);

struct rl_resident;

/*
 * Reads the mounts and tries the system calls. Blocks: for a worker. NULL where nothing can be done at
 * once; it may be later if errno is EMFILE, ENFILE, ENOMEM or EAGAIN.
 */
struct rl_resident *rl_resident_learn(void);
void rl_resident_free(struct rl_resident *resident);

/* Whether it can be used; if not, it is to be learnt again. A few ns. */
bool rl_resident_is_current(struct rl_resident *resident);

/*
 * openat() without O_CREAT, of a regular file, or of a directory on some file systems, for reading: the fd
 * with *file and *status filled, or -errno for errors that are certain, or RL_WOULD_BLOCK. Opens no FIFO and
 * no device, unless it was put within the last second in the place of a regular file: a device is closed
 * again; a FIFO is what was asked for with O_NONBLOCK, else, with file->waits_for_writer, file->fifo_fd is
 * it, the caller's to close, or to make what was asked for by rl_fifo_execute(). Flags other than O_CLOEXEC,
 * O_DIRECTORY, O_NOFOLLOW, O_NOCTTY, O_NONBLOCK, O_NOATIME: RL_WOULD_BLOCK.
 */
int rl_resident_open(struct rl_resident *resident, int dirfd, const char *path, int flags,
                     struct rl_resident_file *file, struct rl_statx *status);

/*
 * The same for an fd that nobody sees yet: O_NONBLOCK, which such files ignore, may be left on, until
 * rl_resident_show(). What others see is what was asked for.
 */
int rl_resident_open_unseen(struct rl_resident *resident, int dirfd, const char *path, int flags,
                            struct rl_resident_file *file, struct rl_statx *status);

/*
 * A listing tells of regular files, too. What paths that begin at `dirfd` begin at, in *start (0 for those
 * that begin at the root), if that can be told; whether such files in a directory open at once; and that
 * there is one, called `name`, in the directory that was listed by the path `directory`.
 */
bool rl_resident_start(int dirfd, uint64_t *start);
bool rl_resident_opens_in(struct rl_resident *resident, const struct rl_statx *directory);
void rl_resident_listed(struct rl_resident *resident, uint64_t start, const char *directory,
                        size_t directory_bytes, const char *name, size_t name_bytes);

/* Before others learn the fd. 0 or -errno. */
int rl_resident_show(int fd, struct rl_resident_file *file);

/*
 * statx() with STATX_BASIC_STATS and STATX_BTIME: 0, -errno or RL_WOULD_BLOCK. at_flags:
 * AT_SYMLINK_NOFOLLOW, and AT_EMPTY_PATH with an empty path for the file `dirfd` itself.
 */
int rl_resident_stat(struct rl_resident *resident, int dirfd, const char *path, int at_flags,
                     struct rl_statx *status);

/*
 * Fills *file and *status for an fd that was opened in another way: 0, -errno or RL_WOULD_BLOCK. With
 * may_wait, from a worker, it waits for the file's server where it must.
 */
int rl_resident_identify(struct rl_resident *resident, int fd, bool may_wait, struct rl_resident_file *file,
                         struct rl_statx *status);

/*
 * For resident_io.c, and the last two for batches: whether an fd about which nothing is known may be asked
 * anything; what it is, and RL_FS_* of where, as 0, -errno or RL_WOULD_BLOCK; and for which of 64 classes of
 * fds RWF_NOWAIT was refused last, a hint of what to try first, with the bit of an fd's class.
 */
bool rl_resident_may_ask(struct rl_resident *resident);
int rl_resident_look(struct rl_resident *resident, int fd, uint32_t *kind, struct rl_statx *status);
uint64_t *rl_resident_refusals(struct rl_resident *resident);
uint64_t rl_resident_fd_class(int fd);

/* Fills *file by what rl_resident_look() found and fcntl(F_GETFL) answered. */
void rl_resident_fill(struct rl_resident_file *file, uint32_t kind, int flags, const struct rl_statx *status);

/*
 * pread(), or with offset -1 read(), of what is in memory: bytes, 0 exactly at the end of the file, -errno
 * or RL_WOULD_BLOCK. The count may be short of what the file has (RL_RESIDENT_BYTES_MAX, or pages that
 * went): the caller goes on. With offset -1 no other call that moves the position may be under way on the
 * file: they exclude each other in the kernel (f_pos_lock), and a worker's read() would hold this one up.
 */
int64_t rl_resident_pread(int fd, struct rl_resident_file *file, void *buffer, size_t length, int64_t offset);

/*
 * sendfile() to a socket with O_NONBLOCK, from `offset` on: bytes, perhaps fewer than asked for, 0 exactly at
 * the end of the file, -errno, of which -EAGAIN is of the socket, or RL_WOULD_BLOCK.
 */
int64_t rl_resident_sendfile(int socket_fd, int fd, struct rl_resident_file *file, size_t length,
                             int64_t offset);

/*
 * pread() of all from `offset` on to the end of the file, if that is where it was when it was last seen.
 * `buffer` has room for one byte more. Bytes, more than none, or RL_WOULD_BLOCK.
 */
int64_t rl_resident_read_rest(int fd, struct rl_resident_file *file, void *buffer, int64_t offset);

/*
 * What rl_resident_pread() is, of an fd about which nothing is known and nothing will be remembered: it is
 * asked no more than this read takes.
 */
int64_t rl_resident_pread_fd(struct rl_resident *resident, int fd, void *buffer, size_t length,
                             int64_t offset);

/* pwrite(), or with offset -1 write(): bytes, perhaps fewer than asked for, -errno or RL_WOULD_BLOCK. */
int64_t rl_resident_pwrite(int fd, struct rl_resident_file *file, const void *buffer, size_t length,
                           int64_t offset);

/*
 * close(): 0, -errno, or RL_WOULD_BLOCK with the fd open. *file is emptied in any case. (The ring's CLOSE
 * is no help then: it drops the file on the submitting thread. Give it to a worker, or IOSQE_ASYNC.) With
 * `was_just_opened`, so that what was seen then is so still, it is not looked at again.
 */
int rl_resident_close(int fd, struct rl_resident_file *file, bool was_just_opened);

/* The same of an fd about which nothing is known. */
int rl_resident_close_fd(struct rl_resident *resident, int fd);

/* Empties *file, whose fd somebody else closes, before or after. */
void rl_resident_forget(struct rl_resident_file *file);

#endif
