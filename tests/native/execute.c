/*
 * Executing entries by ordinary system calls: what concerns files, what is refused; and calls by number.
 */
#define _GNU_SOURCE
#include <linux/openat2.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/xattr.h>

#include "perform.h"

/* ---- reading and writing ---- */

static void read_and_write(void)
{
    char buffer[16] = "";
    struct iovec pieces[2] = {{"abc", 3}, {"defg", 4}}, parts[2] = {{buffer, 2}, {buffer + 2, 10}};
    static struct iovec many[1025];
    int fd = open("file", O_RDWR | O_CREAT, 0600), reader = open("file", O_RDONLY);
    CHECK(fd >= 0 && reader >= 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_WRITE, .fd = fd, .address = AT("hello"), .length = 5, .offset = 3),
                5);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 0);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_WRITE, .fd = fd, .address = AT("HE"), .length = 2, .offset = POSITION), 2);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 2);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = AT(buffer), .length = 16, .offset = POSITION), 6);
    CHECK(memcmp(buffer, "\0hello", 6) == 0);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = AT(buffer), .length = 16, .offset = POSITION), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = AT(buffer), .length = 3, .offset = 4), 3);
    CHECK(memcmp(buffer, "ell", 3) == 0);
    CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 8);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_WRITEV, .fd = fd, .address = AT(pieces), .length = 2, .offset = 1),
                7);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READV, .fd = reader, .address = AT(parts), .length = 2, .offset = 2),
                6);
    CHECK(memcmp(buffer, "bcdefg", 6) == 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_WRITE, .fd = fd, .address = AT("!"), .length = 1, .offset = 0,
                        .op_flags = RWF_APPEND),
                1);
    CHECK_EQUAL(pread(fd, buffer, 1, 8), 1);
    CHECK_EQUAL(buffer[0], '!');

    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READ, .fd = -1, .address = AT(buffer), .length = 1), -EBADF);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_WRITE, .fd = reader, .address = AT("x"), .length = 1), -EBADF);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = 8, .length = 1), -EFAULT);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = AT(buffer), .length = 1, .offset = -5ULL),
                -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READV, .fd = fd, .address = AT(many), .length = 1025), -EINVAL);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = AT(buffer), .length = 1, .op_flags = RWF_HIPRI),
        -EINVAL);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_READ, .fd = fd, .address = AT(buffer), .length = 1, .op_flags = 1 << 15),
        -EOPNOTSUPP);
    close(reader);
    reader = open(".", O_RDONLY);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_READ, .fd = reader, .address = AT(buffer), .length = 1), -EISDIR);
    close(reader);
    close(fd);
}

TEST(reads_and_writes_of_files)
{
    play(read_and_write);
}

static void read_pipes_and_sockets(void)
{
    char buffer[16];
    int fds[2], pair[2];
    CHECK_EQUAL(pipe2(fds, O_NONBLOCK), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    struct rl_sqe from_pipe = {.opcode = RL_OP_READ, .fd = fds[0], .address = AT(buffer), .length = 5};
    struct rl_sqe from_socket = {.opcode = RL_OP_READ, .fd = pair[0], .address = AT(buffer), .length = 5};
    static const uint64_t OFFSETS[] = {0, 5, POSITION};
    for (int i = 0; i < 3; i++) {
        write_hello(fds[1]);
        write_hello(pair[1]);
        from_pipe.offset = from_socket.offset = OFFSETS[i];
        CHECK_EQUAL(perform(from_pipe), 5);
        CHECK_EQUAL(perform(from_socket), OFFSETS[i] == 5 ? -ESPIPE : 5);
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_WRITE, .fd = pair[0], .address = AT("hello"), .length = 5,
                            .offset = OFFSETS[i]),
                    OFFSETS[i] == 5 ? -ESPIPE : 5);
    }
    drain(pair[0]);
    from_pipe.op_flags = RWF_NOWAIT;
    CHECK_EQUAL(perform(from_pipe), -EAGAIN);
    /* O_NONBLOCK or not, the entry waits. */
    from_pipe.op_flags = 0;
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(perform_until(from_pipe, write_hello, fds[1]), 5);
        CHECK_EQUAL(perform_until(from_socket, write_hello, pair[1]), 5);
        fill(fds[1]);
        CHECK_EQUAL(fcntl(fds[1], F_SETFL, i == 0 ? O_NONBLOCK : 0), 0);
        CHECK_EQUAL(perform_until((struct rl_sqe){.opcode = RL_OP_WRITE,
                                                  .fd = fds[1],
                                                  .address = AT("hello"),
                                                  .length = 5,
                                                  .offset = POSITION},
                                  drain, fds[0]),
                    5);
        drain(fds[0]);
        CHECK_EQUAL(fcntl(fds[0], F_SETFL, 0), 0);
        CHECK_EQUAL(fcntl(pair[0], F_SETFL, 0), 0);
    }
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    close(fds[0]);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_WRITE, .fd = fds[1], .address = AT("x"), .length = 1), -EPIPE);
    close(fds[1]);
    close(pair[0]);
    close(pair[1]);
}

