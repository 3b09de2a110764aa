/*
 * What the epoll driver does as a ring does: the same programs on both, and the same completions.
 *
 * SAME(body) runs the body on a ring, where there is one, and on epoll; the body's CHECKs are what a ring
 * answers. What only this driver promises is below.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "epoll.h"

static rl_driver *make_epoll(uint32_t sq_entries, uint32_t cq_entries)
{
    int error;
    rl_driver *driver = rl_epoll_create(sq_entries, cq_entries, &error);
    CHECK(driver != NULL);
    CHECK_EQUAL(driver->calls->enable(driver), 0);
    return driver;
}

/* Permitted, the call complains of its arguments. */
static bool ring_is_refused(void)
{
    return syscall(SYS_io_uring_setup, 0, NULL) < 0 && (errno == ENOSYS || errno == EPERM);
}

static void on_both(void (*body)(rl_driver *driver))
{
    bool alone = ring_is_refused();
    rl_driver *drivers[] = {alone ? NULL : start_driver(64, 128), make_epoll(64, 128)};
    for (unsigned i = alone; i < 2; i++) {
        body(drivers[i]);
        CHECK(rl_driver_completion(drivers[i]) == NULL);
        drivers[i]->calls->destroy(drivers[i]);
    }
}

#define SAME(name)                             \
    static void name##_on(rl_driver *driver);  \
    TEST(name)                                 \
    {                                          \
        on_both(name##_on);                    \
    }                                          \
    static void name##_on(rl_driver *driver)

/* The next completions by user_data, waited for: 1 to count, each once, in any order. */
static void await_all(rl_driver *driver, struct rl_cqe *cqes, unsigned count)
{
    bool seen[16] = {false};
    for (unsigned i = 0; i < count; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK(cqe.user_data >= 1 && cqe.user_data <= count);
        CHECK(!seen[cqe.user_data]);
        seen[cqe.user_data] = true;
        cqes[cqe.user_data] = cqe;
    }
}

static struct rl_sqe *queue_cancel(rl_driver *driver, uint64_t target, uint32_t flags, uint64_t user_data)
{
    struct rl_sqe *sqe = queue(driver, RL_OP_ASYNC_CANCEL, -1, user_data);
    sqe->address = target;
    sqe->op_flags = flags;
    return sqe;
}

static struct rl_sqe *queue_bytes(rl_driver *driver, uint8_t opcode, int fd, const void *bytes,
                                  uint32_t length, uint64_t user_data)
{
    struct rl_sqe *sqe = queue(driver, opcode, fd, user_data);
    sqe->address = (uint64_t)(uintptr_t)bytes;
    sqe->length = length;
    return sqe;
}

/* ---- polls ---- */

SAME(a_poll_is_level_triggered_and_completes_once)
{
    int event = make_event();
    queue_poll(driver, event, 1);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    set_event(event);
    CHECK_EQUAL(await(driver).result, POLLIN);
    for (unsigned i = 0; i < 3; i++) {
        queue_poll(driver, event, 1);
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.result, POLLIN);
        CHECK_EQUAL(cqe.flags & RL_CQE_MORE, 0);
    }
    enter(driver, 0, 0);
    close(event);
}

SAME(several_polls_of_one_fd)
{
    int fds[2];
    struct rl_cqe cqes[4];
    make_pair(fds);
    queue_poll(driver, fds[0], 1);
    queue_poll(driver, fds[0], 2);
    queue(driver, RL_OP_POLL_ADD, fds[0], 3)->op_flags = POLLOUT;
    CHECK_EQUAL(await(driver).user_data, 3);
    CHECK_EQUAL(write(fds[1], "x", 1), 1);
    for (unsigned i = 0; i < 2; i++) {
        struct rl_cqe cqe = await(driver);
        cqes[cqe.user_data] = cqe;
    }
    CHECK_EQUAL(cqes[1].result, POLLIN);
    CHECK_EQUAL(cqes[2].result, POLLIN);
    close(fds[0]);
    close(fds[1]);
}

SAME(a_hang_up_is_reported_unasked)
{
    int fds[2];
    make_pair(fds);
    queue_poll(driver, fds[0], 1);
    enter(driver, 0, 0);
    close(fds[1]);
    CHECK_EQUAL(await(driver).result, POLLIN | POLLHUP | POLLRDHUP);
    close(fds[0]);
}

