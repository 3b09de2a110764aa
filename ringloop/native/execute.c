/*
 * One operation by an ordinary system call: see execute.h.
 *
 * A function for each opcode that is a system call, and a table of them. Raw system calls where C libraries
 * differ or lack one; theirs where the order of arguments differs between processors.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "execute.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* 5.16; the same on every processor */
#endif

/* The offset that stands for the file's own position. */
#define AT_POSITION UINT64_MAX

/* A system call by number. Its result, or -errno. */
#define CALL(...) or_errno(syscall(__VA_ARGS__))

static int64_t or_errno(long result)
{
    return result == -1 ? -errno : result;
}

static void *pointer(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

/* Waits until a file with O_NONBLOCK is ready. 0, or -errno. */
static int64_t await_ready(int fd, short events)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int64_t result = or_errno(poll(&poll_fd, 1, -1));
    return result < 0 ? result : 0;
}

/* Whether a call that said *result is to be made again, `fd` being ready now. If not, *result is final. */
static bool again_when_ready(int64_t *result, int fd, short events)
{
    if (*result != -EAGAIN)
        return false;
    int64_t error = await_ready(fd, events);
    if (error != 0)
        *result = error;
    return error == 0;
}

/* ---- reading and writing ---- */

static bool is_socket(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode);
}

static int64_t transfer(long number, const struct rl_sqe *sqe, const struct iovec *vector, uint32_t count)
{
    uint64_t offset = sqe->offset;
    long vectors = (long)count;
    short events = number == SYS_preadv2 ? POLLIN : POLLOUT;
    int64_t result;
    if (sqe->op_flags & RWF_HIPRI) /* for rings that poll devices */
        return -EINVAL;
    do {
        /* The high half counts where a register has 32 bits, and is shifted out where it has 64. */
        result = CALL(number, sqe->fd, vector, vectors, (long)offset, (long)(offset >> 32), sqe->op_flags);
        if (result == -ESPIPE && offset != AT_POSITION && (offset == 0 || !is_socket(sqe->fd))) {
            offset = AT_POSITION; /* a ring ignores the offset of what has none, but of a socket */
            result = CALL(number, sqe->fd, vector, vectors, -1L, -1L, sqe->op_flags);
        }
    } while (!(sqe->op_flags & RWF_NOWAIT) && again_when_ready(&result, sqe->fd, events));
    return result;
}

static int64_t do_read(const struct rl_sqe *sqe)
{
    struct iovec vector = {pointer(sqe->address), sqe->length};
    return transfer(SYS_preadv2, sqe, &vector, 1);
}

static int64_t do_write(const struct rl_sqe *sqe)
{
    struct iovec vector = {pointer(sqe->address), sqe->length};
    return transfer(SYS_pwritev2, sqe, &vector, 1);
}

static int64_t do_readv(const struct rl_sqe *sqe)
{
    return transfer(SYS_preadv2, sqe, pointer(sqe->address), sqe->length);
}

static int64_t do_writev(const struct rl_sqe *sqe)
{
    return transfer(SYS_pwritev2, sqe, pointer(sqe->address), sqe->length);
}

/* A pipe has no offset; NULL says so. */
static int64_t *offset_or_null(int64_t *offset)
{
    return *offset == -1 ? NULL : offset;
}

static int64_t do_splice(const struct rl_sqe *sqe)
{
    int64_t from = (int64_t)sqe->address, to = (int64_t)sqe->offset;
    if (sqe->length == 0)
        return 0;
    return CALL(SYS_splice, (int)sqe->file_index, offset_or_null(&from), sqe->fd, offset_or_null(&to),
                (size_t)sqe->length, sqe->op_flags);
}

static int64_t do_tee(const struct rl_sqe *sqe)
{
    if (sqe->address != 0 || sqe->offset != 0)
        return -EINVAL;
    if (sqe->length == 0)
        return 0;
    return CALL(SYS_tee, (int)sqe->file_index, sqe->fd, (size_t)sqe->length, sqe->op_flags);
}

/* ---- files ---- */

static int64_t do_fsync(const struct rl_sqe *sqe)
{
    if (sqe->op_flags & ~(uint32_t)RL_FSYNC_DATASYNC)
        return -EINVAL;
    return CALL(sqe->op_flags & RL_FSYNC_DATASYNC ? SYS_fdatasync : SYS_fsync, sqe->fd);
}

static int64_t do_sync_file_range(const struct rl_sqe *sqe)
{
    return or_errno(sync_file_range(sqe->fd, (off_t)sqe->offset, sqe->length, sqe->op_flags));
}

