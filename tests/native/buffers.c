/*
 * Provided buffers and the multishot operations that the rooms above rely on.
 */
#include <netinet/in.h>

#include "harness.h"

enum { GROUP = 3, BUFFER_BYTES = 64 };

static rl_driver *start_with_buffers(struct rl_buffers *buffers, uint32_t buffer_count)
{
    rl_driver *driver = start_driver(64, 1024);
    CHECK(driver->capabilities & RL_CAN_RECV_MULTISHOT);
    CHECK_EQUAL(rl_buffers_allocate(buffers, GROUP, buffer_count, BUFFER_BYTES), 0);
    CHECK_EQUAL(driver->calls->register_buffers(driver, GROUP, buffers->ring, buffer_count), 0);
    return driver;
}

static void end(rl_driver *driver, struct rl_buffers *buffers)
{
    CHECK_EQUAL(driver->calls->unregister_buffers(driver, GROUP), 0);
    driver->calls->destroy(driver);
    rl_buffers_free(buffers);
    CHECK(buffers->ring == NULL);
}

static void queue_recv(rl_driver *driver, int fd, uint64_t user_data)
{
    struct rl_sqe *sqe = queue(driver, RL_OP_RECV, fd, user_data);
    sqe->ioprio = RL_RECV_MULTISHOT;
    sqe->flags = RL_SQE_BUFFER_SELECT;
    sqe->buffer_group = GROUP;
}

static void send_number(int fd, uint64_t number)
{
    CHECK_EQUAL(write(fd, &number, sizeof number), sizeof number);
}

static uint16_t buffer_of(struct rl_cqe cqe)
{
    CHECK(cqe.flags & RL_CQE_BUFFER);
    return (uint16_t)(cqe.flags >> RL_CQE_BUFFER_SHIFT);
}

static uint64_t number_in(const struct rl_buffers *buffers, struct rl_cqe cqe)
{
    uint64_t number;
    CHECK_EQUAL(cqe.result, sizeof number);
    CHECK(buffer_of(cqe) < buffers->buffer_count);
    memcpy(&number, rl_buffers_address(buffers, buffer_of(cqe)), sizeof number);
    return number;
}

/* More than 65536 buffers: the ring's 16-bit tail wraps around. */
TEST(one_receive_delivers_all_messages_in_order)
{
    enum { COUNT = 70000 };
    int pair[2];
    struct rl_buffers buffers;
    rl_driver *driver = start_with_buffers(&buffers, 8);
    make_pair(pair);
    queue_recv(driver, pair[0], 1);
    enter(driver, 0, 0);
    for (uint64_t i = 0; i < COUNT; i++) {
        send_number(pair[1], i);
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.user_data, 1);
        CHECK(cqe.flags & RL_CQE_MORE);
        CHECK_EQUAL(number_in(&buffers, cqe), i);
        rl_buffers_recycle(&buffers, buffer_of(cqe));
    }
    CHECK_EQUAL(driver->counters.submitted, 1);
    close(pair[1]);
    struct rl_cqe cqe = await(driver); /* EOF ends the operation */
    CHECK_EQUAL(cqe.result, 0);
    CHECK(!(cqe.flags & RL_CQE_MORE));
    close(pair[0]);
    end(driver, &buffers);
}

TEST(a_group_that_ran_out_ends_the_receive_and_loses_nothing)
{
    int pair[2];
    uint16_t lent[4];
    bool seen[4] = {false};
    struct rl_buffers buffers;
    rl_driver *driver = start_with_buffers(&buffers, 4);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    for (uint64_t i = 0; i < 10; i++)
        send_number(pair[1], i);
    queue_recv(driver, pair[0], 1);
    for (uint64_t i = 0; i < 4; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(number_in(&buffers, cqe), i);
        lent[i] = buffer_of(cqe);
        CHECK(!seen[lent[i]]);
        seen[lent[i]] = true;
    }
    struct rl_cqe cqe = await(driver);
    CHECK_EQUAL(cqe.result, -ENOBUFS);
    CHECK(!(cqe.flags & (RL_CQE_MORE | RL_CQE_BUFFER)));

    for (uint64_t i = 0; i < 4; i++) { /* what was delivered is still as it came */
        uint64_t number;
        memcpy(&number, rl_buffers_address(&buffers, lent[i]), sizeof number);
        CHECK_EQUAL(number, i);
    }
    for (int i = 3; i >= 0; i--)
        rl_buffers_recycle(&buffers, lent[i]);
    queue_recv(driver, pair[0], 2);
    for (uint64_t i = 4; i < 10; i++) {
        cqe = await(driver);
        CHECK_EQUAL(cqe.user_data, 2);
        if (cqe.result == -ENOBUFS) {
            queue_recv(driver, pair[0], 2);
            cqe = await(driver);
        }
        CHECK_EQUAL(number_in(&buffers, cqe), i);
        rl_buffers_recycle(&buffers, buffer_of(cqe));
    }
    close(pair[1]);
    while (cqe.flags & RL_CQE_MORE)
        cqe = await(driver);
    close(pair[0]);
    end(driver, &buffers);
}