SAME(a_multishot_poll_tells_every_edge)
{
    int fds[2];
    char bytes[8];
    make_pair(fds);
    struct rl_sqe *sqe = queue(driver, RL_OP_POLL_ADD, fds[0], 1);
    sqe->op_flags = POLLIN;
    sqe->length = RL_POLL_MULTISHOT;
    for (unsigned i = 0; i < 3; i++) {
        enter(driver, 0, 0);
        CHECK_EQUAL(write(fds[1], "x", 1), 1);
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.result, POLLIN);
        CHECK(cqe.flags & RL_CQE_MORE);
        CHECK_EQUAL(read(fds[0], bytes, sizeof bytes), 1);
    }
    queue_cancel(driver, 1, 0, 2);
    struct rl_cqe cqes[3];
    await_all(driver, cqes, 2);
    CHECK_EQUAL(cqes[1].result, -ECANCELED);
    CHECK_EQUAL(cqes[1].flags & RL_CQE_MORE, 0);
    CHECK_EQUAL(cqes[2].result, 0);
    close(fds[0]);
    close(fds[1]);
}

SAME(a_regular_file_is_always_ready)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    queue_poll(driver, fd, 1);
    CHECK_EQUAL(await(driver).result, POLLIN);
    close(fd);
}

SAME(a_bad_fd_is_an_error)
{
    static const uint8_t OPCODES[] = {RL_OP_POLL_ADD, RL_OP_RECV, RL_OP_SEND, RL_OP_ACCEPT, RL_OP_READ,
                                      RL_OP_CONNECT,  RL_OP_FSYNC, RL_OP_CLOSE};
    struct sockaddr_in address = {.sin_family = AF_INET};
    for (unsigned i = 0; i < sizeof OPCODES; i++) {
        for (int fd = -1; fd < 10000; fd += 9876) {
            struct rl_sqe *sqe = queue(driver, OPCODES[i], fd, 1);
            if (OPCODES[i] == RL_OP_CONNECT) {
                sqe->address = (uint64_t)(uintptr_t)&address;
                sqe->offset = sizeof address;
            }
            CHECK_EQUAL(await(driver).result, -EBADF);
        }
    }
}

/* ---- cancelling ---- */

SAME(a_cancel_of_nothing_finds_nothing)
{
    queue_cancel(driver, 77, 0, 1);
    CHECK_EQUAL(await(driver).result, -ENOENT);
    queue_cancel(driver, 77, RL_CANCEL_ALL, 1);
    CHECK_EQUAL(await(driver).result, 0);
    queue_cancel(driver, 0, RL_CANCEL_ANY, 1);
    CHECK_EQUAL(await(driver).result, 0);
}

SAME(one_cancel_for_all_of_an_fd)
{
    int fds[2];
    struct rl_cqe cqes[5];
    make_pair(fds);
    queue_poll(driver, fds[0], 1);
    queue_poll(driver, fds[0], 2);
    queue_poll(driver, fds[1], 3);
    enter(driver, 0, 0);
    queue_cancel(driver, 0, RL_CANCEL_ALL | RL_CANCEL_FD, 4)->fd = fds[0];
    for (unsigned i = 0; i < 3; i++) {
        struct rl_cqe cqe = await(driver);
        cqes[cqe.user_data] = cqe;
    }
    CHECK_EQUAL(cqes[4].result, 2);
    CHECK_EQUAL(cqes[1].result, -ECANCELED);
    CHECK_EQUAL(cqes[2].result, -ECANCELED);
    queue_cancel(driver, 0, RL_CANCEL_ANY, 4);
    for (unsigned i = 0; i < 2; i++) {
        struct rl_cqe cqe = await(driver);
        cqes[cqe.user_data] = cqe;
    }
    CHECK_EQUAL(cqes[4].result, 1);
    CHECK_EQUAL(cqes[3].result, -ECANCELED);
    close(fds[0]);
    close(fds[1]);
}

SAME(a_poll_is_removed)
{
    int event = make_event();
    struct rl_cqe cqes[3];
    queue_poll(driver, event, 1);
    queue(driver, RL_OP_POLL_REMOVE, -1, 2)->address = 1;
    await_all(driver, cqes, 2);
    CHECK_EQUAL(cqes[1].result, -ECANCELED);
    CHECK_EQUAL(cqes[2].result, 0);
    queue(driver, RL_OP_POLL_REMOVE, -1, 2)->address = 1;
    CHECK_EQUAL(await(driver).result, -ENOENT);
    close(event);
}