static int64_t do_fallocate(const struct rl_sqe *sqe)
{
    return or_errno(fallocate(sqe->fd, (int)sqe->length, (off_t)sqe->offset, (off_t)sqe->address));
}

static int64_t do_ftruncate(const struct rl_sqe *sqe)
{
    return or_errno(ftruncate(sqe->fd, (off_t)sqe->offset));
}

/* Both advices: the long field counts, and the short one if it is 0 (6.10; before, the short one). */
static int64_t do_fadvise(const struct rl_sqe *sqe)
{
    uint64_t length = sqe->address != 0 ? sqe->address : sqe->length;
    return -posix_fadvise(sqe->fd, (off_t)sqe->offset, (off_t)length, (int)sqe->op_flags);
}

static int64_t do_madvise(const struct rl_sqe *sqe)
{
    uint64_t length = sqe->offset != 0 ? sqe->offset : sqe->length;
    return CALL(SYS_madvise, pointer(sqe->address), (size_t)length, (int)sqe->op_flags);
}

static int64_t do_openat(const struct rl_sqe *sqe)
{
    if (sqe->file_index != 0)
        return -EINVAL;
    return CALL(SYS_openat, sqe->fd, pointer(sqe->address), sqe->op_flags | O_LARGEFILE, sqe->length);
}

static int64_t do_openat2(const struct rl_sqe *sqe)
{
    if (sqe->file_index != 0)
        return -EINVAL;
    return CALL(SYS_openat2, sqe->fd, pointer(sqe->address), pointer(sqe->offset), (size_t)sqe->length);
}

static int64_t do_close(const struct rl_sqe *sqe)
{
    if (sqe->file_index != 0)
        return -EINVAL;
    return CALL(SYS_close, sqe->fd);
}

static int64_t do_pipe(const struct rl_sqe *sqe)
{
    if (sqe->file_index != 0)
        return -EINVAL;
    return CALL(SYS_pipe2, pointer(sqe->address), sqe->op_flags);
}

static int64_t do_statx(const struct rl_sqe *sqe)
{
    return CALL(SYS_statx, sqe->fd, pointer(sqe->address), sqe->op_flags, sqe->length, pointer(sqe->offset));
}

static int64_t do_renameat(const struct rl_sqe *sqe)
{
    return CALL(SYS_renameat2, sqe->fd, pointer(sqe->address), (int)sqe->length, pointer(sqe->offset),
                sqe->op_flags);
}

static int64_t do_unlinkat(const struct rl_sqe *sqe)
{
    return CALL(SYS_unlinkat, sqe->fd, pointer(sqe->address), sqe->op_flags);
}

static int64_t do_mkdirat(const struct rl_sqe *sqe)
{
    return CALL(SYS_mkdirat, sqe->fd, pointer(sqe->address), sqe->length);
}

static int64_t do_symlinkat(const struct rl_sqe *sqe)
{
    return CALL(SYS_symlinkat, pointer(sqe->address), sqe->fd, pointer(sqe->offset));
}

static int64_t do_linkat(const struct rl_sqe *sqe)
{
    return CALL(SYS_linkat, sqe->fd, pointer(sqe->address), (int)sqe->length, pointer(sqe->offset),
                sqe->op_flags);
}

static int64_t do_setxattr(const struct rl_sqe *sqe)
{
    return CALL(SYS_setxattr, pointer(sqe->address3), pointer(sqe->address), pointer(sqe->offset),
                (size_t)sqe->length, sqe->op_flags);
}

static int64_t do_fsetxattr(const struct rl_sqe *sqe)
{
    return CALL(SYS_fsetxattr, sqe->fd, pointer(sqe->address), pointer(sqe->offset), (size_t)sqe->length,
                sqe->op_flags);
}

static int64_t do_getxattr(const struct rl_sqe *sqe)
{
    if (sqe->op_flags != 0)
        return -EINVAL;
    return CALL(SYS_getxattr, pointer(sqe->address3), pointer(sqe->address), pointer(sqe->offset),
                (size_t)sqe->length);
}

static int64_t do_fgetxattr(const struct rl_sqe *sqe)
{
    if (sqe->op_flags != 0)
        return -EINVAL;
    return CALL(SYS_fgetxattr, sqe->fd, pointer(sqe->address), pointer(sqe->offset), (size_t)sqe->length);
}

/* ---- sockets ---- */

static bool is_stream(int fd)
{
    int type = 0;
    socklen_t type_bytes = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_bytes) == 0 && type == SOCK_STREAM;
}

