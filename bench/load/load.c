/*
 * The load generator: closed-loop clients on one thread, driven by epoll. bench/generator.py builds and
 * runs it. It prints one line of JSON on stdout; what went wrong for people goes to stderr.
 *
 *   prime    one connection is opened, used and closed
 *   warm-up  requests, echoed bytes compared; nothing counted
 *   measure  requests, their latency, the server's CPU time
 *
 * Invariant: the measured window begins and ends with nothing in flight and the server asleep. The kernel
 * brings a process's CPU clock up to date for others only when it leaves the CPU or at a tick (4 ms at
 * 250 Hz), so only then the clock is exact and belongs to exactly the requests counted.
 *
 * Exit status: 0 measured, 1 not (the JSON says why in "failure"), 2 wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "connection.h"

enum { POLL_MS = 50, SETTLE_NS = 2000000, CONNECTIONS_MAX = 60000, REQUEST_BYTES_MAX = 64 << 20 };

static const uint64_t stall_ns = 5000000000u; /* without any answer: the server hangs */

struct options {
    const char *mode, *host, *path, *unix_name;
    bool secure;
    long port, connections, size, depth, cpu, pid;
    double warmup_s, seconds;
};

struct window {
    uint64_t requests, wall_ns, server_cpu_ns, client_cpu_ns;
    const char *failure; /* NULL: measured */
};

static struct client client;

static uint64_t cpu_clock_ns(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) < 0)
        return 0; /* the process has ended: the run fails by its lost connections */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Drives the client until `end_ns`, or until nothing is in flight if that is 0. NULL, or what failed. */
static const char *drive_until(uint64_t end_ns)
{
    client.last_answer_ns = now_ns();
    for (;;) {
        uint64_t at_ns = now_ns();
        if (end_ns ? at_ns >= end_ns : client.in_flight == 0)
            return NULL;
        if (client.in_flight == 0)
            return "all connections failed";
        if (at_ns > client.last_answer_ns + stall_ns)
            return "no answer for 5 seconds";
        client_poll(&client, POLL_MS);
    }
}

/* Runs for `seconds`, then lets what is in flight end. NULL, or what failed. */
static const char *run_for(double seconds)
{
    client.refill = true;
    client_start(&client);
    const char *failure = drive_until(now_ns() + (uint64_t)(seconds * 1e9));
    client.refill = false;
    return failure ? failure : drive_until(0);
}

static void settle(void)
{
    struct timespec pause = {.tv_nsec = SETTLE_NS};
    nanosleep(&pause, NULL);
}

static struct window measure(const struct options *options)
{
    struct window window = {0};
    clockid_t server_clock = 0;
    if (options->pid && (errno = clock_getcpuclockid((pid_t)options->pid, &server_clock))) {
        window.failure = "the process to be measured does not exist";
        return window;
    }
    if (!client_prime(&client)) {
        fprintf(stderr, "load: first connection: %s\n", strerror(errno));
        window.failure = "the server does not answer";
        return window;
    }
    if (!client_open(&client)) {
        window.failure = "no connection could be opened";
        return window;
    }
    client.verify = true;
    if ((window.failure = run_for(options->warmup_s)))
        return window;
    client.verify = false;
    client.measuring = true;
    client.answered = 0;
    settle();
    uint64_t server_start_ns = options->pid ? cpu_clock_ns(server_clock) : 0;
    uint64_t client_start_ns = cpu_clock_ns(CLOCK_PROCESS_CPUTIME_ID), start_ns = now_ns();
    window.failure = run_for(options->seconds);
    window.wall_ns = client.last_answer_ns - start_ns;
    window.client_cpu_ns = cpu_clock_ns(CLOCK_PROCESS_CPUTIME_ID) - client_start_ns;
    settle();
    window.server_cpu_ns = options->pid ? cpu_clock_ns(server_clock) - server_start_ns : 0;
    window.requests = client.answered;
    if (!window.failure && !window.requests)
        window.failure = "no request was answered";
    return window;
}