/* ---- sockets ---- */

static int listen_here(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQUAL(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    CHECK_EQUAL(listen(fd, 100), 0);
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)address, &length), 0);
    return fd;
}

SAME(connections_are_made_and_accepted)
{
    enum { COUNT = 5 };
    struct sockaddr_in address;
    int listener = listen_here(&address), clients[COUNT];
    unsigned accepted = 0, connected = 0;
    queue(driver, RL_OP_ACCEPT, listener, 100)->ioprio = RL_ACCEPT_MULTISHOT;
    for (unsigned i = 0; i < COUNT; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (i % 2 ? SOCK_NONBLOCK : 0), 0);
        struct rl_sqe *sqe = queue(driver, RL_OP_CONNECT, clients[i], i);
        sqe->address = (uint64_t)(uintptr_t)&address;
        sqe->offset = sizeof address;
    }
    while (accepted < COUNT || connected < COUNT) {
        struct rl_cqe cqe = await(driver);
        if (cqe.user_data == 100) {
            CHECK(cqe.flags & RL_CQE_MORE);
            CHECK(cqe.result >= 0);
            close(cqe.result);
            accepted++;
        } else {
            CHECK_EQUAL(cqe.result, 0);
            close(clients[cqe.user_data]);
            connected++;
        }
    }
    queue_cancel(driver, 100, 0, 1);
    CHECK_EQUAL(await(driver).result + await(driver).result, -ECANCELED);
    close(listener);
}

SAME(a_refused_connection_says_so)
{
    struct sockaddr_in address;
    close(listen_here(&address));
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct rl_sqe *sqe = queue(driver, RL_OP_CONNECT, client, 1);
    sqe->address = (uint64_t)(uintptr_t)&address;
    sqe->offset = sizeof address;
    CHECK_EQUAL(await(driver).result, -ECONNREFUSED);
    close(client);
}

SAME(a_receive_waits_for_bytes_and_a_send_for_room)
{
    enum { BYTES = 4 << 20 };
    int fds[2];
    char small[10], *large = calloc(1, BYTES);
    struct rl_cqe cqes[3];
    make_pair(fds);
    queue_bytes(driver, RL_OP_RECV, fds[0], small, sizeof small, 1);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    CHECK_EQUAL(write(fds[1], "abc", 3), 3);
    CHECK_EQUAL(await(driver).result, 3);
    CHECK(memcmp(small, "abc", 3) == 0);

    queue_bytes(driver, RL_OP_SEND, fds[0], large, BYTES, 1)->op_flags = MSG_WAITALL;
    char *received = malloc(BYTES);
    queue_bytes(driver, RL_OP_RECV, fds[1], received, BYTES, 2)->op_flags = MSG_WAITALL;
    await_all(driver, cqes, 2);
    CHECK_EQUAL(cqes[1].result, BYTES);
    CHECK_EQUAL(cqes[2].result, BYTES);
    free(received);
    free(large);
    close(fds[0]);
    queue_bytes(driver, RL_OP_SEND, fds[1], small, 1, 1);
    CHECK_EQUAL(await(driver).result, -EPIPE);
    queue_bytes(driver, RL_OP_RECV, fds[1], small, 1, 1);
    CHECK_EQUAL(await(driver).result, 0);
    queue_bytes(driver, RL_OP_RECV, fds[1], small, 1, 1)->op_flags = MSG_DONTWAIT;
    CHECK_EQUAL(await(driver).result, 0);
    close(fds[1]);
}