/* MSG_WAITALL means all of it in a ring, also on a socket with O_NONBLOCK, and for sending, too (5.19). */
static int64_t transfer_socket(const struct rl_sqe *sqe, bool is_send)
{
    short events = is_send ? POLLOUT : POLLIN;
    uint64_t done = 0;
    uint16_t peer_bytes; /* addr_len, the first half of the kernel's union in which file_index is */
    int64_t result;
    memcpy(&peer_bytes, &sqe->file_index, sizeof peer_bytes);
    if (sqe->ioprio & ~RL_RECV_POLL_FIRST)
        return -EINVAL;
    do {
        char *buffer = (char *)pointer(sqe->address) + done;
        size_t length = sqe->length - done;
        if (is_send)
            result = CALL(SYS_sendto, sqe->fd, buffer, length, sqe->op_flags | MSG_NOSIGNAL,
                          pointer(sqe->offset), (long)peer_bytes);
        else
            result = CALL(SYS_recvfrom, sqe->fd, buffer, length, sqe->op_flags, NULL, NULL);
        if (result > 0) {
            done += (uint64_t)result;
            if (done < sqe->length && (sqe->op_flags & MSG_WAITALL) && is_stream(sqe->fd))
                result = -EAGAIN;
        }
    } while (!(sqe->op_flags & MSG_DONTWAIT) && again_when_ready(&result, sqe->fd, events));
    return done > 0 ? (int64_t)done : result;
}

static int64_t do_send(const struct rl_sqe *sqe)
{
    return transfer_socket(sqe, true);
}

static int64_t do_recv(const struct rl_sqe *sqe)
{
    return transfer_socket(sqe, false);
}

static int64_t transfer_message(const struct rl_sqe *sqe, long number, uint32_t flags, short events)
{
    int64_t result;
    if (sqe->ioprio & ~RL_RECV_POLL_FIRST)
        return -EINVAL;
    do
        result = CALL(number, sqe->fd, pointer(sqe->address), flags);
    while (!(flags & MSG_DONTWAIT) && again_when_ready(&result, sqe->fd, events));
    return result;
}

static int64_t do_sendmsg(const struct rl_sqe *sqe)
{
    return transfer_message(sqe, SYS_sendmsg, sqe->op_flags | MSG_NOSIGNAL, POLLOUT);
}

static int64_t do_recvmsg(const struct rl_sqe *sqe)
{
    return transfer_message(sqe, SYS_recvmsg, sqe->op_flags, POLLIN);
}

static int64_t do_accept(const struct rl_sqe *sqe)
{
    int64_t result;
    if (sqe->file_index != 0 || (sqe->ioprio & ~RL_ACCEPT_DONTWAIT))
        return -EINVAL;
    if (sqe->ioprio & RL_ACCEPT_DONTWAIT) {
        struct pollfd poll_fd = {.fd = sqe->fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 0) == 0)
            return -EAGAIN;
    }
    do
        result = CALL(SYS_accept4, sqe->fd, pointer(sqe->address), pointer(sqe->offset), sqe->op_flags);
    while (!(sqe->ioprio & RL_ACCEPT_DONTWAIT) && again_when_ready(&result, sqe->fd, POLLIN));
    return result;
}

/* The second call is what makes the kernel take the socket for connected, as one that blocks is. */
static int64_t do_connect(const struct rl_sqe *sqe)
{
    bool has_waited = false;
    for (;;) {
        int error = 0;
        socklen_t error_bytes = sizeof error;
        int64_t result = CALL(SYS_connect, sqe->fd, pointer(sqe->address), (socklen_t)sqe->offset);
        if (result == -EISCONN && has_waited)
            return 0;
        if (result != -EINPROGRESS && !(result == -EALREADY && has_waited))
            return result;
        has_waited = true;
        result = await_ready(sqe->fd, POLLOUT);
        if (result == 0)
            result = or_errno(getsockopt(sqe->fd, SOL_SOCKET, SO_ERROR, &error, &error_bytes));
        if (result != 0 || error != 0)
            return result != 0 ? result : -error;
    }
}

static int64_t do_socket(const struct rl_sqe *sqe)
{
    if (sqe->file_index != 0 || sqe->op_flags != 0)
        return -EINVAL;
    return CALL(SYS_socket, sqe->fd, (int)sqe->offset, (int)sqe->length);
}

static int64_t do_bind(const struct rl_sqe *sqe)
{
    return CALL(SYS_bind, sqe->fd, pointer(sqe->address), (socklen_t)sqe->offset);
}

static int64_t do_listen(const struct rl_sqe *sqe)
{
    return CALL(SYS_listen, sqe->fd, (int)sqe->length);
}

static int64_t do_shutdown(const struct rl_sqe *sqe)
{
    return CALL(SYS_shutdown, sqe->fd, (int)sqe->length);
}

