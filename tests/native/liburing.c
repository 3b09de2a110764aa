/*
 * abi.h against liburing's headers: every constant, every struct, and for every opcode the bytes of an entry
 * filled by our names against those that liburing prepares. Says what was compared. Needs liburing's headers,
 * 2.3 or later; what they lack are macros, and is told as not compared.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "harness.h"

#define SAME(ours, theirs)                                 \
    do {                                                   \
        CHECK_EQUAL((uint64_t)(ours), (uint64_t)(theirs)); \
        printf("%s == %s\n", #ours, #theirs);              \
    } while (0)

#define UNKNOWN(ours) printf("%s: not in these headers\n", #ours)

/* An opcode newer than liburing 2.3: no #ifdef sees enumerators. Those that execute.c knows are compared with
   the ring's doing. */
#define NEWER(ours)                                               \
    do {                                                          \
        CHECK((int)(ours) > (int)IORING_OP_SENDMSG_ZC);           \
        printf("%s: newer than what is compared with\n", #ours); \
    } while (0)

#define SAME_FIELD(our_struct, our_field, their_struct, their_field)                                    \
    do {                                                                                                \
        SAME(offsetof(struct our_struct, our_field), offsetof(struct their_struct, their_field));       \
        SAME(sizeof((struct our_struct *)0)->our_field, sizeof((struct their_struct *)0)->their_field); \
    } while (0)

TEST(opcodes_are_liburings)
{
    SAME(RL_OP_NOP, IORING_OP_NOP);
    SAME(RL_OP_READV, IORING_OP_READV);
    SAME(RL_OP_WRITEV, IORING_OP_WRITEV);
    SAME(RL_OP_FSYNC, IORING_OP_FSYNC);
    SAME(RL_OP_READ_FIXED, IORING_OP_READ_FIXED);
    SAME(RL_OP_WRITE_FIXED, IORING_OP_WRITE_FIXED);
    SAME(RL_OP_POLL_ADD, IORING_OP_POLL_ADD);
    SAME(RL_OP_POLL_REMOVE, IORING_OP_POLL_REMOVE);
    SAME(RL_OP_SYNC_FILE_RANGE, IORING_OP_SYNC_FILE_RANGE);
    SAME(RL_OP_SENDMSG, IORING_OP_SENDMSG);
    SAME(RL_OP_RECVMSG, IORING_OP_RECVMSG);
    SAME(RL_OP_TIMEOUT, IORING_OP_TIMEOUT);
    SAME(RL_OP_TIMEOUT_REMOVE, IORING_OP_TIMEOUT_REMOVE);
    SAME(RL_OP_ACCEPT, IORING_OP_ACCEPT);
    SAME(RL_OP_ASYNC_CANCEL, IORING_OP_ASYNC_CANCEL);
    SAME(RL_OP_LINK_TIMEOUT, IORING_OP_LINK_TIMEOUT);
    SAME(RL_OP_CONNECT, IORING_OP_CONNECT);
    SAME(RL_OP_FALLOCATE, IORING_OP_FALLOCATE);
    SAME(RL_OP_OPENAT, IORING_OP_OPENAT);
    SAME(RL_OP_CLOSE, IORING_OP_CLOSE);
    SAME(RL_OP_FILES_UPDATE, IORING_OP_FILES_UPDATE);
    SAME(RL_OP_STATX, IORING_OP_STATX);
    SAME(RL_OP_READ, IORING_OP_READ);
    SAME(RL_OP_WRITE, IORING_OP_WRITE);
    SAME(RL_OP_FADVISE, IORING_OP_FADVISE);
    SAME(RL_OP_MADVISE, IORING_OP_MADVISE);
    SAME(RL_OP_SEND, IORING_OP_SEND);
    SAME(RL_OP_RECV, IORING_OP_RECV);
    SAME(RL_OP_OPENAT2, IORING_OP_OPENAT2);
    SAME(RL_OP_EPOLL_CTL, IORING_OP_EPOLL_CTL);
    SAME(RL_OP_SPLICE, IORING_OP_SPLICE);
    SAME(RL_OP_PROVIDE_BUFFERS, IORING_OP_PROVIDE_BUFFERS);
    SAME(RL_OP_REMOVE_BUFFERS, IORING_OP_REMOVE_BUFFERS);
    SAME(RL_OP_TEE, IORING_OP_TEE);
    SAME(RL_OP_SHUTDOWN, IORING_OP_SHUTDOWN);
    SAME(RL_OP_RENAMEAT, IORING_OP_RENAMEAT);
    SAME(RL_OP_UNLINKAT, IORING_OP_UNLINKAT);
    SAME(RL_OP_MKDIRAT, IORING_OP_MKDIRAT);
    SAME(RL_OP_SYMLINKAT, IORING_OP_SYMLINKAT);
    SAME(RL_OP_LINKAT, IORING_OP_LINKAT);
    SAME(RL_OP_MSG_RING, IORING_OP_MSG_RING);
    SAME(RL_OP_FSETXATTR, IORING_OP_FSETXATTR);
    SAME(RL_OP_SETXATTR, IORING_OP_SETXATTR);
    SAME(RL_OP_FGETXATTR, IORING_OP_FGETXATTR);
    SAME(RL_OP_GETXATTR, IORING_OP_GETXATTR);
    SAME(RL_OP_SOCKET, IORING_OP_SOCKET);
    SAME(RL_OP_URING_CMD, IORING_OP_URING_CMD);
    SAME(RL_OP_SEND_ZC, IORING_OP_SEND_ZC);
    SAME(RL_OP_SENDMSG_ZC, IORING_OP_SENDMSG_ZC);
    NEWER(RL_OP_READ_MULTISHOT);
    NEWER(RL_OP_WAITID);
    NEWER(RL_OP_FUTEX_WAIT);
    NEWER(RL_OP_FUTEX_WAKE);
    NEWER(RL_OP_FUTEX_WAITV);
    NEWER(RL_OP_FIXED_FD_INSTALL);
    NEWER(RL_OP_FTRUNCATE);
    NEWER(RL_OP_BIND);
    NEWER(RL_OP_LISTEN);
    NEWER(RL_OP_RECV_ZC);
    NEWER(RL_OP_EPOLL_WAIT);
    NEWER(RL_OP_READV_FIXED);
    NEWER(RL_OP_WRITEV_FIXED);
    NEWER(RL_OP_PIPE);
}

TEST(flags_of_entries_and_completions_are_liburings)
{
    SAME(RL_SQE_FIXED_FILE, IOSQE_FIXED_FILE);
    SAME(RL_SQE_IO_LINK, IOSQE_IO_LINK);
    SAME(RL_SQE_IO_HARDLINK, IOSQE_IO_HARDLINK);
    SAME(RL_SQE_ASYNC, IOSQE_ASYNC);
    SAME(RL_SQE_BUFFER_SELECT, IOSQE_BUFFER_SELECT);
    SAME(RL_SQE_CQE_SKIP_SUCCESS, IOSQE_CQE_SKIP_SUCCESS);
    SAME(RL_RECV_POLL_FIRST, IORING_RECVSEND_POLL_FIRST);
    SAME(RL_RECV_MULTISHOT, IORING_RECV_MULTISHOT);
    SAME(RL_ACCEPT_MULTISHOT, IORING_ACCEPT_MULTISHOT);
#ifdef IORING_ACCEPT_DONTWAIT
    SAME(RL_ACCEPT_DONTWAIT, IORING_ACCEPT_DONTWAIT);
#else
    UNKNOWN(RL_ACCEPT_DONTWAIT);
#endif
    SAME(RL_POLL_MULTISHOT, IORING_POLL_ADD_MULTI);
    SAME(RL_FSYNC_DATASYNC, IORING_FSYNC_DATASYNC);
    SAME(RL_TIMEOUT_ABS, IORING_TIMEOUT_ABS);
    SAME(RL_TIMEOUT_BOOTTIME, IORING_TIMEOUT_BOOTTIME);
    SAME(RL_TIMEOUT_REALTIME, IORING_TIMEOUT_REALTIME);
    SAME(RL_TIMEOUT_ETIME_SUCCESS, IORING_TIMEOUT_ETIME_SUCCESS);
#ifdef FUTEX2_PRIVATE
    SAME(RL_FUTEX_SIZE_U32, FUTEX2_SIZE_U32);
    SAME(RL_FUTEX_PRIVATE, FUTEX2_PRIVATE);
#else
    SAME(RL_FUTEX_SIZE_U32, FUTEX_32); /* as futex_waitv() called it */
    SAME(RL_FUTEX_PRIVATE, FUTEX_PRIVATE_FLAG);
#endif
    SAME(RL_CANCEL_ALL, IORING_ASYNC_CANCEL_ALL);
    SAME(RL_CANCEL_ANY, IORING_ASYNC_CANCEL_ANY);
    SAME(RL_CANCEL_FD, IORING_ASYNC_CANCEL_FD);
    /* Newer than the headers may be (6.6). */
    CHECK_EQUAL(RL_CANCEL_USERDATA, 1 << 4);
    CHECK_EQUAL(RL_CANCEL_OP, 1 << 5);
    SAME(RL_CQE_BUFFER, IORING_CQE_F_BUFFER);
    SAME(RL_CQE_MORE, IORING_CQE_F_MORE);
    SAME(RL_CQE_SOCK_NONEMPTY, IORING_CQE_F_SOCK_NONEMPTY);
    SAME(RL_CQE_NOTIFICATION, IORING_CQE_F_NOTIF);
    SAME(RL_CQE_BUFFER_SHIFT, IORING_CQE_BUFFER_SHIFT);
}

TEST(flags_of_the_ring_are_liburings)
{
    SAME(RL_SETUP_CQSIZE, IORING_SETUP_CQSIZE);
    SAME(RL_SETUP_CLAMP, IORING_SETUP_CLAMP);
    SAME(RL_SETUP_R_DISABLED, IORING_SETUP_R_DISABLED);
    SAME(RL_SETUP_SUBMIT_ALL, IORING_SETUP_SUBMIT_ALL);
    SAME(RL_SETUP_COOP_TASKRUN, IORING_SETUP_COOP_TASKRUN);
    SAME(RL_SETUP_TASKRUN_FLAG, IORING_SETUP_TASKRUN_FLAG);
    SAME(RL_SETUP_SINGLE_ISSUER, IORING_SETUP_SINGLE_ISSUER);
    SAME(RL_SETUP_DEFER_TASKRUN, IORING_SETUP_DEFER_TASKRUN);
#ifdef IORING_SETUP_NO_SQARRAY
    SAME(RL_SETUP_NO_SQARRAY, IORING_SETUP_NO_SQARRAY);
#else
    UNKNOWN(RL_SETUP_NO_SQARRAY);
#endif
    SAME(RL_FEATURE_SINGLE_MMAP, IORING_FEAT_SINGLE_MMAP);
    SAME(RL_FEATURE_NODROP, IORING_FEAT_NODROP);
    SAME(RL_FEATURE_EXT_ARG, IORING_FEAT_EXT_ARG);
    SAME(RL_FEATURE_RSRC_TAGS, IORING_FEAT_RSRC_TAGS);
    SAME(RL_FEATURE_LINKED_FILE, IORING_FEAT_LINKED_FILE);
#ifdef IORING_FEAT_NO_IOWAIT
    SAME(RL_FEATURE_NO_IOWAIT, IORING_FEAT_NO_IOWAIT);
#else
    UNKNOWN(RL_FEATURE_NO_IOWAIT);
#endif
    SAME(RL_SQ_CQ_OVERFLOW, IORING_SQ_CQ_OVERFLOW);
    SAME(RL_SQ_TASKRUN, IORING_SQ_TASKRUN);
    SAME(RL_MMAP_OFFSET_SQ_RING, IORING_OFF_SQ_RING);
    SAME(RL_MMAP_OFFSET_CQ_RING, IORING_OFF_CQ_RING);
    SAME(RL_MMAP_OFFSET_SQES, IORING_OFF_SQES);
}

TEST(numbers_of_the_calls_are_liburings)
{
    SAME(RL_SYSCALL_SETUP, SYS_io_uring_setup);
    SAME(RL_SYSCALL_ENTER, SYS_io_uring_enter);
    SAME(RL_SYSCALL_REGISTER, SYS_io_uring_register);
    SAME(RL_ENTER_GETEVENTS, IORING_ENTER_GETEVENTS);
    SAME(RL_ENTER_EXT_ARG, IORING_ENTER_EXT_ARG);
    SAME(RL_ENTER_REGISTERED_RING, IORING_ENTER_REGISTERED_RING);
#ifdef IORING_ENTER_NO_IOWAIT
    SAME(RL_ENTER_NO_IOWAIT, IORING_ENTER_NO_IOWAIT);
#else
    UNKNOWN(RL_ENTER_NO_IOWAIT);
#endif
    SAME(RL_REGISTER_FILES, IORING_REGISTER_FILES);
    SAME(RL_REGISTER_PROBE, IORING_REGISTER_PROBE);
    SAME(RL_REGISTER_ENABLE_RINGS, IORING_REGISTER_ENABLE_RINGS);
    SAME(RL_REGISTER_IOWQ_MAX_WORKERS, IORING_REGISTER_IOWQ_MAX_WORKERS);
    SAME(RL_REGISTER_RING_FDS, IORING_REGISTER_RING_FDS);
    SAME(RL_UNREGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS);
    SAME(RL_REGISTER_PBUF_RING, IORING_REGISTER_PBUF_RING);
    SAME(RL_UNREGISTER_PBUF_RING, IORING_UNREGISTER_PBUF_RING);
    SAME(RL_PROBE_SUPPORTED, IO_URING_OP_SUPPORTED);
}

TEST(entries_and_completions_are_laid_out_as_liburings)
{
    SAME(sizeof(struct rl_sqe), sizeof(struct io_uring_sqe));
    SAME_FIELD(rl_sqe, opcode, io_uring_sqe, opcode);
    SAME_FIELD(rl_sqe, flags, io_uring_sqe, flags);
    SAME_FIELD(rl_sqe, ioprio, io_uring_sqe, ioprio);
    SAME_FIELD(rl_sqe, fd, io_uring_sqe, fd);
    SAME_FIELD(rl_sqe, offset, io_uring_sqe, off);
    SAME_FIELD(rl_sqe, offset, io_uring_sqe, addr2);
    SAME_FIELD(rl_sqe, address, io_uring_sqe, addr);
    SAME_FIELD(rl_sqe, length, io_uring_sqe, len);
    SAME_FIELD(rl_sqe, op_flags, io_uring_sqe, poll32_events);
    SAME_FIELD(rl_sqe, op_flags, io_uring_sqe, msg_flags);
    SAME_FIELD(rl_sqe, op_flags, io_uring_sqe, cancel_flags);
    SAME_FIELD(rl_sqe, user_data, io_uring_sqe, user_data);
    SAME_FIELD(rl_sqe, buffer_group, io_uring_sqe, buf_group);
    SAME_FIELD(rl_sqe, personality, io_uring_sqe, personality);
    SAME_FIELD(rl_sqe, file_index, io_uring_sqe, file_index);
    SAME_FIELD(rl_sqe, address3, io_uring_sqe, addr3);
    SAME(sizeof(struct rl_cqe), sizeof(struct io_uring_cqe));
    SAME_FIELD(rl_cqe, user_data, io_uring_cqe, user_data);
    SAME_FIELD(rl_cqe, result, io_uring_cqe, res);
    SAME_FIELD(rl_cqe, flags, io_uring_cqe, flags);
}

TEST(parameters_are_laid_out_as_liburings)
{
    SAME(sizeof(struct rl_params), sizeof(struct io_uring_params));
    SAME_FIELD(rl_params, sq_entries, io_uring_params, sq_entries);
    SAME_FIELD(rl_params, cq_entries, io_uring_params, cq_entries);
    SAME_FIELD(rl_params, flags, io_uring_params, flags);
    SAME_FIELD(rl_params, features, io_uring_params, features);
    SAME_FIELD(rl_params, wq_fd, io_uring_params, wq_fd);
    SAME_FIELD(rl_params, sq, io_uring_params, sq_off);
    SAME_FIELD(rl_params, cq, io_uring_params, cq_off);
    SAME_FIELD(rl_sq_offsets, head, io_sqring_offsets, head);
    SAME_FIELD(rl_sq_offsets, tail, io_sqring_offsets, tail);
    SAME_FIELD(rl_sq_offsets, ring_mask, io_sqring_offsets, ring_mask);
    SAME_FIELD(rl_sq_offsets, ring_entries, io_sqring_offsets, ring_entries);
    SAME_FIELD(rl_sq_offsets, flags, io_sqring_offsets, flags);
    SAME_FIELD(rl_sq_offsets, dropped, io_sqring_offsets, dropped);
    SAME_FIELD(rl_sq_offsets, array, io_sqring_offsets, array);
    SAME_FIELD(rl_cq_offsets, head, io_cqring_offsets, head);
    SAME_FIELD(rl_cq_offsets, tail, io_cqring_offsets, tail);
    SAME_FIELD(rl_cq_offsets, ring_mask, io_cqring_offsets, ring_mask);
    SAME_FIELD(rl_cq_offsets, ring_entries, io_cqring_offsets, ring_entries);
    SAME_FIELD(rl_cq_offsets, overflow, io_cqring_offsets, overflow);
    SAME_FIELD(rl_cq_offsets, cqes, io_cqring_offsets, cqes);
    SAME_FIELD(rl_cq_offsets, flags, io_cqring_offsets, flags);
}

TEST(arguments_of_the_calls_are_laid_out_as_liburings)
{
    SAME(sizeof(struct rl_timespec), sizeof(struct __kernel_timespec));
    SAME_FIELD(rl_timespec, seconds, __kernel_timespec, tv_sec);
    SAME_FIELD(rl_timespec, nanoseconds, __kernel_timespec, tv_nsec);
    SAME(sizeof(struct rl_getevents_arg), sizeof(struct io_uring_getevents_arg));
    SAME_FIELD(rl_getevents_arg, sigmask, io_uring_getevents_arg, sigmask);
    SAME_FIELD(rl_getevents_arg, sigmask_size, io_uring_getevents_arg, sigmask_sz);
    SAME_FIELD(rl_getevents_arg, timeout, io_uring_getevents_arg, ts);
    SAME(sizeof(struct rl_buffer), sizeof(struct io_uring_buf));
    SAME_FIELD(rl_buffer, address, io_uring_buf, addr);
    SAME_FIELD(rl_buffer, length, io_uring_buf, len);
    SAME_FIELD(rl_buffer, id, io_uring_buf, bid);
    SAME_FIELD(rl_buffer, tail, io_uring_buf_ring, tail);
    SAME(sizeof(struct rl_buffer_ring_registration), sizeof(struct io_uring_buf_reg));
    SAME_FIELD(rl_buffer_ring_registration, ring_address, io_uring_buf_reg, ring_addr);
    SAME_FIELD(rl_buffer_ring_registration, ring_entries, io_uring_buf_reg, ring_entries);
    SAME_FIELD(rl_buffer_ring_registration, group, io_uring_buf_reg, bgid);
    SAME(sizeof(struct rl_probe_op), sizeof(struct io_uring_probe_op));
    SAME_FIELD(rl_probe_op, opcode, io_uring_probe_op, op);
    SAME_FIELD(rl_probe_op, flags, io_uring_probe_op, flags);
    SAME_FIELD(rl_probe, last_op, io_uring_probe, last_op);
    SAME_FIELD(rl_probe, op_count, io_uring_probe, ops_len);
    SAME(offsetof(struct rl_probe, ops), offsetof(struct io_uring_probe, ops));
}

/* ---- entries, byte for byte ---- */

static uint8_t memory[64]; /* an address to put into entries */

#define ADDRESS ((uint64_t)(uintptr_t)memory)

/* Compares the entry that liburing prepares with one of ours, given by its fields. */
#define PREPARED(function, arguments, ...)               \
    do {                                                 \
        struct io_uring_sqe theirs;                      \
        struct rl_sqe ours = {__VA_ARGS__};              \
        memset(&theirs, 0, sizeof theirs);               \
        function arguments;                              \
        CHECK(memcmp(&ours, &theirs, sizeof ours) == 0); \
        printf("%s == %s\n", #__VA_ARGS__, #function);   \
    } while (0)

TEST(entries_for_sockets_are_liburings)
{
    struct sockaddr *peer = (struct sockaddr *)memory;
    socklen_t *peer_bytes = (socklen_t *)(memory + 32);
    struct msghdr *message = (struct msghdr *)memory;
    PREPARED(io_uring_prep_recv, (&theirs, 5, memory, 7, MSG_PEEK), .opcode = RL_OP_RECV, .fd = 5,
             .address = ADDRESS, .length = 7, .op_flags = MSG_PEEK);
    PREPARED(io_uring_prep_recv_multishot, (&theirs, 5, NULL, 0, 0), .opcode = RL_OP_RECV, .fd = 5,
             .ioprio = RL_RECV_MULTISHOT);
    PREPARED(io_uring_prep_send, (&theirs, 5, memory, 7, MSG_NOSIGNAL), .opcode = RL_OP_SEND, .fd = 5,
             .address = ADDRESS, .length = 7, .op_flags = MSG_NOSIGNAL);
    PREPARED(io_uring_prep_recvmsg, (&theirs, 5, message, MSG_TRUNC), .opcode = RL_OP_RECVMSG, .fd = 5,
             .address = ADDRESS, .length = 1, .op_flags = MSG_TRUNC);
    PREPARED(io_uring_prep_sendmsg, (&theirs, 5, message, MSG_NOSIGNAL), .opcode = RL_OP_SENDMSG, .fd = 5,
             .address = ADDRESS, .length = 1, .op_flags = MSG_NOSIGNAL);
    PREPARED(io_uring_prep_accept, (&theirs, 5, peer, peer_bytes, SOCK_CLOEXEC), .opcode = RL_OP_ACCEPT,
             .fd = 5, .address = ADDRESS, .offset = ADDRESS + 32, .op_flags = SOCK_CLOEXEC);
    PREPARED(io_uring_prep_multishot_accept, (&theirs, 5, NULL, NULL, SOCK_CLOEXEC), .opcode = RL_OP_ACCEPT,
             .fd = 5, .op_flags = SOCK_CLOEXEC, .ioprio = RL_ACCEPT_MULTISHOT);
    PREPARED(io_uring_prep_connect, (&theirs, 5, peer, 16), .opcode = RL_OP_CONNECT, .fd = 5,
             .address = ADDRESS, .offset = 16);
}

TEST(entries_for_waiting_and_cancelling_are_liburings)
{
    struct __kernel_timespec *timeout = (struct __kernel_timespec *)memory;
    PREPARED(io_uring_prep_nop, (&theirs), .opcode = RL_OP_NOP, .fd = -1);
    PREPARED(io_uring_prep_poll_add, (&theirs, 5, POLLIN), .opcode = RL_OP_POLL_ADD, .fd = 5,
             .op_flags = POLLIN);
    PREPARED(io_uring_prep_poll_multishot, (&theirs, 5, POLLOUT), .opcode = RL_OP_POLL_ADD, .fd = 5,
             .op_flags = POLLOUT, .length = RL_POLL_MULTISHOT);
    PREPARED(io_uring_prep_poll_remove, (&theirs, 77), .opcode = RL_OP_POLL_REMOVE, .fd = -1, .address = 77);
    PREPARED(io_uring_prep_timeout, (&theirs, timeout, 3, 0), .opcode = RL_OP_TIMEOUT, .fd = -1,
             .address = ADDRESS, .length = 1, .offset = 3);
    PREPARED(io_uring_prep_cancel64, (&theirs, 77, IORING_ASYNC_CANCEL_ALL), .opcode = RL_OP_ASYNC_CANCEL,
             .fd = -1, .address = 77, .op_flags = RL_CANCEL_ALL);
    PREPARED(io_uring_prep_cancel64, (&theirs, 0, IORING_ASYNC_CANCEL_ANY), .opcode = RL_OP_ASYNC_CANCEL,
             .fd = -1, .op_flags = RL_CANCEL_ANY);
}

TEST(entries_for_files_are_liburings)
{
    const struct iovec *vector = (const struct iovec *)memory;
    const char *path = (const char *)memory;
    struct statx *status = (struct statx *)(memory + 8);
    PREPARED(io_uring_prep_read, (&theirs, 5, memory, 7, 9), .opcode = RL_OP_READ, .fd = 5,
             .address = ADDRESS, .length = 7, .offset = 9);
    PREPARED(io_uring_prep_write, (&theirs, 5, memory, 7, 9), .opcode = RL_OP_WRITE, .fd = 5,
             .address = ADDRESS, .length = 7, .offset = 9);
    PREPARED(io_uring_prep_readv2, (&theirs, 5, vector, 3, 9, RWF_NOWAIT), .opcode = RL_OP_READV, .fd = 5,
             .address = ADDRESS, .length = 3, .offset = 9, .op_flags = RWF_NOWAIT);
    PREPARED(io_uring_prep_writev, (&theirs, 5, vector, 3, 9), .opcode = RL_OP_WRITEV, .fd = 5,
             .address = ADDRESS, .length = 3, .offset = 9);
    PREPARED(io_uring_prep_fsync, (&theirs, 5, IORING_FSYNC_DATASYNC), .opcode = RL_OP_FSYNC, .fd = 5,
             .op_flags = IORING_FSYNC_DATASYNC);
    PREPARED(io_uring_prep_openat, (&theirs, AT_FDCWD, path, O_CREAT | O_RDWR, 0640), .opcode = RL_OP_OPENAT,
             .fd = AT_FDCWD, .address = ADDRESS, .length = 0640, .op_flags = O_CREAT | O_RDWR);
    PREPARED(io_uring_prep_close, (&theirs, 5), .opcode = RL_OP_CLOSE, .fd = 5);
    PREPARED(io_uring_prep_statx, (&theirs, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, 0x7ff, status),
             .opcode = RL_OP_STATX, .fd = AT_FDCWD, .address = ADDRESS, .length = 0x7ff,
             .offset = ADDRESS + 8, .op_flags = AT_SYMLINK_NOFOLLOW);
}

TEST(entries_for_paths_are_liburings)
{
    const char *path = (const char *)memory, *other = (const char *)memory + 8;
    struct open_how *how = (struct open_how *)(memory + 8);
    char *value = (char *)memory + 16;
    PREPARED(io_uring_prep_openat2, (&theirs, 4, path, how), .opcode = RL_OP_OPENAT2, .fd = 4,
             .address = ADDRESS, .offset = ADDRESS + 8, .length = sizeof *how);
    PREPARED(io_uring_prep_renameat, (&theirs, 4, path, 5, other, 1), .opcode = RL_OP_RENAMEAT, .fd = 4,
             .address = ADDRESS, .length = 5, .offset = ADDRESS + 8, .op_flags = 1);
    PREPARED(io_uring_prep_unlinkat, (&theirs, 4, path, AT_REMOVEDIR), .opcode = RL_OP_UNLINKAT, .fd = 4,
             .address = ADDRESS, .op_flags = AT_REMOVEDIR);
    PREPARED(io_uring_prep_mkdirat, (&theirs, 4, path, 0750), .opcode = RL_OP_MKDIRAT, .fd = 4,
             .address = ADDRESS, .length = 0750);
    PREPARED(io_uring_prep_symlinkat, (&theirs, path, 4, other), .opcode = RL_OP_SYMLINKAT, .fd = 4,
             .address = ADDRESS, .offset = ADDRESS + 8);
    PREPARED(io_uring_prep_linkat, (&theirs, 4, path, 5, other, 1), .opcode = RL_OP_LINKAT, .fd = 4,
             .address = ADDRESS, .length = 5, .offset = ADDRESS + 8, .op_flags = 1);
    PREPARED(io_uring_prep_setxattr, (&theirs, path, value, other, 1, 7), .opcode = RL_OP_SETXATTR,
             .address = ADDRESS, .offset = ADDRESS + 16, .address3 = ADDRESS + 8, .length = 7, .op_flags = 1);
    PREPARED(io_uring_prep_getxattr, (&theirs, path, value, other, 7), .opcode = RL_OP_GETXATTR,
             .address = ADDRESS, .offset = ADDRESS + 16, .address3 = ADDRESS + 8, .length = 7);
    PREPARED(io_uring_prep_fsetxattr, (&theirs, 5, path, value, 1, 7), .opcode = RL_OP_FSETXATTR, .fd = 5,
             .address = ADDRESS, .offset = ADDRESS + 16, .length = 7, .op_flags = 1);
    PREPARED(io_uring_prep_fgetxattr, (&theirs, 5, path, value, 7), .opcode = RL_OP_FGETXATTR, .fd = 5,
             .address = ADDRESS, .offset = ADDRESS + 16, .length = 7);
}

TEST(entries_for_the_rest_are_liburings)
{
    struct epoll_event *event = (struct epoll_event *)memory;
    PREPARED(io_uring_prep_fallocate, (&theirs, 5, 1, 9, 7), .opcode = RL_OP_FALLOCATE, .fd = 5, .length = 1,
             .offset = 9, .address = 7);
    PREPARED(io_uring_prep_fadvise, (&theirs, 5, 9, 7, 4), .opcode = RL_OP_FADVISE, .fd = 5, .offset = 9,
             .length = 7, .op_flags = 4);
    PREPARED(io_uring_prep_madvise, (&theirs, memory, 7, 4), .opcode = RL_OP_MADVISE, .fd = -1,
             .address = ADDRESS, .length = 7, .op_flags = 4);
    PREPARED(io_uring_prep_sync_file_range, (&theirs, 5, 7, 9, 2), .opcode = RL_OP_SYNC_FILE_RANGE, .fd = 5,
             .length = 7, .offset = 9, .op_flags = 2);
    PREPARED(io_uring_prep_splice, (&theirs, 4, 9, 5, -1, 7, 2), .opcode = RL_OP_SPLICE, .fd = 5,
             .file_index = 4, .address = 9, .offset = UINT64_MAX, .length = 7, .op_flags = 2);
    PREPARED(io_uring_prep_tee, (&theirs, 4, 5, 7, 2), .opcode = RL_OP_TEE, .fd = 5, .file_index = 4,
             .length = 7, .op_flags = 2);
    PREPARED(io_uring_prep_epoll_ctl, (&theirs, 4, 5, 1, event), .opcode = RL_OP_EPOLL_CTL, .fd = 4,
             .offset = 5, .length = 1, .address = ADDRESS);
    PREPARED(io_uring_prep_shutdown, (&theirs, 5, 1), .opcode = RL_OP_SHUTDOWN, .fd = 5, .length = 1);
    PREPARED(io_uring_prep_socket, (&theirs, 2, 1, 6, 0), .opcode = RL_OP_SOCKET, .fd = 2, .offset = 1,
             .length = 6);
}

TEST(buffers_are_recycled_as_liburing_does)
{
    enum { COUNT = 8, BYTES = 256 };
    struct rl_buffers ours;
    struct io_uring_buf_ring *theirs = aligned_alloc(4096, 4096);
    CHECK(theirs != NULL);
    CHECK_EQUAL(rl_buffers_allocate(&ours, 1, COUNT, BYTES), 0);
    memset(theirs, 0, 4096);
    for (uint16_t id = 0; id < COUNT; id++)
        io_uring_buf_ring_add(theirs, rl_buffers_address(&ours, id), BYTES, id, io_uring_buf_ring_mask(COUNT),
                              id);
    io_uring_buf_ring_advance(theirs, COUNT);
    CHECK(memcmp(ours.ring, theirs, COUNT * sizeof(struct rl_buffer)) == 0);
    for (uint16_t id = 5; id < COUNT; id++) {
        rl_buffers_recycle(&ours, id);
        io_uring_buf_ring_add(theirs, rl_buffers_address(&ours, id), BYTES, id, io_uring_buf_ring_mask(COUNT),
                              0);
        io_uring_buf_ring_advance(theirs, 1);
        CHECK(memcmp(ours.ring, theirs, COUNT * sizeof(struct rl_buffer)) == 0);
    }
    rl_buffers_free(&ours);
    free(theirs);
}