TEST(many_receives_share_one_group)
{
    enum { CONNECTIONS = 100, ROUNDS = 50 };
    int pairs[CONNECTIONS][2];
    struct rl_buffers buffers;
    rl_driver *driver = start_with_buffers(&buffers, 16);
    for (uint64_t i = 0; i < CONNECTIONS; i++) {
        make_pair(pairs[i]);
        queue_recv(driver, pairs[i][0], i);
    }
    enter(driver, 0, 0);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        bool heard[CONNECTIONS] = {false};
        for (uint64_t i = 0; i < CONNECTIONS; i++)
            send_number(pairs[i][1], i * ROUNDS + round);
        for (int left = CONNECTIONS; left > 0;) {
            struct rl_cqe cqe = await(driver);
            if (cqe.result == -ENOBUFS) { /* armed again once there are buffers */
                CHECK(!(cqe.flags & RL_CQE_MORE));
                queue_recv(driver, pairs[cqe.user_data][0], cqe.user_data);
                continue;
            }
            CHECK_EQUAL(number_in(&buffers, cqe), cqe.user_data * ROUNDS + round);
            CHECK(!heard[cqe.user_data]);
            heard[cqe.user_data] = true;
            rl_buffers_recycle(&buffers, buffer_of(cqe));
            if (!(cqe.flags & RL_CQE_MORE))
                queue_recv(driver, pairs[cqe.user_data][0], cqe.user_data);
            left--;
        }
    }
    for (int i = 0; i < CONNECTIONS; i++)
        close(pairs[i][1]);
    for (int left = CONNECTIONS; left > 0;)
        left -= await(driver).flags & RL_CQE_MORE ? 0 : 1;
    for (int i = 0; i < CONNECTIONS; i++)
        close(pairs[i][0]);
    end(driver, &buffers);
}

/* fork() must not part the ring of buffers from the pages that the kernel reads. */
TEST(a_receive_goes_on_after_a_fork)
{
    int pair[2];
    struct rl_buffers buffers;
    rl_driver *driver = start_with_buffers(&buffers, 4);
    make_pair(pair);
    queue_recv(driver, pair[0], 1);
    enter(driver, 0, 0);
    for (uint64_t i = 0; i < 20; i++) {
        if (i % 5 == 0) {
            pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                driver->calls->forked(driver);
                memset(buffers.memory, 0xff, 4 * BUFFER_BYTES);
                for (uint16_t id = 0; id < 4; id++)
                    rl_buffers_recycle(&buffers, id);
                rl_buffers_free(&buffers);
                _exit(0);
            }
            int status;
            CHECK_EQUAL(waitpid(child, &status, 0), child);
            CHECK_EQUAL(status, 0);
        }
        send_number(pair[1], i);
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(number_in(&buffers, cqe), i);
        rl_buffers_recycle(&buffers, buffer_of(cqe));
    }
    close(pair[1]);
    CHECK_EQUAL(await(driver).result, 0);
    close(pair[0]);
    end(driver, &buffers);
}

TEST(a_group_is_registered_once_and_known_until_it_is_not)
{
    int pair[2];
    struct rl_buffers buffers;
    rl_driver *driver = start_with_buffers(&buffers, 4);
    make_pair(pair);
    CHECK_EQUAL(driver->calls->register_buffers(driver, GROUP, buffers.ring, 4), -EEXIST);
    CHECK_EQUAL(driver->calls->unregister_buffers(driver, GROUP), 0);
    CHECK(driver->calls->unregister_buffers(driver, GROUP) < 0);
    queue_recv(driver, pair[0], 1);
    CHECK_EQUAL(await(driver).result, -ENOBUFS);
    driver->calls->destroy(driver);
    rl_buffers_free(&buffers);
    close(pair[0]);
    close(pair[1]);
}