/* ---- waiting ---- */

static int64_t do_nop(const struct rl_sqe *sqe)
{
    return sqe->op_flags == 0 ? 0 : -EINVAL;
}

static int64_t do_poll_add(const struct rl_sqe *sqe)
{
    struct pollfd poll_fd = {.fd = sqe->fd, .events = (short)sqe->op_flags};
    if (sqe->length != 0 || sqe->offset != 0 || sqe->address != 0)
        return -EINVAL;
    if (sqe->fd < 0)
        return -EBADF;
    int64_t result = or_errno(poll(&poll_fd, 1, -1));
    if (result < 0)
        return result;
    return poll_fd.revents & POLLNVAL ? -EBADF : (uint16_t)poll_fd.revents;
}

static int64_t do_timeout(const struct rl_sqe *sqe)
{
    uint32_t flags = sqe->op_flags;
    uint32_t known = RL_TIMEOUT_ABS | RL_TIMEOUT_BOOTTIME | RL_TIMEOUT_REALTIME | RL_TIMEOUT_ETIME_SUCCESS;
    clockid_t clock = CLOCK_MONOTONIC;
    if (sqe->length != 1 || sqe->offset != 0 || (flags & ~known))
        return -EINVAL;
    if ((flags & RL_TIMEOUT_BOOTTIME) && (flags & RL_TIMEOUT_REALTIME))
        return -EINVAL;
    if (flags & RL_TIMEOUT_BOOTTIME)
        clock = CLOCK_BOOTTIME;
    if (flags & RL_TIMEOUT_REALTIME)
        clock = CLOCK_REALTIME;
#ifdef SYS_clock_nanosleep_time64
    long number = SYS_clock_nanosleep_time64;
#else
    long number = SYS_clock_nanosleep;
#endif
    int mode = flags & RL_TIMEOUT_ABS ? TIMER_ABSTIME : 0;
    int64_t result = CALL(number, clock, mode, pointer(sqe->address), NULL);
    return result == 0 ? -ETIME : result;
}

static int64_t do_epoll_ctl(const struct rl_sqe *sqe)
{
    return CALL(SYS_epoll_ctl, sqe->fd, (int)sqe->length, (int)sqe->offset, pointer(sqe->address));
}

static int64_t do_epoll_wait(const struct rl_sqe *sqe)
{
    return CALL(SYS_epoll_pwait, sqe->fd, pointer(sqe->address), (int)sqe->length, -1, NULL, (size_t)0);
}

static int64_t do_waitid(const struct rl_sqe *sqe)
{
    return CALL(SYS_waitid, (int)sqe->length, sqe->fd, pointer(sqe->offset), (int)sqe->file_index, NULL);
}

/*
 * A futex by the call that every kernel has. The newer call's flags are where an entry has its fd, its value
 * and its mask have 64 bits: it refuses what does not fit the futex's 32, and so does this.
 */
static int64_t call_futex(const struct rl_sqe *sqe, int operation)
{
    if ((sqe->fd & ~RL_FUTEX_PRIVATE) != RL_FUTEX_SIZE_U32)
        return -EINVAL;
    if (sqe->offset > UINT32_MAX || sqe->address3 > UINT32_MAX || sqe->address3 == 0)
        return -EINVAL;
    if (sqe->length != 0 || sqe->op_flags != 0 || sqe->file_index != 0)
        return -EINVAL;
    if (operation == FUTEX_WAKE_BITSET && sqe->offset == 0)
        return 0; /* the older call would wake one */
    if (sqe->fd & RL_FUTEX_PRIVATE)
        operation |= FUTEX_PRIVATE_FLAG;
    return CALL(SYS_futex, pointer(sqe->address), operation, (uint32_t)sqe->offset, NULL, NULL,
                (uint32_t)sqe->address3);
}

static int64_t do_futex_wait(const struct rl_sqe *sqe)
{
    return call_futex(sqe, FUTEX_WAIT_BITSET);
}

static int64_t do_futex_wake(const struct rl_sqe *sqe)
{
    return call_futex(sqe, FUTEX_WAKE_BITSET);
}

static int64_t do_futex_waitv(const struct rl_sqe *sqe)
{
    if (sqe->fd != 0 || sqe->offset != 0 || sqe->address3 != 0 || sqe->op_flags != 0)
        return -EINVAL;
    return CALL(SYS_futex_waitv, pointer(sqe->address), sqe->length, 0, NULL, CLOCK_MONOTONIC);
}

/* ---- the table ---- */

