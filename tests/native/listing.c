/*
 * Listing directories: all of them, in parts, by path and by fd, and what fails.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "execute.h"
#include "harness.h"
#include "listing.h"

enum { ENTRY_COUNT = 700 };

static char folder[] = "/tmp/ringloop-listing-XXXXXX";

/* A directory with that many files of long names, and one directory in it. */
static int make_folder(void)
{
    char name[128];
    CHECK(mkdtemp(folder) != NULL);
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    CHECK(fd >= 0 && mkdirat(fd, "..directory", 0700) == 0);
    for (int i = 0; i < ENTRY_COUNT; i++) {
        CHECK(snprintf(name, sizeof name, "%0100d", i) == 100);
        CHECK(mknodat(fd, name, S_IFREG | 0600, 0) == 0);
    }
    return fd;
}

static void remove_folder(int fd)
{
    char name[128];
    for (int i = 0; i < ENTRY_COUNT; i++) {
        CHECK(snprintf(name, sizeof name, "%0100d", i) == 100);
        CHECK(unlinkat(fd, name, 0) == 0);
    }
    CHECK(unlinkat(fd, "..directory", AT_REMOVEDIR) == 0 && rmdir(folder) == 0);
}

static int64_t execute(struct rl_listing *listing)
{
    struct rl_call_work call = {.arguments = {(uintptr_t)listing}};
    return rl_listing_execute(&call.work);
}

/* Counts what one work gave, and lets go of it. */
static int take_entries(struct rl_listing *listing)
{
    struct rl_listing_entry entry;
    size_t position = 0;
    int count = 0;
    while (rl_listing_next(listing, &position, &entry)) {
        CHECK_EQUAL(entry.name_bytes, strlen(entry.name));
        CHECK(strcmp(entry.name, ".") != 0 && strcmp(entry.name, "..") != 0 && entry.inode != 0);
        if (strcmp(entry.name, "..directory") == 0)
            CHECK(entry.type == DT_DIR || entry.type == DT_UNKNOWN);
        count++;
    }
    CHECK(!rl_listing_next(listing, &position, &entry));
    listing->bytes = 0;
    return count;
}

TEST(a_directory_is_listed_by_one_work)
{
    int fd = make_folder();
    struct rl_listing listing = {.dir_fd = AT_FDCWD, .path = folder, .bytes_max = SIZE_MAX};
    CHECK_EQUAL(execute(&listing), 0);
    CHECK(listing.is_over && !listing.is_open);
    CHECK_EQUAL(take_entries(&listing), ENTRY_COUNT + 1);
    CHECK_EQUAL(execute(&listing), 0);
    CHECK_EQUAL(take_entries(&listing), 0);
    rl_listing_end(&listing);
    remove_folder(fd);
    close(fd);
}

TEST(a_directory_is_listed_in_parts)
{
    int fd = make_folder(), count = 0, works = 0;
    struct rl_listing listing = {.dir_fd = AT_FDCWD, .path = folder, .bytes_max = 1};
    while (!listing.is_over) {
        CHECK_EQUAL(execute(&listing), 0);
        count += take_entries(&listing);
        works++;
    }
    CHECK_EQUAL(count, ENTRY_COUNT + 1);
    CHECK(works > 2);
    rl_listing_end(&listing);
    remove_folder(fd);
    close(fd);
}

TEST(a_listing_that_is_given_up_closes_its_directory)
{
    int fd = make_folder();
    struct rl_listing listing = {.dir_fd = AT_FDCWD, .path = folder, .bytes_max = 1};
    CHECK_EQUAL(execute(&listing), 0);
    CHECK(listing.is_open);
    rl_listing_end(&listing);
    CHECK(!listing.is_open);
    remove_folder(fd);
    close(fd);
}

TEST(the_caller_s_own_directory_is_rewound)
{
    int fd = make_folder();
    for (int i = 0; i < 2; i++) {
        struct rl_listing listing = {.dir_fd = fd, .bytes_max = SIZE_MAX};
        CHECK_EQUAL(execute(&listing), 0);
        CHECK_EQUAL(take_entries(&listing), ENTRY_COUNT + 1);
        rl_listing_end(&listing);
    }
    remove_folder(fd);
    struct rl_listing removed = {.dir_fd = fd, .bytes_max = SIZE_MAX};
    CHECK_EQUAL(execute(&removed), 0);
    CHECK_EQUAL(take_entries(&removed), 0);
    rl_listing_end(&removed);
    close(fd);
}

TEST(what_is_no_directory_is_refused)
{
    int file = open("/proc/self/exe", O_RDONLY);
    struct rl_listing nothing = {.dir_fd = AT_FDCWD, .path = "/nothing", .bytes_max = SIZE_MAX};
    struct rl_listing no_directory = {.dir_fd = AT_FDCWD, .path = "/proc/self/exe", .bytes_max = SIZE_MAX};
    struct rl_listing of_file = {.dir_fd = file, .bytes_max = SIZE_MAX};
    struct rl_listing of_none = {.dir_fd = -1, .bytes_max = SIZE_MAX};
    CHECK_EQUAL(execute(&nothing), -ENOENT);
    CHECK_EQUAL(execute(&no_directory), -ENOTDIR);
    CHECK_EQUAL(execute(&of_file), -ENOTDIR);
    CHECK_EQUAL(execute(&of_none), -EBADF);
    CHECK(!of_file.is_open);
    rl_listing_end(&of_file);
    close(file);
}
