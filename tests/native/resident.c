/*
 * Finding and opening what is in memory: the same results as the system calls, and no waiting.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "places.h"

/*
 * A cached walk also gives up when something is mounted or renamed anywhere meanwhile: its sequence counts
 * are the system's. RL_WOULD_BLOCK is never wrong, so ask again.
 */
enum { ASKED_MAX = 200 };

static int open_patiently(struct rl_resident *resident, const char *path, int flags,
                          struct rl_resident_file *file, struct rl_statx *status)
{
    int fd = RL_WOULD_BLOCK;
    for (int asked = 0; fd == RL_WOULD_BLOCK && asked < ASKED_MAX; asked++)
        fd = rl_resident_open(resident, AT_FDCWD, path, flags, file, status);
    return fd;
}

static int stat_patiently(struct rl_resident *resident, int dirfd, const char *path, int at_flags,
                          struct rl_statx *status)
{
    int result = RL_WOULD_BLOCK;
    for (int asked = 0; result == RL_WOULD_BLOCK && asked < ASKED_MAX; asked++)
        result = rl_resident_stat(resident, dirfd, path, at_flags, status);
    return result;
}

static int try_open(struct rl_resident *resident, const char *path, int flags)
{
    struct rl_resident_file file;
    struct rl_statx status;
    int fd = open_patiently(resident, path, flags | O_CLOEXEC, &file, &status);
    if (fd < 0)
        CHECK_EQUAL(file.kind, 0);
    return fd;
}

TEST(the_struct_is_that_of_statx)
{
#define SAME(ours, theirs) CHECK_EQUAL(offsetof(struct rl_statx, ours), offsetof(struct statx, theirs))
    CHECK_EQUAL(sizeof(struct rl_statx), 256);
    SAME(mask, stx_mask);
    SAME(block_bytes, stx_blksize);
    SAME(attributes, stx_attributes);
    SAME(link_count, stx_nlink);
    SAME(uid, stx_uid);
    SAME(gid, stx_gid);
    SAME(mode, stx_mode);
    SAME(inode, stx_ino);
    SAME(size, stx_size);
    SAME(blocks, stx_blocks);
    SAME(attributes_mask, stx_attributes_mask);
    SAME(accessed, stx_atime);
    SAME(born, stx_btime);
    SAME(changed, stx_ctime);
    SAME(modified, stx_mtime);
    SAME(rdev_major, stx_rdev_major);
    SAME(dev_major, stx_dev_major);
    SAME(dev_minor, stx_dev_minor);
    SAME(mount_id, stx_mnt_id);
#undef SAME
}

/* ---- stat ---- */

static void check_same_status(const struct rl_statx *found, const struct stat *expected)
{
    CHECK_EQUAL(found->inode, expected->st_ino);
    CHECK_EQUAL(found->mode, expected->st_mode);
    CHECK_EQUAL(found->link_count, expected->st_nlink);
    CHECK_EQUAL(found->uid, expected->st_uid);
    CHECK_EQUAL(found->gid, expected->st_gid);
    CHECK_EQUAL(found->size, expected->st_size);
    CHECK_EQUAL(found->blocks, expected->st_blocks);
    CHECK_EQUAL(found->block_bytes, expected->st_blksize);
    CHECK_EQUAL(makedev(found->dev_major, found->dev_minor), expected->st_dev);
    CHECK_EQUAL(makedev(found->rdev_major, found->rdev_minor), expected->st_rdev);
    CHECK_EQUAL(found->modified.seconds, expected->st_mtim.tv_sec);
    CHECK_EQUAL(found->modified.nanoseconds, expected->st_mtim.tv_nsec);
    CHECK_EQUAL(found->changed.nanoseconds, expected->st_ctim.tv_nsec);
    CHECK_EQUAL(found->accessed.nanoseconds, expected->st_atim.tv_nsec);
}