static void report(const struct options *options, const struct window *window)
{
    const struct histogram *latencies = &client.latencies;
    double requests = window->requests ? (double)window->requests : 1;
    double wall_s = window->wall_ns ? (double)window->wall_ns / 1e9 : 1;
    printf("{\"mode\": \"%s\", \"connections\": %ld, \"depth\": %ld, \"request_bytes\": %zu", options->mode,
           options->connections, options->depth, client.request_bytes);
    printf(", \"requests\": %llu, \"seconds\": %.6f, \"requests_per_s\": %.1f",
           (unsigned long long)window->requests, (double)window->wall_ns / 1e9,
           (double)window->requests / wall_s);
    printf(", \"server_cpu_us\": %.4f, \"server_busy\": %.4f, \"client_busy\": %.4f",
           (double)window->server_cpu_ns / 1e3 / requests, (double)window->server_cpu_ns / 1e9 / wall_s,
           (double)window->client_cpu_ns / 1e9 / wall_s);
    printf(", \"latency_us\": {\"mean\": %.2f, \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f}",
           latencies->count ? (double)latencies->sum_ns / 1e3 / (double)latencies->count : 0.0,
           histogram_quantile_ns(latencies, 0.5) / 1e3, histogram_quantile_ns(latencies, 0.99) / 1e3,
           histogram_quantile_ns(latencies, 0.999) / 1e3, (double)latencies->max_ns / 1e3);
    printf(", \"errors\": {");
    for (int kind = 0; kind < ERROR_KINDS; kind++)
        printf("%s\"%s\": %llu", kind ? ", " : "", client_error_names[kind],
               (unsigned long long)client.errors[kind]);
    printf("}, \"failure\": ");
    printf(window->failure ? "\"%s\"}\n" : "null}\n", window->failure);
}

static void usage(void)
{
    fputs("usage: load --port PORT [--host IPV4] | --unix NAME [--tls]\n"
          "            [--mode echo|datagram|http|connect|http-short]\n"
          "            [--connections N] [--size BYTES] [--depth N] [--path PATH]\n"
          "            [--warmup SECONDS] [--seconds SECONDS] [--pid PID] [--cpu CORE]\n"
          "NAME is in the abstract namespace. connect and http-short make a new connection for each\n"
          "request. --pid: the server, whose CPU time is measured. --cpu: the core to run on.\n",
          stderr);
    exit(2);
}

