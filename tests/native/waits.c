/*
 * Executing entries by ordinary system calls: sockets, and whatever else waits, which is cancelled at last.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "perform.h"
#include "workers.h"

/* ---- sockets ---- */

static struct sockaddr_in local_address(int fd)
{
    struct sockaddr_in address;
    socklen_t bytes = sizeof address;
    CHECK_EQUAL(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    return address;
}

static int listener;

static void connect_to_listener(int client)
{
    struct sockaddr_in address = local_address(listener);
    CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof address), 0);
}

static void listen_and_connect(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}, peer;
    socklen_t peer_bytes = sizeof peer;
    listener = (int)PERFORM(.opcode = RL_OP_SOCKET, .fd = AF_INET, .offset = SOCK_STREAM | SOCK_NONBLOCK);
    CHECK(listener >= 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SOCKET, .fd = 77, .offset = SOCK_STREAM), -EAFNOSUPPORT);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SOCKET, .fd = AF_INET, .offset = SOCK_STREAM, .length = 77),
                -EPROTONOSUPPORT);
    struct rl_sqe bind_sqe = {
        .opcode = RL_OP_BIND, .fd = listener, .address = AT(&address), .offset = sizeof address};
    CHECK_EQUAL(perform(bind_sqe), 0);
    CHECK_EQUAL(perform(bind_sqe), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_ACCEPT, .fd = listener), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_LISTEN, .fd = listener, .length = 5), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_LISTEN, .fd = 0, .length = 5), direct(listen(0, 5)));
    address = local_address(listener);

    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
        int client = socket(AF_INET, SOCK_STREAM | flags, 0);
        struct rl_sqe connect_sqe = {
            .opcode = RL_OP_CONNECT, .fd = client, .address = AT(&address), .offset = sizeof address};
        CHECK_EQUAL(perform(connect_sqe), 0);
        CHECK_EQUAL(perform(connect_sqe), -EISCONN);
        int accepted = (int)PERFORM(.opcode = RL_OP_ACCEPT, .fd = listener, .address = AT(&peer),
                                    .offset = AT(&peer_bytes), .op_flags = SOCK_CLOEXEC | SOCK_NONBLOCK);
        CHECK(accepted >= 0);
        CHECK_EQUAL(fcntl(accepted, F_GETFD), FD_CLOEXEC);
        CHECK(fcntl(accepted, F_GETFL) & O_NONBLOCK);
        CHECK_EQUAL(peer.sin_port, local_address(client).sin_port);
        close(accepted);
        close(client);
        client = socket(AF_INET, SOCK_STREAM, 0);
        accepted = (int)perform_until((struct rl_sqe){.opcode = RL_OP_ACCEPT, .fd = listener},
                                      connect_to_listener, client);
        CHECK(accepted >= 0);
        CHECK_EQUAL(fcntl(accepted, F_GETFL) & O_NONBLOCK, 0);
        close(accepted);
        close(client);
    }
    CHECK_EQUAL(rl_execute_sqe(
                    &(struct rl_sqe){.opcode = RL_OP_ACCEPT, .fd = listener, .ioprio = RL_ACCEPT_DONTWAIT}),
                -EAGAIN);
    close(listener);
    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) { /* nobody listens any more */
        int client = socket(AF_INET, SOCK_STREAM | flags, 0);
        CHECK_EQUAL(
            PERFORM(.opcode = RL_OP_CONNECT, .fd = client, .address = AT(&address), .offset = sizeof address),
            -ECONNREFUSED);
        close(client);
    }
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_CONNECT, .fd = -1, .address = AT(&address), .offset = 16), -EBADF);
}

TEST(connections)
{
    play(listen_and_connect);
}

static void close_socket(int fd)
{
    CHECK_EQUAL(shutdown(fd, SHUT_RDWR), 0);
}