/* An error may also be left for the ordinary call to find. */
static void check_stat(struct rl_resident *resident, const char *path, int at_flags)
{
    struct stat expected;
    struct rl_statx found;
    int error = fstatat(AT_FDCWD, path, &expected, at_flags) == 0 ? 0 : errno;
    int result = stat_patiently(resident, AT_FDCWD, path, at_flags, &found);
    if (error == 0) {
        CHECK_EQUAL(result, 0);
        check_same_status(&found, &expected);
    } else if (result != RL_WOULD_BLOCK) {
        CHECK_EQUAL(result, -error);
    }
}

/* The others read a symbolic link only with waiting (ovl_get_link, xfs_vn_get_link). */
static bool follows_links(const char *directory)
{
    return is_on(directory, EXT4) || is_on(directory, TMPFS);
}

/* Files of every sort in `directory`, and that they and their errors are what stat() says. */
static void check_stat_in(const char *directory)
{
    struct rl_resident *resident = learn();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int socket_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", directory);
    CHECK_EQUAL(bind(socket_fd, (struct sockaddr *)&address, sizeof address), 0);
    new_file(path_of("%s/file", directory), 5000);
    CHECK_EQUAL(mkfifo(path_of("%s/fifo", directory), 0644), 0);
    new_link("file", path_of("%s/link", directory));
    new_link("nothing", path_of("%s/dangling", directory));
    new_link("round", path_of("%s/round", directory));
    static const char *const NAMES[] = {"link",   "file",    "fifo",   "dangling", "round",     "socket",
                                        "nothing", "file/x", "link/x", ".",        "nothing/x", "../none"};
    struct rl_statx status;
    size_t first = follows_links(directory) ? 0 : 1;
    if (first == 1)
        CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, path_of("%s/link", directory), 0, &status),
                    RL_WOULD_BLOCK);
    for (size_t i = first; i < sizeof NAMES / sizeof NAMES[0]; i++)
        check_stat(resident, path_of("%s/%s", directory, NAMES[i]), 0);
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        check_stat(resident, path_of("%s/%s", directory, NAMES[i]), AT_SYMLINK_NOFOLLOW);
    close(socket_fd);
    rl_resident_free(resident);
}

TEST(stat_on_a_disk)
{
    const char *directory = on_disk();
    check_stat_in(directory);
    remove_tree(directory);
}

TEST(stat_on_tmpfs)
{
    const char *directory = on_tmpfs();
    check_stat_in(directory);
    remove_tree(directory);
}

TEST(stat_on_overlayfs)
{
    struct overlay overlay = on_overlay(false, 100);
    check_stat_in(overlay.top);
    remove_overlay(overlay);
}

TEST(stat_of_a_long_name_and_from_a_bad_directory)
{
    struct rl_resident *resident = learn();
    struct rl_statx status;
    char name[300];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    check_stat(resident, name, 0);
    check_stat(resident, "", 0);
    CHECK_EQUAL(stat_patiently(resident, 1000, "name", 0, &status), -EBADF);
    CHECK_EQUAL(stat_patiently(resident, 1000, "", AT_EMPTY_PATH, &status), -EBADF);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, ".", AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, &status),
                RL_WOULD_BLOCK);
    rl_resident_free(resident);
}

TEST(stat_of_an_fd)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_statx found;
    struct stat expected;
    int pipe_fds[2];
    int fd = open(new_file(path_of("%s/file", directory), 100), O_RDWR | O_CLOEXEC);
    CHECK_EQUAL(unlink(path_of("%s/file", directory)), 0);
    CHECK_EQUAL(fstat(fd, &expected), 0);
    CHECK_EQUAL(stat_patiently(resident, fd, "", AT_EMPTY_PATH, &found), 0);
    check_same_status(&found, &expected);
    CHECK_EQUAL(pipe2(pipe_fds, O_CLOEXEC), 0);
    CHECK_EQUAL(stat_patiently(resident, pipe_fds[0], "", AT_EMPTY_PATH, &found), RL_WOULD_BLOCK);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(fd);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* The dentries of a new mount are in no cache. */
