/*
 * The part of Linux's io_uring interface that ringloop uses, under names of its own.
 *
 * Debian 12's <linux/io_uring.h> is from Linux 6.1 and its opcodes are enumerators, which no #ifndef
 * can supply one by one. So the numbers stand here, each with the first kernel that knows it, and the
 * oldest headers can drive the newest kernel. tests/native/ compares every one with liburing's headers
 * where those are installed. Nothing here is executable.
 */
#ifndef RINGLOOP_ABI_H
#define RINGLOOP_ABI_H

#include <stdint.h>

/* Submission queue entry: one system call. Unions are named after what ringloop puts there. */
struct rl_sqe {
    uint8_t opcode;      /* RL_OP_* */
    uint8_t flags;       /* RL_SQE_* */
    uint16_t ioprio;     /* for socket operations: RL_RECV_*, RL_ACCEPT_* */
    int32_t fd;
    uint64_t offset;     /* file offset, or a second address */
    uint64_t address;    /* buffer, path, struct msghdr, or the user_data that a cancel is after */
    uint32_t length;     /* bytes, iovec count, or RL_POLL_* */
    uint32_t op_flags;   /* msg_flags, accept_flags, poll32_events, cancel_flags, … */
    uint64_t user_data;
    uint16_t buffer_group;
    uint16_t personality;
    uint32_t file_index;
    uint64_t address3;
    uint64_t padding;
};

/* Completion queue entry. */
struct rl_cqe {
    uint64_t user_data;
    int32_t result;      /* as the system call's; an error is -errno */
    uint32_t flags;      /* RL_CQE_* */
};

struct rl_sq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
    uint64_t user_address;
};

struct rl_cq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, reserved;
    uint64_t user_address;
};

struct rl_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
    struct rl_sq_offsets sq;
    struct rl_cq_offsets cq;
};

/* The argument of io_uring_enter with RL_ENTER_EXT_ARG (5.11). */
struct rl_timespec {
    int64_t seconds;
    int64_t nanoseconds;
};

struct rl_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_size;
    uint32_t min_wait_usec; /* 6.12 */
    uint64_t timeout;       /* address of a struct rl_timespec */
};

/* A ring of provided buffers (5.19). The tail lies over the first entry's last field. */
struct rl_buffer {
    uint64_t address;
    uint32_t length;
    uint16_t id;
    uint16_t tail;
};

struct rl_buffer_ring_registration {
    uint64_t ring_address;
    uint32_t ring_entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};

struct rl_probe_op {
    uint8_t opcode, reserved;
    uint16_t flags;      /* RL_PROBE_SUPPORTED */
    uint32_t reserved2;
};

struct rl_probe {
    uint8_t last_op, op_count;
    uint16_t reserved;
    uint32_t reserved2[3];
    struct rl_probe_op ops[256];
};