static void send_and_receive(void)
{
    char buffer[64];
    int pair[2];
    struct iovec pieces[2] = {{"abc", 3}, {"defg", 4}}, parts[2] = {{buffer, 2}, {buffer + 2, 10}};
    struct msghdr out = {.msg_iov = pieces, .msg_iovlen = 2}, in = {.msg_iov = parts, .msg_iovlen = 2};
    for (int flags = 0; flags <= SOCK_NONBLOCK; flags += SOCK_NONBLOCK) {
        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | flags, 0, pair), 0);
        struct rl_sqe send_sqe = {.opcode = RL_OP_SEND, .fd = pair[0], .address = AT("hello"), .length = 5};
        struct rl_sqe recv_sqe = {.opcode = RL_OP_RECV, .fd = pair[1], .address = AT(buffer), .length = 64};
        struct rl_sqe recvmsg_sqe = {.opcode = RL_OP_RECVMSG, .fd = pair[1], .address = AT(&in)};
        CHECK_EQUAL(perform(send_sqe), 5);
        recv_sqe.op_flags = MSG_PEEK;
        CHECK_EQUAL(perform(recv_sqe), 5);
        recv_sqe.op_flags = 0;
        CHECK_EQUAL(perform(recv_sqe), 5);
        recv_sqe.op_flags = MSG_DONTWAIT;
        CHECK_EQUAL(perform(recv_sqe), -EAGAIN);
        recv_sqe.op_flags = 0;
        CHECK_EQUAL(perform_until(recv_sqe, write_hello, pair[0]), 5);
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_SENDMSG, .fd = pair[0], .address = AT(&out)), 7);
        CHECK_EQUAL(perform(recvmsg_sqe), 7);
        CHECK(memcmp(buffer, "abcdefg", 7) == 0);
        CHECK_EQUAL(perform_until(recvmsg_sqe, write_hello, pair[0]), 5);

        /* All of it or nothing, in whatever pieces it comes. */
        write_hello(pair[0]);
        recv_sqe.op_flags = MSG_WAITALL;
        recv_sqe.length = 10;
        CHECK_EQUAL(perform_until(recv_sqe, write_hello, pair[0]), 10);
        write_hello(pair[0]);
        CHECK_EQUAL(perform_until(recv_sqe, close_socket, pair[0]), 5);
        recv_sqe.op_flags = 0;
        CHECK_EQUAL(perform(recv_sqe), 0);
        CHECK_EQUAL(perform(send_sqe), -EPIPE); /* and no SIGPIPE */
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_SENDMSG, .fd = pair[0], .address = AT(&out)), -EPIPE);
        close(pair[0]);
        close(pair[1]);
    }
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    fill(pair[0]);
    CHECK_EQUAL(perform_until(
                    (struct rl_sqe){.opcode = RL_OP_SEND, .fd = pair[0], .address = AT("hello"), .length = 5},
                    drain, pair[1]),
                5);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SHUTDOWN, .fd = pair[0], .length = SHUT_WR), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SHUTDOWN, .fd = pair[0], .length = 9), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SHUTDOWN, .fd = 0), direct(shutdown(0, 0)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_RECV, .fd = 0, .address = AT(buffer), .length = 1),
                direct(recv(0, buffer, 1, 0)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SENDMSG, .fd = pair[1], .address = 8), -EFAULT);
    close(pair[0]);
    close(pair[1]);
}

TEST(bytes_over_sockets)
{
    play(send_and_receive);
}

static void send_to_an_address(void)
{
    char buffer[8];
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int receiver = socket(AF_UNIX, SOCK_DGRAM, 0), sender = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct rl_sqe sqe = {.opcode = RL_OP_SEND, .fd = sender, .address = AT("hello"), .length = 5};
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_BIND, .fd = receiver, .address = AT(&name), .offset = sizeof name),
                0);
    CHECK_EQUAL(perform(sqe), -ENOTCONN);
    sqe.offset = AT(&name);
    uint16_t name_bytes = sizeof name;
    memcpy(&sqe.file_index, &name_bytes, sizeof name_bytes);
    CHECK_EQUAL(perform(sqe), 5);
    CHECK_EQUAL(recv(receiver, buffer, sizeof buffer, 0), 5);
    close(receiver);
    CHECK_EQUAL(perform(sqe), -ECONNREFUSED);
    close(sender);
}

TEST(datagrams_to_an_address)
{
    play(send_to_an_address);
}

/* ---- waiting ---- */