TEST(what_is_not_cached_is_not_looked_for)
{
    struct overlay overlay = on_overlay(false, 100);
    struct rl_resident *resident = learn();
    struct rl_statx status;
    const char *path = path_of("%s/lower", overlay.top);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, path, 0, &status), RL_WOULD_BLOCK);
    CHECK_EQUAL(try_open(resident, path, O_RDONLY), RL_WOULD_BLOCK);
    check_stat(resident, path, 0);
    struct rl_resident_file file;
    int fd = open_at_once(resident, path, &file);
    close(fd);
    rl_resident_free(resident);
    remove_overlay(overlay);
}

TEST(proc_is_left_to_the_others)
{
    struct rl_resident *resident = learn();
    struct rl_statx status;
    struct stat warm;
    CHECK_EQUAL(stat("/proc/self/status", &warm), 0);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, "/proc/self/status", 0, &status), RL_WOULD_BLOCK);
    CHECK_EQUAL(try_open(resident, "/proc/self/status", O_RDONLY), RL_WOULD_BLOCK);
    CHECK_EQUAL(try_open(resident, "/proc/version", O_RDONLY), RL_WOULD_BLOCK);
    rl_resident_free(resident);
}

/* ---- open ---- */

static void check_open(struct rl_resident *resident, const char *path, int flags)
{
    struct rl_resident_file file;
    struct rl_statx status;
    struct stat expected;
    char ours[PATH_BYTES] = "", theirs[PATH_BYTES] = "";
    int expected_fd = open(path, flags);
    CHECK(expected_fd >= 0);
    int fd = open_patiently(resident, path, flags, &file, &status);
    CHECK(fd >= 0);
    CHECK_EQUAL(fstat(expected_fd, &expected), 0);
    check_same_status(&status, &expected);
    CHECK_EQUAL(fcntl(fd, F_GETFL), fcntl(expected_fd, F_GETFL));
    CHECK_EQUAL(fcntl(fd, F_GETFD), fcntl(expected_fd, F_GETFD));
    CHECK(readlink(path_of("/proc/self/fd/%d", fd), ours, sizeof ours - 1) > 0);
    CHECK(readlink(path_of("/proc/self/fd/%d", expected_fd), theirs, sizeof theirs - 1) > 0);
    CHECK(strcmp(ours, theirs) == 0);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    CHECK_EQUAL(fcntl(fd, F_GETFD), -1);
    close(expected_fd);
}

/* As above; and before it is shown, whatever was asked for, it is open without waiting. */
static void check_open_unseen(struct rl_resident *resident, const char *path, int flags)
{
    struct rl_resident_file file;
    struct rl_statx status;
    int expected_fd = open(path, flags);
    CHECK(expected_fd >= 0);
    int fd = rl_resident_open_unseen(resident, AT_FDCWD, path, flags, &file, &status);
    CHECK(fd >= 0);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(rl_resident_show(fd, &file), 0);
        CHECK_EQUAL(fcntl(fd, F_GETFL), fcntl(expected_fd, F_GETFL));
    }
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    close(expected_fd);
}