static const struct {
    int64_t (*execute)(const struct rl_sqe *sqe);
    bool interruptible;
} OPERATIONS[] = {
    [RL_OP_NOP] = {do_nop, false},
    [RL_OP_READV] = {do_readv, true},
    [RL_OP_WRITEV] = {do_writev, true},
    [RL_OP_FSYNC] = {do_fsync, false},
    [RL_OP_POLL_ADD] = {do_poll_add, true},
    [RL_OP_SYNC_FILE_RANGE] = {do_sync_file_range, false},
    [RL_OP_SENDMSG] = {do_sendmsg, true},
    [RL_OP_RECVMSG] = {do_recvmsg, true},
    [RL_OP_TIMEOUT] = {do_timeout, true},
    [RL_OP_ACCEPT] = {do_accept, true},
    [RL_OP_CONNECT] = {do_connect, true},
    [RL_OP_FALLOCATE] = {do_fallocate, false},
    [RL_OP_OPENAT] = {do_openat, true},
    [RL_OP_CLOSE] = {do_close, false},
    [RL_OP_STATX] = {do_statx, false},
    [RL_OP_READ] = {do_read, true},
    [RL_OP_WRITE] = {do_write, true},
    [RL_OP_FADVISE] = {do_fadvise, false},
    [RL_OP_MADVISE] = {do_madvise, false},
    [RL_OP_SEND] = {do_send, true},
    [RL_OP_RECV] = {do_recv, true},
    [RL_OP_OPENAT2] = {do_openat2, true},
    [RL_OP_EPOLL_CTL] = {do_epoll_ctl, false},
    [RL_OP_SPLICE] = {do_splice, true},
    [RL_OP_TEE] = {do_tee, true},
    [RL_OP_SHUTDOWN] = {do_shutdown, false},
    [RL_OP_RENAMEAT] = {do_renameat, false},
    [RL_OP_UNLINKAT] = {do_unlinkat, false},
    [RL_OP_MKDIRAT] = {do_mkdirat, false},
    [RL_OP_SYMLINKAT] = {do_symlinkat, false},
    [RL_OP_LINKAT] = {do_linkat, false},
    [RL_OP_FSETXATTR] = {do_fsetxattr, false},
    [RL_OP_SETXATTR] = {do_setxattr, false},
    [RL_OP_FGETXATTR] = {do_fgetxattr, false},
    [RL_OP_GETXATTR] = {do_getxattr, false},
    [RL_OP_SOCKET] = {do_socket, false},
    [RL_OP_WAITID] = {do_waitid, true},
    [RL_OP_FUTEX_WAIT] = {do_futex_wait, true},
    [RL_OP_FUTEX_WAKE] = {do_futex_wake, false},
    [RL_OP_FUTEX_WAITV] = {do_futex_waitv, true},
    [RL_OP_FTRUNCATE] = {do_ftruncate, false},
    [RL_OP_BIND] = {do_bind, false},
    [RL_OP_LISTEN] = {do_listen, false},
    [RL_OP_EPOLL_WAIT] = {do_epoll_wait, true},
    [RL_OP_PIPE] = {do_pipe, false},
};

enum { OPERATION_COUNT = sizeof OPERATIONS / sizeof OPERATIONS[0] };

bool rl_execute_interruptible(uint8_t opcode)
{
    return opcode < OPERATION_COUNT && OPERATIONS[opcode].interruptible;
}

bool rl_execute_has(uint8_t opcode)
{
    return opcode < OPERATION_COUNT && OPERATIONS[opcode].execute != NULL;
}

int32_t rl_execute_sqe(const struct rl_sqe *sqe)
{
    if (!rl_execute_has(sqe->opcode))
        return -EINVAL;
    if ((sqe->flags & RL_SQE_BUFFER_SELECT) || sqe->personality != 0)
        return -EINVAL;
    if (sqe->flags & RL_SQE_FIXED_FILE) /* no file is registered here */
        return -EBADF;
    return (int32_t)OPERATIONS[sqe->opcode].execute(sqe);
}

int64_t rl_execute_sqe_work(rl_work *work)
{
    struct rl_sqe_work *sqe_work = (struct rl_sqe_work *)((char *)work - offsetof(struct rl_sqe_work, work));
    return rl_execute_sqe(&sqe_work->sqe);
}

int64_t rl_execute_call(rl_work *work)
{
    struct rl_call_work *call = (struct rl_call_work *)((char *)work - offsetof(struct rl_call_work, work));
    const uint64_t *arguments = call->arguments;
    return CALL(call->number, (long)arguments[0], (long)arguments[1], (long)arguments[2], (long)arguments[3],
                (long)arguments[4], (long)arguments[5]);
}