TEST(buffers_do_not_overlap)
{
    struct rl_buffers buffers;
    CHECK_EQUAL(rl_buffers_allocate(&buffers, 1, 32768, 1000), 0);
    CHECK_EQUAL((uintptr_t)buffers.ring % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    CHECK(rl_buffers_address(&buffers, 0) >= (uint8_t *)(buffers.ring + 32768));
    CHECK_EQUAL(rl_buffers_address(&buffers, 32767) - rl_buffers_address(&buffers, 0), 32767 * 1000);
    for (uint32_t id = 0; id < 32768; id++) {
        CHECK_EQUAL(buffers.ring[id].id, id);
        CHECK_EQUAL(buffers.ring[id].length, 1000);
        CHECK_EQUAL(buffers.ring[id].address, (uintptr_t)rl_buffers_address(&buffers, (uint16_t)id));
    }
    memset(rl_buffers_address(&buffers, 32767), 1, 1000);
    CHECK_EQUAL(buffers.ring[0].tail, 32768);
    rl_buffers_free(&buffers);
    rl_buffers_free(&buffers); /* nothing is left to free */
}

/* The kernel pins the ring's pages: none of the buffers' are among them. */
TEST(a_small_ring_shares_no_page_with_its_buffers)
{
    struct rl_buffers buffers;
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    CHECK_EQUAL(rl_buffers_allocate(&buffers, 1, 2, 16), 0);
    CHECK((uintptr_t)&buffers.ring[1] / page_bytes != (uintptr_t)buffers.memory / page_bytes);
    CHECK_EQUAL((uintptr_t)buffers.memory % page_bytes, 0);
    rl_buffers_free(&buffers);
}

TEST(groups_that_cannot_be_are_refused)
{
    static const uint32_t COUNTS[] = {0, 3, 12, 65535, 65536, UINT32_MAX};
    struct rl_buffers buffers;
    for (size_t i = 0; i < sizeof COUNTS / sizeof COUNTS[0]; i++) {
        CHECK_EQUAL(rl_buffers_allocate(&buffers, 0, COUNTS[i], 64), -EINVAL);
        CHECK(buffers.ring == NULL);
    }
    CHECK_EQUAL(rl_buffers_allocate(&buffers, 0, 8, 0), -EINVAL);
    CHECK_EQUAL(rl_buffers_allocate(&buffers, 0, 8, UINT32_MAX), -EINVAL);
    CHECK(buffers.ring == NULL);
    rl_buffers_free(&buffers);
}

TEST(one_accept_delivers_all_connections)
{
    enum { COUNT = 100 };
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t address_bytes = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    rl_driver *driver = start_driver(8, 64);
    CHECK(driver->capabilities & RL_CAN_ACCEPT_MULTISHOT);
    CHECK_EQUAL(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    CHECK_EQUAL(listen(listener, COUNT), 0);
    CHECK_EQUAL(getsockname(listener, (struct sockaddr *)&address, &address_bytes), 0);
    struct rl_sqe *sqe = queue(driver, RL_OP_ACCEPT, listener, 6);
    sqe->ioprio = RL_ACCEPT_MULTISHOT;
    sqe->op_flags = SOCK_CLOEXEC | SOCK_NONBLOCK;
    enter(driver, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK_EQUAL(connect(client, (struct sockaddr *)&address, sizeof address), 0);
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.user_data, 6);
        CHECK(cqe.result >= 0);
        CHECK(cqe.flags & RL_CQE_MORE);
        send_number(client, 42);
        uint64_t number;
        CHECK_EQUAL(read(cqe.result, &number, sizeof number), sizeof number);
        close(cqe.result);
        close(client);
    }
    queue(driver, RL_OP_ASYNC_CANCEL, -1, 7)->address = 6;
    enter(driver, 2, RL_WAIT_FOREVER);
    close(listener); /* its port is free now that nothing is armed on it */
    for (int i = 0; i < 2; i++) {
        struct rl_cqe cqe = await(driver);
        CHECK_EQUAL(cqe.result, cqe.user_data == 6 ? -ECANCELED : 0);
    }
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(listener, (struct sockaddr *)&address, sizeof address) != 0);
    CHECK_EQUAL(errno, ECONNREFUSED);
    close(listener);
    driver->calls->destroy(driver);
}