static void check_open_in(const char *directory, bool opens_directories)
{
    struct rl_resident *resident = learn();
    static const int FLAGS[] = {0,          O_CLOEXEC,  O_NOFOLLOW,
                                O_NONBLOCK, O_NOCTTY,   O_NOATIME | O_CLOEXEC,
                                O_NONBLOCK | O_NOATIME, O_CLOEXEC | O_NOFOLLOW | O_NOCTTY};
    const char *file = new_file(path_of("%s/file", directory), 5000);
    new_link("file", path_of("%s/link", directory));
    new_link("round", path_of("%s/round", directory));
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++)
        check_open(resident, file, FLAGS[i]);
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++)
        check_open_unseen(resident, file, FLAGS[i]);
    if (follows_links(directory))
        check_open(resident, path_of("%s/link", directory), O_CLOEXEC);
    else
        CHECK_EQUAL(try_open(resident, path_of("%s/link", directory), O_RDONLY), RL_WOULD_BLOCK);
    CHECK_EQUAL(try_open(resident, path_of("%s/link", directory), O_NOFOLLOW), -ELOOP);
    CHECK_EQUAL(try_open(resident, path_of("%s/link", directory), O_NOFOLLOW | O_DIRECTORY), -ENOTDIR);
    CHECK_EQUAL(try_open(resident, path_of("%s/round", directory), O_RDONLY),
                follows_links(directory) ? -ELOOP : RL_WOULD_BLOCK);
    CHECK_EQUAL(try_open(resident, file, O_DIRECTORY), -ENOTDIR);
    /* tmpfs keeps no dentries of names that it does not have. */
    CHECK_EQUAL(access(path_of("%s/nothing", directory), F_OK), -1);
    CHECK_EQUAL(try_open(resident, path_of("%s/nothing", directory), O_RDONLY),
                is_on(directory, TMPFS) ? RL_WOULD_BLOCK : -ENOENT);
    if (opens_directories) {
        check_open(resident, directory, O_CLOEXEC);
        check_open(resident, directory, O_DIRECTORY);
    } else {
        CHECK_EQUAL(try_open(resident, directory, O_DIRECTORY), RL_WOULD_BLOCK);
    }
    rl_resident_free(resident);
}

TEST(open_on_a_disk)
{
    const char *directory = on_disk();
    check_open_in(directory, is_on(directory, EXT4));
    remove_tree(directory);
}

TEST(open_on_tmpfs)
{
    const char *directory = on_tmpfs();
    check_open_in(directory, true);
    remove_tree(directory);
}

TEST(open_on_overlayfs)
{
    struct overlay overlay = on_overlay(false, 100);
    check_open_in(overlay.top, false);
    remove_overlay(overlay);
}

TEST(open_on_an_overlay_of_tmpfs)
{
    struct overlay overlay = on_overlay(true, 100);
    check_open_in(overlay.top, false);
    remove_overlay(overlay);
}

TEST(only_opening_for_reading_is_at_once)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    static const int FLAGS[] = {O_WRONLY, O_RDWR,   O_CREAT, O_TRUNC, O_RDONLY | O_DIRECT,
                                O_PATH,   O_APPEND, O_SYNC,  O_ASYNC, O_TMPFILE};
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++)
        CHECK_EQUAL(try_open(resident, path, FLAGS[i]), RL_WOULD_BLOCK);
    struct stat status;
    CHECK_EQUAL(stat(path, &status), 0);
    CHECK_EQUAL(status.st_size, 100);
    rl_resident_free(resident);
    remove_tree(directory);
}

static void open_as_another(void *argument)
{
    const char *directory = argument;
    struct rl_resident *resident = learn();
    uid_t user = 100000 + (uid_t)getpid();
    CHECK_EQUAL(setresuid(user, user, user), 0);
    struct rl_statx status;
    CHECK_EQUAL(open(path_of("%s/secret", directory), O_RDONLY), -1);
    CHECK_EQUAL(errno, EACCES);
    CHECK_EQUAL(try_open(resident, path_of("%s/secret", directory), O_RDONLY), -EACCES);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, path_of("%s/secret", directory), 0, &status), 0);
    /* A directory that may not be searched is looked at again, with waiting: the kernel wants it so. */
    CHECK_EQUAL(try_open(resident, path_of("%s/closed/file", directory), O_RDONLY), RL_WOULD_BLOCK);
    rl_resident_free(resident);
}