static struct options parse(int argc, char **argv)
{
    enum { MODE, HOST, PORT, UNIX_NAME, TLS, CONNECTIONS, SIZE, DEPTH, PATH, WARMUP, SECONDS, PID, CPU };
    static const struct option known[] = {
        {"mode", 1, 0, MODE}, {"host", 1, 0, HOST}, {"port", 1, 0, PORT},
        {"unix", 1, 0, UNIX_NAME}, {"tls", 0, 0, TLS},
        {"connections", 1, 0, CONNECTIONS}, {"size", 1, 0, SIZE}, {"depth", 1, 0, DEPTH},
        {"path", 1, 0, PATH}, {"warmup", 1, 0, WARMUP}, {"seconds", 1, 0, SECONDS},
        {"pid", 1, 0, PID}, {"cpu", 1, 0, CPU}, {0}};
    struct options options = {.mode = "echo", .host = "127.0.0.1", .path = "/", .connections = 1,
                              .size = 1024, .depth = 1, .cpu = -1, .warmup_s = 1, .seconds = 2};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case MODE: options.mode = optarg; break;
        case HOST: options.host = optarg; break;
        case PORT: options.port = atol(optarg); break;
        case UNIX_NAME: options.unix_name = optarg; break;
        case TLS: options.secure = true; break;
        case CONNECTIONS: options.connections = atol(optarg); break;
        case SIZE: options.size = atol(optarg); break;
        case DEPTH: options.depth = atol(optarg); break;
        case PATH: options.path = optarg; break;
        case WARMUP: options.warmup_s = atof(optarg); break;
        case SECONDS: options.seconds = atof(optarg); break;
        case PID: options.pid = atol(optarg); break;
        case CPU: options.cpu = atol(optarg); break;
        default: usage();
        }
    }
    if (optind != argc || (options.unix_name == NULL && (options.port < 1 || options.port > 65535)) ||
        options.connections < 1 ||
        options.connections > CONNECTIONS_MAX || options.size < 1 || options.size > REQUEST_BYTES_MAX ||
        options.depth < 1 || options.depth > DEPTH_MAX || options.seconds <= 0 || options.warmup_s < 0)
        usage();
    return options;
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count, bytes);
    if (!memory) {
        fputs("load: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* Composes one request and repeats it depth + 1 times. */
static void compose_requests(const struct options *options)
{
    char head[2048];
    if (client.http) {
        int length = snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: %s:%ld\r\n%s\r\n", options->path,
                              options->host, options->port, client.reconnect ? "Connection: close\r\n" : "");
        if (length < 0 || (size_t)length >= sizeof(head))
            usage();
        client.request_bytes = (size_t)length;
    } else {
        client.request_bytes = (size_t)options->size;
    }
    client.requests = allocate(client.depth + 1, client.request_bytes);
    uint64_t random = 0x9e3779b97f4a7c15u; /* bytes that do not repeat, so that misplaced ones are seen */
    for (size_t i = 0; i < client.request_bytes; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        client.requests[i] = client.http ? head[i] : (char)(random >> 56);
    }
    for (uint32_t i = 1; i <= client.depth; i++)
        memcpy(client.requests + i * client.request_bytes, client.requests, client.request_bytes);
}

static void take_address(const struct options *options)
{
    if (options->unix_name != NULL) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        size_t length = strlen(options->unix_name);
        if (length >= sizeof(address.sun_path))
            usage();
        memcpy(address.sun_path + 1, options->unix_name, length);
        client.address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
        memcpy(&client.address, &address, client.address_bytes);
        return;
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options->port)};
    if (inet_pton(AF_INET, options->host, &address.sin_addr) != 1)
        usage();
    client.address_bytes = sizeof(address);
    memcpy(&client.address, &address, sizeof(address));
}

static void prepare_client(const struct options *options)
{
    bool echo = !strcmp(options->mode, "echo"), connect = !strcmp(options->mode, "connect");
    client.datagrams = !strcmp(options->mode, "datagram");
    bool http = !strcmp(options->mode, "http"), http_short = !strcmp(options->mode, "http-short");
    client.http = http || http_short;
    client.reconnect = connect || http_short;
    if ((!echo && !connect && !client.http && !client.datagrams) || (client.reconnect && options->depth != 1))
        usage();
    client.depth = (uint32_t)options->depth;
    take_address(options);
    client.secure = options->secure;
    const char *missing = client.secure ? secure_load() : NULL;
    if (missing != NULL) {
        fprintf(stderr, "load: %s\n", missing);
        exit(1);
    }
    compose_requests(options);
    client.connection_count = (uint32_t)options->connections;
    client.connections = allocate(client.connection_count, sizeof(struct connection));
    client.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (client.epoll_fd < 0) {
        perror("load: epoll_create1");
        exit(1);
    }
}

static void prepare_process(const struct options *options)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* never outlives the bench that started it */
    signal(SIGPIPE, SIG_IGN);         /* libssl has no MSG_NOSIGNAL */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (options->cpu >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET((size_t)options->cpu, &cores);
        if (sched_setaffinity(0, sizeof(cores), &cores) < 0)
            perror("load: sched_setaffinity");
    }
}

int main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    prepare_process(&options);
    prepare_client(&options);
    struct window window = measure(&options);
    report(&options, &window);
    return window.failure ? 1 : 0;
}