TEST(reads_and_writes_of_pipes_and_sockets)
{
    play(read_pipes_and_sockets);
}

static void splice_and_tee(void)
{
    int from[2], to[2], file = open("file", O_RDWR | O_CREAT, 0600);
    struct rl_sqe splice_sqe = {.opcode = RL_OP_SPLICE, .length = 5};
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_PIPE, .address = AT(from), .op_flags = O_CLOEXEC), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_PIPE, .address = AT(to)), 0);
    CHECK_EQUAL(fcntl(from[0], F_GETFD), FD_CLOEXEC);
    CHECK_EQUAL(fcntl(to[0], F_GETFD), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_PIPE, .address = AT(from), .op_flags = O_APPEND), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_PIPE, .address = 8), -EFAULT);
    write_hello(from[1]);
    struct rl_sqe tee_sqe = {.opcode = RL_OP_TEE, .file_index = (uint32_t)from[0], .fd = to[1], .length = 99};
    CHECK_EQUAL(perform(tee_sqe), 5);
    splice_sqe.file_index = (uint32_t)from[0];
    splice_sqe.fd = file;
    splice_sqe.address = POSITION;
    splice_sqe.offset = 2;
    CHECK_EQUAL(perform(splice_sqe), 5);
    CHECK_EQUAL(perform_until(splice_sqe, write_hello, from[1]), 5);
    CHECK_EQUAL(lseek(file, 0, SEEK_CUR), 0);
    splice_sqe.offset = POSITION;
    write_hello(from[1]);
    CHECK_EQUAL(perform(splice_sqe), 5);
    CHECK_EQUAL(lseek(file, 0, SEEK_END), 7);
    splice_sqe = (struct rl_sqe){.opcode = RL_OP_SPLICE,
                                 .file_index = (uint32_t)file,
                                 .address = 5,
                                 .fd = to[1],
                                 .offset = POSITION,
                                 .length = 99};
    CHECK_EQUAL(perform(splice_sqe), 2);
    drain(to[0]);
    CHECK(memcmp(drained, "hellolo", 7) == 0);
    splice_sqe.offset = 1;
    CHECK_EQUAL(perform(splice_sqe), -ESPIPE);
    splice_sqe.length = 0;
    CHECK_EQUAL(perform(splice_sqe), 0);
    tee_sqe.fd = file;
    CHECK_EQUAL(perform(tee_sqe), -EINVAL);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_CLOSE, .fd = from[i]), 0);
        CHECK_EQUAL(PERFORM(.opcode = RL_OP_CLOSE, .fd = to[i]), 0);
    }
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_CLOSE, .fd = file), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_CLOSE, .fd = file), -EBADF);
}

TEST(splices_tees_and_pipes)
{
    play(splice_and_tee);
}

/* ---- files ---- */