static void wait_for_readiness(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = 42}}, found[4];
    int fds[2], file = open("file", O_RDWR | O_CREAT, 0600), epoll = epoll_create1(0);
    CHECK_EQUAL(pipe(fds), 0);
    struct rl_sqe poll_sqe = {.opcode = RL_OP_POLL_ADD, .fd = fds[0], .op_flags = POLLIN};
    struct rl_sqe add_sqe = {.opcode = RL_OP_EPOLL_CTL,
                             .fd = epoll,
                             .length = EPOLL_CTL_ADD,
                             .offset = (uint64_t)fds[0],
                             .address = AT(&event)};
    struct rl_sqe wait_sqe = {.opcode = RL_OP_EPOLL_WAIT, .fd = epoll, .length = 4, .address = AT(found)};
    CHECK_EQUAL(perform(add_sqe), 0);
    CHECK_EQUAL(perform(add_sqe), -EEXIST);
    CHECK_EQUAL(perform_until(wait_sqe, write_hello, fds[1]), 1);
    CHECK_EQUAL(found[0].data.u32, 42);
    drain(fds[0]);
    CHECK_EQUAL(perform_until(poll_sqe, write_hello, fds[1]), POLLIN);
    poll_sqe.op_flags = POLLIN | POLLRDNORM | POLLPRI;
    CHECK_EQUAL(perform(poll_sqe), POLLIN | POLLRDNORM);
    close(fds[1]);
    CHECK_EQUAL(perform(poll_sqe), POLLIN | POLLRDNORM | POLLHUP);
    poll_sqe.fd = file;
    CHECK_EQUAL(perform(poll_sqe), POLLIN | POLLRDNORM);
    poll_sqe.fd = -1;
    CHECK_EQUAL(perform(poll_sqe), -EBADF);
    poll_sqe.fd = 1000;
    CHECK_EQUAL(perform(poll_sqe), -EBADF);
    wait_sqe.length = 0;
    CHECK_EQUAL(perform(wait_sqe), -EINVAL);
    wait_sqe.fd = file;
    CHECK_EQUAL(perform(wait_sqe), -EINVAL);
    close(epoll);
    close(fds[0]);
    close(file);
}

TEST(readiness)
{
    play(wait_for_readiness);
}

static void wait_for_time(void)
{
    struct rl_timespec after = {0, 2000000}, past = {1, 0}, wrong = {-1, 0};
    static const uint32_t CLOCKS[] = {0, RL_TIMEOUT_BOOTTIME, RL_TIMEOUT_REALTIME, RL_TIMEOUT_ETIME_SUCCESS};
    for (int i = 0; i < 4; i++) {
        int64_t begin = now_ns();
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_TIMEOUT, .fd = -1, .address = AT(&after), .length = 1,
                            .op_flags = CLOCKS[i]),
                    -ETIME);
        CHECK(now_ns() - begin >= 2000000);
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_TIMEOUT, .fd = -1, .address = AT(&past), .length = 1,
                            .op_flags = CLOCKS[i] | RL_TIMEOUT_ABS),
                    -ETIME);
    }
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_TIMEOUT, .fd = -1, .address = AT(&wrong), .length = 1), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_TIMEOUT, .fd = -1, .address = AT(&after), .length = 2), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_TIMEOUT, .fd = -1, .address = 8, .length = 1), -EFAULT);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_TIMEOUT, .fd = -1, .address = AT(&after), .length = 1,
                        .op_flags = RL_TIMEOUT_BOOTTIME | RL_TIMEOUT_REALTIME),
                -EINVAL);
}

TEST(timeouts)
{
    play(wait_for_time);
}

static void close_pipe(int fd)
{
    close(fd);
}

static void wait_for_children(void)
{
    siginfo_t info;
    int fds[2];
    for (int status = 0; status < 2; status++) {
        CHECK_EQUAL(pipe(fds), 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            close(fds[1]);
            _exit((int)read(fds[0], &info, 1) + status);
        }
        struct rl_sqe sqe = {
            .opcode = RL_OP_WAITID, .fd = child, .length = P_PID, .offset = AT(&info), .file_index = WEXITED};
        CHECK_EQUAL(perform_until(sqe, close_pipe, fds[1]), 0);
        CHECK_EQUAL(info.si_pid, child);
        CHECK_EQUAL(info.si_status, status);
        CHECK_EQUAL(perform(sqe), -ECHILD);
        sqe.file_index = 0;
        CHECK_EQUAL(perform(sqe), -EINVAL);
        close(fds[0]);
    }
}

TEST(children)
{
    play(wait_for_children);
}

static uint32_t word;

static void wake_word(int private_flag)
{
    while (syscall(SYS_futex, &word, FUTEX_WAKE | private_flag, 1, NULL, NULL, 0) != 1)
        sched_yield();
}