SAME(a_multishot_receive_ends_with_the_stream)
{
    struct rl_buffers buffers = {0};
    int fds[2];
    make_pair(fds);
    CHECK_EQUAL(rl_buffers_allocate(&buffers, 7, 4, 16), 0);
    CHECK_EQUAL(driver->calls->register_buffers(driver, 7, buffers.ring, 4), 0);
    struct rl_sqe *sqe = queue(driver, RL_OP_RECV, fds[0], 1);
    sqe->flags = RL_SQE_BUFFER_SELECT;
    sqe->ioprio = RL_RECV_MULTISHOT;
    sqe->buffer_group = 7;
    for (unsigned i = 0; i < 10; i++) {
        enter(driver, 0, 0);
        CHECK_EQUAL(write(fds[1], "abcdefg", 7), 7);
        struct rl_cqe cqe = await(driver);
        uint16_t id = (uint16_t)(cqe.flags >> RL_CQE_BUFFER_SHIFT);
        CHECK_EQUAL(cqe.result, 7);
        CHECK_EQUAL(cqe.flags & 0xFFFF & ~(uint32_t)RL_CQE_SOCK_NONEMPTY, RL_CQE_BUFFER | RL_CQE_MORE);
        CHECK(memcmp(rl_buffers_address(&buffers, id), "abcdefg", 7) == 0);
        rl_buffers_recycle(&buffers, id);
    }
    close(fds[1]);
    struct rl_cqe cqe = await(driver);
    CHECK_EQUAL(cqe.result, 0);
    CHECK_EQUAL(cqe.flags & RL_CQE_MORE, 0);
    CHECK_EQUAL(driver->calls->unregister_buffers(driver, 7), 0);
    rl_buffers_free(&buffers);
    close(fds[0]);
}

SAME(a_multishot_receive_without_buffers_ends)
{
    struct rl_buffers buffers = {0};
    int fds[2];
    char bytes[100] = {0};
    unsigned received = 0;
    make_pair(fds);
    CHECK_EQUAL(rl_buffers_allocate(&buffers, 7, 4, 16), 0);
    CHECK_EQUAL(driver->calls->register_buffers(driver, 7, buffers.ring, 4), 0);
    CHECK_EQUAL(write(fds[1], bytes, sizeof bytes), sizeof bytes);
    struct rl_sqe *sqe = queue(driver, RL_OP_RECV, fds[0], 1);
    sqe->flags = RL_SQE_BUFFER_SELECT;
    sqe->ioprio = RL_RECV_MULTISHOT;
    sqe->buffer_group = 7;
    struct rl_cqe cqe = await(driver);
    while (cqe.flags & RL_CQE_MORE) {
        received += (unsigned)cqe.result;
        cqe = await(driver);
    }
    CHECK_EQUAL(received, 64);
    CHECK_EQUAL(cqe.result, -ENOBUFS);
    CHECK_EQUAL(driver->calls->unregister_buffers(driver, 7), 0);
    rl_buffers_free(&buffers);
    close(fds[0]);
    close(fds[1]);
}

/* ---- pipes, files, and what blocks ---- */

SAME(a_pipe_is_read_when_there_is_something)
{
    int fds[2];
    char bytes[10];
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    queue_bytes(driver, RL_OP_READ, fds[0], bytes, sizeof bytes, 1)->offset = UINT64_MAX;
    enter(driver, 0, 0);
    CHECK_EQUAL(write(fds[1], "abc", 3), 3);
    CHECK_EQUAL(await(driver).result, 3);
    queue_bytes(driver, RL_OP_READ, fds[0], bytes, sizeof bytes, 1)->offset = UINT64_MAX;
    enter(driver, 0, 0);
    close(fds[1]);
    CHECK_EQUAL(await(driver).result, 0);
    close(fds[0]);
}

SAME(a_file_is_opened_read_and_closed)
{
    char bytes[4];
    struct rl_sqe *sqe = queue(driver, RL_OP_OPENAT, AT_FDCWD, 1);
    sqe->address = (uint64_t)(uintptr_t) "/proc/self/exe";
    sqe->op_flags = O_RDONLY | O_CLOEXEC;
    int fd = await(driver).result;
    CHECK(fd >= 0);
    queue_bytes(driver, RL_OP_READ, fd, bytes, 4, 1);
    CHECK_EQUAL(await(driver).result, 4);
    CHECK(memcmp(bytes, "\177ELF", 4) == 0);
    queue(driver, RL_OP_CLOSE, fd, 1);
    CHECK_EQUAL(await(driver).result, 0);
}