TEST(what_may_not_be_read_is_not_opened)
{
    if (geteuid() != 0)
        LACKING("another user");
    const char *directory = on_disk();
    CHECK_EQUAL(chmod(new_file(path_of("%s/secret", directory), 100), 0600), 0);
    CHECK_EQUAL(mkdir(path_of("%s/closed", directory), 0700), 0);
    new_file(path_of("%s/closed/file", directory), 100);
    in_child(open_as_another, (void *)directory);
    remove_tree(directory);
}

TEST(devices_are_not_opened)
{
    struct rl_resident *resident = learn();
    static const char *const PATHS[] = {"/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx"};
    for (size_t i = 0; i < sizeof PATHS / sizeof PATHS[0]; i++) {
        struct stat warm;
        if (stat(PATHS[i], &warm) == 0)
            CHECK_EQUAL(try_open(resident, PATHS[i], O_RDONLY), RL_WOULD_BLOCK);
    }
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    CHECK(master >= 0);
    CHECK_EQUAL(unlockpt(master), 0);
    CHECK_EQUAL(try_open(resident, ptsname(master), O_RDONLY | O_NOCTTY), RL_WOULD_BLOCK);
    close(master);
    rl_resident_free(resident);
}

/* Until the child waits in a system call. */
static void await_sleep(pid_t child)
{
    char line[256], state = '?';
    while (state != 'S') {
        FILE *stat_file = fopen(path_of("/proc/%d/stat", (int)child), "re");
        CHECK(stat_file != NULL);
        CHECK(fgets(line, sizeof line, stat_file) != NULL);
        fclose(stat_file);
        CHECK_EQUAL(sscanf(strrchr(line, ')'), ") %c", &state), 1);
        CHECK(state != 'Z');
        sched_yield();
    }
}

/* A writer that a reader released would then find none: SIGPIPE. */
TEST(a_writer_that_waits_at_a_fifo_goes_on_waiting)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = path_of("%s/fifo", directory);
    CHECK_EQUAL(mkfifo(path, 0644), 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        _exit(fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 1);
    }
    await_sleep(child);
    CHECK_EQUAL(try_open(resident, path, O_RDONLY), RL_WOULD_BLOCK);
    CHECK_EQUAL(try_open(resident, path, O_RDONLY | O_NONBLOCK), RL_WOULD_BLOCK);
    await_sleep(child);
    char byte;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK_EQUAL(read(fd, &byte, 1), 1);
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    close(fd);
    rl_resident_free(resident);
    remove_tree(directory);
}

struct race {
    char one[PATH_BYTES], other[PATH_BYTES];
    int ended;
};

static void *exchange(void *argument)
{
    struct race *race = argument;
    while (!__atomic_load_n(&race->ended, __ATOMIC_RELAXED))
        CHECK_EQUAL(syscall(SYS_renameat2, AT_FDCWD, race->one, AT_FDCWD, race->other, 2), 0);
    return NULL;
}

TEST(a_fifo_put_in_the_place_of_a_file_is_not_waited_for)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct race race = {.ended = 0};
    pthread_t thread;
    int opened = 0;
    strcpy(race.one, new_file(path_of("%s/one", directory), 100));
    strcpy(race.other, path_of("%s/other", directory));
    CHECK_EQUAL(mkfifo(race.other, 0644), 0);
    CHECK_EQUAL(pthread_create(&thread, NULL, exchange, &race), 0);
    for (int i = 0; i < 30000; i++) {
        struct rl_resident_file file;
        struct rl_statx status;
        int fd = rl_resident_open(resident, AT_FDCWD, race.one, O_RDONLY | O_CLOEXEC, &file, &status);
        CHECK(fd >= 0 || fd == RL_WOULD_BLOCK);
        if (file.waits_for_writer)
            close(file.fifo_fd);
        if (fd < 0)
            continue;
        struct stat now;
        CHECK_EQUAL(fstat(fd, &now), 0);
        CHECK(S_ISREG(now.st_mode) && S_ISREG(status.mode));
        CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
        opened++;
    }
    CHECK(opened > 0);
    __atomic_store_n(&race.ended, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(the_holder_of_a_lease_is_not_waited_for)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    signal(SIGIO, SIG_IGN);
    int holder = open(path, O_RDWR | O_CLOEXEC);
    CHECK_EQUAL(fcntl(holder, F_SETLEASE, F_WRLCK), 0);
    int64_t before = now_ns();
    CHECK_EQUAL(try_open(resident, path, O_RDONLY), RL_WOULD_BLOCK);
    CHECK(now_ns() - before < INT64_C(5000000000)); /* /proc/sys/fs/lease-break-time is 45 s */
    CHECK_EQUAL(fcntl(holder, F_SETLEASE, F_UNLCK), 0);
    close(holder);
    int fd = try_open(resident, path, O_RDONLY);
    CHECK(fd >= 0);
    close(fd);
    rl_resident_free(resident);
    remove_tree(directory);
}