static void change_a_file(void)
{
    struct stat status;
    int fd = open("file", O_RDWR | O_CREAT, 0600), fds[2];
    CHECK_EQUAL(pipe(fds), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FALLOCATE, .fd = fd, .offset = 100, .address = 5000), 0);
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK_EQUAL(status.st_size, 5100);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FALLOCATE, .fd = fd, .address = 9000, .length = FALLOC_FL_KEEP_SIZE),
                0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FALLOCATE, .fd = fd), direct(fallocate(fd, 0, 0, 0)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FALLOCATE, .fd = fds[1], .address = 1), -ESPIPE);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FTRUNCATE, .fd = fd, .offset = UINT64_C(5) << 32), 0);
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK_EQUAL(status.st_size, INT64_C(5) << 32);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FTRUNCATE, .fd = fd, .offset = -1ULL), direct(ftruncate(fd, -1)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FTRUNCATE, .fd = fds[1], .offset = 1), direct(ftruncate(fds[1], 1)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FSYNC, .fd = fd), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FSYNC, .fd = fd, .op_flags = RL_FSYNC_DATASYNC), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FSYNC, .fd = fd, .op_flags = 2), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FSYNC, .fd = fds[0]), direct(fsync(fds[0])));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SYNC_FILE_RANGE, .fd = fd, .offset = 0, .length = 4096,
                        .op_flags = SYNC_FILE_RANGE_WRITE),
                0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SYNC_FILE_RANGE, .fd = fd, .op_flags = 64), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SYNC_FILE_RANGE, .fd = fds[0]), -ESPIPE);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FADVISE, .fd = fd, .length = 9, .op_flags = POSIX_FADV_RANDOM), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FADVISE, .fd = fd, .length = 9, .op_flags = 77), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FADVISE, .fd = fds[0]), -ESPIPE);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FADVISE, .fd = -1), -EBADF);

    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    memory[0] = memory[4096] = 'x';
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_MADVISE, .address = AT(memory), .length = 4096, .op_flags = MADV_DONTNEED),
        0);
    CHECK_EQUAL(memory[0] + memory[4096], 'x');
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_MADVISE, .address = AT(memory), .length = 4096, .op_flags = 7777),
                -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_MADVISE, .address = AT(memory) + 1, .length = 4096), -EINVAL);
    CHECK_EQUAL(munmap(memory, 8192), 0);
    close(fds[0]);
    close(fds[1]);
    close(fd);
}

TEST(changes_of_a_file)
{
    play(change_a_file);
}

static void walk_paths(void)
{
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_NO_SYMLINKS};
    struct stat status;
    umask(022);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_MKDIRAT, .fd = AT_FDCWD, .address = AT("folder"), .length = 0777), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_MKDIRAT, .fd = AT_FDCWD, .address = AT("folder"), .length = 0777),
                -EEXIST);
    CHECK_EQUAL(stat("folder", &status), 0);
    CHECK_EQUAL(status.st_mode & 07777, 0755);
    int folder = (int)PERFORM(.opcode = RL_OP_OPENAT, .fd = AT_FDCWD, .address = AT("folder"),
                              .op_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(folder >= 0);
    CHECK_EQUAL(fcntl(folder, F_GETFD), FD_CLOEXEC);
    int fd = (int)PERFORM(.opcode = RL_OP_OPENAT, .fd = folder, .address = AT("a"), .length = 0640,
                          .op_flags = O_RDWR | O_CREAT | O_EXCL);
    CHECK(fd >= 0);
    CHECK_EQUAL(fstat(fd, &status), 0);
    CHECK_EQUAL(status.st_mode & 07777, 0640);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_OPENAT, .fd = folder, .address = AT("a"), .length = 0640,
                        .op_flags = O_RDWR | O_CREAT | O_EXCL),
                -EEXIST);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_OPENAT, .fd = folder, .address = AT("none")), -ENOENT);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_OPENAT, .fd = fd, .address = AT("a")), -ENOTDIR);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_OPENAT, .fd = folder, .address = 8), -EFAULT);

    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SYMLINKAT, .fd = folder, .address = AT("a"), .offset = AT("soft")),
                0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SYMLINKAT, .fd = folder, .address = AT("a"), .offset = AT("soft")),
                -EEXIST);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_LINKAT, .fd = folder, .address = AT("a"),
                        .length = (uint32_t)AT_FDCWD, .offset = AT("hard")),
                0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_LINKAT, .fd = folder, .address = AT("a"), .length = (uint32_t)folder,
                        .offset = AT("b"), .op_flags = 1 << 20),
                -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_OPENAT2, .fd = folder, .address = AT("soft"), .offset = AT(&how),
                        .length = sizeof how),
                -ELOOP);
    int other = (int)PERFORM(.opcode = RL_OP_OPENAT2, .fd = folder, .address = AT("a"), .offset = AT(&how),
                             .length = sizeof how);
    CHECK(other >= 0);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_OPENAT2, .fd = folder, .address = AT("a"), .offset = AT(&how), .length = 3),
        -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_CLOSE, .fd = other), 0);
    close(folder);
    close(fd);
}

