/*
 * Reads HTTP/1.1 responses as they arrive, in pieces of any size: just enough of the protocol to know
 * where a response ends (Content-Length or chunked) and whether it is a success. Called by connection.c,
 * with one `struct http_response` per connection, reset before each response.
 */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_LINE_MAX = 1024 };

enum http_state {
    HTTP_STATUS_LINE,
    HTTP_HEADERS,
    HTTP_BODY,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_END,
    HTTP_TRAILERS
};

enum http_progress { HTTP_MORE, HTTP_DONE, HTTP_MALFORMED };

struct http_response {
    enum http_state state;
    int status;
    bool has_length, chunked;
    uint64_t body_left;
    size_t line_length; /* of a line whose end has not arrived yet */
    char line[HTTP_LINE_MAX];
};

static inline void http_reset(struct http_response *response)
{
    response->state = HTTP_STATUS_LINE;
    response->status = 0;
    response->has_length = response->chunked = false;
    response->body_left = 0;
    response->line_length = 0;
}

/*
 * Takes what it can of `data` and stores in *taken how many bytes that was. HTTP_DONE: the response is
 * complete, what follows belongs to the next. HTTP_MORE: all was taken.
 */
enum http_progress http_take(struct http_response *response, const char *data, size_t length, size_t *taken);

#endif