SAME(a_read_has_a_priority_or_is_refused_one)
{
    enum { IDLE = 3 << 13, NO_CLASS = 7 << 13 };
    char bytes[4] = {0};
    int pair[2];
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(pipe(pair), 0);
    CHECK_EQUAL(write(pair[1], "abcd", 4), 4);
    int fds[] = {file, pair[0]};
    for (unsigned i = 0; i < 2; i++) {
        struct rl_sqe *sqe = queue_bytes(driver, RL_OP_READ, fds[i], bytes, 4, 1);
        sqe->ioprio = NO_CLASS;
        CHECK_EQUAL(await(driver).result, -EINVAL);
        CHECK_EQUAL(bytes[0], 0);
        sqe = queue_bytes(driver, RL_OP_READ, fds[i], bytes, 4, 1);
        sqe->ioprio = IDLE;
        CHECK_EQUAL(await(driver).result, 4);
        memset(bytes, 0, sizeof bytes);
    }
    close(pair[0]);
    close(pair[1]);
    close(file);
}

/* ---- timeouts ---- */

static struct rl_sqe *queue_timeout(rl_driver *driver, uint8_t opcode, struct rl_timespec *time,
                                    uint64_t user_data)
{
    return queue_bytes(driver, opcode, -1, time, 1, user_data);
}

SAME(a_timeout_ends_with_etime_and_not_early)
{
    struct rl_timespec time = {.nanoseconds = 3000000};
    int64_t begin_ns = now_ns();
    queue_timeout(driver, RL_OP_TIMEOUT, &time, 1);
    CHECK_EQUAL(await(driver).result, -ETIME);
    CHECK(now_ns() - begin_ns >= 3000000);
    time = (struct rl_timespec){.seconds = (begin_ns + 5000000) / 1000000000,
                                .nanoseconds = (begin_ns + 5000000) % 1000000000};
    queue_timeout(driver, RL_OP_TIMEOUT, &time, 1)->op_flags = RL_TIMEOUT_ABS;
    CHECK_EQUAL(await(driver).result, -ETIME);
    CHECK(now_ns() - begin_ns >= 5000000);
    time.nanoseconds = -1;
    queue_timeout(driver, RL_OP_TIMEOUT, &time, 1);
    CHECK_EQUAL(await(driver).result, -EINVAL);
}

SAME(a_timeout_is_removed_or_cancelled)
{
    struct rl_timespec time = {.seconds = 100};
    struct rl_cqe cqes[3];
    for (unsigned i = 0; i < 2; i++) {
        queue_timeout(driver, RL_OP_TIMEOUT, &time, 1);
        queue(driver, i == 0 ? RL_OP_TIMEOUT_REMOVE : RL_OP_ASYNC_CANCEL, -1, 2)->address = 1;
        await_all(driver, cqes, 2);
        CHECK_EQUAL(cqes[1].result, -ECANCELED);
        CHECK_EQUAL(cqes[2].result, 0);
    }
    queue(driver, RL_OP_TIMEOUT_REMOVE, -1, 2)->address = 1;
    CHECK_EQUAL(await(driver).result, -ENOENT);
}

SAME(a_timeout_counts_completions)
{
    struct rl_timespec time = {.seconds = 100};
    struct rl_cqe cqes[4];
    queue_timeout(driver, RL_OP_TIMEOUT, &time, 1)->offset = 2;
    queue(driver, RL_OP_NOP, -1, 2);
    enter(driver, 1, RL_WAIT_FOREVER);
    CHECK_EQUAL(take(driver).user_data, 2);
    CHECK(rl_driver_completion(driver) == NULL);
    queue(driver, RL_OP_NOP, -1, 2);
    await_all(driver, cqes, 2);
    CHECK_EQUAL(cqes[1].result, 0);
}

/* ---- chains ---- */

SAME(a_chain_runs_in_order_and_breaks_where_it_fails)
{
    int fds[2];
    char bytes[3];
    struct rl_cqe cqes[5];
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    for (unsigned hard = 0; hard < 2; hard++) {
        uint8_t link = hard ? RL_SQE_IO_HARDLINK : RL_SQE_IO_LINK;
        queue_bytes(driver, RL_OP_WRITE, fds[1], "ab", 2, 1)->flags = link;
        queue_bytes(driver, RL_OP_READ, fds[0], bytes, 3, 2)->flags = link; /* short */
        queue(driver, RL_OP_NOP, -1, 3)->flags = link;
        queue(driver, RL_OP_NOP, -1, 4);
        await_all(driver, cqes, 4);
        CHECK_EQUAL(cqes[1].result, 2);
        CHECK_EQUAL(cqes[2].result, 2);
        CHECK_EQUAL(cqes[3].result, hard ? 0 : -ECANCELED);
        CHECK_EQUAL(cqes[4].result, hard ? 0 : -ECANCELED);
    }
    close(fds[0]);
    close(fds[1]);
}