static void rename_and_remove(void)
{
    struct statx found, expected;
    CHECK_EQUAL(mkdir("folder", 0700), 0);
    int folder = open("folder", O_RDONLY | O_DIRECTORY), fd = openat(folder, "a", O_RDWR | O_CREAT, 0600);
    CHECK(folder >= 0 && fd >= 0);
    CHECK_EQUAL(linkat(folder, "a", AT_FDCWD, "hard", 0), 0);
    CHECK_EQUAL(symlinkat("a", folder, "soft"), 0);
    memset(&found, 0, sizeof found);
    memset(&expected, 0, sizeof expected);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_STATX, .fd = folder, .address = AT("soft"), .offset = AT(&found),
                        .length = STATX_ALL, .op_flags = AT_SYMLINK_NOFOLLOW),
                0);
    CHECK_EQUAL(statx(folder, "soft", AT_SYMLINK_NOFOLLOW, STATX_ALL, &expected), 0);
    CHECK(memcmp(&found, &expected, sizeof found) == 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_STATX, .fd = folder, .address = AT("x"), .offset = AT(&found)),
                -ENOENT);

    CHECK_EQUAL(PERFORM(.opcode = RL_OP_RENAMEAT, .fd = folder, .address = AT("soft"),
                        .length = (uint32_t)AT_FDCWD, .offset = AT("hard"), .op_flags = RENAME_NOREPLACE),
                -EEXIST);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_RENAMEAT, .fd = folder, .address = AT("soft"),
                        .length = (uint32_t)AT_FDCWD, .offset = AT("hard")),
                0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_UNLINKAT, .fd = AT_FDCWD, .address = AT("folder")), -EISDIR);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_UNLINKAT, .fd = AT_FDCWD, .address = AT("folder"), .op_flags = AT_REMOVEDIR),
        -ENOTEMPTY);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_UNLINKAT, .fd = folder, .address = AT("a")), 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_UNLINKAT, .fd = folder, .address = AT("a")), -ENOENT);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_UNLINKAT, .fd = folder, .address = AT("a"), .op_flags = 3), -EINVAL);
    CHECK_EQUAL(
        PERFORM(.opcode = RL_OP_UNLINKAT, .fd = AT_FDCWD, .address = AT("folder"), .op_flags = AT_REMOVEDIR),
        0);
    close(folder);
    close(fd);
}

TEST(paths)
{
    play(walk_paths);
    play(rename_and_remove);
}

/* Where the file system has no attributes of users, the errors have to be the same. */
static void get_and_set_attributes(void)
{
    char value[8];
    int fd = open("file", O_RDWR | O_CREAT, 0600), plain = open("plain", O_RDWR | O_CREAT, 0600);
    int64_t expected = direct(fsetxattr(plain, "user.a", "xyz", 3, 0));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FSETXATTR, .fd = fd, .address = AT("user.a"), .offset = AT("xyz"),
                        .length = 3),
                expected);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FSETXATTR, .fd = fd, .address = AT("user.a"), .offset = AT("xyz"),
                        .length = 3, .op_flags = XATTR_CREATE),
                direct(fsetxattr(plain, "user.a", "xyz", 3, XATTR_CREATE)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_SETXATTR, .address3 = AT("file"), .address = AT("user.b"),
                        .offset = AT("pq"), .length = 2),
                direct(setxattr("plain", "user.b", "pq", 2, 0)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_FGETXATTR, .fd = fd, .address = AT("user.b"), .offset = AT(value),
                        .length = 8),
                direct(fgetxattr(plain, "user.b", value, 8)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_GETXATTR, .address3 = AT("file"), .address = AT("user.a"),
                        .offset = AT(value), .length = 8),
                direct(getxattr("plain", "user.a", value, 8)));
    CHECK(expected != 0 || memcmp(value, "xyz", 3) == 0);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_GETXATTR, .address3 = AT("file"), .address = AT("user.a"),
                        .offset = AT(value), .length = 1),
                direct(getxattr("plain", "user.a", value, 1)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_GETXATTR, .address3 = AT("file"), .address = AT("user.none"),
                        .offset = AT(value), .length = 8),
                direct(getxattr("plain", "user.none", value, 8)));
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_GETXATTR, .address3 = AT("none"), .address = AT("user.a")), -ENOENT);
    close(plain);
    close(fd);
}

TEST(extended_attributes)
{
    play(get_and_set_attributes);
}

/* ---- what is not executed ---- */