static void wait_for_a_futex(void)
{
    uint32_t other_word = 0;
    struct futex_waitv waiters[2] = {
        {.uaddr = AT(&other_word), .flags = RL_FUTEX_SIZE_U32 | RL_FUTEX_PRIVATE},
        {.uaddr = AT(&word), .flags = RL_FUTEX_SIZE_U32 | RL_FUTEX_PRIVATE}};
    for (int flag = 0; flag <= RL_FUTEX_PRIVATE; flag += RL_FUTEX_PRIVATE) {
        struct rl_sqe sqe = {.opcode = RL_OP_FUTEX_WAIT,
                             .fd = RL_FUTEX_SIZE_U32 | flag,
                             .address = AT(&word),
                             .address3 = UINT32_MAX};
        CHECK_EQUAL(perform_until(sqe, wake_word, flag), 0);
        sqe.offset = 1;
        CHECK_EQUAL(perform(sqe), -EAGAIN);
        sqe.opcode = RL_OP_FUTEX_WAKE;
        CHECK_EQUAL(perform(sqe), 0);
        sqe.offset = 0;
        CHECK_EQUAL(perform(sqe), 0);
        sqe.offset = UINT64_C(1) << 32;
        CHECK_EQUAL(perform(sqe), -EINVAL);
        sqe.offset = 1;
        sqe.address3 = 0;
        CHECK_EQUAL(perform(sqe), -EINVAL);
        sqe.address3 = 1;
        sqe.address = AT(&word) + 1;
        CHECK_EQUAL(perform(sqe), -EINVAL);
        sqe.fd = 0;
        CHECK_EQUAL(perform(sqe), -EINVAL);
    }
    struct rl_sqe sqe = {.opcode = RL_OP_FUTEX_WAITV, .address = AT(waiters), .length = 2};
    CHECK_EQUAL(perform_until(sqe, wake_word, RL_FUTEX_PRIVATE), 1);
    waiters[1].val = 5;
    CHECK_EQUAL(perform(sqe), -EAGAIN);
    sqe.length = 0;
    CHECK_EQUAL(perform(sqe), -EINVAL);
    sqe.length = 129;
    CHECK_EQUAL(perform(sqe), -EINVAL);
}

TEST(futexes)
{
    play(wait_for_a_futex);
}

/* ---- by a pool ---- */

struct scene { /* files that nothing comes from, and nothing goes to */
    int empty[2], full[2], pair[2], quiet, crowded, guest, stranger, epoll;
    struct sockaddr_un crowded_name;
    pid_t child;
};

static int listen_at(struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_EQUAL(bind(fd, (struct sockaddr *)name, sizeof *name), 0);
    CHECK_EQUAL(listen(fd, 0), 0);
    return fd;
}

static void set_scene(struct scene *scene)
{
    struct sockaddr_un quiet_name = {.sun_family = AF_UNIX, .sun_path = "quiet"};
    scene->crowded_name = (struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "crowded"};
    scene->child = fork();
    CHECK(scene->child >= 0);
    if (scene->child == 0)
        for (;;)
            pause();
    CHECK_EQUAL(pipe(scene->empty), 0);
    CHECK_EQUAL(pipe(scene->full), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, scene->pair), 0);
    fill(scene->full[1]);
    fill(scene->pair[1]);
    scene->quiet = listen_at(&quiet_name);
    scene->crowded = listen_at(&scene->crowded_name);
    scene->guest = socket(AF_UNIX, SOCK_STREAM, 0);
    scene->stranger = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQUAL(connect(scene->guest, (struct sockaddr *)&scene->crowded_name, sizeof scene->crowded_name),
                0);
    CHECK((scene->epoll = epoll_create1(0)) >= 0);
    CHECK_EQUAL(mkfifo("fifo", 0600), 0);
}

static void clear_scene(struct scene *scene)
{
    int fds[] = {scene->empty[0], scene->empty[1], scene->full[0], scene->full[1],
                 scene->pair[0],  scene->pair[1],  scene->quiet,   scene->crowded,
                 scene->guest,    scene->stranger, scene->epoll};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        CHECK_EQUAL(close(fds[i]), 0);
    CHECK_EQUAL(kill(scene->child, SIGKILL), 0);
    CHECK_EQUAL(waitpid(scene->child, NULL, 0), scene->child);
}

