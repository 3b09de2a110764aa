/*
 * Paths that were regular files a moment ago: opened by one walk, and what else is there by now is found.
 *
 * While something is looked at first, that has the lowest file descriptor: so the one of the file tells how
 * it was opened.
 */
#define _GNU_SOURCE

#include "listing.h"
#include "execute.h"
#include "places.h"
#include "recent.h"

enum { PATIENCE = 200 }; /* a cached walk gives up when something is renamed anywhere meanwhile */

/* Whether it was looked at first; *fd is closed. */
static bool was_looked_at(int fd)
{
    CHECK(fd >= 0);
    int lowest = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    CHECK(lowest >= 0);
    close(lowest);
    close(fd);
    return lowest < fd;
}

static int open_once(struct rl_resident *resident, const char *path, struct rl_statx *status)
{
    struct rl_resident_file file;
    int fd = RL_WOULD_BLOCK;
    for (int i = 0; i < PATIENCE && fd == RL_WOULD_BLOCK; i++) {
        fd = rl_resident_open(resident, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, &file, status);
        CHECK(!file.waits_for_writer);
    }
    return fd;
}

static int try_open(struct rl_resident *resident, const char *path)
{
    struct rl_statx status;
    return open_once(resident, path, &status);
}

/* Opens it until that takes one walk. */
static void make_recent(struct rl_resident *resident, const char *path)
{
    for (int i = 0; i < PATIENCE; i++)
        if (!was_looked_at(try_open(resident, path)))
            return;
    CHECK(false);
}

TEST(the_second_open_is_one_walk)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    CHECK(was_looked_at(try_open(resident, path)));
    make_recent(resident, path);
    CHECK(was_looked_at(try_open(resident, new_file(path_of("%s/other", directory), 100))));
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(what_was_looked_at_is_opened_by_one_walk)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_statx status;
    const char *path = new_file(path_of("%s/file", directory), 100);
    int result = RL_WOULD_BLOCK;
    for (int i = 0; i < PATIENCE && result != 0; i++)
        result = rl_resident_stat(resident, AT_FDCWD, path, 0, &status);
    CHECK_EQUAL(result, 0);
    CHECK(!was_looked_at(try_open(resident, path)));
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(what_was_listed_is_opened_by_one_walk)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    struct rl_listing listing = {.dir_fd = AT_FDCWD, .path = directory, .bytes_max = SIZE_MAX};
    struct rl_call_work call = {.arguments = {(uintptr_t)&listing}};
    struct rl_listing_entry entry;
    size_t position = 0;
    CHECK_EQUAL(rl_listing_execute(&call.work), 0);
    CHECK(listing.is_known && rl_resident_opens_in(resident, &listing.status));
    CHECK(rl_listing_next(&listing, &position, &entry));
    rl_resident_listed(resident, listing.start, directory, strlen(directory), entry.name, entry.name_bytes);
    CHECK(!was_looked_at(try_open(resident, path)));
    rl_listing_end(&listing);
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(the_status_is_that_of_the_file_there_now)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    const char *other = new_file(path_of("%s/other", directory), 2000);
    struct rl_statx status;
    struct stat expected;
    CHECK_EQUAL(stat(other, &expected), 0);
    make_recent(resident, path);
    CHECK_EQUAL(rename(other, path), 0);
    int fd = open_once(resident, path, &status);
    CHECK(!was_looked_at(fd));
    CHECK_EQUAL(status.size, 2000);
    CHECK_EQUAL(status.inode, expected.st_ino);
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(what_is_no_regular_file_any_more_is_found)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    const char *path = new_file(path_of("%s/file", directory), 100);
    make_recent(resident, path);
    CHECK_EQUAL(unlink(path), 0);
    CHECK(try_open(resident, path) == -ENOENT || try_open(resident, path) == RL_WOULD_BLOCK);
    CHECK_EQUAL(mknod(path, S_IFSOCK | 0644, 0), 0);
    CHECK_EQUAL(try_open(resident, path), RL_WOULD_BLOCK);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(mkdir(path, 0755), 0);
    int fd = try_open(resident, path);
    CHECK(fd == RL_WOULD_BLOCK || was_looked_at(fd));
    rl_resident_free(resident);
    remove_tree(directory);
}