static void refuse(void)
{
    char byte;
    int fd = open("file", O_RDWR | O_CREAT, 0600);
    struct rl_sqe sqe = {.opcode = RL_OP_READ, .fd = fd, .address = AT(&byte), .length = 1};
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_NOP), 0);
    CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = 255}), -EINVAL);
    CHECK_EQUAL(PERFORM(.opcode = RL_OP_NOP, .flags = RL_SQE_ASYNC), 0);
    sqe.personality = 9;
    CHECK_EQUAL(perform(sqe), -EINVAL);
    sqe.personality = 0;
    sqe.flags = RL_SQE_FIXED_FILE;
    CHECK_EQUAL(perform(sqe), -EBADF);
    close(fd);
}

TEST(refusals)
{
    static const uint8_t DRIVERS_OWN[] = {
        RL_OP_READ_FIXED,     RL_OP_WRITE_FIXED,    RL_OP_POLL_REMOVE,      RL_OP_TIMEOUT_REMOVE,
        RL_OP_ASYNC_CANCEL,   RL_OP_LINK_TIMEOUT,   RL_OP_FILES_UPDATE,     RL_OP_PROVIDE_BUFFERS,
        RL_OP_REMOVE_BUFFERS, RL_OP_MSG_RING,       RL_OP_URING_CMD,        RL_OP_SEND_ZC,
        RL_OP_SENDMSG_ZC,     RL_OP_READ_MULTISHOT, RL_OP_FIXED_FD_INSTALL, RL_OP_RECV_ZC,
        RL_OP_READV_FIXED,    RL_OP_WRITEV_FIXED,   RL_OP_PIPE + 1};
    static const uint8_t MAKES_FD[] = {RL_OP_OPENAT, RL_OP_OPENAT2, RL_OP_ACCEPT,
                                       RL_OP_SOCKET, RL_OP_PIPE,    RL_OP_CLOSE};
    play(refuse);
    for (size_t i = 0; i < sizeof DRIVERS_OWN; i++)
        CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = DRIVERS_OWN[i]}), -EINVAL);
    for (size_t i = 0; i < sizeof MAKES_FD; i++)
        CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = MAKES_FD[i], .fd = -1, .file_index = 1}),
                    -EINVAL);
    CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = RL_OP_READ, .flags = RL_SQE_BUFFER_SELECT}),
                -EINVAL);
    CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = RL_OP_RECV, .ioprio = RL_RECV_MULTISHOT}), -EINVAL);
    CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = RL_OP_ACCEPT, .ioprio = RL_ACCEPT_MULTISHOT}),
                -EINVAL);
    CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = RL_OP_POLL_ADD, .length = RL_POLL_MULTISHOT}),
                -EINVAL);
    CHECK_EQUAL(rl_execute_sqe(&(struct rl_sqe){.opcode = RL_OP_TIMEOUT, .length = 1, .offset = 1}), -EINVAL);
}

/* ---- calls by their number ---- */

static int64_t call(long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    struct rl_call_work work = {.number = number, .arguments = {a, b, c, d, e, f}};
    return rl_execute_call(&work.work);
}

static void make_calls(void)
{
    int fd = open("file", O_RDWR | O_CREAT, 0600), other = open("other", O_RDWR | O_CREAT, 0600);
    int64_t from = 1, to = 3, offset = INT64_C(1) << 40;
    char buffer[16];
    write_hello(fd);
    CHECK_EQUAL(call(SYS_lseek, (uint64_t)fd, (uint64_t)offset, SEEK_SET, 0, 0, 0), offset);
    CHECK_EQUAL(call(SYS_copy_file_range, (uint64_t)fd, AT(&from), (uint64_t)other, AT(&to), 4, 0), 4);
    CHECK_EQUAL(call(SYS_copy_file_range, (uint64_t)fd, AT(&from), (uint64_t)other, AT(&to), 4, 1), -EINVAL);
    CHECK_EQUAL(pread(other, buffer, 16, 0), 7);
    CHECK(memcmp(buffer, "\0\0\0ello", 7) == 0);
    void *memory = (void *)(uintptr_t)call(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, (uint64_t)fd, 0);
    CHECK(memcmp(memory, "hello", 5) == 0);
    CHECK_EQUAL(call(SYS_munmap, AT(memory), 4096, 0, 0, 0, 0), 0);
    CHECK_EQUAL(call(SYS_close, (uint64_t)-1, 0, 0, 0, 0, 0), -EBADF);
    CHECK_EQUAL(call(100000, 0, 0, 0, 0, 0, 0), -ENOSYS);
    close(other);
    close(fd);
}

TEST(calls_by_number)
{
    play(make_calls);
}