enum { /* opcodes */
    RL_OP_NOP = 0,               /* 5.1 */
    RL_OP_READV = 1,             /* 5.1 */
    RL_OP_WRITEV = 2,            /* 5.1 */
    RL_OP_FSYNC = 3,             /* 5.1 */
    RL_OP_READ_FIXED = 4,        /* 5.1 */
    RL_OP_WRITE_FIXED = 5,       /* 5.1 */
    RL_OP_POLL_ADD = 6,          /* 5.1 */
    RL_OP_POLL_REMOVE = 7,       /* 5.1 */
    RL_OP_SYNC_FILE_RANGE = 8,   /* 5.2 */
    RL_OP_SENDMSG = 9,           /* 5.3 */
    RL_OP_RECVMSG = 10,          /* 5.3 */
    RL_OP_TIMEOUT = 11,          /* 5.4 */
    RL_OP_TIMEOUT_REMOVE = 12,   /* 5.5 */
    RL_OP_ACCEPT = 13,           /* 5.5 */
    RL_OP_ASYNC_CANCEL = 14,     /* 5.5 */
    RL_OP_LINK_TIMEOUT = 15,     /* 5.5 */
    RL_OP_CONNECT = 16,          /* 5.5 */
    RL_OP_FALLOCATE = 17,        /* 5.6 */
    RL_OP_OPENAT = 18,           /* 5.6 */
    RL_OP_CLOSE = 19,            /* 5.6 */
    RL_OP_FILES_UPDATE = 20,     /* 5.6 */
    RL_OP_STATX = 21,            /* 5.6 */
    RL_OP_READ = 22,             /* 5.6 */
    RL_OP_WRITE = 23,            /* 5.6 */
    RL_OP_FADVISE = 24,          /* 5.6 */
    RL_OP_MADVISE = 25,          /* 5.6 */
    RL_OP_SEND = 26,             /* 5.6 */
    RL_OP_RECV = 27,             /* 5.6 */
    RL_OP_OPENAT2 = 28,          /* 5.6 */
    RL_OP_EPOLL_CTL = 29,        /* 5.6 */
    RL_OP_SPLICE = 30,           /* 5.7 */
    RL_OP_PROVIDE_BUFFERS = 31,  /* 5.7 */
    RL_OP_REMOVE_BUFFERS = 32,   /* 5.7 */
    RL_OP_TEE = 33,              /* 5.8 */
    RL_OP_SHUTDOWN = 34,         /* 5.11 */
    RL_OP_RENAMEAT = 35,         /* 5.11 */
    RL_OP_UNLINKAT = 36,         /* 5.11 */
    RL_OP_MKDIRAT = 37,          /* 5.15 */
    RL_OP_SYMLINKAT = 38,        /* 5.15 */
    RL_OP_LINKAT = 39,           /* 5.15 */
    RL_OP_MSG_RING = 40,         /* 5.18 */
    RL_OP_FSETXATTR = 41,        /* 5.19 */
    RL_OP_SETXATTR = 42,         /* 5.19 */
    RL_OP_FGETXATTR = 43,        /* 5.19 */
    RL_OP_GETXATTR = 44,         /* 5.19 */
    RL_OP_SOCKET = 45,           /* 5.19 */
    RL_OP_URING_CMD = 46,        /* 5.19 */
    RL_OP_SEND_ZC = 47,          /* 6.0 */
    RL_OP_SENDMSG_ZC = 48,       /* 6.1 */
    RL_OP_READ_MULTISHOT = 49,   /* 6.7 */
    RL_OP_WAITID = 50,           /* 6.7 */
    RL_OP_FUTEX_WAIT = 51,       /* 6.7 */
    RL_OP_FUTEX_WAKE = 52,       /* 6.7 */
    RL_OP_FUTEX_WAITV = 53,      /* 6.7 */
    RL_OP_FIXED_FD_INSTALL = 54, /* 6.8 */
    RL_OP_FTRUNCATE = 55,        /* 6.9 */
    RL_OP_BIND = 56,             /* 6.11 */
    RL_OP_LISTEN = 57,           /* 6.11 */
    RL_OP_RECV_ZC = 58,          /* 6.15 */
    RL_OP_EPOLL_WAIT = 59,       /* 6.15 */
    RL_OP_READV_FIXED = 60,      /* 6.15 */
    RL_OP_WRITEV_FIXED = 61,     /* 6.15 */
    RL_OP_PIPE = 62              /* 6.16 */
};

enum { /* rl_sqe.flags */
    RL_SQE_FIXED_FILE = 1 << 0,       /* 5.1 */
    RL_SQE_IO_LINK = 1 << 2,          /* 5.3 */
    RL_SQE_IO_HARDLINK = 1 << 3,      /* 5.5 */
    RL_SQE_ASYNC = 1 << 4,            /* 5.6 */
    RL_SQE_BUFFER_SELECT = 1 << 5,    /* 5.7 */
    RL_SQE_CQE_SKIP_SUCCESS = 1 << 6  /* 5.17 */
};

enum { RL_RECV_POLL_FIRST = 1 << 0, RL_RECV_MULTISHOT = 1 << 1 }; /* ioprio; 5.19, 6.0 */
enum { RL_ACCEPT_MULTISHOT = 1 << 0, RL_ACCEPT_DONTWAIT = 1 << 1 }; /* ioprio; 5.19, 6.10 */
enum { RL_POLL_MULTISHOT = 1 << 0 };                              /* length; 5.13 */
enum { RL_FSYNC_DATASYNC = 1 << 0 };                              /* op_flags; 5.1 */
enum { /* op_flags of a timeout */
    RL_TIMEOUT_ABS = 1 << 0,         /* 5.4 */
    RL_TIMEOUT_BOOTTIME = 1 << 2,    /* 5.15 */
    RL_TIMEOUT_REALTIME = 1 << 3,    /* 5.15 */
    RL_TIMEOUT_ETIME_SUCCESS = 1 << 5 /* 5.16 */
};
enum { RL_FUTEX_SIZE_U32 = 2, RL_FUTEX_PRIVATE = 128 };           /* fd of a futex operation; 6.7 */
enum { /* op_flags of a cancel */
    RL_CANCEL_ALL = 1 << 0,      /* 5.19 */
    RL_CANCEL_FD = 1 << 1,       /* 5.19 */
    RL_CANCEL_ANY = 1 << 2,      /* 5.19 */
    RL_CANCEL_USERDATA = 1 << 4, /* 6.6 */
    RL_CANCEL_OP = 1 << 5        /* 6.6 */
};