SAME(a_cancelled_head_cancels_its_chain)
{
    int event = make_event();
    struct rl_cqe cqes[5];
    struct rl_sqe *sqe = queue(driver, RL_OP_POLL_ADD, event, 1);
    sqe->op_flags = POLLIN;
    sqe->flags = RL_SQE_IO_LINK;
    queue(driver, RL_OP_NOP, -1, 2)->flags = RL_SQE_IO_LINK;
    queue(driver, RL_OP_NOP, -1, 3);
    enter(driver, 0, 0);
    queue_cancel(driver, 2, 0, 4);
    CHECK_EQUAL(await(driver).result, -ENOENT); /* it has not begun */
    queue_cancel(driver, 1, 0, 4);
    await_all(driver, cqes, 4);
    for (unsigned i = 1; i < 4; i++)
        CHECK_EQUAL(cqes[i].result, -ECANCELED);
    CHECK_EQUAL(cqes[4].result, 0);
    close(event);
}

SAME(a_bad_entry_keeps_its_chain_from_beginning)
{
    int fds[2];
    char byte;
    struct rl_cqe cqes[4];
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    queue_bytes(driver, RL_OP_WRITE, fds[1], "a", 1, 1)->flags = RL_SQE_IO_LINK;
    queue(driver, 200, -1, 2)->flags = RL_SQE_IO_LINK;
    queue(driver, RL_OP_NOP, -1, 3);
    await_all(driver, cqes, 3);
    CHECK_EQUAL(cqes[1].result, -ECANCELED);
    CHECK_EQUAL(cqes[2].result, -EINVAL);
    CHECK_EQUAL(cqes[3].result, -ECANCELED);
    CHECK_EQUAL(read(fds[0], &byte, 1), -1);
    close(fds[0]);
    close(fds[1]);
}

SAME(a_linked_timeout_ends_what_it_guards)
{
    int event = make_event();
    struct rl_timespec time = {.nanoseconds = 1000000};
    struct rl_cqe cqes[4];
    struct rl_sqe *sqe = queue(driver, RL_OP_POLL_ADD, event, 1);
    sqe->op_flags = POLLIN;
    sqe->flags = RL_SQE_IO_LINK;
    queue_timeout(driver, RL_OP_LINK_TIMEOUT, &time, 2);
    await_all(driver, cqes, 2);
    CHECK_EQUAL(cqes[1].result, -ECANCELED);
    CHECK_EQUAL(cqes[2].result, -ETIME);

    time = (struct rl_timespec){.seconds = 100};
    sqe = queue(driver, RL_OP_POLL_ADD, event, 1);
    sqe->op_flags = POLLIN;
    sqe->flags = RL_SQE_IO_LINK;
    queue_timeout(driver, RL_OP_LINK_TIMEOUT, &time, 2)->flags = RL_SQE_IO_LINK;
    queue(driver, RL_OP_NOP, -1, 3);
    enter(driver, 0, 0);
    set_event(event);
    await_all(driver, cqes, 3);
    CHECK_EQUAL(cqes[1].result, POLLIN);
    CHECK_EQUAL(cqes[2].result, -ECANCELED);
    CHECK_EQUAL(cqes[3].result, 0);
    close(event);
}

SAME(success_may_be_silent)
{
    queue(driver, RL_OP_NOP, -1, 1)->flags = RL_SQE_CQE_SKIP_SUCCESS;
    queue(driver, RL_OP_NOP, -1, 2);
    CHECK_EQUAL(await(driver).user_data, 2);
    queue(driver, RL_OP_POLL_ADD, -1, 3)->flags = RL_SQE_CQE_SKIP_SUCCESS;
    CHECK_EQUAL(await(driver).result, -EBADF);
}

/* ---- the epoll driver alone ---- */