/* ---- mounts ---- */

TEST(a_mount_makes_it_learn_again)
{
    own_mounts();
    const char *directory = on_tmpfs();
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    const char *path = path_of("%s/top/file", directory);
    CHECK_EQUAL(mkdir(path_of("%s/top", directory), 0755), 0);
    CHECK(rl_resident_is_current(resident));
    CHECK_EQUAL(mount("tmpfs", path_of("%s/top", directory), "tmpfs", 0, "size=1m"), 0);
    new_file(path, 100);
    while (rl_resident_is_current(resident)) /* for a tick of the clock */
        sched_yield();
    CHECK_EQUAL(try_open(resident, path, O_RDONLY), RL_WOULD_BLOCK);
    rl_resident_free(resident);
    resident = learn();
    CHECK(rl_resident_is_current(resident));
    int fd = open_at_once(resident, path, &file);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    CHECK_EQUAL(umount(path_of("%s/top", directory)), 0);
    rl_resident_free(resident);
    remove_tree(directory);
}

/*
 * Puts a file in the place of /proc/self/mountinfo: the true lines, the mount that `path` is on given as
 * `type` if that is not NULL, and one more line of an nfs mount elsewhere if so wanted.
 */
static void pretend_mounts(const char *directory, const char *path, const char *type, bool with_nfs)
{
    struct statx status;
    char line[4096];
    FILE *from = fopen("/proc/self/mountinfo", "re"), *to = fopen(path_of("%s/mountinfo", directory), "we");
    CHECK(from != NULL && to != NULL);
    CHECK_EQUAL(statx(AT_FDCWD, path, 0, STATX_MNT_ID, &status), 0);
    while (fgets(line, sizeof line, from) != NULL) {
        if (type != NULL && strtoull(line, NULL, 10) == status.stx_mnt_id)
            strcpy(strstr(line, " - "), path_of(" - %s here rw\n", type));
        CHECK(fputs(line, to) >= 0);
    }
    if (with_nfs)
        fputs("4000000 1 0:4000 / /elsewhere rw - nfs4 server:/ rw\n", to);
    fclose(from);
    CHECK_EQUAL(fclose(to), 0);
    if (mount(path_of("%s/mountinfo", directory), "/proc/self/mountinfo", NULL, MS_BIND, NULL) != 0)
        LACKING("a mount over /proc/self/mountinfo");
}

TEST(on_a_server_nothing_is_at_once)
{
    static const char *const TYPES[] = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse", "fuse.sshfs",
                                        "virtiofs", "gfs2", "unheard-of"};
    own_mounts();
    const char *directory = on_tmpfs();
    const char *path = new_file(path_of("%s/file", directory), 100);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
        struct rl_resident_file file;
        struct rl_statx status;
        char byte;
        pretend_mounts(directory, path, TYPES[i], false);
        struct rl_resident *resident = learn();
        CHECK_EQUAL(try_open(resident, path, O_RDONLY), RL_WOULD_BLOCK);
        CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, path, 0, &status), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_identify(resident, fd, false, &file, &status), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_identify(resident, fd, true, &file, &status), 0);
        CHECK_EQUAL(status.size, 100);
        CHECK_EQUAL(rl_resident_pread(fd, &file, &byte, 1, 0), RL_WOULD_BLOCK);
        CHECK_EQUAL(rl_resident_close(fd, &file, false), RL_WOULD_BLOCK);
        rl_resident_free(resident);
        CHECK_EQUAL(umount("/proc/self/mountinfo"), 0);
    }
    close(fd);
    remove_tree(directory);
}