enum { /* rl_cqe.flags */
    RL_CQE_BUFFER = 1 << 0,        /* a provided buffer was used; its id is flags >> 16; 5.7 */
    RL_CQE_MORE = 1 << 1,          /* this submission will complete again; 5.13 */
    RL_CQE_SOCK_NONEMPTY = 1 << 2, /* 5.19 */
    RL_CQE_NOTIFICATION = 1 << 3   /* 6.0 */
};
enum { RL_CQE_BUFFER_SHIFT = 16 };

enum { /* io_uring_setup */
    RL_SETUP_CQSIZE = 1 << 3,         /* 5.5 */
    RL_SETUP_CLAMP = 1 << 4,          /* 5.6 */
    RL_SETUP_R_DISABLED = 1 << 6,     /* 5.10 */
    RL_SETUP_SUBMIT_ALL = 1 << 7,     /* 5.18 */
    RL_SETUP_COOP_TASKRUN = 1 << 8,   /* 5.19 */
    RL_SETUP_TASKRUN_FLAG = 1 << 9,   /* 5.19 */
    RL_SETUP_SINGLE_ISSUER = 1 << 12, /* 6.0 */
    RL_SETUP_DEFER_TASKRUN = 1 << 13, /* 6.1 */
    RL_SETUP_NO_SQARRAY = 1 << 16     /* 6.6 */
};

enum { /* rl_params.features */
    RL_FEATURE_SINGLE_MMAP = 1 << 0, /* 5.4 */
    RL_FEATURE_NODROP = 1 << 1,      /* 5.5 */
    RL_FEATURE_EXT_ARG = 1 << 8,     /* 5.11 */
    RL_FEATURE_RSRC_TAGS = 1 << 10,  /* 5.13 */
    RL_FEATURE_LINKED_FILE = 1 << 12, /* 5.17 */
    RL_FEATURE_NO_IOWAIT = 1 << 17   /* 6.15 */
};

enum { /* io_uring_enter */
    RL_ENTER_GETEVENTS = 1 << 0,
    RL_ENTER_EXT_ARG = 1 << 3,         /* 5.11 */
    RL_ENTER_REGISTERED_RING = 1 << 4, /* 5.18 */
    RL_ENTER_NO_IOWAIT = 1 << 7        /* 6.15 */
};

enum { RL_SQ_CQ_OVERFLOW = 1 << 1, RL_SQ_TASKRUN = 1 << 2 }; /* the SQ ring's flags; 5.8, 5.19 */

enum { /* io_uring_register */
    RL_REGISTER_FILES = 2,               /* 5.1 */
    RL_REGISTER_PROBE = 8,               /* 5.6 */
    RL_REGISTER_ENABLE_RINGS = 12,       /* 5.10 */
    RL_REGISTER_IOWQ_MAX_WORKERS = 19,   /* 5.15 */
    RL_REGISTER_RING_FDS = 20,           /* 5.18 */
    RL_UNREGISTER_RING_FDS = 21,         /* 5.18 */
    RL_REGISTER_PBUF_RING = 22,          /* 5.19 */
    RL_UNREGISTER_PBUF_RING = 23         /* 5.19 */
};
enum { RL_PROBE_SUPPORTED = 1 << 0 };

#define RL_MMAP_OFFSET_SQ_RING UINT64_C(0)
#define RL_MMAP_OFFSET_CQ_RING UINT64_C(0x8000000)
#define RL_MMAP_OFFSET_SQES UINT64_C(0x10000000)

#define RL_SYSCALL_SETUP 425
#define RL_SYSCALL_ENTER 426
#define RL_SYSCALL_REGISTER 427

#endif
