/*
 * Waiting for a FIFO's writer: it is over once there was one, takes nothing out, and a signal ends it.
 */
#define _GNU_SOURCE
#include "fifo.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>

#include "execute.h"
#include "places.h"

static char *path;

static int new_reader(void)
{
    path = path_of("%s/fifo", new_directory("/tmp"));
    CHECK_EQUAL(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    CHECK(reader >= 0);
    return reader;
}

static void end(int reader)
{
    CHECK_EQUAL(close(reader), 0);
    CHECK_EQUAL(unlink(path), 0);
    *strrchr(path, '/') = '\0';
    CHECK_EQUAL(rmdir(path), 0);
}

static int64_t execute(int reader)
{
    struct rl_call_work call = {.arguments = {(uint64_t)reader}};
    return rl_fifo_execute(&call.work);
}

static int new_writer(void)
{
    int writer = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(writer >= 0);
    return writer;
}

TEST(a_writer_that_writes_nothing_is_there)
{
    int reader = new_reader();
    int writer = new_writer();
    CHECK_EQUAL(execute(reader), reader);
    close(writer);
    end(reader);
}

TEST(what_was_written_stays)
{
    char bytes[8];
    int reader = new_reader();
    int writer = new_writer();
    CHECK_EQUAL(write(writer, "bytes", 5), 5);
    CHECK_EQUAL(execute(reader), reader);
    CHECK_EQUAL(close(writer), 0);
    CHECK_EQUAL(execute(reader), reader);
    CHECK_EQUAL(read(reader, bytes, sizeof bytes), 5);
    end(reader);
}

TEST(a_writer_that_came_and_went_was_there)
{
    int reader = new_reader();
    close(new_writer());
    CHECK_EQUAL(execute(reader), reader);
    end(reader);
}

static void *write_later(void *argument)
{
    (void)argument;
    usleep(30000); /* so that it mostly comes to a wait; it is right without */
    return (void *)(intptr_t)new_writer();
}

TEST(a_writer_is_waited_for)
{
    pthread_t thread;
    void *writer;
    int reader = new_reader();
    CHECK_EQUAL(pthread_create(&thread, NULL, write_later, NULL), 0);
    CHECK_EQUAL(execute(reader), reader);
    CHECK_EQUAL(pthread_join(thread, &writer), 0);
    close((int)(intptr_t)writer);
    end(reader);
}

static void ignore(int number)
{
    (void)number;
}

TEST(a_signal_ends_the_wait)
{
    struct sigaction action = {.sa_handler = ignore};
    struct itimerval timer = {.it_interval = {.tv_usec = 1000}, .it_value = {.tv_usec = 1000}};
    int reader = new_reader();
    CHECK_EQUAL(sigaction(SIGALRM, &action, NULL), 0);
    CHECK_EQUAL(setitimer(ITIMER_REAL, &timer, NULL), 0);
    CHECK_EQUAL(execute(reader), -EINTR);
    end(reader);
}

TEST(without_fds_it_fails)
{
    struct rlimit limit;
    int reader = new_reader();
    CHECK_EQUAL(getrlimit(RLIMIT_NOFILE, &limit), 0);
    struct rlimit none = {.rlim_max = limit.rlim_max};
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK_EQUAL(execute(reader), -EMFILE);
    CHECK_EQUAL(setrlimit(RLIMIT_NOFILE, &limit), 0);
    end(reader);
}