/* The root of an nfs mount is asked for on its server, however it was come to. */
TEST(beside_a_server_no_walk_ends_on_a_root)
{
    own_mounts();
    const char *directory = on_tmpfs();
    struct rl_statx status;
    struct rl_resident_file file;
    new_file(path_of("%s/file", directory), 100);
    new_link("file", path_of("%s/link", directory));
    CHECK_EQUAL(mkdir(path_of("%s/inner", directory), 0755), 0);
    new_link("inner", path_of("%s/inner-link", directory));
    pretend_mounts(directory, directory, NULL, true);
    struct rl_resident *resident = learn();
    int start = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    static const char *const REFUSED[] = {".", "..", "inner/..", "inner/.", "inner/", "link", "inner-link"};
    for (size_t i = 0; i < sizeof REFUSED / sizeof REFUSED[0]; i++)
        CHECK_EQUAL(stat_patiently(resident, start, REFUSED[i], 0, &status), RL_WOULD_BLOCK);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, "/", 0, &status), RL_WOULD_BLOCK);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, directory, 0, &status), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_open(resident, start, "inner-link", O_DIRECTORY, &file, &status),
                RL_WOULD_BLOCK);
    /* Within the mount where the walk starts, all is as ever. */
    CHECK_EQUAL(stat_patiently(resident, start, "link", AT_SYMLINK_NOFOLLOW, &status), 0);
    CHECK_EQUAL(stat_patiently(resident, start, "inner/../inner", 0, &status), 0);
    int fd = rl_resident_open(resident, start, "file", O_RDONLY | O_CLOEXEC, &file, &status);
    CHECK(fd >= 0);
    CHECK_EQUAL(rl_resident_close(fd, &file, false), 0);
    close(start);
    rl_resident_free(resident);
    CHECK_EQUAL(umount("/proc/self/mountinfo"), 0);
    remove_tree(directory);
}

/* ---- refused system calls ---- */

static void refuse(uint32_t number, uint32_t error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    CHECK_EQUAL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQUAL(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void without_openat2(void *argument)
{
    struct rl_statx status;
    struct rl_resident *resident = learn();
    refuse(437, *(uint32_t *)argument);
    errno = 0;
    CHECK(rl_resident_learn() == NULL);
    CHECK_EQUAL(errno, *(uint32_t *)argument);
    CHECK_EQUAL(try_open(resident, "/", O_RDONLY), RL_WOULD_BLOCK);
    CHECK_EQUAL(stat_patiently(resident, AT_FDCWD, "/", 0, &status), RL_WOULD_BLOCK);
    rl_resident_free(resident);
}

TEST(without_openat2_nothing_is_at_once)
{
    struct rl_statx status;
    struct rl_resident_file file;
    uint32_t errors[] = {ENOSYS, EPERM, EINVAL};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        in_child(without_openat2, &errors[i]);
    CHECK(!rl_resident_is_current(NULL));
    CHECK_EQUAL(try_open(NULL, "/", O_RDONLY), RL_WOULD_BLOCK);
    CHECK_EQUAL(stat_patiently(NULL, AT_FDCWD, "/", 0, &status), RL_WOULD_BLOCK);
    CHECK_EQUAL(rl_resident_identify(NULL, 0, true, &file, &status), RL_WOULD_BLOCK);
    rl_resident_free(NULL);
}