/* An entry that waits for ever, for each opcode that can be interrupted. Returns how many. */
static int fill_in_waits(struct rl_sqe_work *waits, struct scene *scene)
{
    static char byte;
    static struct iovec piece = {&byte, 1};
    static struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    static struct rl_timespec hour = {3600, 0};
    static struct epoll_event event;
    static struct open_how how = {.flags = O_RDONLY};
    static struct futex_waitv waiter = {.flags = RL_FUTEX_SIZE_U32 | RL_FUTEX_PRIVATE};
    static siginfo_t info;
    int in = scene->empty[0], out = scene->full[1];
    const struct rl_sqe entries[] = {
        {.opcode = RL_OP_READ, .fd = in, .address = AT(&byte), .length = 1, .offset = POSITION},
        {.opcode = RL_OP_READV, .fd = in, .address = AT(&piece), .length = 1, .offset = POSITION},
        {.opcode = RL_OP_WRITE, .fd = out, .address = AT(&byte), .length = 1, .offset = POSITION},
        {.opcode = RL_OP_WRITEV, .fd = out, .address = AT(&piece), .length = 1, .offset = POSITION},
        {.opcode = RL_OP_POLL_ADD, .fd = in, .op_flags = POLLIN},
        {.opcode = RL_OP_TIMEOUT, .fd = -1, .address = AT(&hour), .length = 1},
        {.opcode = RL_OP_RECV, .fd = scene->pair[1], .address = AT(&byte), .length = 1},
        {.opcode = RL_OP_RECVMSG, .fd = scene->pair[1], .address = AT(&message)},
        {.opcode = RL_OP_SEND, .fd = scene->pair[1], .address = AT(&byte), .length = 1},
        {.opcode = RL_OP_SENDMSG, .fd = scene->pair[1], .address = AT(&message)},
        {.opcode = RL_OP_ACCEPT, .fd = scene->quiet},
        {.opcode = RL_OP_CONNECT,
         .fd = scene->stranger,
         .address = AT(&scene->crowded_name),
         .offset = sizeof scene->crowded_name},
        {.opcode = RL_OP_OPENAT, .fd = AT_FDCWD, .address = AT("fifo")},
        {.opcode = RL_OP_OPENAT2,
         .fd = AT_FDCWD,
         .address = AT("fifo"),
         .offset = AT(&how),
         .length = sizeof how},
        {.opcode = RL_OP_SPLICE,
         .fd = out,
         .file_index = (uint32_t)in,
         .address = POSITION,
         .offset = POSITION,
         .length = 1},
        {.opcode = RL_OP_TEE, .fd = out, .file_index = (uint32_t)in, .length = 1},
        {.opcode = RL_OP_EPOLL_WAIT, .fd = scene->epoll, .length = 1, .address = AT(&event)},
        {.opcode = RL_OP_FUTEX_WAIT, .fd = RL_FUTEX_SIZE_U32, .address = AT(&word), .address3 = 1},
        {.opcode = RL_OP_FUTEX_WAITV, .address = AT(&waiter), .length = 1},
        {.opcode = RL_OP_WAITID, .length = P_ALL, .offset = AT(&info), .file_index = WEXITED},
    };
    enum { COUNT = sizeof entries / sizeof entries[0] };
    waiter.uaddr = AT(&word);
    for (int i = 0; i < COUNT; i++) {
        waits[i].work = (rl_work){.execute = rl_execute_sqe_work, .interruptible = true};
        waits[i].sqe = entries[i];
        CHECK(rl_execute_interruptible(entries[i].opcode));
    }
    return COUNT;
}

static void cancel_waits(void)
{
    static struct rl_sqe_work waits[64];
    struct scene scene;
    struct pollfd bell = {.fd = make_event(), .events = POLLIN};
    set_scene(&scene);
    int count = fill_in_waits(waits, &scene), interruptible_count = 0, done_count = 0;
    for (int opcode = 0; opcode < 256; opcode++)
        interruptible_count += rl_execute_interruptible((uint8_t)opcode);
    CHECK_EQUAL(count, interruptible_count);

    rl_workers *pool = rl_workers_create(bell.fd, 64, INT64_C(60000000000));
    for (int i = 0; i < count; i++)
        rl_workers_submit(pool, &waits[i].work);
    rl_workers_publish(pool);
    while (rl_workers_count(pool).running != (uint32_t)count)
        sched_yield();
    for (int i = 0; i < count; i++)
        CHECK_EQUAL(rl_workers_cancel(pool, &waits[i].work), -EALREADY);
    while (done_count < count) {
        if (rl_workers_prepare_sleep(pool))
            CHECK_EQUAL(poll(&bell, 1, -1), 1);
        rl_workers_awake(pool);
        for (rl_work *work = rl_workers_collect(pool); work != NULL; work = work->next)
            done_count++;
    }
    for (int i = 0; i < count; i++) {
        printf("opcode %d\n", waits[i].sqe.opcode);
        CHECK_EQUAL(waits[i].work.result, -ECANCELED);
    }
    CHECK(rl_workers_destroy(pool) == NULL);
    clear_scene(&scene);
    close(bell.fd);
}

TEST(whatever_waits_can_be_cancelled)
{
    play(cancel_waits);
}