TEST(a_file_that_was_closed_does_not_pass_its_polls_on)
{
    rl_driver *driver = make_epoll(8, 64);
    int event = make_event(), other;
    struct rl_cqe cqes[4];
    queue_poll(driver, event, 1);
    enter(driver, 0, 0);
    close(event);
    other = make_event();
    CHECK_EQUAL(other, event);
    queue_poll(driver, other, 2);
    enter(driver, 0, 0);
    set_event(other);
    CHECK_EQUAL(await(driver).user_data, 2);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    queue_cancel(driver, 1, 0, 2);
    await_all(driver, cqes, 2);
    CHECK_EQUAL(cqes[1].result, -ECANCELED);
    close(other);
    driver->calls->destroy(driver);
}

TEST(a_closed_file_that_lives_on_elsewhere_is_not_taken_for_the_next)
{
    rl_driver *driver = make_epoll(8, 64);
    int event = make_event(), copy = dup(event), other;
    queue_poll(driver, event, 1);
    enter(driver, 0, 0);
    close(event);
    other = make_event();
    CHECK_EQUAL(other, event);
    queue_poll(driver, other, 2);
    enter(driver, 0, 0);
    set_event(copy);
    enter(driver, 0, 0);
    CHECK(rl_driver_completion(driver) == NULL);
    close(copy);
    close(other);
    driver->calls->destroy(driver);
}

TEST(nothing_is_lost_when_the_completion_queue_is_full)
{
    enum { CQ = 8, COUNT = 1000 };
    rl_driver *driver = make_epoll(16, CQ);
    uint64_t expected = 1;
    for (uint64_t number = 1; number <= COUNT; number++) {
        while (driver->sq_tail - *driver->sq_head == driver->sq_entries) {
            enter(driver, 0, 0);
            while (rl_driver_completion(driver) != NULL)
                CHECK_EQUAL(take(driver).user_data, expected++);
        }
        queue(driver, RL_OP_NOP, -1, number);
    }
    while (expected <= COUNT)
        CHECK_EQUAL(await(driver).user_data, expected++);
    driver->calls->destroy(driver);
}

TEST(edges_are_kept_while_the_completion_queue_is_full)
{
    enum { CQ = 4, COUNT = 20 };
    rl_driver *driver = make_epoll(32, CQ);
    int events[COUNT];
    bool seen[COUNT] = {false};
    for (unsigned i = 0; i < COUNT; i++) {
        events[i] = make_event();
        set_event(events[i]);
        struct rl_sqe *sqe = queue(driver, RL_OP_POLL_ADD, events[i], i);
        sqe->op_flags = POLLIN;
        sqe->length = RL_POLL_MULTISHOT;
    }
    for (unsigned i = 0; i < COUNT; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK(!seen[cqe.user_data]);
        seen[cqe.user_data] = true;
    }
    driver->calls->destroy(driver);
    for (unsigned i = 0; i < COUNT; i++)
        close(events[i]);
}

TEST(a_wait_ends_after_its_time)
{
    rl_driver *driver = make_epoll(8, 64);
    int64_t begin_ns = now_ns();
    enter(driver, 1, 2000000);
    CHECK(now_ns() - begin_ns >= 2000000);
    driver->calls->destroy(driver);
}

TEST(what_is_in_flight_goes_with_the_driver)
{
    rl_driver *driver = make_epoll(8, 64);
    struct rl_timespec time = {.seconds = 100};
    int fds[2];
    char byte;
    CHECK_EQUAL(pipe2(fds, O_CLOEXEC), 0);
    queue_poll(driver, fds[0], 1);
    queue_timeout(driver, RL_OP_TIMEOUT, &time, 2);
    queue_bytes(driver, RL_OP_READ, fds[0], &byte, 1, 3);
    queue(driver, RL_OP_FSYNC, fds[0], 4);
    CHECK_EQUAL(await(driver).user_data, 4);
    driver->calls->destroy(driver);
    close(fds[0]);
    close(fds[1]);
}

static void forget(void *argument)
{
    rl_driver *driver = argument;
    driver->calls->forked(driver);
}

TEST(a_forked_child_forgets_the_driver)
{
    rl_driver *driver = make_epoll(8, 64);
    int event = make_event();
    queue_poll(driver, event, 1);
    enter(driver, 0, 0);
    in_child(forget, driver);
    set_event(event);
    CHECK_EQUAL(await(driver).result, POLLIN);
    driver->calls->destroy(driver);
    close(event);
}