/* Else a writer whom this let in would find nobody. */
TEST(a_fifo_stays_open)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    struct rl_statx status;
    struct stat found;
    const char *path = new_file(path_of("%s/file", directory), 100);
    make_recent(resident, path);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(mkfifo(path, 0644), 0);
    int fd = rl_resident_open(resident, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, &file, &status);
    CHECK_EQUAL(fd, RL_WOULD_BLOCK);
    if (file.waits_for_writer) { /* not if the walk gave up */
        CHECK_EQUAL(fstat(file.fifo_fd, &found), 0);
        CHECK(S_ISFIFO(found.st_mode));
        CHECK_EQUAL(fcntl(file.fifo_fd, F_GETFL) & O_NONBLOCK, 0);
        close(file.fifo_fd);
    }
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(a_fifo_is_opened_for_who_does_not_want_to_wait)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_resident_file file;
    struct rl_statx status;
    const char *path = new_file(path_of("%s/file", directory), 100);
    make_recent(resident, path);
    CHECK_EQUAL(unlink(path), 0);
    CHECK_EQUAL(mkfifo(path, 0644), 0);
    int fd = rl_resident_open(resident, AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC, &file, &status);
    CHECK(!file.waits_for_writer && file.kind == 0);
    if (fd != RL_WOULD_BLOCK) { /* the walk may give up */
        CHECK(S_ISFIFO(status.mode));
        CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
        close(fd);
    }
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(a_recent_path_may_lead_to_where_nothing_is_at_once)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    struct rl_resident_file file = {.kind = 1};
    struct rl_statx status;
    const char *path = new_file(path_of("%s/file", directory), 100);
    make_recent(resident, path);
    CHECK_EQUAL(unlink(path), 0);
    new_link("/proc/self/status", path);
    int fd = RL_WOULD_BLOCK;
    for (int i = 0; i < PATIENCE && fd == RL_WOULD_BLOCK; i++)
        fd = rl_resident_open(resident, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, &file, &status);
    if (fd >= 0) { /* not if the walk needs more than the cache */
        CHECK_EQUAL(file.kind, 0);
        CHECK(S_ISREG(status.mode));
        CHECK_EQUAL(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        close(fd);
    }
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(relative_paths_are_those_of_where_they_begin)
{
    const char *directory = on_disk();
    struct rl_resident *resident = learn();
    CHECK_EQUAL(mkdir(path_of("%s/one", directory), 0755), 0);
    CHECK_EQUAL(mkdir(path_of("%s/two", directory), 0755), 0);
    new_file(path_of("%s/one/file", directory), 100);
    new_file(path_of("%s/two/file", directory), 100);
    CHECK_EQUAL(chdir(path_of("%s/one", directory)), 0);
    make_recent(resident, "file");
    CHECK_EQUAL(chdir(path_of("%s/two", directory)), 0);
    CHECK(was_looked_at(try_open(resident, "file")));
    CHECK_EQUAL(chdir(path_of("%s/one", directory)), 0);
    CHECK(!was_looked_at(try_open(resident, "file")));
    CHECK_EQUAL(chdir("/"), 0);
    rl_resident_free(resident);
    remove_tree(directory);
}

TEST(it_is_forgotten_after_its_time)
{
    static const uint32_t TIMES[] = {0, 1, 5000, UINT32_MAX - 500, UINT32_MAX};
    uint64_t path = rl_recent_hash(0, "/a/path", 7);
    for (size_t i = 0; i < sizeof TIMES / sizeof TIMES[0]; i++) {
        struct rl_recent *recent = calloc(1, sizeof *recent);
        uint32_t now_ms = TIMES[i];
        CHECK(!rl_recent_knows(recent, path, now_ms));
        rl_recent_note(recent, path, now_ms);
        CHECK(rl_recent_knows(recent, path, now_ms));
        CHECK(rl_recent_knows(recent, path, now_ms + RL_RECENT_MS - 1));
        CHECK(!rl_recent_knows(recent, path, now_ms + RL_RECENT_MS));
        CHECK(!rl_recent_knows(recent, path, now_ms + RL_RECENT_MS + UINT32_MAX / 2));
        free(recent);
    }
}

static int known_of(int count)
{
    struct rl_recent *recent = calloc(1, sizeof *recent);
    char path[64];
    int known = 0;
    for (int noted = 1; noted >= 0; noted--) {
        for (int i = 0; i < count; i++) {
            int length = snprintf(path, sizeof path, "/srv/tree/%d/%d", i / 100, i % 100);
            uint64_t hash = rl_recent_hash(0, path, (size_t)length);
            if (noted)
                rl_recent_note(recent, hash, 1);
            else
                known += rl_recent_knows(recent, hash, 1);
        }
    }
    free(recent);
    return known;
}

/* The rest is pushed out by others. */
TEST(paths_that_differ_in_little_have_places_of_their_own)
{
    CHECK(known_of(RL_RECENT_PLACES) > RL_RECENT_PLACES * 75 / 100);
    CHECK(known_of(RL_RECENT_PLACES / 2) > RL_RECENT_PLACES / 2 * 95 / 100);
    CHECK(known_of(RL_RECENT_PLACES / 4) > RL_RECENT_PLACES / 4 * 99 / 100);
}

TEST(the_oldest_makes_room)
{
    struct rl_recent *recent = calloc(1, sizeof *recent);
    uint32_t now_ms = UINT32_MAX - RL_RECENT_MS; /* the clock goes round meanwhile */
    uint64_t paths[RL_RECENT_WAYS + 1];
    for (uint64_t i = 0; i <= RL_RECENT_WAYS; i++) {
        paths[i] = (i + 1) << 32;
        rl_recent_note(recent, paths[i], now_ms + (uint32_t)i);
        if (i == RL_RECENT_WAYS - 1)
            rl_recent_note(recent, paths[0], now_ms + (uint32_t)i); /* it is the newest now */
    }
    for (uint64_t i = 0; i <= RL_RECENT_WAYS; i++)
        CHECK_EQUAL(rl_recent_knows(recent, paths[i], now_ms + RL_RECENT_WAYS), i != 1);
    free(recent);
}
